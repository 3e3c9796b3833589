"""Products whose words nobody has read yet: a read makes them, once, and everything computed from them before that is right."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import numpy as np
import pytest

import mpc
from mpc.errors import PrecisionError, ProgramError
from mpc.estimate import estimate
from mpc.messaging import session_tasks
from mpc.naming import scope
from mpc.network.mesh import Clocks
from mpc.testing import ExceededBoundError, simulate
from tests.references import shared, total

WORDS = np.array([3, 2**64 - 5, 2**63, 1], np.uint64)
SEEDS = [None, 1, 2]


def bytes_of(*factors):
    """The bytes that the dealer sends for products of this many factors."""
    return sum(8 * len(WORDS) * (2**k - 1 - k) for k in factors)


async def chain(s, x, length):
    """The powers x^2, x^3, ..., x^length."""
    powers = [x]
    while len(powers) < length:
        powers.append((await mpc.mul(s, powers[-1], x)).assume_bound(1.0, "a lie"))
    return powers[1:]


@dataclass
class Kept:
    """An outcome that is no container."""

    value: object


async def last(s, x):
    return (await chain(s, x, 5))[-1]


async def all_of_them(s, x):
    return await chain(s, x, 5)


async def inside(s, x):
    return {"kept": [Kept((await chain(s, x, 5))[1])]}


async def added(s, x):
    second, third, *_ = await chain(s, x, 5)
    return second + third


async def looked_at(s, x):
    """A product made before a revealed value ends the dry run may be read after that value."""
    powers = await chain(s, x, 5)
    ones = await s.reveal(s.zero((), frac=0) + 1)
    return powers[int(ones)]


@mpc.protocol
async def side(s, x):
    powers = await chain(s, x, 4)
    await s.reveal(await mpc.mul(s, s.zero(2, frac=0), s.zero(2, frac=0)))
    await s.reveal(powers[1].ldexp(0) * 0)
    return powers[0]


@mpc.protocol
async def looks(s):
    return bool(await s.reveal(s.zero((), frac=0)) == 0)


async def looked_at_beside(s, x):
    """Its sibling is cancelled in the dry run, and goes on in the real one."""
    one, _, two = await asyncio.gather(side(s, x), looks(s), side(s, x))
    return one + two


async def planned_within(s, x):
    second, third, _, fifth = await s.run(all_of_them, x)
    return await mpc.mul(s, third, second) + await s.run(last, x) - fifth


async def put_into_an_argument(s, x, kept):
    second, third, *_ = await chain(s, x, 5)
    kept.append(second)
    return third


async def given_a_list(s, x):
    kept = []
    third = await s.run(put_into_an_argument, x, kept)
    return [third, kept[-1]]


@mpc.protocol
async def helps(s, x, told, kept):
    second, third, *_ = await chain(s, x, 4)
    try:
        await told.wait()
    except asyncio.CancelledError:
        return
    kept.append(second + third)


async def tidies_up(s, x):
    """A helper that is cancelled at the end: in the dry run nothing waits, so it is cancelled before it goes on."""
    kept, told = [], asyncio.Event()
    helper = asyncio.create_task(helps(s, x, told, kept))
    await asyncio.sleep(0)
    told.set()
    for _ in range(6):
        fourth = (await chain(s, x, 4))[-1]
    # Long after the helper has its correction: to cancel an op that runs ends the session.
    for _ in range(50):
        await s.reveal(s.zero(()))
    helper.cancel()
    await asyncio.wait([helper])
    return kept[-1] if kept else fourth


async def asks_what_it_is(s, x):
    second, third, *_ = await chain(s, x, 5)
    return second if isinstance(await s.reveal(s.zero(3)), np.ndarray) else third


async def logs(s, x):
    second, third, *_ = await chain(s, x, 5)
    if s.log.isEnabledFor(logging.INFO):
        s.log.info("made %r", second[:1])
    return third


@mpc.protocol
async def passed_on(s, x, value):
    second, third, fourth, _ = await chain(s, x, 5)
    return third if value > 0 else fourth


async def given_a_revealed_value(s, x):
    return await s.run(passed_on, x, await s.reveal(s.zero((), frac=0) + 1))


def value_of(outcome):
    """The shares of an outcome, in order."""
    if isinstance(outcome, dict):
        return [outcome["kept"][0].value]
    return outcome if isinstance(outcome, list) else [outcome]


def power(k):
    return WORDS ** np.uint64(k)


PROGRAMS = {
    last: ([power(5)], (5,)),
    all_of_them: ([power(k) for k in (2, 3, 4, 5)], (2, 3, 4, 5)),
    inside: ([power(3)], (3,)),
    added: ([power(2) + power(3)], (2, 3)),
    looked_at: ([power(3)], (3,)),
    looked_at_beside: ([power(2) * np.uint64(2)], None),
    planned_within: ([power(5)], None),
    given_a_list: ([power(3), power(2)], (2, 3)),
    tidies_up: ([power(2) + power(3)], None),
    asks_what_it_is: ([power(2)], (2,)),
    logs: ([power(3)], (3,)),
    given_a_revealed_value: ([power(3)], (3,)),
}


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("program", PROGRAMS)
def test_words_are_made_for_whoever_reads_them(program, n, seed, planned):
    wanted, factors = PROGRAMS[program]

    async def reads(s):
        x = await s.mask(shared(s, WORDS, 1))
        outcome = value_of(await s.run(program, x) if planned else await program(s, x))
        await s.made(outcome)
        # Whatever was asked for was taken, if the real run does as the dry run did.
        assert program is tidies_up or not getattr(s._ops.source, "_asked", None)
        return [value.words for value in outcome], (s.cost.rounds, s.cost.payload, s.cost.corrections)

    words, costs = zip(*simulate(n, reads, seed=seed), strict=True)
    for parts, expected in zip(zip(*words, strict=True), wanted, strict=True):
        assert np.array_equal(total(parts), expected)
    said = estimate(reads, n)
    assert {cost[:2] for cost in costs} == {(said.rounds, said.payload)}
    if factors is not None:
        assert sum(cost[2] for cost in costs) == said.dealer == bytes_of(*factors)


@pytest.mark.parametrize("n", [2, 3])
def test_what_follows_a_run_that_failed_is_another_program(n):
    """Its products are at the places of those that the failed one did not come to."""

    async def fails(s, x, real):
        if real:
            s.encode([2.0**40], bound=1.0)
        return await last(s, x)

    async def program(s):
        x = await s.mask(shared(s, WORDS, 1))
        with pytest.raises(PrecisionError):
            await s.run(fails, x, {1} if s.index < n else None)
        square = await mpc.mul(s, x, x)
        await s.made(square)
        return square.words

    assert np.array_equal(total(simulate(n, program)), power(2))


def test_relations_are_asked_for_in_the_order_in_which_they_are_read():
    """The order is the same in the dry run and in the real one: the dealer answers in this order, and only so far ahead."""
    planned, begun = [], []

    async def program(s):
        x = await s.mask(shared(s, WORDS, 1))

        async def at_last(s, x):
            first = await chain(s, x, 3)
            for _ in range(3):
                await mpc.square(s, x)
            return first

        plan, begin = s._ops.source.plan, s._ops.source.begin
        s._ops.source.plan = lambda asked: (planned.append([relation.out.scope for relation in asked.relations]), plan(asked))
        s._ops.source.begin = lambda scope, relation: (begun.append((s.index, relation.out.scope)), begin(scope, relation))[1]
        await s.run(at_last, x)

    simulate(2, program)
    order = ["3", "4", "5", "1", "2"]
    assert planned == [order] * 2
    assert [[scope for party, scope in begun if party == index] for index in range(2)] == [order] * 2


@pytest.mark.parametrize("n", [2, 3])
def test_what_nobody_reads_is_not_dealt(n):
    async def program(s):
        powers = await chain(s, await s.mask(shared(s, WORDS, 1)), 5)
        await s.made([powers[k - 2] for k in read])
        return s.cost.corrections

    for read in ((), (5,), (2, 4)):
        assert sum(simulate(n, program)) == estimate(program, n).dealer == bytes_of(*read)


async def maps(s, x, y, own):
    """All that is local, of products x and y that nobody has read, and of a share that is there."""
    z = (x + y - own + 5 - (3 - y)).assume_bound(1.0, "a lie")
    z = mpc.concatenate([z[1:3], (-z).reshape(4, 1).T[0, :2]]).ldexp(1).ldexp(-1) * 7 + own
    pairs, rows = z.pairs(), z[np.array([3, 0])].times(np.array([2, 3]), 1.0)
    return [z, pairs, rows, z.sum(), z.reshape(2, 2).sum(axis=0), z.add_own(s.encode(np.arange(4.0), frac=0))]


def plain_maps(x, y, own, n):
    z = x + y - own + np.uint64(5) - (np.uint64(3) - y)
    z = np.concatenate([z[1:3], -z[:2]]) * np.uint64(7) + own
    pairs = np.concatenate([z[i : i + 1] - z[i + 1 :] for i in range(3)])
    return [
        z,
        pairs,
        z[[3, 0]] * np.array([2, 3], np.uint64),
        z.sum(),
        z.reshape(2, 2).sum(axis=0),
        z + np.arange(4, dtype=np.uint64) * np.uint64(n),
    ]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_linear_maps_of_unmade_words_are_right(n):
    other = WORDS[::-1].copy()

    async def program(s):
        x, own = await s.mask(shared(s, WORDS, 1)), shared(s, other, 2)
        mapped = await maps(s, *(await chain(s, x, 3)), own)
        assert not s.cost.corrections
        assert not s.cost.relations
        await s.made(mapped)
        return [value.words for value in mapped], s.cost.corrections

    words, dealt = zip(*simulate(n, program), strict=True)
    assert sum(dealt) == bytes_of(2, 3)
    for parts, expected in zip(zip(*words, strict=True), plain_maps(power(2), power(3), other, n), strict=True):
        assert np.array_equal(total(parts), expected)


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("n", [2, 3])
def test_a_sum_of_any_length_keeps_few_addends(n, planned, monkeypatch):
    """A product that is dropped before anybody reads it is never made."""
    monkeypatch.setattr(scope, "OFTEN", 16)
    most = []

    async def sums(s, x):
        value = await mpc.mul(s, x, x)
        for _ in range(200):
            square = await mpc.mul(s, x, x)
            assert (square + 1).shape == (4,)  # dropped at once
            value = (value + square).assume_bound(1.0, "a lie")
            most.append(sum(1 for _ in scope.running(s._ops).waiting or ()))
        cube = await mpc.mul(s, square, x)
        return value + cube

    async def program(s):
        x = await s.mask(shared(s, WORDS, 1))
        value = await s.run(sums, x) if planned else await sums(s, x)
        await s.made(value)
        return value.words, s.cost.corrections

    words, dealt = zip(*simulate(n, program), strict=True)
    assert np.array_equal(total(words), power(2) * np.uint64(201) + power(3))
    assert max(most) == 16
    assert sum(dealt) == bytes_of(*[2] * 201, 3)


@pytest.mark.parametrize("n", [2, 3])
def test_a_sum_is_read_however_long_it_is_and_whoever_else_reads_its_addends(n, monkeypatch):
    monkeypatch.setattr(session_tasks, "UNDER_WAY", 3)
    monkeypatch.setattr(scope, "OFTEN", 1 << 20)

    @mpc.protocol
    async def reads(s, value):
        return await s.reveal(value)

    async def program(s):
        x = await s.mask(s.zero((), frac=0).add_own(s.encode(1.0, frac=0)).assume_bound(8.0, "n"))
        squares = [await mpc.mul(s, x, x) for _ in range(1500)]
        value = squares[0]
        for square in squares[1:]:
            value = value + square
        return await asyncio.gather(reads(s, value), reads(s, value - squares[7]), reads(s, squares[7]))

    assert simulate(n, program, clocks=Clocks(join=30.0, lost=30.0, stall=30.0)) == [[1500 * n**2, 1499 * n**2, n**2]] * n


def test_words_are_made_before_they_are_there():
    async def program(s):
        square = await mpc.mul(s, *[await s.mask(shared(s, WORDS, 1))] * 2)
        for unmade in (square, square + 1):
            with pytest.raises(ProgramError, match="nobody has read this value yet.*await s.made"):
                print(unmade.words)
        await s.made({"in": [(square + 1,)]})
        return square.words

    assert np.array_equal(total(simulate(2, program)), power(2))


def test_an_op_that_is_cancelled_while_it_waits_for_words_ends_the_session_everywhere():
    @mpc.protocol
    async def reads(s, value):
        return await s.reveal(value)

    async def cancels(s):
        square = await mpc.mul(s, *[await s.mask(shared(s, WORDS, 1))] * 2)
        reading = asyncio.create_task(reads(s, square))
        while s._ops.source._due.asks == s.cost.relations == 0:
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        while True:
            await s.reveal(s.zero(1))

    with pytest.raises(ProgramError, match="an op was cancelled at"):
        simulate(2, cancels, clocks=Clocks(join=5.0, lost=5.0, stall=5.0))


def test_bounds_are_checked_of_words_that_nobody_reads_too():
    async def program(s):
        x = await s.mask(s.zero(2, frac=0).add_own(s.encode([1.0, 2.0], frac=0)).assume_bound(4.0, "2 parties"))

        async def lies(s, x):
            third = (await mpc.mul(s, (await mpc.mul(s, x, x)).assume_bound(14.0, "a lie"), x)).assume_bound(64.0, "the truth")
            return (await mpc.mul(s, third, x)).assume_bound(256.0, "the truth")

        return await s.reveal(await s.run(lies, x))

    assert simulate(2, program)[0].tolist() == [16, 256]
    with pytest.raises(ExceededBoundError, match="reaches 16, beyond its bound 14"):
        simulate(2, program, check_bounds=True)
