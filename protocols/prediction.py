"""Predictions and scores of a linear model, joint if the data or the coefficients are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
from mpc import AShare, Floats, Masked, PrecisionError, Session, protocol
from protocols.linalg import B_FRAC, LARGEST, W_FRAC
from protocols.own_data import not_empty, noting, reveal_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAC = 20
ROW = 2.0**10
"""Bound of a standardised value to predict from: 1000 standard deviations."""
PREDICTION = 2.0**12
MEAN = 2.0**20
"""Bound of a mean, in units of about a standard deviation, if an intercept is computed on shares."""
RIDGE_FRAC = 24
SYSTEM_FRAC = 28
SPREAD_FRAC, REST_FRAC, SCORE_FRAC = 16, 32, 40
"""Fractional bits of y's sum of squares if only its size matters, of what its rounded mean leaves, and of the sums for R².

The sums for R² are in units of that size.
"""
NO_SYSTEM = (
    'R² from the system that was solved needs solver="exact" with an intercept, and split="columns", or '
    'split="rows" with moments="reveal"; '
    "`score` takes others"
)
NO_SCORE = (
    "there is no R² to tell: y is constant over the pooled rows, or varies too little beside its size, or the predictions are more than a "
    "thousand of its standard deviations off"
)
LEAST_SPREAD = 2.0**-20
"""For each party: below this, rounding would show in the sixth digit of R²."""


@protocol
async def add_up(s: Session, own: Floats, records: tuple[str, ...] = ()) -> Floats:
    """The sum of everyone's partial predictions (n,), for all, of rows that all label as these `records`.

    rounds 1 · bytes 8 n per peer · reveals the predictions
    """
    predictions: Floats = await reveal_sum(s, s.encode(own), terms=records)
    return predictions


@protocol
async def of_own_rows(s: Session, z: Floats, weights: AShare) -> Floats:
    """Each party's own standardised rows (n_i, d) times shared weights, revealed to that party alone.

    rounds 4 · bytes 8 per element, and per row, and peer · reveals the predictions of a party's rows to it, and the numbers of rows to all
    """
    shapes, masked = await asyncio.gather(s.announce(z.shape), s.mask(weights))
    each = await asyncio.gather(*(_for_owner(s, z, owner, shape, masked) for owner, shape in enumerate(shapes)))
    result: Floats = each[s.index]
    return result


@protocol
async def _for_owner(s: Session, z: Floats, owner: int, shape: tuple[int, ...], weights: Masked) -> Any:
    """Return one party's rows times the weights, for that party; None elsewhere.  rounds 3"""
    return await s.reveal(await _part(s, z, owner, shape, weights), to=owner)


@protocol
async def of_own_columns(
    s: Session, z: Floats, weights: AShare, spans: Sequence[tuple[int, int]], rows: int, records: tuple[str, ...] = ()
) -> AShare:
    """Everyone's standardised columns (n, d_p) times shared weights (d,) -> shares of the predictions (n,), of rows that all label as these
    `records`.

    rounds 3 · bytes 8 per element and peer · reveals nothing
    """
    masked = await s.mask(weights)
    parts = [_part(s, z, owner, (rows, stop - start), masked[start:stop]) for owner, (start, stop) in enumerate(spans)]
    return sum(await asyncio.gather(*parts), s.zero((rows,), frac=FRAC, terms=records))


@protocol
async def _part(s: Session, z: Floats, owner: int, shape: tuple[int, ...], weights: Masked) -> AShare:
    """Return one party's standardised data (n, d) times weights (d,).  rounds 2"""
    own = s.input(z if owner == s.index else None, owner, shape, frac=FRAC, bound=ROW)
    return await mpc.matmul_trunc(s, own, weights, weights.frac, bound=PREDICTION)


