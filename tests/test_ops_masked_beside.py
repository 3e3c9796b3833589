"""A masked value whose difference is on its way: only an op that reads the value waits (decision 0027)."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import count

import numpy as np
import pytest

import mpc
from mpc import OPS, Disagreement, Session, protocol
from mpc.channels import flow
from mpc.messaging import session_tasks
from mpc.naming.correlations import MAX_LIFTED
from mpc.naming.scope import OFTEN
from mpc.testing import simulate, simulate_async
from mpc.values.masked import View
from tests.quotients import own, times
from tests.references import (
    CASES,
    backwards,
    check_words,
    form_of,
    linear,
    masked,
    on_its_way,
    opened,
    private_masked,
    shared,
    sliced,
    total,
    transposed,
    values_for,
)
from tests.waiting import turns

WORDS = np.random.default_rng(27).integers(0, 2**64, (4, 5), dtype=np.uint64)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("name", OPS)
def test_every_op_waits_for_what_it_reads(name, n):
    """The words are right for every form, alone or beside a share, at no more cost than if the program had waited for the mask."""
    case, plain = CASES[name], {}

    async def program(s, mask):
        lineages, results = count(1, 2), []
        for number, shapes in enumerate(case.shapes):
            for turn, form in enumerate((masked, sliced, transposed, linear, private_masked, backwards)):
                values = [values_for(case, at, shape, number + turn) for at, shape in enumerate(shapes)]
                plain[number, turn] = values
                operands = []
                for at, (kind, value) in enumerate(zip(case.kinds, values, strict=True)):
                    if kind == "x" and (at + turn) % 3 != 2:
                        operands.append(await form(s, value, next(lineages), mask))
                    else:
                        operands.append(await form_of(kind, 0)(s, value, next(lineages)))
                results.append(await OPS[name].call(s, *operands, *case.parameters))
                await s.made(results[-1])
        return [result.words for result in results], (s.cost.rounds, s.cost.payload, s.cost.corrections)

    words, costs = zip(*simulate(n, partial(program, mask=on_its_way)), strict=True)
    for values, *parties in zip(plain.values(), *words, strict=True):
        check_words(name, values, parties)
    _, waited = zip(*simulate(n, partial(program, mask=opened)), strict=True)
    (rounds, payload, dealt), (most, *same) = (
        [max(one), sent, sum(got)] for one, sent, got in (zip(*each, strict=True) for each in (costs, waited))
    )
    assert rounds <= most
    assert [payload, dealt] == same
    assert mpc.estimate(program, n, mask=on_its_way).rounds == rounds


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_several_masks_are_opened_together(n):
    async def program(s):
        x, y, z = [await s.mask(shared(s, words, number)) for number, words in enumerate(WORDS[:3])]
        product = await mpc.matmul(s, (x + y * 3)[None], (z - 1)[:, None])
        await s.made(product, x.share())
        return product.words, x.share().words, s.cost.rounds

    products, shares, rounds = zip(*simulate(n, program), strict=True)
    assert set(rounds) == {1}
    x, y, z = WORDS[:3]
    assert total(shares).tolist() == x.tolist()
    assert total(products).tolist() == ((x + y * np.uint64(3))[None] @ (z - np.uint64(1))[:, None]).tolist()


async def test_a_program_goes_on_while_its_peers_are_elsewhere():
    """The first party goes on from its mask before the second one comes to it."""
    came = asyncio.Event()

    async def program(s):
        if s.index:
            await came.wait()
        x = await s.mask(shared(s, WORDS[0], 1))
        came.set()
        return (await s.reveal(x.share())).view(np.uint64)

    async with asyncio.timeout(60):
        for found in await simulate_async(2, program):
            assert found.tolist() == WORDS[0].tolist()


@pytest.mark.parametrize("size", [MAX_LIFTED, MAX_LIFTED + 1])
def test_of_large_values_one_is_under_way(size):
    async def program(s):
        return [(await s.mask(s.zero(size))).held for _ in range(2)]

    for held in simulate(2, program):
        assert [isinstance(each, np.ndarray) for each in held] == [size > MAX_LIFTED] * 2


def test_a_mask_that_nobody_reads_is_compared_all_the_same():
    async def program(s):
        await s.mask(shared(s, WORDS[0], s.index))

    with pytest.raises(Disagreement):
        simulate(2, program)


@protocol
async def call(_):
    pass


@pytest.mark.parametrize("waits", [False, True])
def test_a_loop_keeps_few_addends_and_a_long_one_of_views_ends(waits):
    """A sum over shares of masked values is made now and then; views of views are taken without recursion."""

    async def program(s):
        x = await (opened if waits else on_its_way)(s, shared(s, WORDS[0], 1))
        whole, added = x.share(), x.share()
        for _ in range(3 * OFTEN):
            await call(s)
            added = added + x.share()
        for _ in range(20):
            x = x[::-1]
        for _ in range(3000):
            x = x.assume_bound(1.0, "a lie")[:]
        product = await mpc.mul(s, x, x)
        await s.made(whole, added, product)
        return whole.words, added.words, product.words

    whole, added, product = map(total, zip(*simulate(2, program), strict=True))
    assert whole.tolist() == WORDS[0].tolist()
    assert added.tolist() == (WORDS[0] * np.uint64(3 * OFTEN + 1)).tolist()
    assert product.tolist() == (WORDS[0] * WORDS[0]).tolist()


@pytest.mark.parametrize("check_bounds", [False, True])
def test_single_elements_of_a_masked_value_are_added_without_a_warning(check_bounds):
    """Their differences are words of any size, also where they are open before the call returns; numpy warns where its scalars wrap."""

    async def program(s):
        x = await s.mask(own(s, np.arange(20.0), 20.0))
        first, *others = [x[at + 1] - x[at] for at in range(19)]
        return await s.reveal(sum(others, first).share())

    for found in simulate(2, program, check_bounds=check_bounds):
        assert round(float(found)) == 19


def test_many_masks_in_a_row():
    """More than may be under way at once."""

    async def program(s):
        rows = [await s.mask(shared(s, WORDS[number % 4], number)) for number in range(1100)]
        summed = mpc.stack([row.share() for row in rows]).sum(axis=0)
        await s.made(summed)
        return summed.words

    assert total(simulate(3, program)).tolist() == (WORDS.sum(axis=0, dtype=np.uint64) * np.uint64(275)).tolist()


def test_a_simulation_takes_views_when_they_are_read_as_other_runs_do():
    async def program(s):
        x = await s.mask(shared(s, WORDS, 1))
        parts = [x[0], x.T, x.reshape(-1)]
        return all(isinstance(part._held, View) for part in parts)

    assert simulate(2, program) == [True, True]


GATHERED = {"mask": Session.mask, "mul": lambda s, x: mpc.mul(s, x, x)}


@pytest.mark.parametrize("op", GATHERED)
def test_calls_that_are_gathered_in_a_loop_run_no_further_ahead_than_a_peer_takes(op, monkeypatch):
    """Each has a task of its own, which has ended: no task has many of them."""
    monkeypatch.setattr(flow, "MAX_EARLY_MESSAGES", 100)
    monkeypatch.setattr(session_tasks, "MOST", 50)

    async def program(s):
        x = shared(s, WORDS[0], 1)
        if s.index:
            # The other one goes on as far as it can.
            await turns(5000)
        for _ in range(100):
            await asyncio.gather(*(GATHERED[op](s, x) for _ in range(2)))
        return await s.reveal(x)

    for found in simulate(2, program):
        assert found.view(np.uint64).tolist() == WORDS[0].tolist()


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("elements", [1, 20])
def test_quotients_go_on_with_values_whose_masks_are_on_their_way(n, elements):
    """Quotients of few elements do so as numbers mod 2^128, too, which are masked anew."""
    factors, start = np.random.default_rng(elements).uniform(-1, 1, (6, elements)), np.linspace(-9, 9, elements)

    async def program(s):
        value = await mpc.mul_trunc(s, own(s, start, 10.0, 16), own(s, np.ones(elements), 1.0, 16), 16)
        masked = await s.mask(own(s, factors, 1.0, 16))
        for number in range(len(factors)):
            value = await times(s, value, masked[number], 16)
        return await s.reveal(value)

    for found in simulate(n, program):
        assert np.allclose(found, start * np.prod(factors, axis=0), atol=1e-3)
