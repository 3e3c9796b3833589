"""Spread of the pooled rows, by two passes over local data (paper: chan83)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from mpc import ConfigError, Cost, Floats, Session
from protocols.aggregation import checked_frac, column_names, not_empty, own_rows, own_sums, pooled, width
from protocols.declare import Received, Receivers, declared, reveal_cost

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BLOCK = 1 << 16
"""Rows whose deviations are held at a time."""

DIGITS = 52
"""Fractional bits of a variance that was scaled to at most about 1."""


def variance_cost(n: int, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers = None) -> Cost:  # noqa: ARG001
    """What `variance` and `standard_deviation` cost."""
    return reveal_cost(width(x) + 1).beside(reveal_cost(width(x))).then(reveal_cost(width(x)))


@declared(variance_cost, reveals="the number of rows, the mean and the variance", source="chan83")
async def variance(s: Session, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers = None) -> Received:
    """Variance over the pooled rows of all parties.  x: own rows (n_i, d) or (n_i,) -> (d,) or 0-d, at the receivers

    rounds 2 · bytes 8(3d + 1) per peer · reveals n, the mean and the variance, hence also Σx and Σx² · takes no correlation
    First n, Σx and, coarsely, Σx²; then Σ(x - mean)², computed locally and scaled by what the first round says of its size: offsets
    do not cancel, and any unit will do.  Divides by n - ddof; ConfigError unless that is positive.
    `to` names who gets the last round (everyone by default).  The first always goes to everyone, who so learns n, Σx, and Σx² rounded to
    multiples of 2^(52 - 2 frac), which is 4096: where Σx² is much larger than that, roughly the variance too.
    """
    rows = own_rows(x)
    sums = own_sums(s, np.append(rows.sum(axis=0), len(rows)), rows, frac=checked_frac(frac))
    squares = own_sums(s, _squares(rows, np.zeros(rows.shape[1:])), rows, frac=2 * frac - DIGITS)
    (*total, count), coarse = await asyncio.gather(pooled(s, sums, names=column_names(x)), pooled(s, squares))
    if count <= ddof:
        not_empty(count)
        msg = f"{count:g} pooled rows are too few for ddof={ddof}"
        raise ConfigError(msg)
    centre = np.reshape(total, rows.shape[1:]) / count
    exponent = _exponent(coarse / count, centre, s.n * 2.0 ** (DIGITS - 2 * frac) / count)
    mine = np.ldexp(_squares(rows, centre) / count, -exponent)
    scaled = await pooled(s, own_sums(s, mine, frac=DIGITS), to)
    if scaled is None:
        return None
    return np.asarray(np.ldexp(scaled, exponent) * (count / (count - ddof)))


@declared(variance_cost, reveals="the number of rows, the mean and the variance", source="chan83")
async def standard_deviation(s: Session, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers = None) -> Received:
    """The square root of `variance`, with its arguments, cost and what it reveals.

    rounds 2 · bytes 8(3d + 1) per peer
    """
    spread = await variance(s, x, ddof=ddof, frac=frac, to=to)
    return None if spread is None else np.asarray(np.sqrt(spread))


def _squares(rows: Floats, centre: Floats) -> Floats:
    """Σ(x - centre)² over this party's rows."""
    parts = [np.square(rows[start : start + BLOCK] - centre).sum(axis=0) for start in range(0, len(rows), BLOCK)]
    return np.asarray(np.sum(parts, axis=0) if parts else np.zeros(rows.shape[1:]))


def _exponent(mean_square: Floats, centre: Floats, step: float) -> np.ndarray[tuple[int, ...], np.dtype[np.intc]]:
    """The power of two that the variance is below, from a mean square known to within `step` and about eleven digits."""
    doubtful = 2.0**-36 * (mean_square + np.square(centre)) + step
    return np.frexp(np.maximum(mean_square - np.square(centre), 0) + doubtful)[1]