@protocol
async def intercept(s: Session, weights: AShare, own: Floats, target: float, *, addends: int) -> AShare:
    """The sum of everyone's `target` less w·m, where m is the sum of everyone's `own` means (d,).  w: (d,) -> 0-d, with the frac of w

    At most `addends` parties have a part of a mean; the others' `own` is 0 there.

    All in units of about a standard deviation.  A mean is sent as a whole number and a rest: the ring cannot hold a product with both at
    once.
    rounds 2 · bytes 8(3 d + 1) per peer · reveals nothing
    """
    if max(np.abs(own).max(initial=0.0), abs(target)) > MEAN:
        msg = "a column or y has a mean of more than a million standard deviations: subtract a constant from it, or let all parties receive"
        raise PrecisionError(msg)
    whole = np.rint(own)
    high, low = (
        s.zero(own.shape, frac=frac).add_own(s.encode(part, frac=frac, bound=bound), bound=addends * bound)
        for part, frac, bound in ((whole, 0, MEAN), (own - whole, FRAC, 0.5))
    )
    w, first, rest = await asyncio.gather(s.mask(weights), s.mask(high), s.mask(low))
    # |w·m| is at most 2^11 of the largest |m|, as for a row (docs/precision.md); weights of a descent have a bound of their own.
    reach = LARGEST if weights.bound >= LARGEST else weights.bound * len(own)
    coarse, fine = await asyncio.gather(
        mpc.matmul(s, w, first, bound=reach * addends * MEAN), mpc.matmul_trunc(s, w, rest, FRAC, bound=reach * addends * 0.5)
    )
    return s.zero((), frac=weights.frac).add_own(s.encode(target, frac=weights.frac, bound=MEAN)) - coarse - fine


@protocol
async def explained(s: Session, weights: AShare, right: AShare, ridge: AShare | None) -> AShare:
    """What the solution w of (A + R) w = b explains of y, and y'y, on the rows whose correlations A and b are: R² is the first over the
    second.

    The first is w·b + w·R w, since w·A w = w·b - w·R w.
    w: (d,), right: b and y'y (d + 1,) with B_FRAC, ridge: the diagonal of R (d,) with RIDGE_FRAC, or None for 0 -> (2,)
    rounds 3 (4 with a ridge) · reveals nothing
    """
    if ridge is None:
        system = await mpc.trunc(s, right, B_FRAC - SYSTEM_FRAC)
        total = system[:-1]
    else:
        system, penalty = await asyncio.gather(
            mpc.trunc(s, right, B_FRAC - SYSTEM_FRAC), mpc.mul_trunc(s, weights, ridge, W_FRAC + RIDGE_FRAC - SYSTEM_FRAC)
        )
        # w·R w <= w·b <= 1 and R <= 1, hence |R w| <= 1.
        total = system[:-1] + penalty.assume_bound(1.5, "w·R w is at most 1, and so is R")
    part = await mpc.matmul_trunc(s, weights, total, W_FRAC, bound=1.5)
    return mpc.concatenate([part.reshape(1), system[-1:]])


@protocol
async def r_squared(s: Session, predicted: Floats, y: Floats, names: tuple[str, ...] = ()) -> float:
    """Pooled R² of own predictions and observations (n_i,), which all parties call by the same `names`.

    rounds 3 · bytes 48 per peer · reveals the number of rows, the mean of y, and both sums of squares, first coarsely the one about the
    mean
    Raises PrecisionError if y hardly varies, or R² is below about -10^6.
    """
    with noting(names):
        count, total = await _sums(s, [float(len(y)), float(np.sum(y))], FRAC, names)
    not_empty(count, lacks="no score")
    apart = y - total / count
    (coarse,), (rest,) = await asyncio.gather(_sums(s, [np.square(apart).sum()], SPREAD_FRAC), _sums(s, [apart.sum()], REST_FRAC))
    # In units of y's spread, however small it is, and about its mean without the rounding of the first round.
    unit = float(np.ldexp(1.0, -(-int(np.frexp((coarse + s.n * 2.0**-SPREAD_FRAC) / count)[1]) // 2)))
    errors = (y - predicted, apart - rest / count)
    left, spread = await _sums(s, [np.square(error / unit).sum() / count for error in errors], SCORE_FRAC)
    if spread < s.n * LEAST_SPREAD:
        raise PrecisionError(NO_SCORE)
    return float(1.0 - left / spread)


@protocol
async def _sums(s: Session, own: Sequence[float], frac: int, terms: tuple[str, ...] = ()) -> Floats:
    """Return the sum of everyone's numbers.  rounds 1"""
    try:
        mine = s.encode(own, frac=frac)
    except PrecisionError:
        raise PrecisionError(NO_SCORE) from None
    revealed: Floats = await reveal_sum(s, mine, terms=terms)
    return revealed
