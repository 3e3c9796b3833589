"""Groups of factors are opened beside the program, waited for or not, in the rounds and bytes that the ops declare."""

from __future__ import annotations

import asyncio
import gc
from itertools import pairwise

import numpy as np
import pytest

import mpc
from mpc.errors import PeerLost
from mpc.estimate import estimate
from mpc.messaging import session_tasks
from mpc.network.mesh import Clocks
from mpc.ops.chains.groups import GROUP, MANY, chosen, most_factors
from mpc.ops.declare import OPS
from mpc.testing import simulate
from tests.references import opened, shared, total
from tests.waiting import turns

CLOCKS = Clocks(join=60.0, lost=60.0, stall=60.0)
"""Guards against hanging only: no test waits for one of them."""
LENGTHS = (9, 12, 13, 24, 31, 47, 60)


def words_at(shape, seed):
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64) | np.uint64(1)


async def chain(s, value, factors):
    """The value times every factor, one after the other."""
    for factor in factors:
        value = (await mpc.mul(s, value, factor)).assume_bound(1.0, "a lie")
    return value


async def masked(s, words):
    """Each of the words under a mask of its own."""
    return [(await opened(s, shared(s, each, number))).assume_bound(1.0, "a lie") for number, each in enumerate(words)]


@pytest.mark.parametrize("shape", [(), (8,), (9,), (300,)])
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_planned_chain_opens_side_by_side_what_does_not_depend_on_each_other(n, shape):
    words = words_at((100, *shape), 1)

    async def program(s):
        first, *rest = await masked(s, words)
        before = s.cost.rounds
        value = await s.run(chain, first, rest)
        return value.words, s.cost.rounds - before, (s.cost.rounds, s.cost.payload), s.cost.corrections

    shares, rounds, costs, corrections = zip(*simulate(n, program), strict=True)
    assert np.array_equal(total(shares), np.multiply.reduce(words, axis=0, dtype=np.uint64))
    said = estimate(program, n)
    assert set(costs) == {(said.rounds, said.payload)}
    assert sum(corrections) == said.dealer
    most = most_factors(shape)
    # Of many, eight factors each are groups side by side, and then such groups are; of few all are one, one group after the other.
    assert set(rounds) == ({2} if most >= MANY else {98 // (most - 1)})


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("n", [2, 3])
def test_every_pair_of_products_costs_what_it_declares(n, seed):
    """Products of up to 60 factors, in which up to eight are groups."""
    words = words_at((60, 2), 2)

    async def program(s):
        first, *rest = await masked(s, words)
        value, operands, results, said = first, [first], [], []
        for before, after in pairwise((1, *LENGTHS)):
            value = await chain(s, value, rest[before - 1 : after - 1])
            operands.append(value)
        await s.made(operands)
        for left in operands:
            for right in operands:
                before, declared = (s.cost.rounds, s.cost.payload, s.cost.corrections), OPS["mul"].cost(n, left, right)
                results.append(result := await mpc.mul(s, left, right))
                await s.made(result)
                assert (s.cost.rounds - before[0], s.cost.payload - before[1]) == (declared.rounds, declared.payload)
                said.append((s.cost.corrections - before[2], declared.dealer))
        return [result.words for result in results], said

    shares, costs = zip(*simulate(n, program, seed=seed), strict=True)
    values = [np.multiply.reduce(words[:length], axis=0, dtype=np.uint64) for length in (1, *LENGTHS)]
    wanted = [left * right for left in values for right in values]
    for parts, expected in zip(zip(*shares, strict=True), wanted, strict=True):
        assert np.array_equal(total(parts), expected)
    for of_one in zip(*costs, strict=True):
        assert sum(taken for taken, _ in of_one) == of_one[0][1]


def test_groups_are_of_one_level_where_there_are_enough_and_of_the_lowest_else():
    rng = np.random.default_rng(3)
    for count in range(MANY + 1, 60):
        for groups in range(count + 1):
            levels = list(map(int, rng.permutation([0] * (count - groups) + list(rng.integers(1, 6, groups)))))
            pools = chosen(levels)
            taken = [[at for column in columns for at in column] for columns in pools]
            each = [[at for at, level in enumerate(levels) if level == low] for low in sorted(set(levels))]
            enough = [same for same in each if len(same) >= GROUP]
            lowest = next(low for to in range(1, len(each) + 1) if len(low := sum(each[:to], [])) >= GROUP // 2)[:GROUP]
            # As many as there are, of eight or, of fewer, of all; the first ones, and so always fewer factors than before.
            for columns, its, pool in zip(pools, taken, enough or [lowest], strict=True):
                assert its == pool[: len(its)]
                assert {len(column) for column in columns} == {len(pool) // len(columns)}
                assert len(columns) == min(GROUP, len(pool)) > 1


@pytest.mark.parametrize("n", [2, 3])
def test_parties_need_not_agree_on_what_is_read(n):
    """A party keeps every product alive in its dry run, and so has their words made; the openings are the same."""
    words = words_at((70,), 3)

    async def program(s):
        first, *rest = await masked(s, words)
        kept = []

        async def keeps(s, value, factors):
            for factor in factors:
                value = await chain(s, value, [factor])
                if me == n - 1:
                    kept.append(value)
            return value

        me = s.index
        value = await s.run(keeps, first, rest)
        assert len(kept) == (2 * 69 if me == n - 1 else 0)
        return value.words, await s.reveal(s.zero((), frac=0) + 5)

    shares, fives = zip(*simulate(n, program), strict=True)
    assert total(shares) == np.multiply.reduce(words, dtype=np.uint64)
    assert fives == (5,) * n


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("n", [2, 4])
def test_a_fault_ends_what_is_under_way(n, read):
    """A party fails with its openings begun: all others are told, whether they wait for a group or for the end."""
    words, told = words_at((60,), 4), []

    async def program(s):
        first, *rest = await masked(s, words)

        async def fails(s, value, factors):
            value = await chain(s, value, factors[:-1])
            if s.id != b"dry run" and s.index == 1:
                raise KeyError("mine")
            return await chain(s, value, factors[-1:]) if read else None

        try:
            await s.run(fails, first, rest)
        except PeerLost as fault:
            told.append(fault)
            raise

    with pytest.raises(KeyError, match="mine"):
        simulate(n, program)
    assert len(told) == (n - 1 if read else 0)


@pytest.mark.parametrize(("turns", "where"), [(1, "reads.31/mul.0"), (5, "reads.31")])
def test_an_op_that_is_cancelled_while_a_group_leaves_or_is_waited_for_ends_the_session_everywhere(turns, where):
    """Like every cancelled op, it must end the session: its peers would wait for what it does no more."""
    words, told = words_at((20,), 5), []

    @mpc.protocol
    async def reads(s, value, factor):
        await s.made(await mpc.mul(s, value, factor))

    async def cancels(s):
        first, *rest = await masked(s, words)
        value = await chain(s, first, rest[:11])
        one, other = (asyncio.create_task(reads(s, value, rest[11])) for _ in range(2))
        for _ in range(turns):
            await asyncio.sleep(0)
        if s.index == 0:
            one.cancel()
        await asyncio.gather(one, other)
        while True:
            await s.reveal(s.zero(1))

    async def program(s):
        try:
            await cancels(s)
        except (PeerLost, asyncio.CancelledError) as fault:
            told.append((s.index, type(fault)))
            s._ops.check_alive()

    with pytest.raises(mpc.ProgramError, match=f"an op was cancelled at {where}, so this session ended at every party"):
        simulate(2, program, clocks=CLOCKS)
    assert (1, PeerLost) in told


async def both(s, value, factors):
    """Two chains side by side; every party finds other work to do in another one of them."""
    busy = s.id != b"dry run"

    @mpc.protocol
    async def part(s, number):
        if busy and (s.index + number) % 2:
            await turns()
        return await chain(s, value, factors)

    return await asyncio.gather(part(s, 0), part(s, 1))


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("n", [2, 3])
def test_a_program_does_not_run_ahead_without_limit_nor_wait_for_its_other_tasks(n, planned, monkeypatch):
    monkeypatch.setattr(session_tasks, "UNDER_WAY", 3)
    words, most = words_at((400,), 6), []
    plain = session_tasks.SessionTasks.start

    def counted(self, *arguments):
        begun = plain(self, *arguments)
        most.extend(map(len, self._tasks.values()))
        return begun

    monkeypatch.setattr(session_tasks.SessionTasks, "start", counted)

    async def program(s):
        first, *rest = await masked(s, words)
        values = await s.run(both, first, rest) if planned else await both(s, first, rest)
        await s.made(values)
        return [value.words for value in values]

    product = np.multiply.reduce(words, dtype=np.uint64)
    assert [total(words) for words in zip(*simulate(n, program, clocks=CLOCKS), strict=True)] == [product] * 2
    # A call that has room begins a piece for every level of which there are enough.
    assert max(most) == 4


def test_a_run_that_is_cancelled_before_it_begins_ends_the_session():
    """Its correlations are asked for; nothing else may have their names."""

    async def program(s):
        x = await s.mask(shared(s, words_at((3,), 7), 1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await s.run(chain, x, [x, x])
        await mpc.mul(s, x, x)

    with pytest.raises(mpc.ProgramError, match="an op was cancelled at"):
        simulate(2, program, clocks=CLOCKS)


async def test_a_fault_that_nobody_waits_for_comes_out_at_the_end(caplog):
    async def fails():
        raise MemoryError("of this party alone")

    begun = session_tasks.SessionTasks()
    for _ in range(2):
        begun.start(fails())
    while begun._tasks:
        await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(MemoryError, match="of this party alone"):
            await begun.ended()
    gc.collect()
    assert "never retrieved" not in caplog.text
