"""Truncation errs by 0 or one unit in the last place: exhaustively on 8-bit words, in volume on 64-bit ones (invariant 29)."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc.ops.arithmetic import beaver
from mpc.ops.quotients import _shaped, biased, truncated
from mpc.ring import WORD, signed
from mpc.testing import simulate
from tests.references import shared

EDGES = np.array([0, 1, -1, 2**62 - 1, -(2**62), 2**20 - 1, 2**20, -(2**20), 2**32], np.int64).view(np.uint64)
SOME, VOLUME = 1_000_000, 100_000_000
DROPS = [1, 8, 20, 31, 32]


def share(rng, words, n):
    """n shares, the words of all but the first uniform."""
    others = [rng.integers(0, 1 << 8 * words.itemsize, words.shape, dtype=words.dtype) for _ in range(n - 1)]
    return [words - sum(others), *others]


def above_floor(x, result, drop):
    """The number of units by which the result lies above x / 2^drop rounded down."""
    return signed(result - (signed(x) >> drop).astype(x.dtype))


def random_words(rng, size, bits=62):
    """Words in [-2^bits, 2^bits), edges among them."""
    words = rng.integers(-(1 << bits), 1 << bits, size, dtype=np.int64).view(WORD)
    words[: EDGES.size] = EDGES if bits == 62 else 0
    return words


def truncation_by(rng, n, c, r, drop):
    """All parties' shares of the result, summed, from c open and shares of r >> drop and of its top bit."""
    high = share(rng, r >> WORD.type(drop), n)
    top = share(rng, (r >> WORD.type(63)).astype(np.uint32), n)
    return sum(truncated(c, high[i], top[i], drop, first=i == 0) for i in range(n))


def plain(rng, n, size, drop):
    """Truncate x alone."""
    x = random_words(rng, size)
    r = rng.integers(0, 2**64, size, dtype=np.uint64)
    return x, truncation_by(rng, n, x + WORD.type(1 << 62) + r, r, drop)


def fused(rng, n, size, drop):
    """x y: what is opened lacks a b and hides the rest under rho."""
    x, y = random_words(rng, size, 31), random_words(rng, size, 30)
    a, b, rho = rng.integers(0, 2**64, (3, size), dtype=np.uint64)
    of_a, of_b, of_rho = (share(rng, words, n) for words in (a, b, rho))
    d, e = x - a, y - b
    opened = sum(beaver(d, of_a[i], e, of_b[i], "mul", first=i == 0) - of_rho[i] for i in range(n))
    r = -(rho + a * b)
    assert np.array_equal(opened + WORD.type(1 << 62), x * y + WORD.type(1 << 62) + r)
    return x * y, truncation_by(rng, n, opened + WORD.type(1 << 62), r, drop)


