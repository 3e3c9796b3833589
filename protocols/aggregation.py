"""Sums and means over the parties' own data: one round, and nothing but the result is revealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc import ConfigError, Floats, Session, protocol

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@protocol
async def secure_sum(s: Session, x: ArrayLike) -> Floats:
    """Sum over the parties, elementwise.  x: own floats of equal shape -> the same shape, at every party

    rounds 1 · bytes 8 per element and peer · reveals the sum (among n = 2 each learns the other's addend) · takes no correlation
    """
    mine = s.encode(x)
    total: Floats = await s.reveal(s.zero(mine.words.shape).add_own(mine))
    return total


@protocol
async def mean(s: Session, x: ArrayLike) -> Floats:
    """Mean over the pooled rows of all parties.  x: own rows (n_i, d) or (n_i,) -> (d,) or 0-d, at every party

    rounds 1 · bytes 8(d + 1) per peer · reveals Σx / n and n, hence also Σx · takes no correlation
    A party may have no rows; ConfigError if nobody has any.
    """
    rows = np.asarray(x, dtype=np.float64)
    mine = np.append(rows.sum(axis=0), len(rows))
    *total, count = await s.reveal(s.zero(mine.shape).add_own(s.encode(mine)))
    if count == 0:
        msg = "the pool is empty: no party has any row, so there is no mean"
        raise ConfigError(msg)
    average: Floats = np.divide(np.reshape(total, rows.shape[1:]), count)
    return average
