"""What the dealer shares so that parties can truncate, and multiply truncated values (papers: catrina10, dalskov20; decisions 0012, 0018,
0020, 0029).

A mask is what was subtracted from a value, so r = -mask is what was added to it. A truncation needs r >> m and the top bit of r, mod 2^m
only, m <= 32; later products need that top bit mod 2^m, too. Dealer only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc.kernels import sets, wide
from mpc.kernels.products import matmul
from mpc.ring import BITS, WORD, Words, count

if TYPE_CHECKING:
    from typing import Any

HALF = np.dtype("<u4")
_TOP = WORD.type(BITS - 1)


def of_truncation(mask: Words, drop: int) -> list[Words]:
    """All r >> drop, and their top bits."""
    high, top = _high_and_top(mask, drop)
    return [high, top.astype(HALF)]


def of_lifting(mask: Words) -> list[Words]:
    """All r as numbers mod 2^128, and their top bits."""
    r = np.negative(mask.reshape(-1))
    return [wide.words_of(r.tolist()), r >> _TOP]


def of_map(left: Words, earlier: Words, rho: Words, before: int, drop: int) -> list[Words]:
    """As for a truncation of rho, and matrix products of a mask with the parts of an earlier r: with -(r >> l) summed up, with its top
    bits one by one.
    """
    high, top = _high_and_top(rho, drop)
    shifted, tops = (part.reshape(earlier.shape) for part in _high_and_top(earlier, before))
    # Each of these top bits is multiplied by an opened value later, so they cannot be summed here.
    return [high, np.negative(matmul(left, shifted)).reshape(-1), top.astype(HALF), _one_by_one(left, tops).reshape(-1)]


def of_quotients(left: Words, right: Words, rho: Words, left_before: int, before: int, drop: int) -> list[Words]:
    """As `of_map`, for the parts of two earlier r: products without a top bit summed up, products with one top bit one by one, times
    -1. The others are not needed.
    """
    high, top = _high_and_top(rho, drop)
    (h, t), (shifted, tops) = (
        [part.reshape(mask.shape) for part in _high_and_top(mask, lost)] for mask, lost in ((left, left_before), (right, before))
    )
    alone = np.concatenate([_one_by_one(t, shifted), _one_by_one(h, tops)])
    return [high, matmul(h, shifted).reshape(-1), top.astype(HALF), np.negative(alone, out=alone).reshape(-1)]


def _one_by_one(left: Words, right: Words) -> Words:
    """All left_ij right_jl, (m, j, l), mod 2^32."""
    (m, j), columns = left.shape, count(right.shape[1:])
    return left.astype(HALF).reshape(m, j, 1) * right.astype(HALF).reshape(1, j, columns)


def of_products(earlier: Words, *others: Any) -> list[Words]:
    """As for a truncation of rho, and products of masks b, ... with the parts of an earlier r, those with its top bit mod 2^32;
    `others` are b, ..., rho, l, m.
    """
    *masks, rho, before, drop = others
    high, top = _high_and_top(rho, drop)
    products = np.empty(((1 << len(masks)) - 1, high.size), WORD)
    sets.products([b.reshape(-1) for b in masks], products, np.multiply)
    # In the order of sets whose last factor is a part of the earlier r.
    shifted, tops = (products * part for part in _high_and_top(earlier, before))
    without = products[sets.of_several(len(masks)) - 1]
    return [high, np.concatenate([without, shifted]).reshape(-1), top.astype(HALF), tops.astype(HALF).reshape(-1)]


def of_wide_products(earlier: Words, *others: Any) -> list[Words]:
    """As `of_products`, in numbers mod 2^128, and with the earlier r's parts alone, too."""
    *masks, rho, before, drop = others
    high, top = _high_and_top(rho, drop)
    columns = zip(*(b.reshape(-1).tolist() for b in masks), *_high_and_top_integers(earlier, before), strict=True)
    # Here by elements, there in the order of sets.
    products = zip(*(_wide_products(*column) for column in columns), strict=True)
    return [high, wide.words_of([number for of_set in products for number in of_set]), top.astype(HALF)]


def _high_and_top(mask: Words, drop: int) -> tuple[Words, Words]:
    """All r >> drop and their top bits, as words."""
    if mask.dtype == object:
        high, top = _high_and_top_integers(mask, drop)
        return wide.low(high), wide.low(top)
    r = np.negative(mask.reshape(-1))
    return r >> WORD.type(drop), r >> _TOP


def _high_and_top_integers(mask: Words, drop: int) -> tuple[list[int], list[int]]:
    """All r >> drop and their top bits, as integers."""
    if mask.dtype == object:
        return wide.high_and_top(mask.reshape(-1).tolist(), drop)
    high, top = _high_and_top(mask, drop)
    return high.tolist(), top.tolist()


def _wide_products(*masks_and_parts: int) -> list[int]:
    """For one element: the products of two or more masks, then those of all sets, the empty one included, with either part of the
    earlier r.
    """
    *masks, shifted, top = masks_and_parts
    products = [1]
    for mask in masks:
        products += [product * mask for product in products]
    without = [products[number] for number in sets.of_several(len(masks)).tolist()]
    return [*without, *[product * shifted for product in products], *[product * top for product in products]]
