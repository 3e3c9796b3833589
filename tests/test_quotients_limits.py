"""Limits of products that wait for the next one: other tasks, plans, long programs and long names."""

from __future__ import annotations

import asyncio
import sys

import numpy as np

import mpc
from mpc.estimate import estimate
from mpc.naming import scope
from mpc.naming.scope import OFTEN
from mpc.network.mesh import Clocks
from mpc.testing import simulate
from tests.quotients import CLOCKS, times
from tests.references import added_up
from tests.test_ops_quotients_together import FACTORS, FRAC, START, begun
from tests.waiting import turns


@mpc.protocol
async def reads_beside_a_sum(s, mine, other, factor, late):
    kept = mine + 1.0
    if late:
        await turns()
    for _ in range(OFTEN + 2):
        await mpc.mul(s, factor, factor)
    return await s.reveal(other), await s.reveal(kept)


def test_what_another_task_has_begun_holds_no_long_program_up():
    """Each task keeps a sum of what the other reads, and another one is late at each party: what is under way here has not begun there."""

    async def program(s):
        value, factors = await begun(s)
        one, two = await times(s, value, factors[1]), await times(s, value, factors[2])
        tasks = (
            reads_beside_a_sum(s, one, two, factors[3], s.index == 0),
            reads_beside_a_sum(s, two, one, factors[3], s.index == 1),
        )
        return [np.asarray(parts).tolist() for parts in await asyncio.gather(*tasks)]

    first, second = simulate(2, program, clocks=CLOCKS)
    assert first == second
    wanted = [START * FACTORS[0] * FACTORS[number] for number in (1, 2)]
    assert np.allclose(first, [[wanted[1], wanted[0] + 1], [wanted[0], wanted[1] + 1]], atol=1e-3)


async def two_products(s, value, factors):
    return await times(s, await times(s, value, factors[1]), factors[2])


def test_bounds_are_checked_of_planned_programs_too():
    async def program(s):
        return (await s.reveal(await s.run(two_products, *await begun(s)))).tolist()

    (first, _) = simulate(2, program, clocks=CLOCKS, check_bounds=True)
    assert np.allclose(first, START * FACTORS[0] * FACTORS[1] * FACTORS[2], atol=1e-3)


async def one_after_another(s):
    value, factors = await begun(s)
    products = [await times(s, value, factors[number]) for number in range(1, 5)]
    before = s.cost.rounds
    for product in products:
        await s.reveal(product)
    return s.cost.rounds - before


def test_what_is_read_one_after_another_counts_its_rounds():
    assert simulate(2, one_after_another, clocks=CLOCKS) == [8, 8]
    assert estimate(one_after_another, 2).rounds == 3 + 8


def test_a_map_of_what_another_task_has_made_counts_its_round():
    @mpc.protocol
    async def makes(s, one):
        await s.made(one)

    @mpc.protocol
    async def maps_later(s, one, made):
        await made.wait()
        return await s.reveal(one + 1.0)

    async def program(s):
        value, factors = await begun(s)
        one, made = await times(s, value, factors[1]), asyncio.Event()
        later = asyncio.create_task(maps_later(s, one, made))
        await makes(s, one)
        before = s.cost.rounds
        made.set()
        await later
        return s.cost.rounds - before

    assert simulate(2, program, clocks=CLOCKS) == [1, 1]


def test_masks_of_long_names_go_one_by_one():
    async def program(s):
        value, factors = await begun(s)
        long = factors[1]
        for _ in range(5):
            long = ((long + factors[1]) - long).assume_bound(1.0, "the same as before")
        short, other, both = await times(s, value, factors[2]), await times(s, value, long), await times(s, value, factors[2])
        both = await times(s, both, long)
        return long.factor_count, short.since, other.since, both.since, (await s.reveal(other)).tolist(), (await s.reveal(both)).tolist()

    first, second = simulate(2, program, clocks=CLOCKS)
    assert first == second
    assert first[:4] == (0, 1, 0, 0)
    assert np.allclose(first[4], START * FACTORS[0] * FACTORS[1], atol=1e-3)
    assert np.allclose(first[5], START * FACTORS[0] * FACTORS[1] * FACTORS[2], atol=1e-3)


def test_scales_beyond_floats_take_the_usual_way():
    async def program(s):
        value, factors = await begun(s)
        one = await mpc.mul_trunc(s, value.ldexp(-980), factors[1], FRAC)
        return (await s.reveal((await mpc.mul_trunc(s, one, factors[2], FRAC)).ldexp(980))).tolist()

    first, _ = simulate(2, program, clocks=Clocks(join=5.0, lost=5.0, stall=5.0))
    assert np.allclose(first, START * FACTORS[0] * FACTORS[1] * FACTORS[2], atol=1e-3)


def test_a_program_that_waits_for_nothing_leaves_others_their_turns():
    async def program(s):
        value, factors = await begun(s)
        turns, going = 0, True

        async def others():
            nonlocal turns
            while going:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        await asyncio.sleep(0)
        before = turns
        for _ in range(4 * OFTEN):
            await times(s, value, factors[1])
        between, going = turns - before, False
        await beside
        return between

    assert min(simulate(2, program, clocks=CLOCKS)) >= 4


def test_a_long_sum_of_what_waits_takes_no_square_of_its_length(monkeypatch):
    """Counted in calls, of both parties, which go on side by side."""
    monkeypatch.setattr(scope, "OFTEN", 16)
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    async def added(s, value, factor, steps):
        before, total = calls, s.zero(START.shape, frac=FRAC)
        for _ in range(steps):
            total = total + await times(s, value, factor)
        return calls - before, total

    async def program(s):
        value, factors = await begun(s)
        few, _ = await added(s, value, factors[1], 128)
        many, total = await added(s, value, factors[1], 512)
        return many / few, (await s.reveal(total)).tolist()

    earlier = sys.getprofile()
    sys.setprofile(count)
    try:
        results = simulate(2, program, clocks=Clocks(join=30.0, lost=30.0, stall=60.0))
    finally:
        sys.setprofile(earlier)
    # The square would take sixteen times as many, not four.
    for ratio, total in results:
        assert ratio < 8
        assert np.allclose(total, 512 * START * FACTORS[0] * FACTORS[1], rtol=1e-3, atol=1.0)


def test_long_names_in_a_call_far_inside_of_others_are_opened_one_by_one():
    """The product of two sums of 62 masked values is multiplied by a sum of ten twice: no message holds the names of all four."""

    async def program(s, depth=215):
        if depth:
            return await mpc.protocol(program)(s, depth - 1)
        one = (s.zero(2, frac=4) + 1).assume_bound(1.0, "it is 1")
        masked = [await s.mask(one) for _ in range(124)]
        value, factor = await mpc.mul_trunc(s, added_up(masked[:62]), added_up(masked[62:]), 4), added_up(masked[:10])
        for _ in range(2):
            value = await mpc.mul_trunc(s, value, factor, 4)
        return (await s.reveal(value)).tolist(), s.cost.rounds

    outcomes = simulate(2, program, clocks=CLOCKS)
    assert outcomes == [([62.0 * 62 * 100] * 2, estimate(program, 2).rounds)] * 2
