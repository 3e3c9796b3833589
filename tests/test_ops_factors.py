"""Products of more than two masked values: a chain opens once for many products, and every word equals the plain chain's."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
import protocols
from mpc.errors import PrecisionError
from mpc.estimate import estimate
from mpc.naming.correlations import MAX_TERMS
from mpc.ops.chains.groups import GROUP, MANY, most_factors
from mpc.ops.declare import OPS
from mpc.testing import simulate
from tests.references import added_up, opened, shared

STEPS = 20
EDGES = np.array([0, 1, 2**64 - 1, 2**63, 2**63 - 1, 2**32, 3, 2**64 - 5], np.uint64)
SHAPES = [(), (1,), (8,), (4, 16), (1000,), (0,), (3, 0)]


def words_at(shape, rng):
    """Edge words and random ones."""
    size = int(np.prod(shape))
    return np.where(rng.random(size) < 0.5, rng.choice(EDGES, size), rng.integers(0, 2**64, size, dtype=np.uint64)).reshape(shape)


def total(results):
    """The sums of the parties' shares of each step."""
    return [np.sum(words, axis=0, dtype=np.uint64) for words in zip(*results, strict=True)]


@mpc.protocol
async def read(s, value):
    """A call that needs the words."""
    await s.made(value)


def opens(number, most):
    """Whether this product of a chain that is read at every step opens something, the first of them the start of the chain."""
    return number % (most - 1) == 0 if most < MANY else number == 0 or (number >= most - 1 and (number - most + 1) % (GROUP - 1) == 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_word_of_a_chain_is_exact_and_it_opens_as_rarely_as_declared(n, shape):
    most = most_factors(shape)
    rng = np.random.default_rng(n)
    start, factors = words_at(shape, rng), [words_at(shape, rng) for _ in range(STEPS)]

    async def chain(s):
        value = shared(s, start, 1)
        masked = [await opened(s, shared(s, factor, 2 + number)) for number, factor in enumerate(factors)]
        steps = []
        for number, factor in enumerate(masked):
            x, y = (value, factor) if number % 2 else (factor, value)
            before, said = s.cost.rounds, OPS["mul"].cost(n, x, y)
            value = await mpc.mul(s, x, y)
            await read(s, value)
            assert s.cost.rounds - before == said.rounds == opens(number, most)
            steps.append(value)
        return [value.words for value in steps]

    product = start
    for factor, words in zip(factors, total(simulate(n, chain)), strict=True):
        product = (product[np.newaxis] * factor)[0]
        assert np.array_equal(words, product)


@pytest.mark.parametrize("n", [2, 3])
def test_slices_transposes_and_powers_are_factors_too(n):
    words = words_at((4, 4), np.random.default_rng(9))

    async def program(s):
        x = await opened(s, shared(s, words, 1))
        before = s.cost.rounds
        square = await mpc.mul(s, x, x.T)
        cube = await mpc.mul(s, square, x[::-1])
        fourth = await mpc.mul(s, cube.assume_bound(1.0, "a test"), x * 3 + x)
        eighth = await mpc.mul(s, *[fourth.assume_bound(1.0, "a test")] * 2)
        await s.made(square, cube, fourth, eighth)
        assert s.cost.rounds == before
        return [square.words, cube.words, fourth.words, eighth.words]

    square, cube = words * words.T, words * words.T * words[::-1]
    fourth = cube * words * np.uint64(4)
    for got, wanted in zip(total(simulate(n, program)), (square, cube, fourth, fourth * fourth), strict=True):
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_products_of_products_open_no_more_than_is_declared(n):
    """Every pair of products of 1 to 11 factors, the first of them not masked: that of more factors is opened if they are too many."""
    words, most = words_at((3,), np.random.default_rng(n)), most_factors((3,))
    assert most == 11

    async def program(s):
        x = shared(s, words, 1)
        powers = [x, await opened(s, x)]
        while len(powers) <= most:
            powers.append((await mpc.mul(s, powers[-1], powers[1])).assume_bound(1.0, "a lie"))
        results = []
        for i, left in enumerate(powers):
            for j, right in enumerate(powers):
                before, said = (s.cost.rounds, s.cost.payload), OPS["mul"].cost(n, left, right)
                results.append(result := await mpc.mul(s, left, right))
                await s.made(result)
                assert (s.cost.rounds - before[0], s.cost.payload - before[1]) == (said.rounds, said.payload)
                known, fresh = i + j, (not i) + (not j)
                assert (said.payload // 24) == fresh + (known // GROUP if known + fresh > most else 0)
        return [result.words for result in results]

    powers = [words ** np.uint64(k or 1) for k in range(most + 1)]
    wanted = [left * right for left in powers for right in powers]
    for got, expected in zip(total(simulate(n, program)), wanted, strict=True):
        assert np.array_equal(got, expected)


def test_what_is_no_chain_opens_as_before():
    """An unmasked factor, a linear map between, another shape, and more elements than pays: one round each."""
    rng = np.random.default_rng(4)
    words = [words_at((6,), rng) for _ in range(2)]
    large = words_at((MAX_TERMS // 4 + 1,), rng)

    async def program(s):
        x, y = [await s.mask(shared(s, each, number)) for number, each in enumerate(words)]
        z, whole = await mpc.mul(s, x, y), await s.mask(shared(s, large, 7))
        most = await mpc.mul(s, whole, whole)
        results = []
        for left, right in ((z, y.share()), (z + 0, y), (z.reshape(2, 3), y.reshape(2, 3)), (y[:1], z), (most, whole)):
            before = s.cost.rounds
            await s.made(product := await mpc.mul(s, left, right))
            results.append(product.words.reshape(-1))
            assert s.cost.rounds - before == 1 == OPS["mul"].cost(s.n, left, right).rounds
        return results

    x, y = words
    wanted = [x * y * y, x * y * y, x * y * y, x * y * y[0], large * large * large]
    for got, words_wanted in zip(total(simulate(3, program)), wanted, strict=True):
        assert np.array_equal(got, words_wanted)


def test_products_that_may_overflow_are_refused():
    async def program(s):
        x = await s.mask(shared(s, EDGES, 1).assume_bound(2.0**21, "a test"))
        await mpc.mul(s, await mpc.mul(s, x, x), x)

    with pytest.raises(PrecisionError, match="the product of values up to"):
        simulate(2, program)


async def power(s, x):
    """The power x^16."""
    value = x
    for _ in range(15):
        value = await mpc.mul(s, value, x)
    return value


async def several(s, x):
    return await asyncio.gather(*(mpc.protocol(power)(s, x[number]) for number in range(4)))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chains_side_by_side_cost_what_their_dry_run_says(n, seed):
    async def program(s):
        x = await s.mask(shared(s, EDGES[:4], 1))
        results = await s.run(several, x)
        return [value.words for value in results], (s.cost.rounds, s.cost.payload, s.cost.corrections)

    words, costs = zip(*simulate(n, program, seed=seed), strict=True)
    assert np.array_equal(total(words), EDGES[:4] ** np.uint64(16))
    said = estimate(program, n)
    assert {cost[:2] for cost in costs} == {(said.rounds, said.payload)}
    # x is masked, and twice x^8, of eight factors each; of all products the words of x^16 alone are made, of these two.
    assert said.rounds == 2
    assert sum(cost[2] for cost in costs) == said.dealer == 4 * 8 * (2 * 247 + 1)


@pytest.mark.parametrize("n", [2, 3])
def test_long_names_are_opened_so_that_every_relation_fits_into_a_message(n):
    """Twelve factors, each a sum of 20 masked values, in a deep scope; sums of 25 are no factors."""

    async def program(s, depth=60):
        if depth:
            return await mpc.protocol(program)(s, depth - 1)
        rounds = []
        for addends in (20, 25):
            masked = [await s.mask(shared(s, EDGES[1:2], number)) for number in range(addends)]
            factor = added_up([each.assume_bound(1.0, "it is 1") for each in masked])
            value, before = factor, s.cost.rounds
            for _ in range(11):
                value = (await mpc.mul(s, value, factor)).assume_bound(1.0, "a lie")
            await s.made(value)
            rounds.append((s.cost.rounds - before, value.words))
        return rounds

    short, long = zip(*simulate(n, program), strict=True)
    assert {rounds for rounds, _ in short} == {0}
    assert {rounds for rounds, _ in long} == {10}
    for outcome, addends in ((short, 20), (long, 25)):
        assert sum(int(words[0]) for _, words in outcome) % 2**64 == addends**12 % 2**64


def test_a_name_too_long_for_a_message_is_refused_everywhere():
    """Three factors, each a sum of 126 masked values, in a scope twice as deep as above."""

    async def refused(s):
        factors = []
        for _ in range(3):
            factors.append(added_up([await s.mask(s.zero(2, frac=4).assume_bound(1.0, "zeros")) for _ in range(126)]))
        with pytest.raises(mpc.ProgramError, match="has too long a name to ask for"):
            await mpc.mul_trunc(s, await mpc.mul_trunc(s, *factors[:2], 4), factors[2], 4)

    async def program(s, depth=120):
        await (mpc.protocol(program)(s, depth - 1) if depth else refused(s))

    simulate(3, program)


@pytest.mark.parametrize("n", [2, 3])
def test_what_follows_a_long_dry_run_that_failed(n):
    """Nothing of it was asked for, so no correction is left that nobody takes."""

    async def too_large(s, x):
        for _ in range(200):
            await mpc.square(s, x)
        await mpc.mul(s, x.assume_bound(2.0**40, "a test"), x.assume_bound(2.0**40, "a test"))

    async def cubes(s, x):
        return await s.reveal(await mpc.mul(s, await mpc.mul(s, x, x), x))

    async def program(s):
        x = await s.mask(s.zero(1 << 17, frac=0).assume_bound(1.0, "zeros"))
        y = await s.mask(s.zero(3, frac=0).add_own(s.encode([1.0, 2.0, 3.0], frac=0)).assume_bound(20.0, "n times 3"))
        calls = s._ops.root.calls
        with pytest.raises(PrecisionError):
            await s.run(too_large, x)
        assert s._ops.root.calls == calls
        results = [await s.run(cubes, y), await cubes(s, y)]
        return [*results, await protocols.secure_sum(s, [1.0])]

    for first, second, ones in simulate(n, program):
        assert first.tolist() == second.tolist() == [(n * value) ** 3 for value in (1, 2, 3)]
        assert ones.tolist() == [n]
