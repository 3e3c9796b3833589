"""The products of comparisons of docs/wire.md: each array in the order of the text, element by element."""

from __future__ import annotations

import numpy as np
import pytest

from mpc.kernels import carry
from mpc.naming.correlations import KINDS, Relation
from mpc.naming.expressions import Range, mask


def sets(factors):
    """ANDs of the factors i with bit i of S, for S = 1, 2, ..."""
    return [np.bitwise_and.reduce([factors[i] for i in range(len(factors)) if s >> i & 1]) for s in range(1, 1 << len(factors))]


def nibble_rows(a):
    rows = np.zeros((4, 16, a.shape[1]), np.uint64)
    for r, n, k, j in np.ndindex(4, 16, 16, 4):
        rows[r, n] |= (a[4 * n + j] >> np.uint64(4 * k + r) & np.uint64(1)) << np.uint64(4 * k + j)
    return rows


def short_nibbles(rows):
    low = np.uint64((1 << 60) - 1)
    return np.array([rows[r] & low | (rows[15] >> np.uint64(4 * r) & np.uint64(15)) << np.uint64(60) for r in range(15)])


def short_quarters(rows):
    """(B, 4, W) as (B, 3, W)."""
    low = np.uint64(0xFFFF)
    return np.stack([rows[:, r] & ~low | rows[:, 3] >> np.uint64(16 * (r + 1)) & low for r in range(3)], axis=1)


def flat(*arrays):
    return np.concatenate([np.ravel(array) for array in arrays])


@pytest.mark.parametrize(("blocks", "width"), [(1, 1), (1, 7), (3, 256)])
def test_products_of_comparisons_are_in_the_order_of_the_document(blocks, width):
    random = np.random.default_rng(7)

    def words(*shape):
        return random.integers(0, 2**64, shape, np.uint64)

    a = words(blocks, 64, width)
    rows = [nibble_rows(block) for block in a]
    sign = [
        flat(sets(n[:3]), n[3], [product & short_nibbles(n[3]) for product in sets([short_nibbles(row) for row in n[:3]])]) for n in rows
    ]
    assert np.array_equal(carry.sign_material(a), flat(*sign))
    assert np.array_equal(carry.zero_material(a), flat(*(sets(n) for n in rows)))

    def merge(p1, p2, p3, g0, g1, g2):
        of_g1 = [p2, p3, p2 & p3]
        return flat(p1 & p2, p1 & p3, p2 & p3, p1 & p2 & p3, [g0 & p for p in sets([p1, p2, p3])], [g1 & p for p in of_g1], g2 & p3)

    first, p0, second = words(6, blocks, 4, width), words(blocks, 3, width), words(6, blocks, width)
    more = [product & p0 for product in sets([short_quarters(p) for p in first[:3]])]
    assert np.array_equal(carry.sign_tree(flat(first, p0, second), blocks), flat(merge(*first), more, merge(*second)))

    first, second = words(4, blocks, 4, width), words(4, blocks, width)
    several = [s - 1 for s in (3, 5, 6, 7, *range(9, 16))]
    expected = flat(*(sets(four)[s] for four in (first, second) for s in several))
    assert np.array_equal(carry.zero_tree(flat(first, second), blocks), expected)


PARTS = {"sign": (233, 0), "sign tree": (96, 33), "zero": (240, 0), "zero tree": (55, 20)}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_of_comparisons(kind):
    for m, part in ((70, 2), (3 << 14, 3 * 256)):
        expressions = () if kind.endswith("tree") else (mask(Range("0", 0, (m,))),)
        relation = Relation(kind, (m,) if kind.endswith("tree") else (), expressions, (), Range("0", 0, ()))
        wanted, rho = PARTS[kind]
        assert relation.nbytes == 8 * part * wanted
        assert sum(KINDS[kind].bit_words(m)) == part * rho