WAYS = {"plain": plain, "fused": fused}


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("way", WAYS)
def test_a_million_samples(way, n):
    rng = np.random.default_rng([len(way), n])
    for drop in DROPS:
        x, result = WAYS[way](rng, n, SOME // len(DROPS), drop)
        above = above_floor(x, result, drop)
        assert above.min() == 0
        assert above.max() == 1


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_million_samples(way, n):
    rng = np.random.default_rng([len(way), n, 1])
    for number in range(VOLUME // SOME):
        drop = 1 + number % 32
        x, result = WAYS[way](rng, n, SOME, drop)
        assert set(np.unique(above_floor(x, result, drop)).tolist()) <= {0, 1}


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_million_samples_through_a_session(n):
    size, drop = SOME // 2, 20
    x = random_words(np.random.default_rng(n), size)
    y = random_words(np.random.default_rng(n + 1), size, 30)

    async def program(s):
        by_itself = await mpc.trunc(s, shared(s, x, 1), drop)
        left = await s.mask(shared(s, y, 3))
        return by_itself.words, (await mpc.mul_trunc(s, left, left, drop)).words

    for total, of in zip((sum(words) for words in zip(*simulate(n, program), strict=True)), (x, y * y), strict=True):
        assert set(np.unique(above_floor(of, total, drop)).tolist()) == {0, 1}


@pytest.mark.parametrize("n", [2, 3])
def test_matrix_products_truncated(n):
    rng = np.random.default_rng(n)
    x, y = random_words(rng, 60 * 300, 26).reshape(60, 300), random_words(rng, 300 * 50, 26).reshape(300, 50)

    async def program(s):
        return (await mpc.matmul_trunc(s, shared(s, x, 1), shared(s, y, 3), 13)).words

    above = above_floor(x @ y, sum(simulate(n, program)), 13)
    assert set(np.unique(above).tolist()) == {0, 1}


# Exhaustive on 8-bit words


BYTES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("drop", [1, 2, 3, 4, 5, 6])
def test_every_8_bit_truncation(drop):
    """All x in [-64, 64), all masks r, shares of both kinds for n = 2 and 3; of the top bit only its shares mod 2^drop are used."""
    x = np.arange(-64, 64, dtype=np.int8).view(np.uint8)[:, None]
    r = np.broadcast_to(BYTES, (128, 256))
    c = x + np.uint8(64) + r
    rng = np.random.default_rng(drop)
    for n in (1, 2, 3):
        high, top = share(rng, r >> np.uint8(drop), n), share(rng, r >> np.uint8(7), n)
        top = [part & np.uint8((1 << drop) - 1) for part in top]
        result = sum(truncated(c, high[i], top[i], drop, first=i == 0) for i in range(n))
        above = signed(result) - (signed(x) >> drop)
        assert above.min() == 0
        assert above.max() == 1
    # What is opened takes every value once, whatever x is.
    assert np.array_equal(np.sort(c, axis=1), np.broadcast_to(BYTES, c.shape))


@pytest.mark.parametrize("drop", [1, 4, 6])
def test_the_mean_error_of_a_truncation_is_what_was_dropped(drop):
    """Over all masks the result is 1 too high as often as the dropped bits say: unbiased, hence no large error can hide in the mean."""
    x = np.arange(-64, 64, dtype=np.int8).view(np.uint8)[:, None]
    r = np.broadcast_to(BYTES, (128, 256))
    result = truncated(x + np.uint8(64) + r, r >> np.uint8(drop), r >> np.uint8(7), drop, first=True)
    above = signed(result) - (signed(x) >> drop)
    dropped = (x[:, 0] & np.uint8((1 << drop) - 1)).astype(int)
    assert np.array_equal(above.sum(axis=1), dropped * 256 >> drop)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_8_bit_product(n):
    """All x, y and a, with b running through all bytes as a does."""
    x, y = BYTES[:, None], BYTES[None, :]
    rng = np.random.default_rng(n)
    for a in BYTES:
        b = np.uint8((int(a) * 167 + 31) % 256)
        masks = [share(rng, np.full((256, 256), word, np.uint8), n) for word in (a, b, np.uint8(int(a) * int(b) % 256))]
        d, e = np.broadcast_to(x - a, (256, 256)), np.broadcast_to(y - b, (256, 256))
        product = sum(beaver(d, masks[0][i], e, masks[1][i], "mul", first=i == 0) + masks[2][i] for i in range(n))
        assert np.array_equal(product, x * y)


@pytest.mark.parametrize("x", [0, 1, 200])
def test_every_view_of_an_8_bit_opening_is_equally_likely(x):
    """Party 1 of 2 sees its shares of x and a, and d = x - a: over all randomness every triple comes once, whatever x is."""
    x1, a0, a1 = np.meshgrid(BYTES, BYTES, BYTES, indexing="ij", sparse=True)
    d = np.uint8(x) - x1 - a0 + (x1 - a1)
    views = (x1.astype(np.uint32) << 16) + (a1.astype(np.uint32) << 8) + d
    seen = np.zeros(1 << 24, np.uint8)
    seen[views.reshape(-1)] = 1
    assert seen.all()


@pytest.mark.parametrize("first", [False, True])
def test_words_without_axes_wrap_silently(first):
    """numpy warns where scalars wrap, and a share is any word."""
    ends = np.array([0, 1, 2**62, 2**63, 2**64 - 1], np.uint64)
    for difference in ends:
        for high in ends:
            for top in (0, 1, 2**32 - 1):
                arguments = np.array([high]), np.array([top], np.uint32), 1, first
                scalar = _shaped(biased(np.array(difference)), *arguments, ())
                assert scalar.shape == ()
                assert scalar == _shaped(biased(np.array([difference])), *arguments, (1,))[0]
