"""Linear regression by stochastic gradient descent on shares (papers: secureml17, turbospeedz)."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import mpc
from mpc import AShare, ConfigError, Masked, Session, protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FRAC = 20
FEATURE = 2.0**6
"""Bound of a standardised feature or target: a value beyond 64 standard deviations is an error, not an observation."""
WEIGHT = 2.0**6
ERROR = 2.0**8
MAX_SHIFT = 12


class Schedule(NamedTuple):
    """The epochs, batch size and learning rate of a descent."""

    epochs: int
    batch: int
    rate: float


def check(schedule: Schedule) -> Schedule:
    """Return `schedule`.  Raises ConfigError if no descent can follow it."""
    epochs, batch, rate = schedule
    if epochs < 1 or batch < 1 or not 0 < rate < 2**10:
        msg = f"epochs and batch_size are at least 1 and the learning rate is positive, not {epochs}, {batch} and {rate}"
        raise ConfigError(msg)
    return schedule


@protocol
async def descend(s: Session, x: AShare, y: AShare, schedule: Schedule, parts: Sequence[int] = ()) -> AShare:
    """Plain mini-batches in order, from w = 0.  x: (n, d), y: (n,), both with FRAC -> w: (d,) with FRAC

    `parts` has one number for each owner of some of the n rows: how many it owns.  It is empty if the rows have no owners, or all of them
    own each row.
    x is masked once.  The errors of a batch and w are quotients, so a step masks neither.  A step of more than 2^14 elements masks both,
    and the first step masks w.  rate / batch is a shift if it is a power of two from 2^-12 on, and otherwise one more truncation.
    rounds 2 + 2 per step (3) · bytes 8 n d once, then 8(batch + d) per step and peer (8(2 batch + d)) · dealer 8 batch d per step
    reveals nothing
    """
    n, d = x.shape
    epochs, batch, rate = check(schedule)
    spans = list(batches(parts or (n,), batch))
    features, w = await s.mask(x), s.zero((d,), frac=FRAC)
    for start, stop in (span for _ in range(epochs) for span in spans):
        w = await _step(s, features[start:stop], y[start:stop], w, rate / (stop - start))
    return w


def batches(parts: Sequence[int], batch: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each step of an epoch, of about `batch` rows, for owners that have `parts` rows each.

    A step of a few rows, or of a few of one owner, would tell of these few.  So no cut is nearer than half a batch to an end of an owner's
    rows: such a cut is made at that end instead.  A step then has none of an owner's rows, or at least `least_of_a_step`.
    """
    ends = [0, *accumulate(parts)]
    cuts = {0, ends[-1]}
    for cut in range(batch, ends[-1], batch):
        nearest = min(ends, key=lambda end: abs(end - cut))
        cuts.add(cut if 2 * abs(nearest - cut) >= batch else nearest)
    return pairwise(sorted(cuts))


def least_of_a_step(rows: int, batch: int) -> int:
    """Return the least number of rows of an owner with `rows` rows in a step that has any of them."""
    return min(rows, (batch + 1) // 2)


@protocol
async def _step(s: Session, x: Masked, y: AShare, w: AShare, pace: float) -> AShare:
    """Make one step: w + pace · x'(y - x w)."""
    mantissa, exponent = math.frexp(pace)
    shift = min(1 - exponent, MAX_SHIFT)
    error = await mpc.matmul_trunc(s, -x, w, FRAC, bound=ERROR, plus=y)
    if mantissa != 0.5 or shift != 1 - exponent:
        error = await mpc.scale(s, error, math.ldexp(pace, shift), 20)
    return await mpc.matmul_trunc(s, x.T.ldexp(-shift), error, FRAC + shift, bound=WEIGHT, plus=w)
