"""A product of a quotient with a masked value takes one round, and is as exact as the two ops that it replaces."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc.errors import PrecisionError
from mpc.ops.declare import OPS
from mpc.testing import simulate
from tests.quotients import cost_is_that_of_the_dry_run, made, own, words_of

STEPS = 24


START = np.array([-1000.0, -1.0, 0.0, 2.0**-20, 1000.0, 2.0, -0.5, -(2.0**-20), 7.0])
"""Of more elements than numbers mod 2^128 are made of, so that each product of 20 bits is opened by itself."""
FACTORS = np.random.default_rng(3).uniform(-1, 1, (STEPS, START.size))


async def chain(s, drop=20):
    value, factors = own(s, START, 1001.0), await s.mask(own(s, FACTORS, 1.0))
    before, quotients, rounds = None, [value.words], []
    for number in range(STEPS):
        x, y = (value, factors[number]) if number % 3 else (factors[number], value)
        before = s.cost.rounds
        value = (await mpc.mul_trunc(s, x, y, drop)).assume_bound(1001.0, "factors are at most 1")
        assert value.is_quotient
        quotients.append(await made(s, value))
        rounds.append(s.cost.rounds - before)
    assert rounds == [2, *[1] * (STEPS - 1)]
    return [factors.share().words, *quotients]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_step_of_a_chain_is_within_one_unit(n):
    factors, before, *values = words_of(simulate(n, chain))
    above = []
    for factor, value in zip(factors, values, strict=True):
        above.append(value - (before * factor >> 20))
        before = value
    assert set(np.unique(above).tolist()) == {0, 1}


def edges(drop):
    """Values and factors whose products reach up to 2^62, both ends and 0 among them."""
    rng = np.random.default_rng(drop)
    most, factor = (1 << (62 - drop)) - 1, (1 << drop) - 1
    large = rng.integers(-most, most, 4000, dtype=np.int64)
    factors = rng.integers(-factor, factor, large.size, dtype=np.int64)
    large[:6], factors[:6] = [most, -most, 0, 1, -1, most], [factor, factor, factor, -factor, -1, -factor]
    return large, factors


@pytest.mark.parametrize("drop", [2, 17, 32])
@pytest.mark.parametrize("n", [2, 3])
def test_words_of_every_size(n, drop):
    """The first product makes a quotient of the large words; the second is what is tested."""
    large, factors = edges(drop)

    async def program(s):
        def integers(words):
            shares = np.random.default_rng(1).integers(0, 2**64, (s.n, words.size), dtype=np.uint64)
            shares[0] += words.view(np.uint64) - np.sum(shares, axis=0, dtype=np.uint64)
            return s._ops.share(shares[s.index], frac=0, bound=float(np.abs(words.astype(float)).max()), lineage=int(words.size + drop))

        one, factor = await s.mask(integers(np.full(large.size, 2))), await s.mask(integers(factors))
        # Times 2 and halved: within one unit of what it was.
        z = await mpc.mul_trunc(s, integers(large), one, 1)
        z = z.ldexp(-1).assume_bound(2.0 ** (62 - drop), "as large as before")
        result = await mpc.mul_trunc(s, z, factor.ldexp(1), drop)
        assert z.is_quotient
        return [z.words, await made(s, result)]

    z, result = words_of(simulate(n, program))
    exact = [int(left) * int(right) >> drop for left, right in zip(z, factors, strict=True)]
    assert {int(value) - wanted for value, wanted in zip(result, exact, strict=True)} <= {0, 1}


def test_what_is_no_chain_goes_the_usual_way():
    """Another shape, an unmasked factor, another quotient, a linear map between: two rounds or what masking takes, the same result."""

    async def program(s):
        x, y = own(s, START, 1001.0), await s.mask(own(s, FACTORS[0], 1.0))
        z = (await mpc.mul_trunc(s, x, y, 20)).assume_bound(1001.0, "factors are at most 1")
        wanted, results = START * FACTORS[0] * FACTORS[0], []
        for left, right, rounds in ((z, y.share(), 2), (z + 0.0, y, 2), (z.reshape(-1, 1)[:, 0], y, 2), (y, z, 1), (z, y[:1], 2)):
            before = s.cost.rounds
            product = await mpc.mul_trunc(s, left, right, 20)
            await s.made(product)
            assert s.cost.rounds - before == rounds
            assert OPS["mul_trunc"].cost(s.n, left, right, 20).rounds == rounds
            results.append(await s.reveal(product))
        results[4] = results[4] / FACTORS[0][0] * FACTORS[0]
        return [float(np.abs(result - wanted).max()) for result in results]

    for errors in simulate(3, program):
        assert max(errors) < 1e-3


def test_products_that_may_overflow_are_refused():
    async def program(s):
        y = await s.mask(own(s, FACTORS[0], 1.0))
        z = (await mpc.mul_trunc(s, own(s, START, 1001.0), y, 20)).assume_bound(2.0**21, "a test")
        await mpc.mul_trunc(s, z, y.assume_bound(2.0**4, "a test"), 20)

    with pytest.raises(PrecisionError, match="too large to truncate|exceeds the ring"):
        simulate(2, program)


def test_a_chain_costs_what_its_dry_run_says():
    cost_is_that_of_the_dry_run(counted, 2)


async def counted(s):
    value, factors = own(s, START, 1001.0), await s.mask(own(s, FACTORS, 1.0))
    value = (await mpc.mul_trunc(s, value, factors[0], 20)).assume_bound(1001.0, "factors are at most 1")
    value = await s.run(rest, value, factors)
    return s.cost.rounds, s.cost.payload, s.cost.corrections


async def rest(s, value, factors):
    for number in range(1, STEPS):
        value = (await mpc.mul_trunc(s, value, factors[number], 20)).assume_bound(1001.0, "factors are at most 1")
    return value


def test_large_quotients_remember_nothing():
    async def program(s):
        x = await s.mask(s.zero((1 << 17) + 1).assume_bound(1.0, "zeros"))
        whole = await mpc.mul_trunc(s, x, x, 20)
        part = await mpc.mul_trunc(s, x[:-1], x[:-1], 20)
        return whole.is_quotient, part.is_quotient

    assert simulate(2, program) == [(False, True)] * 2
