"""Two products of a quotient may be opened together, once, by the second product or by the first read."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
from mpc.errors import ProgramError
from mpc.naming.correlations import MAX_TERMS
from mpc.ops.declare import OPS
from mpc.testing import simulate
from tests.quotients import CLOCKS, above, chain, cost_is_that_of_the_dry_run, exactly, made, own, times, words_of
from tests.references import opened

STEPS = 12
FRAC = 16
START = np.array([-100.0, -1.0, 0.0, 2.0**-FRAC, 100.0, 2.0, -0.5, -(2.0**-FRAC), 7.0])
"""Of more elements than numbers mod 2^128 are made of: not more than two products go together."""
FACTORS = np.random.default_rng(5).uniform(-1, 1, (STEPS, START.size))


async def begun(s, frac=FRAC):
    """A quotient, and factors that are masked."""
    factors = await opened(s, own(s, FACTORS, 1.0, frac))
    value = await mpc.mul_trunc(s, own(s, START, 101.0, frac), factors[0], frac)
    return value.assume_bound(101.0, "factors are at most 1"), factors


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("reads", [False, True])
def test_two_products_take_one_round_and_are_rounded_once(n, reads):
    """This also holds where the first of the two is read besides, which takes an opening of its own."""

    async def program(s):
        value, factors = await begun(s)
        seen, rounds = [value.words, factors.share().words], []
        for number in range(1, STEPS - 1, 2):
            before = s.cost.rounds
            one = await times(s, value, factors[number])
            assert (one.since, one.dropped) == (1, FRAC)
            value = await times(s, factors[number + 1], one)
            words = await made(s, value)
            rounds.append(s.cost.rounds - before)
            if reads:
                seen.append(await made(s, one))
            seen.append(words)
        assert rounds == [1] * len(rounds)
        return seen

    value, factors, *steps = words_of(simulate(n, program, clocks=CLOCKS))
    for number in range(1, STEPS - 1, 2):
        if reads:
            assert above(steps.pop(0), exactly((value, factors[number]), FRAC)) <= {0, 1}
        after = steps.pop(0)
        assert above(after, exactly((value, factors[number], factors[number + 1]), 2 * FRAC)) <= {0, 1}
        value = after


@pytest.mark.parametrize(("one", "two"), [(1, 1), (16, 16), (1, 31), (14, 9)])
@pytest.mark.parametrize("n", [2, 3])
def test_words_of_every_size(n, one, two):
    rng = np.random.default_rng(one)
    most = 1 << (60 - one - two)
    value = rng.integers(-most, most, 400, dtype=np.int64)
    first, second = (rng.integers(-(1 << drop), 1 << drop, value.size, dtype=np.int64) for drop in (one, two))
    value[:4], first[:4], second[:4] = [most, -most, 0, -1], [1 << one, -(1 << one), 1, -1], [1 << two, 1 << two, -1, 1]

    async def program(s):
        def integers(words, bound):
            shares = np.random.default_rng(1).integers(0, 2**64, (s.n, words.size), dtype=np.uint64)
            shares[0] += words.view(np.uint64) - np.sum(shares, axis=0, dtype=np.uint64)
            return s._ops.share(shares[s.index], frac=0, bound=bound, lineage=int(words.size + bound))

        twice, y, y2 = [await s.mask(integers(w, b)) for w, b in ((np.full_like(value, 2), 2), (first, 2.0**one), (second, 2.0**two))]
        z = (await mpc.mul_trunc(s, integers(value, most), twice, 1)).ldexp(-1).assume_bound(most, "as large as before")
        middle = await mpc.mul_trunc(s, z, y.ldexp(1), one)
        result = await mpc.mul_trunc(s, middle.ldexp(one), y2, two)
        assert middle.since == 1 and result.since == 0
        return [z.words, await made(s, result)]

    z, result = words_of(simulate(n, program, clocks=CLOCKS))
    assert above(result, exactly((z, first, second), one + two)) <= {0, 1}


@pytest.mark.parametrize("n", [2, 3])
def test_what_does_not_fit_together_is_opened_by_itself(n):
    """Too many bits, too large a bound, too many elements: one round each, and what was left to the next product is opened for it."""

    async def program(s):
        value, factors = await begun(s)
        outcomes = []
        for bound, drop in ((101.0, 17), (2.0**29, 16)):
            one = (await mpc.mul_trunc(s, value, factors[1], FRAC)).assume_bound(bound, "a test")
            before = s.cost.rounds
            two = await mpc.mul_trunc(s, one, factors[2], drop)
            outcomes.append((s.cost.rounds - before, two.since, OPS["mul_trunc"].cost(s.n, one, factors[2], drop).dealer))
            await s.made(two)
            assert s.cost.rounds - before == 2
        large = await s.mask(s.zero((MAX_TERMS // 16 + 1,), frac=FRAC).assume_bound(1.0, "zeros"))
        one = await mpc.mul_trunc(s, await mpc.mul_trunc(s, large, large, FRAC), large, FRAC)
        return [*outcomes, one.since, one.words.tolist() != []]

    (late, beside, since, there), *_ = simulate(n, program, clocks=CLOCKS)
    assert late[1:] == (0, 24 * START.size)
    assert beside[1:] == (1, 24 * START.size)
    assert (since, there) == (0, True)


async def reads(s, value, factors):
    """Whatever reads a value opens it: sums, slices, ops, reveals; two readers open it once."""
    one = await times(s, value, factors[1])
    two, three = one[:3] + 1.0, one.sum()
    both = await asyncio.gather(shown(s, two), shown(s, three), shown(s, one))
    return both, await s.reveal(await mpc.mul_trunc(s, one, one, FRAC))


@mpc.protocol
async def shown(s, value):
    return await s.reveal(value)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("planned", [False, True])
def test_whoever_reads_it_opens_it(n, planned):
    async def program(s):
        value, factors = await begun(s)
        parts, square = await (s.run(reads, value, factors) if planned else reads(s, value, factors))
        return [np.asarray(part).tolist() for part in parts], square.tolist()

    (parts, square), *others = simulate(n, program, clocks=CLOCKS)
    assert all(other == (parts, square) for other in others)
    wanted = START * FACTORS[0] * FACTORS[1]
    # Every party rounds its part of each input, by half a unit of 2^-16.
    error = n * 2.0**-17 * 101 * 3
    assert np.allclose(parts[0], wanted[:3] + 1, atol=error)
    assert np.allclose(parts[1], wanted.sum(), atol=error * START.size)
    assert np.allclose(parts[2], wanted, atol=error)
    assert np.allclose(square, wanted**2, atol=2 * 101 * error)


def test_words_that_are_not_open_are_told():
    async def program(s):
        value, factors = await begun(s)
        one = await times(s, value, factors[1])
        with pytest.raises(ProgramError, match="nobody has read this value yet"):
            print(one.words)
        return s.cost.rounds

    assert simulate(2, program, clocks=CLOCKS) == [3, 3]


def test_what_a_party_keeps_for_itself_opens_nothing():
    """A long program makes from time to time what it still needs; that differs between parties, who open the same."""

    async def program(s):
        value, factors = await begun(s)
        kept = []
        for number in range(600):
            one = (await times(s, value, factors[number % STEPS])) + 1.0
            if s.index == 0:
                kept.append(one)
        before = s.cost.rounds
        last = await s.reveal(one)
        return s.cost.rounds - before, last.tolist()

    (rounds, last), (_, other) = simulate(2, program, clocks=CLOCKS)
    assert rounds == 2
    assert last == other
    assert np.allclose(last, START * FACTORS[0] * FACTORS[599 % STEPS] + 1, atol=1e-3)


def test_a_sum_of_many_opens_them_in_one_round():
    async def program(s):
        value, factors = await begun(s)
        total = s.zero(START.shape, frac=FRAC)
        for number in range(300):
            total = total + await times(s, value, factors[number % STEPS])
        before = s.cost.rounds
        return (await s.reveal(total)).tolist(), s.cost.rounds - before

    for total, rounds in simulate(2, program, clocks=CLOCKS):
        assert np.allclose(total, START * FACTORS[0] * FACTORS.sum(axis=0) * 300 / STEPS, atol=0.5)
        assert rounds == 2


def test_a_late_reader_waits_for_the_opening():
    async def program(s):
        value, factors = await begun(s)
        one = await times(s, value, factors[1])
        for _ in range(4):
            await s.reveal(s.zero(1))
        before = s.cost.rounds
        await s.reveal(one)
        return s.cost.rounds - before

    assert simulate(2, program, clocks=CLOCKS) == [2, 2]


async def counted(s):
    value = await s.run(chain, *await begun(s))
    return s.cost.rounds, s.cost.payload, s.cost.corrections, value.words


def test_a_chain_costs_what_its_dry_run_says():
    said = cost_is_that_of_the_dry_run(counted, 2)
    # Three rounds mask the factors and make the first product.  Each two of the other eleven take one; the last, which the end of the
    # program reads, takes one alone.
    assert said.rounds == 3 + STEPS // 2


def test_a_planned_program_goes_on_with_what_another_has_left():
    """Its argument is a product that has room for one more."""

    async def program(s):
        value, factors = await begun(s)
        one = await times(s, value, factors[1])
        two = await s.run(times, one, factors[2])
        three = await s.run(times, one, factors[3], 17)
        return [(await s.reveal(share)).tolist() for share in (one, two, three)]

    for one, two, three in simulate(3, program, clocks=CLOCKS):
        product = START * FACTORS[0] * FACTORS[1]
        assert np.allclose(one, product, atol=1e-3)
        assert np.allclose(two, product * FACTORS[2], atol=1e-3)
        assert np.allclose(three, product * FACTORS[3], atol=1e-3)


def test_bounds_of_what_is_opened_together_are_checked():
    async def program(s):
        value, factors = await begun(s)
        one = (await mpc.mul_trunc(s, value, factors[1], FRAC)).assume_bound(2.0**-10, "a lie")
        return await s.reveal(await mpc.mul_trunc(s, one, factors[2], FRAC))

    with pytest.raises(mpc.testing.ExceededBoundError):
        simulate(2, program, clocks=CLOCKS, check_bounds=True)
