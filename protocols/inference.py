"""How sure the coefficients of a fit are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mpc import AShare, ConfigError, Floats, Session, protocol

if TYPE_CHECKING:
    from protocols.declare import Receivers

NO_ERRORS = 'standard errors need solver="exact", split="rows", moments="reveal", an intercept and alpha=0'
NO_SPARE_ROWS = "there are no more rows than coefficients, so nothing is left to tell how sure these are: use more rows, or fewer columns"


class StandardErrors(NamedTuple):
    """Of the coefficients (d,), and what their t values have: n - d - 1 degrees of freedom."""

    coefficients: Floats
    degrees_of_freedom: int


class Sure(NamedTuple):
    """What a fit with an intercept and without a penalty leaves for its standard errors."""

    inverse: AShare
    """Close to the inverse of the columns' correlations (d, d)."""
    spare: int
    """Rows beyond the coefficients and the intercept: n - d - 1."""


@protocol
async def standard_errors(s: Session, sure: Sure, explained: AShare, scale: Floats, to: Receivers | None) -> StandardErrors | None:
    """sqrt(RSS / (n - d - 1) · ((X'X)^-1)_jj) for each coefficient, X being centred, at the receivers; None elsewhere.

    explained: what the fit explains of y'y, and y'y (2,), scale: by what columns were divided, y last (d + 1,).
    The diagonal of the inverse has variance inflation factors, which show how collinear each column is with all others.
    rounds 1 · bytes 8(d + 2) per peer · reveals to the receivers R², y'y and the d variance inflation factors
    """
    # Fewer than none are in dry runs only: a real system with so few rows is singular, and was refused.
    if not sure.spare:
        raise ConfigError(NO_SPARE_ROWS)
    every = np.arange(len(sure.inverse))
    factors, parts = await asyncio.gather(s.reveal(sure.inverse[every, every], to), s.reveal(explained, to))
    if factors is None or parts is None:
        return None
    # Of a perfect fit rounding is left, on either side of 0.
    rest = max(float(parts[1] - parts[0]), 0.0)
    return StandardErrors(np.asarray(np.sqrt(rest / max(sure.spare, 1) * factors) * scale[-1] / scale[:-1]), sure.spare)


__all__ = ["NO_ERRORS", "NO_SPARE_ROWS", "StandardErrors", "Sure", "standard_errors"]
