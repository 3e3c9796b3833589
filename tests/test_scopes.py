"""Gathers of every width from 1 to 100 and depth 3, under 12 seeds, have equal tags at n = 2..5 (invariants 5, 7, 10)."""

from __future__ import annotations

import asyncio
import functools
import sys

import numpy as np
import pytest

import mpc
import protocols
from mpc import ProgramError, protocol
from mpc.messaging.exchange import Exchange
from mpc.ops.declare import op
from mpc.testing import simulate
from protocols.declare import declared

PARTIES = [2, 3, 4, 5]
SEEDS = 12


@protocol
async def leaf(s, value):
    return float((await s.reveal(s.zero(1).add_own(s.encode([value]))))[0])


@protocol
async def product(s, value):
    x = s.input([value] if s.index == 0 else None, 0, 1, bound=2**9)
    y = s.input([3.0] if s.index == 1 else None, 1, 1, bound=2**9)
    return float(np.round((await s.reveal(await mpc.mul(s, x, y)))[0], 3))


@protocol
async def branch(s, depth, value):
    if not depth:
        return await leaf(s, value)
    # Every seventh number forks and multiplies, so that subtrees have different shapes and lengths.
    calls = [branch(s, depth - 1, value)] + ([product(s, value)] if value % 7 == 0 else [])
    return sum(await asyncio.gather(*calls))


@protocol
async def wide(s, width):
    return sum(await asyncio.gather(*(branch(s, 2, float(number)) for number in range(width))))


@pytest.fixture
def tags(monkeypatch):
    """All tags of every party, with the path of their scope."""
    seen = {}
    plain = Exchange.tag

    def noted(self, scope):
        tag = plain(self, scope)
        seen.setdefault(self.index, set()).add((scope.ranges.scope, scope.label, tag[4:]))
        return tag

    monkeypatch.setattr(Exchange, "tag", noted)
    return seen


def widths(n, seed):
    """Three widths for n parties and a seed.

    All n and seeds together cover every width from 1 to 100.  The largest n has the narrowest; each n has one of the widest.
    """
    number = (len(PARTIES) - 1 - PARTIES.index(n)) * SEEDS + seed
    return [1 + 2 * number, 2 + 2 * number, 97 + seed % 4]


def test_the_widths_cover_1_to_100():
    assert {width for n in PARTIES for seed in range(SEEDS) for width in widths(n, seed)} == set(range(1, 101))


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_gathers_of_any_width_have_equal_tags(n, seed, tags):
    chosen = widths(n, seed)

    async def program(s):
        # Two of them at once, so that one gather overtakes the other differently at every party.
        first, *rest = [await wide(s, chosen[2])] if seed == 0 else [0.0]
        return [first, *rest, *await asyncio.gather(*(wide(s, width) for width in chosen[:2]))]

    def expected(width):
        return sum(n * number + (2 * 3 * number if number % 7 == 0 else 0) for number in range(width))

    wanted = [expected(chosen[2]) if seed == 0 else 0.0, *map(expected, chosen[:2])]
    results = simulate(n, program, seed=seed)
    assert np.allclose(results, [wanted] * n, atol=0.5)
    assert all(tags[index] == tags[0] for index in range(n))
    assert len({tag for _, _, tag in tags[0]}) == len(tags[0])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks of Python 3.11 never begin at once")
@pytest.mark.parametrize("n", PARTIES)
def test_tasks_that_begin_at_once_have_the_tags_of_those_that_do_not(n, tags):
    """At party 0 alone tasks run when they are made (`asyncio.eager_task_factory`), at the others when the loop comes to them."""

    async def program(s):
        loop = asyncio.get_running_loop()
        calls = [wide(s, 8), product(s, 2.0), leaf(s, 5.0), product(s, 4.0)]
        tasks = [asyncio.eager_task_factory(loop, call) if s.index == 0 else loop.create_task(call) for call in calls]
        return [await task for task in tasks]

    assert np.allclose(simulate(n, program, seed=n), [[n * 28 + 42, 6.0, n * 5, 12.0]] * n, atol=0.5)
    assert all(tags[index] == tags[0] for index in range(n))


