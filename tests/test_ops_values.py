"""Ops on values and shapes that hypothesis chooses, scattered openings, and ten million elements at once (invariants 30, 32, 33)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

import mpc
from mpc.kernels import bits
from mpc.ledger import Cost
from mpc.messaging.exchange import Exchange
from mpc.messaging.stripes import SCATTER_WORDS
from mpc.ops.arithmetic import mask_cost
from mpc.ring import WORD, signed
from mpc.testing import simulate
from tests.references import EDGES, opened, owned, shared, shared_bits, split

WORDS = st.one_of(st.sampled_from([edge % 2**64 for edge in EDGES]), st.integers(0, 2**64 - 1))
FEW = settings(max_examples=25, deadline=None)


def arrays(shape, words=WORDS):
    return of_numpy.arrays(np.uint64, shape, elements=words)


def of_signature(signature, operands):
    """Words of shapes that the signature allows."""
    shapes = of_numpy.mutually_broadcastable_shapes(num_shapes=operands, min_side=0, max_side=4, max_dims=3)
    if signature:
        shapes = of_numpy.mutually_broadcastable_shapes(signature=signature, min_side=0, max_side=4, max_dims=2)
    return shapes.flatmap(lambda chosen: st.tuples(*map(arrays, chosen.input_shapes)))


@FEW
@given(factors=of_signature(None, 2), masked=st.integers(0, 3), n=st.integers(2, 3))
def test_products(factors, masked, n):
    check_product(mpc.mul, np.multiply, factors, masked, n)


@FEW
@given(factors=of_signature(np.matmul.signature, 2), masked=st.integers(0, 3), n=st.integers(2, 3))
def test_matrix_products(factors, masked, n):
    check_product(mpc.matmul, np.matmul, factors, masked, n)


def check_product(op, reference, factors, masked, n):
    async def program(s):
        operands = []
        for number, factor in enumerate(factors):
            x = shared(s, factor, 1 + number)
            operands.append(await s.mask(x) if masked >> number & 1 else x)
        result = await op(s, *operands)
        await s.made(result)
        return result.words

    total = np.sum(simulate(n, program), axis=0, dtype=np.uint64)
    expected = np.asarray(reference(*factors))
    assert total.shape == expected.shape
    assert np.array_equal(total, expected)


SMALL_SHAPES = of_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)


@FEW
@given(x=SMALL_SHAPES.flatmap(lambda shape: arrays(shape, st.integers(0, 2**63 - 1))), drop=st.integers(1, 32), n=st.integers(2, 3))
def test_truncations(x, drop, n):
    x = x - WORD.type(1 << 62)

    async def program(s):
        return (await mpc.trunc(s, shared(s, x, 1), drop)).words

    total = np.sum(simulate(n, program), axis=0, dtype=np.uint64)
    above = np.atleast_1d(total).view(np.int64) - (np.atleast_1d(x).view(np.int64) >> drop)
    assert set(above.reshape(-1).tolist()) <= {0, 1}


@FEW
@given(x=SMALL_SHAPES.flatmap(arrays), n=st.integers(2, 3))
def test_comparisons(x, n):
    async def program(s):
        less, zero = await asyncio.gather(mpc.ltz(s, shared(s, x, 1)), mpc.eqz(s, shared(s, x, 1)))
        return less.words, zero.words

    less, zero = (bits.unpack(np.bitwise_xor.reduce(words), x.size).reshape(x.shape) for words in zip(*simulate(n, program), strict=True))
    assert np.array_equal(less, signed(x) < 0)
    assert np.array_equal(zero, x == 0)


# Openings that scatter


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [SCATTER_WORDS - 1, SCATTER_WORDS, SCATTER_WORDS + 3, 3 * SCATTER_WORDS + 1])
def test_large_openings_of_many_parties_scatter(n, size):
    scatters = n > 3 and size >= SCATTER_WORDS
    # Two rounds of a stripe each in place of one of everything.  A private input goes from its owner in one round.
    rounds, payload = (2, 16 * -(-size // n)) if scatters else (1, 8 * size)
    words = np.random.default_rng(size).integers(0, 2**64, size, dtype=np.uint64)

    async def program(s):
        x, y = shared(s, words, 1), owned(s, words, 3)
        assert (mask_cost(n, x).rounds, mask_cost(n, x).payload) == (rounds, payload)
        assert mask_cost(n, y) == Cost(rounds=1, payload=8 * size)
        masked = await opened(s, x)
        cost = s.cost.rounds, s.cost.payload
        own = await opened(s, y)
        return masked.difference, masked.mask, cost, own.difference + own.mask, (s.cost.rounds, s.cost.payload)

    results = simulate(n, program, seed=n)
    first = results[0][0]
    assert all(np.array_equal(difference, first) for difference, *_ in results)
    assert np.array_equal(first + sum(mask for _, mask, *_ in results), words)
    assert np.array_equal(results[n - 2][3], words)
    assert {cost[0] for _, _, cost, *_ in results} == {rounds}
    assert max(cost[1] for _, _, cost, *_ in results) == payload
    assert results[n - 2][4] == (rounds + 1, results[n - 2][2][1] + 8 * size)


@pytest.mark.parametrize("n", [4, 5])
def test_scattered_and_direct_openings_give_equal_values(n):
    """Bits too: one array in one opening that scatters, and its parts in openings that do not."""
    size = 64 * SCATTER_WORDS
    plain = [np.random.default_rng(seed).integers(0, 2, size, dtype=np.uint8) for seed in (1, 2)]
    numbers = np.random.default_rng(3).integers(0, 2**64, 2 * SCATTER_WORDS, dtype=np.uint64)

    async def program(s):
        x, y = (shared_bits(s, one, 1 + number) for number, one in enumerate(plain))
        z = shared(s, numbers, 5)
        whole, square = await mpc.and_(s, x, y), await mpc.square(s, z)
        half = size // 2
        parts = [await mpc.and_(s, x[cut], y[cut]) for cut in (slice(0, half), slice(half, size))]
        few = [await mpc.square(s, z[start : start + 1000]) for start in range(0, 4000, 1000)]
        return whole.words, square.words, [part.words for part in parts], [part.words for part in few]

    whole, square, parts, few = zip(*simulate(n, program), strict=True)
    expected = plain[0] & plain[1]
    assert np.array_equal(bits.unpack(np.bitwise_xor.reduce(whole), size), expected)
    halves = [bits.unpack(np.bitwise_xor.reduce(part), size // 2) for part in zip(*parts, strict=True)]
    assert np.array_equal(np.concatenate(halves), expected)
    assert np.array_equal(sum(square), numbers * numbers)
    assert np.array_equal(np.concatenate([sum(part) for part in zip(*few, strict=True)]), sum(square)[:4000])


@pytest.mark.parametrize("n", [4, 5])
def test_a_reveal_never_scatters(n, monkeypatch):
    scattered = []
    plain = Exchange._scatter

    async def noted(self, *arguments):
        scattered.append(self.me)
        return await plain(self, *arguments)

    monkeypatch.setattr(Exchange, "_scatter", noted)
    size = 2 * SCATTER_WORDS

    async def program(s):
        value = await s.reveal(s.zero(size).add_own(s.encode(np.ones(size))), to=1)
        return s.cost.rounds, s.cost.payload, value is None

    results = simulate(n, program)
    assert scattered == []
    assert results == [(1, 0 if index == 1 else 8 * size, index != 1) for index in range(n)]


# Ten million


MANY = 10_000_000


@pytest.mark.slow
def test_ten_million_products():
    x, y = np.random.default_rng(1).integers(0, 2**64, (2, MANY), dtype=np.uint64)

    async def program(s):
        return (await mpc.mul(s, shared(s, x, 1), shared(s, y, 2))).words

    assert np.array_equal(sum(simulate(2, program)), x * y)


@pytest.mark.slow
def test_ten_million_comparisons():
    x = np.random.default_rng(1).integers(0, 2**64, MANY, dtype=np.uint64)
    shares = split(x, 2, 1)

    async def program(s):
        less = await mpc.ltz(s, s._ops.share(shares[s.index], frac=0, bound=1.0, lineage=1))
        return less.words, s.cost.rounds

    (first, rounds), (second, _) = simulate(2, program)
    assert rounds == 3
    assert np.array_equal(bits.unpack(first ^ second, MANY), signed(x) < 0)
