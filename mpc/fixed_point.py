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
"""What words stay below.  A bound is a float64, of which each operation may lose 2^-53: eight million (2^23) on one another do not reach the rest."""
MOST_FRAC = 1023
"""Fractional bits, above or below 0: two to the power of them is a float."""

Floats = NDArray[np.float64]
_BLOCK = 1 << 14
"""Elements that stay in cache."""


def headroom(frac: int, addends: int = 1) -> float:
    """The largest power-of-two bound under which the sum of `addends` values with `frac` fractional bits fits."""
    return _power(LIMIT_BITS - 1 - frac - (addends - 1).bit_length())


def _power(exponent: int) -> float:
    """Two to the power of `exponent`, or the largest one that is a float."""
    return 2.0 ** min(exponent, 1023)


def fits(bound: float, frac: int) -> bool:
    """Whether every |x| <= `bound` fits a signed word at `frac` fractional bits."""
    return abs(frac) <= MOST_FRAC and bound * 2.0**frac <= LIMIT


def rounded_bound(bound: float, frac: int) -> float:
    """What no value within `bound` exceeds once it is rounded to a multiple of 2^-frac."""
    if not bound >= 0 or not fits(bound, frac):
        return bound
    return min(math.ceil(math.ldexp(bound, frac)) * 2.0**-frac, sys.float_info.max)


def as_bound(bound: Any) -> float:
    """`bound` as a float of Python's; ProgramError if it is no number, or below 0."""
    number = as_float(bound)
    if not number >= 0:
        msg = f"a bound is a number, 0 or more, not {shown(bound)}"
        raise ProgramError(msg)
    return number


def as_float(number: Any) -> float:
    """`number` as a float of Python's: NaN if it is none, infinity if no float is as large."""
    try:
        # A text of digits is none.
        return math.nan if isinstance(number, str | bytes) else float(number)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return math.nan


def shown(number: object) -> object:
    """What a message says of a number that is wrong; of what is none the type alone, since it may be data."""
    return number if isinstance(number, int | float | np.number) else type(number).__name__


def check_fits(bound: float, frac: int, what: str) -> None:
    """Raise PrecisionError unless every |x| <= `bound` fits a signed word at `frac` fractional bits; ProgramError for what is no bound."""
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
    """`frac`, a parameter of this name, as an int of Python's; ProgramError if it is no whole number, or too large a one."""
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

    Raises PrecisionError, naming row and column but never the value, for NaN, infinity and anything beyond `bound`.
    """
    check_fits(bound, frac, "a value within its bound")
    array = as_numbers(values)
    if array.dtype.kind == "f":
        array = array.astype(np.float64, copy=False)
    # As numbers of Python, which compares whole numbers with a float exactly.  NaN compares as false.
    if array.size and not (-bound <= array.min().item() and array.max().item() <= bound):
        raise _outside(array, bound, column_names(values))
    if array.dtype.kind == "u" and frac < 0:
        # As whole numbers of Python's: they may be larger than a signed word before they are shifted.
        return np.asarray(_rounded(array.astype(object), -frac)).astype(np.int64).view(WORD)
    if array.dtype.kind != "f":
        return _shifted(array.astype(np.int64), frac).view(WORD)
    scaled = np.asarray(array * 2.0**frac)  # exact: a power of two
    return np.asarray(np.rint(scaled, out=scaled).astype(np.int64)).view(WORD)


def _rounded(whole: NDArray[Any], bits: int) -> NDArray[Any]:
    """Whole numbers over 2^bits, rounded to even from the middle."""
    kept, dropped, half = whole >> bits, whole & ((1 << bits) - 1), 1 << (bits - 1)
    return np.asarray(kept + (dropped > half - (kept & 1)))


def _shifted(whole: NDArray[np.int64], frac: int) -> NDArray[np.int64]:
    """Whole numbers times 2^frac; what is dropped is rounded, to even from the middle, as that of floats.  These would hold 53 bits of a number."""
    if frac >= 0:
        # What is within a bound that fits is 0 where more is shifted.
        return np.left_shift(whole, min(frac, 63), out=whole)
    if frac < -63:
        return np.zeros_like(whole)
    return _rounded(whole, -frac)


def largest_of(numbers: NDArray[Any]) -> float:
    """The least float64 that none of these exceeds in absolute value; NaN where one of them is."""
    if numbers.dtype.kind == "f":
        return float(np.max(np.abs(numbers.astype(np.float64)), initial=0.0))
    largest = max(int(numbers.max()), -int(numbers.min())) if numbers.size else 0
    return float(largest) if float(largest) >= largest else math.nextafter(largest, math.inf)


def beyond(numbers: NDArray[Any], bound: float) -> NDArray[np.bool_]:
    """Which of these are not within `bound`, NaN among them; whole numbers are compared exactly."""
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
    """float64 values of contiguous `words`, exact int64 where `frac` is 0, in their memory, which holds no words any more: what is large is never there twice."""
    flat = words.reshape(-1)
    whole = signed(flat).view(np.int64)
    if not frac:
        return whole.reshape(words.shape)
    real: Floats = flat.view(np.float64)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        # Of a copy of a few at a time, so that no value is written over a word that is still to be read.
        np.multiply(whole[part].astype(np.float64), 2.0**-frac, out=real[part])
    return real.reshape(words.shape)
