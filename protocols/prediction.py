"""Predictions and scores of a linear model, joint where the data or the coefficients are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
from mpc import AShare, ConfigError, Floats, Session, protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAC = 20
ROW = 2.0**10
"""Bound of a standardised value to predict from: 1000 standard deviations."""
PREDICTION = 2.0**12


@protocol
async def add_up(s: Session, own: Floats) -> Floats:
    """The sum of everyone's partial predictions (n,), for all.  rounds 1 · bytes 8 n per peer · reveals the predictions"""
    predictions: Floats = await s.reveal(s.zero(own.shape).add_own(s.encode(own)))
    return predictions


@protocol
async def of_own_rows(s: Session, z: Floats, weights: AShare) -> Floats:
    """Each party's own standardised rows (n_i, d) times shared weights, revealed to that party alone.

    rounds 4 · bytes 8 per element, and per row, and peer · reveals the predictions of a party's rows to it, and the numbers of rows to all
    """
    shapes = await s.shapes(z.shape)
    masked = await s.mask(weights)
    mine: Any = None
    for owner, shape in enumerate(shapes):
        rows = s.input(z if owner == s.index else None, owner, shape, frac=FRAC, bound=ROW)
        share = await mpc.matmul_trunc(s, rows, masked, weights.frac, bound=PREDICTION)
        value = await s.reveal(share, to=owner)
        mine = value if owner == s.index else mine
    result: Floats = mine
    return result


@protocol
async def of_own_columns(s: Session, z: Floats, weights: AShare, spans: Sequence[tuple[int, int]], rows: int) -> AShare:
    """Everyone's standardised columns (n, d_p) times shared weights (d,) -> shares of the predictions (n,).

    rounds 3 · bytes 8 per element and peer · reveals nothing
    """
    masked = await s.mask(weights)
    total = s.zero((rows,), frac=FRAC)
    for owner, (start, stop) in enumerate(spans):
        own = s.input(z if owner == s.index else None, owner, (rows, stop - start), frac=FRAC, bound=ROW)
        total = total + await mpc.matmul_trunc(s, own, masked[start:stop], weights.frac, bound=PREDICTION)
    return total


@protocol
async def r_squared(s: Session, predicted: Floats, y: Floats) -> float:
    """Pooled R² of own predictions and observations (n_i,).

    rounds 2 · bytes 40 per peer · reveals the number of rows, the mean of y, and both sums of squares
    """
    *_, count, total = await s.reveal(s.zero((2,)).add_own(s.encode([float(len(y)), float(np.sum(y))])))
    if count < 1:
        msg = "the pool is empty: no party has any row, so there is no score"
        raise ConfigError(msg)
    own = np.array([np.square(y - predicted).sum(), np.square(y - total / count).sum()]) / count
    left, spread = await s.reveal(s.zero((2,), frac=32).add_own(s.encode(own, frac=32)))
    return float(1.0 - left / spread) if spread else float(left == 0)
