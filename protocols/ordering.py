"""The order of few elements: all pairs are compared at once (papers: catrina10b, turbospeedz).

The work grows with the square of the number of elements.  Medians, quantiles, and the k largest follow from a sorted share at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
from mpc import AShare, Cost, Like, Masked, Session, mask_cost
from protocols.comparison import opponents, rows_of, with_last
from protocols.declare import declared, op_cost

if TYPE_CHECKING:
    from collections.abc import Sequence


def ranks_cost(n: int, a: Any, axis: int = -1) -> Cost:
    """Return the cost of `ranks`."""
    groups, size = rows_of(a.shape, axis)
    pairs = Like((groups, size * (size - 1) // 2), is_masked=True)
    return mask_cost(n, a).then(op_cost("ltz", n, pairs)).then(op_cost("b2a", n, pairs))


@declared(ranks_cost, reveals="nothing", source="catrina10b")
async def ranks(s: Session, a: AShare | Masked, axis: int = -1) -> AShare:
    """The place of each element in ascending order along `axis`, from 0; equal elements keep their order.  a: (..., m, ...) -> the same
    shape, frac 0

    rounds 4 (3 if Masked; n > 3: one more for each large opening) · bytes per peer 8 m and 4.25 for each of the m(m - 1)/2 pairs · dealer
    49.125 for each pair · reveals nothing
    """
    last, back = _turned(s.operand(a, (AShare, Masked), "ranks"), axis)
    shape = last.shape
    masked = await _masked(s, last.reshape(rows_of(shape, -1)))
    size = masked.shape[1]
    pair, first = opponents(size)
    later = await mpc.b2a(s, await mpc.ltz(s, -masked.pairs()))
    # An element comes after all earlier ones but the larger of these, and after the smaller ones among the later.
    moved = (later[:, pair] * np.where(first, 1, -1)).sum(axis=1) + np.arange(size)
    return moved.assume_bound(max(size - 1, 0), "it is a place among so many").reshape(shape).transpose(*back)


def sort_cost(n: int, a: Any, axis: int = -1) -> Cost:
    """Return the cost of `sort`."""
    groups, size = rows_of(a.shape, axis)
    masked, places = Like((groups, size), is_masked=True), Like((groups, size, size))
    chosen = op_cost("matmul", n, places, Like((groups, size, 1), is_masked=True))
    return mask_cost(n, a).then(ranks_cost(n, masked)).then(op_cost("eqz", n, places)).then(op_cost("b2a", n, places)).then(chosen)


@declared(sort_cost, reveals="nothing", source="catrina10b")
async def sort(s: Session, a: AShare | Masked, axis: int = -1) -> AShare:
    """The elements in ascending order along `axis`.  a: (..., m, ...) -> the same shape

    The median is the middle one, or the mean of the two in the middle; the k largest are x[-k:]; a quantile is a publicly weighted mean of
    two neighbours.

    rounds 9 (8 if Masked; n > 3: one more for each large opening) · bytes per peer 21 m² and 8 m · dealer 70 m² · reveals nothing
    """
    last, back = _turned(s.operand(a, (AShare, Masked), "sort"), axis)
    shape = last.shape
    masked = await _masked(s, last.reshape(rows_of(shape, -1)))
    groups, size = masked.shape
    places = await ranks(s, masked)
    here = await mpc.eqz(s, places.reshape(groups, 1, size) - np.arange(size)[:, None])
    chosen = await mpc.matmul(s, await mpc.b2a(s, here), masked.reshape(groups, size, 1), bound=a.bound)
    return chosen.reshape(shape).transpose(*back)


def _turned(x: AShare | Masked, axis: int) -> tuple[AShare | Masked, Sequence[int]]:
    """Return the value with `axis` as its last axis, and the axes that undo this."""
    order = with_last(x, axis)
    return x.transpose(*order), [order.index(number) for number in range(x.ndim)]


@mpc.protocol
async def _masked(s: Session, x: AShare | Masked) -> Masked:
    return x if isinstance(x, Masked) else await s.mask(x)
