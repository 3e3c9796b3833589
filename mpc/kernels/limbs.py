"""Products of words from float64 BLAS, on digits so small that every sum is exact.

A word is a0 + a1 2^22 + a2 2^42 mod 2^64, with signed digits of 22, 20 and 22 bits. The places of a1 b2 and a2 b1 are 2^64 and more, hence

    a b = a0 b0 + (a0 b1 + a1 b0) 2^22 + (a0 b2 + a2 b0) 2^42 + a1 b1 2^44    mod 2^64

and a0 b1 + a1 b0 = (a0 + a1)(b0 + b1) - a0 b0 - a1 b1 leaves five products where six would be obvious (Karatsuba). The largest factors, a0
+ a1 and b0 + b1, are at most 2^21 + 2^19, so that a sum of 1310 of their products stays within 2^53: DEPTH at a time.

A number of 65 bits, 2 u + d of a word u and a bit d, is a0 + a1 2^22 + a2 2^43 mod 2^65, with digits of 22, 21 and 22 bits. The same five
products at half their weights give half of a b mod 2^65; the remainder of halving a sum of a0 b0 is carried to the next sum. Here a0 + a1
and b0 + b1 are at most 2^21 + 2^20, and 910 of their products stay within 2^53.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mpc.kernels.halting import check_halted
from mpc.ring import BITS, WORD, Words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Limbs = NDArray[np.float64]
    Terms = tuple[tuple[int, int, int, np.uint64], ...]

ROWS, DEPTH, COLUMNS = 512, 1024, 1024  # of a tile
AT_MOST = 1 << 23  # words that are in use beside the result
CACHED = 1 << 14  # words that are split or summed at a time, so that what lies between words and limbs stays in cache
FLOAT = WORD.type(0x433 << 52)  # an integer below 2^52 with these bits above it is, as a float64, 2^52 more


class Form(NamedTuple):
    """How a word is split, and which products of limbs make the product of words."""

    digits: tuple[tuple[int, int], ...]
    """(place, bits) of each digit of the word."""
    terms: Terms
    """(limb of a, limb of b, how many of their products are summed at most, weight of the sum)."""

    @property
    def bias(self) -> np.uint64:
        """A number that, added to a word, makes all its digits non-negative, with no carries."""
        return WORD.type(sum(1 << place + bits - 1 for place, bits in self.digits))


def _terms(*weights: tuple[int, int, int, int]) -> Terms:
    return tuple((i, j, depth, WORD.type(weight % 2**BITS)) for i, j, depth, weight in weights)


WHOLE = Form(
    ((0, 22), (22, 20), (42, 22)),
    _terms((0, 0, DEPTH, 1 - 2**22), (3, 3, DEPTH, 2**22), (1, 1, DEPTH, 2**44 - 2**22), (0, 2, DEPTH, 2**42), (2, 0, DEPTH, 2**42)),
)
HALF = Form(
    ((0, 21), (21, 21), (42, 22)),
    _terms((3, 3, DEPTH // 2, 2**21), (1, 1, DEPTH, 2**43 - 2**21), (0, 2, DEPTH, 2**42), (2, 0, DEPTH, 2**42)),
)
"""The form of u in 2 u + d. The weight of a0 b0 is 1/2 - LOWEST: half of a0 b0 may be fractional, so it is no term."""
LOWEST = WORD.type(2**21)


def add_product(a: Words, b: Words, product: Words) -> None:
    """Add a (m, k) @ b (k, n) to `product` (m, n)."""
    for tile in _tiles(WHOLE, (a,), (b,)):
        tile.add_terms(product[tile.place])


def add_half(u: Words, d: Words, v: Words, e: Words, product: Words, odd: NDArray[np.int64]) -> None:
    """Add half of (2 u + d) @ (2 v + e) + `odd` to `product`, for the lowest bits of d and e, and leave the remainder, a bit, in `odd`."""
    for tile in _tiles(HALF, (u, d), (v, e)):
        tile.add_lowest(product[tile.place], odd[tile.place])
        tile.add_terms(product[tile.place])


class _Tile(NamedTuple):
    """A part of a product, and the limbs of its factors: `left` (4, m, k), `right` (4, k, n), with k <= DEPTH."""

    form: Form
    place: tuple[slice, slice]
    left: Limbs
    right: Limbs
    sums: NDArray[np.float64]
    scratch: Words

    def add_terms(self, product: Words) -> None:
        """Add all terms to the tile's part of the product (m, n)."""
        for i, j, depth, weight in self.form.terms:
            for rows, words in self._sums(i, j, depth):
                np.multiply(words, weight, out=words)
                product[rows] += words

    def add_lowest(self, product: Words, odd: NDArray[np.int64]) -> None:
        """Add half of a0 b0 + `odd`, rounded down, and leave the lost bit in `odd`."""
        for rows, words in self._sums(0, 0, DEPTH):
            lowest, rest = words.view(np.int64), odd[rows]
            rest += lowest
            np.multiply(words, LOWEST, out=words)
            product[rows] -= words
            np.right_shift(rest, 1, out=lowest)
            product[rows] += words
            rest &= 1

    def _sums(self, i: int, j: int, depth: int) -> Iterator[tuple[slice, Words]]:
        """The product of two limbs as writable words: some rows at a time, of at most `depth` addends."""
        for middle in _steps(self.left.shape[2], depth):
            np.matmul(self.left[i][:, middle], self.right[j][middle], out=self.sums)
            for rows in _some_rows(self.sums):
                floats = self.sums[rows]
                words = self.scratch[: floats.size].reshape(floats.shape)
                np.copyto(words.view(np.int64), floats, casting="unsafe")
                yield rows, words


