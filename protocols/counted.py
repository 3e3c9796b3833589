"""Statistics with the number of rows that they are of, which they reveal in any case.  Jobs call these.

Each runs and costs as the protocol of its name in `protocols`, and has the same arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc import Session, protocol
from protocols import aggregation, descriptive
from protocols.own_data import Counted

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from protocols.declare import Receivers


@protocol
async def mean(s: Session, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Counted | None:
    """Return the mean, and the number of pooled rows."""
    return await aggregation.counted_mean(s, x, frac, to)


@protocol
async def weighted_mean(s: Session, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Counted | None:
    """Return the weighted mean, and the sum of all weights."""
    return await aggregation.counted_weighted_mean(s, x, w, frac, to)


@protocol
async def variance(s: Session, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers | None = None) -> Counted | None:
    """Return the variance, and the number of pooled rows."""
    return await descriptive.counted_variance(s, x, ddof, frac, to)


@protocol
async def standard_deviation(s: Session, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers | None = None) -> Counted | None:
    """Return the standard deviation, and the number of pooled rows."""
    spread = await variance(s, x, ddof=ddof, frac=frac, to=to)
    return None if spread is None else spread._replace(value=np.sqrt(spread.value))


__all__ = ["Counted", "mean", "standard_deviation", "variance", "weighted_mean"]
