"""Reals to ring words and back: x is the word round(x * 2^frac) mod 2^64 (paper: catrina10)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpc.errors import PrecisionError
from mpc.ring import WORD, Words, signed

FRAC = 20
"""Default number of fractional bits."""

BOUND = 2.0**20
"""Default bound on the absolute value of an input."""

LIMIT_BITS = 63
"""A signed word holds -2^63 <= x < 2^63."""

Floats = NDArray[np.float64]


def headroom(frac: int, addends: int = 1) -> float:
    """The largest power-of-two bound under which the sum of `addends` values with `frac` fractional bits fits."""
    return 2.0 ** (LIMIT_BITS - 1 - frac - (addends - 1).bit_length())


def check_fits(bound: float, frac: int, what: str) -> None:
    """Raise PrecisionError unless every |x| <= `bound` fits a signed word at `frac` fractional bits."""
    if not bound * 2.0**frac < 2.0**LIMIT_BITS:
        msg = (
            f"{what} may reach {bound:.4g}, which with {frac} fractional bits exceeds the ring "
            f"(limit {2.0 ** (LIMIT_BITS - frac):.4g}). Declare a smaller bound=, use a smaller frac=, or scale the data."
        )
        raise PrecisionError(msg)


def _where(index: tuple[int, ...]) -> str:
    match index:
        case ():
            return "the value"
        case (row,):
            return f"row {row}"
        case (row, column):
            return f"row {row}, column {column}"
        case _:
            return f"index {index}"


def encode(values: ArrayLike, *, frac: int = FRAC, bound: float = BOUND) -> Words:
    """Ring words of real or integer `values`, rounded to the nearest multiple of 2^-frac.

    Raises PrecisionError, naming row and column but never the value, for NaN, infinity and anything beyond `bound`.
    """
    check_fits(bound, frac, "a value within its bound")
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        msg = f"numbers are needed, not an array of {array.dtype}"
        raise PrecisionError(msg)
    real: NDArray[Any] = array.astype(np.float64) if array.dtype.kind == "f" or frac else array
    outside = ~(np.abs(real.astype(np.float64)) <= bound)
    if outside.any():
        first = tuple(int(i) for i in np.argwhere(outside)[0])
        kind = "not a finite number" if not np.isfinite(real[first]) else f"beyond the declared bound {bound:.6g}"
        msg = f"{_where(first)} is {kind} ({int(outside.sum())} such value(s)); mend the data or declare a larger bound="
        raise PrecisionError(msg)
    scaled = np.rint(np.ldexp(real, frac)) if frac or real.dtype.kind == "f" else real
    return np.asarray(scaled.astype(np.int64)).view(WORD)


def decode(words: Words, frac: int = FRAC) -> Floats | NDArray[np.int64]:
    """float64 values of `words`; exact int64 where `frac` is 0."""
    whole = signed(words)
    return np.ldexp(whole.astype(np.float64), -frac) if frac else whole.astype(np.int64)
