"""Piecewise linear functions: one comparison, and a choice by its bit (papers: catrina10b, rotaru19)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
from mpc import AShare, BShare, Cost, Like, Masked, ProgramError, Session, as_numbers, mask_cost, rounded_bound
from protocols.comparison import compared, difference
from protocols.declare import declared, op_cost

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def select_cost(n: int, bit: Any, a: Any, b: Any) -> Cost:
    """Return the cost of `select`."""
    chosen = compared(a, b)
    shape = np.broadcast_shapes(bit.shape, chosen.shape)
    return op_cost("select", n, bit, chosen if shape == chosen.shape else Like(shape))


@declared(select_cost, reveals="nothing", source="rotaru19")
async def select(s: Session, bit: BShare, a: AShare | Masked | ArrayLike, b: AShare | Masked | ArrayLike) -> AShare:
    """Picks a where `bit` is 1, else b, as b + bit·(a - b), with broadcasting; one of a and b may be public numbers.

    rounds 1 · bytes 8.125 per element and peer (0.125 if a and b are Masked or public) · reveals nothing
    """
    bit, choice = s.operand(bit, (BShare,), "select"), difference(a, b)
    try:
        shape = np.broadcast_shapes(bit.shape, choice.shape)
    except ValueError:
        msg = f"shapes {bit.shape} and {choice.shape} do not broadcast"
        raise ProgramError(msg) from None
    if choice.shape != shape:
        choice = (choice.share() if isinstance(choice, Masked) else choice) + s.zero(shape, frac=choice.frac)
    chosen = await mpc.select(s, bit, choice) + (b.share() if isinstance(b, Masked) else b)
    return chosen.assume_bound(max(_bound(each, chosen.frac) for each in (a, b)), "it is one of the two")


def _bound(x: AShare | Masked | ArrayLike, frac: int) -> float:
    return x.bound if isinstance(x, AShare | Masked) else rounded_bound(float(np.max(np.abs(np.asarray(x, np.float64)), initial=0.0)), frac)


def negative_part_cost(n: int, x: Any) -> Cost:
    """Return the cost of `absolute` and `relu`."""
    masked = Like(x.shape, is_masked=True)
    return mask_cost(n, x).then(op_cost("ltz", n, masked)).then(op_cost("select", n, masked, masked))


@mpc.protocol
async def _parts(s: Session, x: AShare | Masked) -> tuple[AShare, AShare]:
    """Return max(x, 0) and min(x, 0), whose sum is x."""
    masked = x if isinstance(x, Masked) else await s.mask(x)
    negative = await mpc.select(s, await mpc.ltz(s, masked), masked)
    return (masked.share() - negative).assume_bound(x.bound, "x or 0"), negative


@declared(negative_part_cost, reveals="nothing", source="catrina10b")
async def absolute(s: Session, x: AShare | Masked) -> AShare:
    """|x|, elementwise.

    rounds 4 (3 if Masked) · bytes 8 + 4.25 per element and peer (4.25 if Masked) · reveals nothing
    """
    positive, negative = await _parts(s, s.operand(x, (AShare, Masked), "absolute"))
    return (positive - negative).assume_bound(x.bound, "one of the parts is 0")


@declared(negative_part_cost, reveals="nothing", source="catrina10b")
async def relu(s: Session, x: AShare | Masked) -> AShare:
    """max(x, 0), elementwise.

    rounds 4 (3 if Masked) · bytes 8 + 4.25 per element and peer (4.25 if Masked) · reveals nothing
    """
    positive, _ = await _parts(s, s.operand(x, (AShare, Masked), "relu"))
    return positive


def clip_cost(n: int, a: Any, low: ArrayLike | None, high: ArrayLike | None) -> Cost:  # noqa: ARG001
    """Return the cost of `clip`."""
    masked = Like(a.shape, is_masked=True)
    side, picked = op_cost("ltz", n, masked), op_cost("select", n, masked, masked)
    return mask_cost(n, a).then(side.beside(side)).then(picked.beside(picked))


@declared(clip_cost, reveals="nothing", source="catrina10b")
async def clip(s: Session, a: AShare | Masked, low: ArrayLike | None, high: ArrayLike | None) -> AShare:
    """min(max(a, low), high), elementwise, for public numbers low <= high that broadcast to a; None, or infinity, is no limit on that side.

    rounds 4 (3 if Masked) · bytes 8 + 8.5 per element and peer (8.5 if Masked) · reveals nothing
    """
    a = s.operand(a, (AShare, Masked), "clip")
    low, high = _limits(a, low, high)
    masked = a if isinstance(a, Masked) else await s.mask(a)
    under, over = difference(masked, low), difference(masked, high)
    below, above = await asyncio.gather(mpc.ltz(s, under), mpc.ltz(s, -over))
    less, more = await asyncio.gather(mpc.select(s, below, under), mpc.select(s, above, over))
    lowest, highest = _bound(low, a.frac), _bound(high, a.frac)
    lifted = (masked.share() - less).assume_bound(max(a.bound, lowest), "a or low")
    return (lifted - more).assume_bound(max(lowest, highest), "it lies between low and high")


def _limits(a: AShare | Masked, low: ArrayLike | None, high: ArrayLike | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return finite limits for `clip`: without a limit, the bound of a."""
    wanted = "clip takes public numbers low <= high; for secret ones use less_than and select"
    if isinstance(low, AShare | Masked) or isinstance(high, AShare | Masked):
        raise ProgramError(wanted)
    least, most = as_numbers(-np.inf if low is None else low), as_numbers(np.inf if high is None else high)
    try:
        larger = np.broadcast_shapes(a.shape, least.shape, most.shape) != a.shape
    except ValueError:
        larger = True
    if larger:
        msg = f"shapes {least.shape} and {most.shape} do not broadcast to {a.shape}, that of what is clipped"
        raise ProgramError(msg)
    if not np.all(np.less_equal(least, most)):
        raise ProgramError(wanted)
    limit = rounded_bound(a.bound, a.frac)
    # Only where needed: as floats, whole numbers beyond 2^53 would change.
    if np.isneginf(least).any():
        least = np.where(np.isneginf(least), -limit, least)
    if np.isposinf(most).any():
        most = np.where(np.isposinf(most), limit, most)
    return least, most
