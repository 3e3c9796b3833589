"""Reals to ring words and back: x is the word round(x * 2^frac) mod 2^64 (paper: catrina10)."""

from __future__ import annotations

import math
import sys
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpc.errors import PrecisionError, ProgramError
from mpc.ring import WORD, Words, signed
from mpc.tabular import as_numbers, column_names, place_of

FRAC = 20
"""Default number of fractional bits."""

BOUND = 2.0**20
"""Default bound on the absolute value of an input."""

LIMIT_BITS = 63
"""A signed word holds -2^63 <= x < 2^63."""
LIMIT = 2.0**LIMIT_BITS * (1 - 2.0**-30)
"""The limit for words. A bound is a float64 that may lose 2^-53 per operation: eight million (2^23) in a row do not use up the margin."""
MOST_FRAC = 1023
"""Fractional bits, above or below 0, for which two to their power is a float."""

Floats = NDArray[np.float64]
_BLOCK = 1 << 14
"""Elements that fit into the cache."""


def headroom(frac: int, addends: int = 1) -> float:
    """The largest power-of-two bound under which the sum of `addends` values with `frac` fractional bits fits."""
    return _power(LIMIT_BITS - 1 - frac - (addends - 1).bit_length())


def _power(exponent: int) -> float:
    """Two to the power of `exponent`, or the largest power that is a float."""
    return 2.0 ** min(exponent, 1023)


def fits(bound: float, frac: int) -> bool:
    """Whether every |x| <= `bound` fits a signed word at `frac` fractional bits."""
    return abs(frac) <= MOST_FRAC and bound * 2.0**frac <= LIMIT


def rounded_bound(bound: float, frac: int) -> float:
    """The bound on values within `bound` after rounding to a multiple of 2^-frac."""
    if not bound >= 0 or not fits(bound, frac):
        return bound
    return min(math.ceil(math.ldexp(bound, frac)) * 2.0**-frac, sys.float_info.max)


def as_bound(bound: Any) -> float:
    """`bound` as a Python float; ProgramError if it is no number, or below 0."""
    number = as_float(bound)
    if not number >= 0:
        msg = f"a bound is a number, 0 or more, not {shown(bound)}"
        raise ProgramError(msg)
    return number


def as_float(number: Any) -> float:
    """`number` as a Python float: NaN if it is no number, infinity if it is too large for a float."""
    try:
        # A text of digits is not a number.
        return math.nan if isinstance(number, str | bytes) else float(number)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return math.nan


def shown(number: object) -> object:
    """What a message shows of a wrong number; of anything else only the type, since it may be data."""
    return number if isinstance(number, int | float | np.number) else type(number).__name__


def check_fits(bound: float, frac: int, what: str) -> None:
    """PrecisionError unless every |x| <= `bound` fits a signed word at `frac` fractional bits; ProgramError if `bound` is no bound."""
    if bound >= 0 and fits(bound, frac):
        return
    as_bound(bound)
    fractional_bits(frac)
    msg = (
        f"{what} may reach {bound:.4g}, which with {frac} fractional bits exceeds the ring "
        f"(limit {_power(LIMIT_BITS - frac):.4g}). Declare a smaller bound=, use a smaller frac=, or scale the data."
    )
    raise PrecisionError(msg)


def fractional_bits(frac: Any, name: str = "frac") -> int:
    """`frac`, a parameter called `name`, as a Python int; ProgramError if it is no integer, or too large."""
    try:
        number = index(frac)
    except TypeError:
        msg = f"there are a whole number of fractional bits, not {name}={frac!r}"
        raise ProgramError(msg) from None
    if abs(number) > MOST_FRAC:
        msg = f"there are at most {MOST_FRAC} fractional bits, above or below 0, not {number}"
        raise ProgramError(msg)
    return number