def _tiles(form: Form, a: tuple[Words, ...], b: tuple[Words, ...]) -> Iterator[_Tile]:
    """The tiles of a product of numbers: words, or words with the lowest bit of others below each. Limbs of b are made once, limbs of a
    once per COLUMNS columns of b.
    """
    (m, k), n = a[0].shape, b[0].shape[1]
    rows, depth, columns = min(m, ROWS), min(k, DEPTH), min(n, COLUMNS)
    # Allocated once: a fresh page costs a process more than the computation on it.
    left, right, sums = np.empty((4, rows, depth)), np.empty((4, depth, columns)), np.empty((rows, columns))
    scratch = np.empty(max(CACHED, depth, columns), WORD)
    for across in _steps(n, COLUMNS):
        for middle in _steps(k, DEPTH):
            b_part = [words[middle, across] for words in b]
            b_limbs = right[:, : len(b_part[0]), : b_part[0].shape[1]]
            split(form, b_limbs, scratch, *b_part)
            for down in _steps(m, ROWS):
                check_halted()
                a_part = [words[down, middle] for words in a]
                a_limbs = left[:, : len(a_part[0]), : a_part[0].shape[1]]
                split(form, a_limbs, scratch, *a_part)
                yield _Tile(form, (down, across), a_limbs, b_limbs, sums[: a_limbs.shape[1], : b_limbs.shape[2]], scratch)


def split(form: Form, limbs: Limbs, scratch: Words, words: Words, below: Words | None = None) -> None:
    """The limbs (4, r, c) of words (r, c), or of words with the lowest bit `below` each: a0, a1, a2 and a0 + a1. Overwrites `scratch`."""
    for rows in _some_rows(words):
        parts = limbs[:, rows]
        biased = scratch[: words[rows].size].reshape(words[rows].shape)
        np.add(words[rows], form.bias, out=biased)
        for part, (place, bits) in zip(parts, form.digits, strict=False):
            digit = part.view(WORD)
            np.right_shift(biased, WORD.type(place), out=digit)
            digit &= WORD.type(2**bits - 1)
            digit |= FLOAT
            np.subtract(part, 2.0**52 + 2 ** (bits - 1), out=part)
        if below is not None:
            parts[0] += parts[0]
            np.bitwise_and(below[rows], WORD.type(1), out=biased)
            parts[0] += biased
        np.add(parts[0], parts[1], out=parts[3])


def _steps(extent: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, extent, step))


def _some_rows(matrix: NDArray[np.generic]) -> Iterator[slice]:
    return _steps(len(matrix), max(1, CACHED // max(1, matrix.shape[1])))
