"""The dealer keeps little for each relation of a session, and refuses a second name however late it is asked (invariants 7, 12)."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import mpc
from mpc import Disagreement, PeerLost
from mpc.messaging.sinks import Store
from mpc.naming.correlations import Relation, receiver
from mpc.naming.expressions import Range, combine, mask, scale
from mpc.naming.streams import BIT_MASK, BIT_SHARE, MASK, SHARE
from mpc.network.mesh import Clocks
from mpc.preprocessing import bindings as keeping
from mpc.preprocessing.bindings import Bindings
from mpc.prg import blocks_for
from mpc.testing import simulate
from tests.error_rows import logged

BOUND = ["asks for other randomness"]
"""Rows of docs/errors.md that this file provokes."""

CLOCKS = Clocks(join=10.0, lost=10.0, stall=10.0)
PARTIES = [f"p{index}" for index in range(5)]


RELATIONS = [b"relation"] * 4 + [b"another"]
NAMES = {MASK: [None, None, None, 0, 1, "wide "], BIT_MASK: [b""], SHARE: RELATIONS, BIT_SHARE: RELATIONS}


class Everything:
    """The same rule, with every block and whole name kept."""

    def __init__(self):
        self.of_block = {}

    def bind(self, usage, where, name, peer):
        (words,) = where.shape
        mine = (where.block, words, name)
        if not words:
            return None
        taken = [self.of_block.get((usage, where.scope, block)) for block in range(where.block, where.block + blocks_for(words))]
        first = next((entry for entry in taken if entry is not None), None)
        if first is None:
            self.of_block.update({(usage, where.scope, where.block + number): (mine, peer) for number in range(len(taken))})
        return None if first is None or first[0] == mine else first[1]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("most", [2, 7, 64])
def test_it_refuses_what_one_that_keeps_everything_refuses(n, most, monkeypatch):
    """Whoever asks, in any order, over many pages or few: both refuse the same, and name the same party."""
    monkeypatch.setattr(keeping, "MOST", most)
    rng, small, full, refused, again = np.random.default_rng(n), Bindings(), Everything(), 0, 0
    for _ in range(6000):
        usage = (MASK, BIT_MASK, SHARE, BIT_SHARE)[rng.integers(4)]
        where = Range(str(rng.integers(6)), int(rng.integers(120)), (int(rng.integers(1, 5) * rng.integers(1, 3)),))
        names = NAMES[usage]
        name = names[rng.integers(len(names))]
        peer = PARTIES[rng.integers(n)]
        expected = full.bind(usage, where, name, peer)
        assert small.bind(usage, where, name, peer) == expected
        refused += expected is not None
        again += expected is None
    assert refused > 100
    assert again > 100


def product(number, length=0):
    """The ranges of one product of shares in a scope of its own, with the name of its relation."""
    scope = f"0.5.{number}"
    left, right, out = Range(scope, 0, (3,)), Range(scope, 2, (3,)), Range(scope, 0, (3,))
    return left, right, out, Relation("value", (), (combine("mul", mask(left), mask(right)),), (), out).key + bytes(length)


def bind_all(bindings, numbers, peer, length=0):
    for number in numbers:
        left, right, out, key = product(number, length)
        for usage, where, name in ((MASK, left, None), (MASK, right, None), (SHARE, out, key)):
            assert bindings.bind(usage, where, name, peer) is None


@pytest.mark.parametrize("length", [0, 4000])
def test_a_relation_takes_little_memory_however_long_its_name_is(length):
    bindings, relations = Bindings(), 20_000
    bind_all(bindings, range(100), "p0", length)
    tracemalloc.start()
    try:
        bind_all(bindings, range(100, 100 + relations), "p1", length)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Two runs of LAYOUT.size bytes, and what pages take beside.
    assert taken / relations < 120
    # All of it counts still: what was bound first, last and in the middle, and by whom.
    for number, by in ((0, "p0"), (99, "p0"), (100, "p1"), (9_000, "p1"), (99 + relations, "p1")):
        left, right, out, key = product(number, length)
        second = [
            (MASK, left, 0),
            (MASK, right, "wide "),
            (MASK, Range(left.scope, 0, (6,)), None),
            (MASK, Range(left.scope, 1, (3,)), None),
            (MASK, Range(left.scope, 2, (2,)), None),
            (MASK, Range(left.scope, 3, (1,)), None),
            (SHARE, out, key + b"x"),
            (SHARE, Range(out.scope, 0, (2,)), key),
            (SHARE, Range(out.scope, 1, (8,)), b"another"),
        ]
        for asker in PARTIES:
            for usage, where, name in second:
                assert bindings.bind(usage, where, name, asker) == by
        bind_all(bindings, [number], "p4", length)


def test_what_one_session_keeps_says_nothing_of_another():
    """The digests are keyed anew: nobody finds two names with one digest beforehand."""
    one, two = Bindings(), Bindings()
    bind_all(one, [1], "p0")
    bind_all(two, [1], "p0")
    assert one._pages != two._pages


A, OUT = mask(Range("9.9.9", 0, (4,))), Range("9.9.9", 0, (4,))


async def answer(s, relation):
    """The dealer's answer to the party that receives the correction of `relation`; None at the other parties."""
    exchange = s._engine.exchange
    tag = exchange.correction_tag(relation.key)
    if receiver(tag, s.n) != s.index:
        return None
    target = np.empty(relation.nbytes, np.uint8)
    arrivals = exchange.expect_correction(s._ops.root, tag, relation.key, target.nbytes, Store(target))
    exchange.ask([relation])
    await exchange.arrived(s._ops.root, arrivals, target.size)
    return target.tobytes()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_second_name_is_refused_after_thousands_of_relations_and_the_first_is_answered_again(n, caplog):
    first, second = Relation("value", (), (A,), (), OUT), Relation("value", (), (scale(A, 2),), (), OUT)
    went_on = []

    async def program(s):
        x = await s.mask(s.input([1.5] if s.index == 0 else None, owner=0, shape=1, bound=4.0))
        y = await s.mask(s.input([2.0] if s.index == 1 else None, owner=1, shape=1, bound=4.0))

        async def many(s):
            for _ in range(500):
                await s.made(await mpc.mul(s, x, y))

        answers = []
        for _ in range(3):
            answers.append(await answer(s, first))
            await s.run(many)
        assert answers[0] == answers[1] == answers[2]
        assert (await s.reveal(await mpc.mul(s, x, y)))[0] == pytest.approx(3.0, abs=1e-4)
        went_on.append(answers[0] is not None)
        await answer(s, second)
        while True:
            await s.reveal(s.zero(1))

    with pytest.raises((PeerLost, Disagreement)):
        simulate(n, program, clocks=CLOCKS)
    assert sorted(went_on) == [False] * (n - 1) + [True]
    assert "under a second name" in caplog.text or "asks for other randomness in scope '9.9.9'" in caplog.text


def test_two_parties_that_ask_for_other_randomness_of_one_range_disagree(caplog):
    async def program(s):
        asked = (Relation("value", (), (scale(A, factor),), (), OUT) for factor in range(1, 1000))
        await answer(s, next(each for each in asked if receiver(s._engine.exchange.correction_tag(each.key), s.n) == s.index))
        while True:
            await s.reveal(s.zero(1))

    with pytest.raises((PeerLost, Disagreement)):
        simulate(2, program, clocks=CLOCKS)
    assert logged(BOUND[0], caplog.text)
