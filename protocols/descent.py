"""Linear regression by stochastic gradient descent on shares (papers: secureml17, turbospeedz)."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, NamedTuple

import mpc
from mpc import AShare, ConfigError, Masked, Session, protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAC = 20
FEATURE = 2.0**6
"""Bound of a standardised feature or target: further than 64 standard deviations is an error, not an observation."""
WEIGHT = 2.0**6
ERROR = 2.0**8
ADDENDS = 255
"""Rows up to which a gradient fits the ring: FEATURE·ERROR·ADDENDS < 2^(62 - 2 FRAC)."""
MAX_SHIFT = 12


class Schedule(NamedTuple):
    """How to descend."""

    epochs: int
    batch: int
    rate: float


def check(schedule: Schedule) -> Schedule:
    """`schedule` itself; ConfigError if nobody can descend by it."""
    epochs, batch, rate = schedule
    if epochs < 1 or batch < 1 or not 0 < rate < 2**10:
        msg = f"epochs and batch_size are at least 1 and the learning rate is positive, not {epochs}, {batch} and {rate}"
        raise ConfigError(msg)
    return schedule


@protocol
async def descend(s: Session, x: AShare, y: AShare, schedule: Schedule) -> AShare:
    """Plain mini-batches in order, from w = 0.  x: (n, d), y: (n,), both with FRAC -> w: (d,) with FRAC

    x is masked once; a step masks w and the errors of its batch.  rate / batch is a shift where it is a power of two from 2^-12 on, else one round more.
    The gradient of a large batch is the sum of those of 255 rows each, all at once.
    rounds 1 + 4 per step (5) · bytes 8 n d once, then 8(2 d + 2 batch) per step and peer, and 8 d for every 255 rows of a batch after the first
    reveals nothing
    """
    n, d = x.shape
    epochs, batch, rate = check(schedule)
    features, w = await s.mask(x), s.zero((d,), frac=FRAC)
    for start, stop in (cut for _ in range(epochs) for cut in _batches(n, batch)):
        w = await _step(s, features[start:stop], y[start:stop], w, rate / (stop - start))
    return w


def _batches(n: int, batch: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + batch, n)) for start in range(0, n, batch))


@protocol
async def _step(s: Session, x: Masked, y: AShare, w: AShare, pace: float) -> AShare:
    """One step: w - pace · x'(x w - y)."""
    mantissa, exponent = math.frexp(pace)
    shift = min(1 - exponent, MAX_SHIFT)
    error = (await mpc.matmul_trunc(s, x, w, FRAC, bound=ERROR) - y).assume_bound(ERROR, "errors of a descent that does not diverge")
    move = (await _gradient(s, x, error, shift)).ldexp(-shift)
    if mantissa != 0.5 or shift != 1 - exponent:
        move = await mpc.scale(s, move.assume_bound(ERROR, "a step of such a descent"), math.ldexp(pace, shift), 20)
    return (w - move).assume_bound(WEIGHT, "weights of standardised features, in a descent that does not diverge")


async def _gradient(s: Session, x: Masked, error: AShare, shift: int) -> AShare:
    """The product of x' and error with FRAC - shift: each part of it is truncated before they are added, since the ring holds no more."""
    parts = [
        mpc.matmul_trunc(s, x[start:stop].T, error[start:stop], FRAC + shift, bound=FEATURE * ERROR * (stop - start))
        for start, stop in _batches(len(error), ADDENDS)
    ]
    total, *others = await asyncio.gather(*parts) if len(parts) > 1 else [await parts[0]]
    for part in others:
        total += part
    return total