def encode(values: ArrayLike, *, frac: int = FRAC, bound: float = BOUND) -> Words:
    """Ring words of real or integer `values`, rounded to the nearest multiple of 2^-frac.

    Raises PrecisionError, naming row and column but never the value, for NaN, infinity and values beyond `bound`.
    """
    check_fits(bound, frac, "a value within its bound")
    array = as_numbers(values)
    if array.dtype.kind == "f":
        array = array.astype(np.float64, copy=False)
    # As Python numbers: Python compares integers with a float exactly. NaN compares as false.
    if array.size and not (-bound <= array.min().item() and array.max().item() <= bound):
        raise _outside(array, bound, column_names(values))
    if array.dtype.kind == "u" and frac < 0:
        # As Python integers: before the shift they may be larger than a signed word.
        return np.asarray(_rounded(array.astype(object), -frac)).astype(np.int64).view(WORD)
    if array.dtype.kind != "f":
        return _shifted(array.astype(np.int64), frac).view(WORD)
    scaled = np.asarray(array * 2.0**frac)  # exact: a power of two
    return np.asarray(np.rint(scaled, out=scaled).astype(np.int64)).view(WORD)


def _rounded(whole: NDArray[Any], bits: int) -> NDArray[Any]:
    """Integers divided by 2^bits, rounded half to even."""
    kept, dropped, half = whole >> bits, whole & ((1 << bits) - 1), 1 << (bits - 1)
    return np.asarray(kept + (dropped > half - (kept & 1)))


def _shifted(whole: NDArray[np.int64], frac: int) -> NDArray[np.int64]:
    """Integers times 2^frac, rounded half to even like floats, which would hold only 53 bits of a number."""
    if frac >= 0:
        # A larger shift leaves 0 of a value within a bound that fits.
        return np.left_shift(whole, min(frac, 63), out=whole)
    if frac < -63:
        return np.zeros_like(whole)
    return _rounded(whole, -frac)


def largest_of(numbers: NDArray[Any]) -> float:
    """The least float64 that no absolute value of `numbers` exceeds; NaN if one of them is NaN."""
    if numbers.dtype.kind == "f":
        return float(np.max(np.abs(numbers.astype(np.float64)), initial=0.0))
    largest = max(int(numbers.max()), -int(numbers.min())) if numbers.size else 0
    return float(largest) if float(largest) >= largest else math.nextafter(largest, math.inf)


def beyond(numbers: NDArray[Any], bound: float) -> NDArray[np.bool_]:
    """Which numbers are not within `bound`, NaN included; integers are compared exactly."""
    limit = bound if numbers.dtype.kind == "f" else math.floor(bound)
    return np.asarray(~((-limit <= numbers) & (numbers <= limit)))


def _outside(numbers: NDArray[Any], bound: float, names: tuple[str, ...]) -> PrecisionError:
    outside, finite = beyond(numbers, bound), np.isfinite(numbers)
    where = tuple(int(i) for i in np.argwhere(outside)[0])
    # A larger bound helps neither NaN nor infinity.
    if finite[where]:
        fault, alike, remedy = f"beyond the declared bound {bound:.6g}", finite & outside, "mend the data or declare a larger bound="
    else:
        fault, alike, remedy = "not a finite number", ~finite, "put a number in its place, or leave it out"
    return PrecisionError(f"{place_of(where, names)} is {fault} ({int(alike.sum())} such value(s)); {remedy}")


def decode(words: Words, frac: int = FRAC) -> Floats | NDArray[np.int64]:
    """float64 values of contiguous `words`, exact int64 if `frac` is 0. They overwrite the words, so large data never exist twice."""
    flat = words.reshape(-1)
    whole = signed(flat).view(np.int64)
    if not frac:
        return whole.reshape(words.shape)
    real: Floats = flat.view(np.float64)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        # From a copy of a few words at a time, so that no value overwrites a word that is still to be read.
        np.multiply(whole[part].astype(np.float64), 2.0**-frac, out=real[part])
    return real.reshape(words.shape)
