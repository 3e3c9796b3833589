"""The standard errors of a fit's coefficients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import mpc
from mpc import AShare, ConfigError, Floats, PrecisionError, Session, protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protocols.declare import Receivers

DIRECTION = 17
"""Fractional bits of each component of a direction; the ring has no room for more beside an inverse."""

NO_ERRORS = 'standard errors need solver="exact", split="rows", moments="reveal", an intercept and alpha=0'
TELLING = 2.0**-22
"""The part of y'y, for each coefficient and the intercept, that a fit must leave so that it is told from rounding (docs/precision.md)."""
NO_SPARE_ROWS = "there are no more rows than coefficients, so nothing is left to tell how sure these are: use more rows, or fewer columns"


class StandardErrors(NamedTuple):
    """Standard errors of the coefficients (d,) and the intercept; their degrees of freedom, n - d - 1; and R² on the rows of the fit."""

    coefficients: Floats
    intercept: float
    degrees_of_freedom: int
    r_squared: float


class Sure(NamedTuple):
    """What a fit with an intercept and without a penalty keeps for its standard errors."""

    inverse: AShare
    """Close to the inverse of the columns' correlations (d, d)."""
    spare: int
    """Rows beyond the coefficients and the intercept: n - d - 1."""


@protocol
async def standard_errors(
    s: Session, sure: Sure, explained: AShare, mean: Floats, scale: Floats, to: Receivers | None
) -> StandardErrors | None:
    """sqrt(v (X'X)^-1_jj) for each coefficient, and sqrt(v (1/n + m'(X'X)^-1 m)) for the intercept, at the receivers; None elsewhere.

    v is RSS / (n - d - 1), X the centred columns, and m their means.
    explained: what the fit explains of y'y, and y'y (2,), mean: of all columns, scale: the divisors of all columns, y last (d + 1,).
    rounds 2 · bytes 8(2 d + 3) per peer · reveals to the receivers R², y'y, the diagonal of the inverse, which has the d variance inflation
    factors, and its quadratic form of m
    The receivers get a PrecisionError for a fit so near to perfect that RSS is rounding.
    """
    # Only dry runs have fewer than none: a real system with so few rows is singular, and was refused.
    if not sure.spare:
        raise ConfigError(NO_SPARE_ROWS)
    far, every = mean[:-1] / scale[:-1], np.arange(len(sure.inverse))
    length = float(np.linalg.norm(far)) or 1.0
    form = await _form(s, sure.inverse, np.rint(np.ldexp(far / length, DIRECTION)).astype(np.int64))
    told = await asyncio.gather(*(s.reveal(share, to) for share in (sure.inverse[every, every], form, explained)))
    if any(each is None for each in told):
        return None
    factors, along, (explains, whole) = (np.asarray(each) for each in told)
    least = TELLING * len(mean)
    if whole - explains < least * whole and sure.spare > 0:
        msg = (
            f"the fit leaves less than {least:.1g} of the variance of y, which cannot be told from rounding: so near to perfect, it has no "
            "standard errors to tell; do without them"
        )
        raise PrecisionError(msg)
    rest = np.maximum(whole - explains, 0.0) / max(sure.spare, 1)
    intercept = float(np.sqrt(rest * (1.0 + length**2 * np.maximum(along, 0.0))) * scale[-1])
    coefficients = np.asarray(np.sqrt(rest * factors) * scale[-1] / scale[:-1])
    return StandardErrors(coefficients, intercept, sure.spare, float(explains / whole))


@protocol
async def _form(s: Session, inverse: AShare, direction: NDArray[np.int64]) -> AShare:
    """The form u'Vu for a public u of length 1, in units of 2^-DIRECTION (d,).  rounds 1 · reveals nothing"""
    # V is positive semidefinite.  So no element of V or Vu, nor u'Vu, is above V's largest eigenvalue, which is within the bound of V's
    # elements.
    reach = inverse.bound * 2.0**DIRECTION
    once = await mpc.trunc(s, inverse.times(direction, bound=reach).sum(1, bound=reach).ldexp(-DIRECTION), DIRECTION)
    return once.times(direction, bound=reach).sum(0, bound=reach).ldexp(-DIRECTION)


__all__ = ["NO_ERRORS", "NO_SPARE_ROWS", "StandardErrors", "Sure", "standard_errors"]