def test_ranges_of_a_whole_run_never_overlap(monkeypatch):
    """Every range that any scope handed out, scanned after the run: per usage and scope they are disjoint."""
    from mpc.naming.streams import Ranges

    taken = []
    plain = Ranges.take

    def noted(self, usage, shape):
        where = plain(self, usage, shape)
        taken.append((self, usage, where))
        return where

    monkeypatch.setattr(Ranges, "take", noted)

    async def program(s):
        return await asyncio.gather(wide(s, 20), product(s, 2.0), wide(s, 3))

    simulate(3, program, seed=1)
    by_allocator = {}
    for allocator, usage, where in taken:
        by_allocator.setdefault((allocator, usage, where.scope), []).append((where.block, where.block + where.blocks))
    assert len(taken) >= 200
    for spans in by_allocator.values():
        assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False))
    # One allocator per scope and party: no scope was ever opened twice.
    scopes = {}
    for allocator, _, where in taken:
        scopes.setdefault(where.scope, set()).add(allocator)
    assert max(len(allocators) for allocators in scopes.values()) <= 3


@protocol
async def down(s, depth):
    return await (down(s, depth - 1) if depth else leaf(s, 2.0))


@pytest.mark.parametrize("n", PARTIES)
def test_calls_may_be_as_deep_as_the_stack_of_python(n):
    async def program(s):
        value = await down(s, 400)
        (release,) = s.releases
        return value, release.what

    for value, call in simulate(n, program):
        assert value == 2.0 * n
        assert call == "/".join(["down"] * 401 + ["leaf", "reveal"])


def test_a_forgotten_await_is_told_by_the_name_of_the_call():
    async def program(s):
        with pytest.warns(RuntimeWarning, match=r"coroutine 'mean' was never awaited"):
            protocols.mean(s, [1.0])
        with pytest.warns(RuntimeWarning, match=r"coroutine 'square' was never awaited"):
            mpc.square(s, s.zero(1))

    simulate(2, program)


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_rounds_are_exact_where_calls_are_awaited_in_place_or_gathered(n, seed):
    @protocol
    async def chain(s, calls):
        for _ in range(calls):
            await leaf(s, 1.0)
        return await asyncio.gather(*(leaf(s, 2.0) for _ in range(calls)))

    async def program(s):
        await chain(s, 2)
        deep = asyncio.create_task(chain(s, 3))
        await asyncio.gather(chain(s, 1), chain(s, 5), deep)
        await leaf(s, 3.0)
        return s.cost.rounds

    # leaf is one round: 2 + 1, then 5 + 1 beside less, then 1.
    assert simulate(n, program, seed=seed) == [10] * n


async def yields(s):
    yield s


def test_what_is_no_async_def_is_refused_where_it_is_decorated():
    """Its caller would only learn that an int cannot be awaited.  A wrapper of an `async def` is taken for one."""

    def plain(s):
        return s.index

    async def wrapped(s):
        return s.index

    @functools.wraps(wrapped)
    def around(s):
        return wrapped(s)

    for body, text in (
        (
            plain,
            r"`async def plain\(s, \.\.\.\)`, and plain is no `async def`: write `async` before its `def`, or .* with functools\.wraps$",
        ),
        (yields, "yields is no `async def`: it is an async generator: let it return what it yields$"),
        (3, "and int is no `async def`"),
        (protocol, "and protocol is no `async def`"),
    ):
        with pytest.raises(ProgramError, match=text):
            protocol(body)
    for declare in (op(cost=None, source="-", opens="-"), declared(cost=None, reveals="-")):
        with pytest.raises(ProgramError, match="plain is no `async def`"):
            declare(plain)
    assert "plain" not in {*mpc.OPS, *protocols.PROTOCOLS}

    async def program(s):
        return await protocol(protocol(wrapped))(s), await protocol(around)(s)

    assert simulate(2, program) == [(0, 0), (1, 1)]
