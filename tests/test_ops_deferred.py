"""Products that a planned program only multiplies further: their words are never made, and whoever does read words gets them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import numpy as np
import pytest

import mpc
from mpc.errors import PrecisionError, ProgramError
from mpc.estimate import estimate
from mpc.testing import ExceededBoundError, simulate
from tests.references import shared

WORDS = np.array([3, 2**64 - 5, 2**63, 1], np.uint64)
SEEDS = [None, 1, 2]


def bytes_of(*factors):
    """What the dealer sends for products of so many factors."""
    return sum(8 * len(WORDS) * (2**k - 1 - k) for k in factors)


async def chain(s, x, length):
    """x^2, x^3, ..., x^length."""
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
    """What was made before a revealed value ends the dry run may be read after."""
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


async def kept_alive_by_a_cycle(s, x):
    second, third, *_ = await chain(s, x, 5)
    try:
        raise ValueError(second)
    except ValueError as fault:
        caught = fault
    assert caught.__traceback__ is not None
    return third


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
    inside: ([power(3)], (3, 5)),
    added: ([power(2) + power(3)], (2, 3, 5)),
    looked_at: ([power(3)], (2, 3, 4, 5)),
    looked_at_beside: ([power(2) * np.uint64(2)], None),
    kept_alive_by_a_cycle: ([power(3)], None),
    planned_within: ([power(5)], None),
    given_a_list: ([power(3), power(2)], (2, 3, 5)),
    tidies_up: ([power(2) + power(3)], None),
    asks_what_it_is: ([power(2)], (2, 3, 4, 5)),
    logs: ([power(3)], (2, 3, 5)),
    given_a_revealed_value: ([power(3)], (2, 3, 4, 5)),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("program", PROGRAMS)
def test_words_are_made_for_whoever_reads_them(program, n, seed):
    wanted, factors = PROGRAMS[program]

    async def planned(s):
        x = await s.mask(shared(s, WORDS, 1))
        outcome = value_of(await s.run(program, x))
        # Whatever was asked for was taken.
        assert not getattr(s.source, "_asked", None)
        return [value.words for value in outcome], (s.cost.rounds, s.cost.payload, s.cost.corrections)

    words, costs = zip(*simulate(n, planned, seed=seed), strict=True)
    for parts, expected in zip(zip(*words, strict=True), wanted, strict=True):
        assert np.array_equal(np.sum(parts, axis=0, dtype=np.uint64), expected)
    said = estimate(planned, n)
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
        return (await mpc.mul(s, x, x)).words

    assert np.array_equal(np.sum(simulate(n, program), axis=0, dtype=np.uint64), power(2))


def test_relations_are_asked_for_in_the_order_of_their_ops():
    """Also those of products that are read at the end: the dealer answers in this order, and only so far ahead."""
    order = []

    async def program(s):
        x = await s.mask(shared(s, WORDS, 1))

        async def at_last(s, x):
            first = await chain(s, x, 3)
            for _ in range(3):
                await mpc.square(s, x)
            return first

        plain = s.source.plan
        s.source.plan = lambda plan: (order.append([relation.out.scope for relation in plan.relations]), plain(plan))
        await s.run(at_last, x)

    simulate(2, program)
    assert order == [["1", "2", "3", "4", "5"]] * 2


@pytest.mark.parametrize("n", [2, 3])
def test_without_a_plan_every_word_is_made(n):
    async def program(s):
        await chain(s, await s.mask(shared(s, WORDS, 1)), 5)
        return s.cost.corrections

    assert sum(simulate(n, program)) == estimate(program, n).dealer == bytes_of(2, 3, 4, 5)


def test_a_program_that_does_something_else_the_second_time_is_told():
    async def program(s):
        x, runs = await s.mask(shared(s, WORDS, 1)), []

        async def fickle(s, x):
            second, *_ = await chain(s, x, 4)
            runs.append("again")
            return await s.reveal(second) if len(runs) > 1 else None

        return await s.run(fickle, x)

    with pytest.raises(ProgramError, match="a product that its dry run only multiplied further.*the same both times"):
        simulate(2, program)


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
