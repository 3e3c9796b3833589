"""Limits of unmade words, and tasks that share them: nothing waits for what a peer reaches later, and all parties count the same rounds."""

from __future__ import annotations

import asyncio
import gc
import weakref

import numpy as np
import pytest

import mpc
from mpc.estimate import estimate
from mpc.naming import scope
from mpc.network.mesh import Clocks
from mpc.preprocessing import dealt
from mpc.testing import simulate
from tests.references import opened, shared, total
from tests.waiting import turns

CLOCKS = Clocks(join=30.0, lost=30.0, stall=30.0)
WORDS = np.random.default_rng(8).integers(0, 2**64, 40, dtype=np.uint64) | np.uint64(1)
SEEDS = [None, 1, 2]


async def masked(s):
    """Each word under a mask of its own."""
    return [(await opened(s, shared(s, word, number))).assume_bound(1.0, "a lie") for number, word in enumerate(WORDS)]


async def times(s, x, y):
    return (await mpc.mul(s, x, y)).assume_bound(1.0, "a lie")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [2, 3])
def test_a_task_waits_for_what_it_has_added_up_itself_alone(n, seed, monkeypatch):
    """Two tasks, each of them late at another party: what one has computed needs openings that the peer's has not come to."""
    monkeypatch.setattr(scope, "OFTEN", 8)

    @mpc.protocol
    async def part(s, factors, number):
        if (s.index + number) % 2:
            await turns()
        value = sums = factors[0]
        for k in range(1, 80):
            value = await times(s, value, factors[k % 40])
            sums = value if k == 1 else (sums + value).assume_bound(1.0, "a lie")
            await asyncio.sleep(0)
        return sums

    async def program(s):
        factors = await masked(s)
        both = await asyncio.gather(part(s, factors, 0), part(s, factors, 1))
        await s.made(both)
        return [sums.words for sums in both]

    wanted = np.sum(np.multiply.accumulate(np.tile(WORDS, 2), dtype=np.uint64)[1:], dtype=np.uint64)
    assert [total(words) for words in zip(*simulate(n, program, clocks=CLOCKS, seed=seed), strict=True)] == [wanted] * 2


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_has_arrived_is_due_no_more_whoever_waits_for_a_group(seed, planned, monkeypatch):
    """Products that wait for groups do not keep the corrections of these groups from being asked for."""
    monkeypatch.setattr(dealt, "AHEAD_ASKS", 8)

    @mpc.protocol
    async def part(s, factors, number):
        if s.id != b"dry run" and (s.index + number) % 2:
            await turns()
        value, products = factors[0], []
        for k in range(60):
            value = await times(s, value, factors[k % 40])
            products.append(value)
        await s.made(products)
        return products

    async def several(s, factors):
        return await asyncio.gather(*(part(s, factors, number) for number in range(6)))

    async def program(s):
        factors = await masked(s)
        parts = await (s.run(several, factors) if planned else several(s, factors))
        return [products[-1].words for products in parts]

    wanted = np.multiply.reduce(WORDS[np.r_[0, 0:40, 0:20]], dtype=np.uint64)
    assert [total(words) for words in zip(*simulate(2, program, clocks=CLOCKS, seed=seed), strict=True)] == [wanted] * 6


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_rounds_count_for_every_task_that_reads_a_product(seed, added):
    """Its group is opened beside the program: whoever reads it later waits for it as well, as the estimate says."""

    async def program(s):
        value, *factors = await masked(s)
        for number, factor in enumerate(factors[:12]):
            if number == 11:
                # Another call between: what came before waits no longer.
                await s.reveal(s.zero(()))
            value = await times(s, value, factor)
        product = value + 0 if added else value

        @mpc.protocol
        async def reads(s, before, after):
            for number in range(before + 1 + after):
                await s.reveal(product if number == before else s.zero(()))

        await asyncio.gather(reads(s, 10, 0), reads(s, 0, 10))
        return s.cost.rounds, s.cost.payload

    said = estimate(program, 2)
    assert set(simulate(2, program, seed=seed)) == {(said.rounds, said.payload)}


def test_elements_are_those_that_the_index_named_when_it_was_used():
    order, listed = np.array([0, 1]), [0, 1]

    async def program(s):
        x = await s.mask(shared(s, WORDS[:2], 1))
        square = await mpc.mul(s, x, x)
        taken = []
        for _ in range(2):
            taken += [square[order], square[listed]]
            order[:] = order[::-1].copy()
            listed.reverse()
        await s.made(taken)
        return [each.words for each in taken]

    squares = WORDS[:2] * WORDS[:2]
    for words, wanted in zip(zip(*simulate(2, program), strict=True), [squares, squares, squares[::-1], squares[::-1]], strict=True):
        assert np.array_equal(total(words), wanted)


@pytest.mark.parametrize("seed", [None, *range(6)])
def test_rounds_of_calls_beside_one_that_makes_what_was_computed_are_counted(seed, monkeypatch):
    """Two calls are gathered; the second makes words of its caller while the first ends."""
    monkeypatch.setattr(scope, "OFTEN", 8)

    @mpc.protocol
    async def deep(s, x):
        for _ in range(3):
            x = await mpc.trunc(s, x * 2, 1)

    async def program(s):
        x = s.input(np.arange(4.0) if s.index == 0 else None, owner=0, shape=4, bound=4.0)
        await s.made(masked := await s.mask(x))
        computed = []
        while s._ops.root.calls % scope.OFTEN != scope.OFTEN - 2:
            computed.append((await mpc.mul(s, masked, masked)) + 1.0)
        await asyncio.gather(deep(s, x), mpc.trunc(s, x, 1))
        return s._ops.root.depth

    assert simulate(2, program, seed=seed) == [4, 4]


@pytest.mark.parametrize("n", [2, 3])
def test_what_a_gathered_call_gave_goes_with_its_last_reference(n):
    """A task keeps its outcome, and that keeps the call that made it; large arrays must not wait for garbage collection."""

    async def program(s):
        x = await mpc.trunc(s, s.zero(64), 1)
        y = await s.mask(s.zero(64))
        (product,) = await asyncio.gather(mpc.mul_trunc(s, x, y, 20))
        await s.made(product)
        kept = weakref.ref(product.words)
        del product
        # The task's own end is handled a turn after its outcome is taken.
        await asyncio.sleep(0)
        return kept() is None

    gc.disable()
    try:
        assert simulate(n, program) == [True] * n
    finally:
        gc.enable()
