"""Reals to ring words and back: x is the word round(x * 2^frac) mod 2^64 (paper: catrina10)."""

from __future__ import annotations

import inspect
import math
import sys
from contextlib import suppress
from decimal import Decimal
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpc.errors import PrecisionError, ProgramError
from mpc.ring import WORD, Words, signed

FRAC = 20
"""Default number of fractional bits."""

BOUND = 2.0**20
"""Default bound on the absolute value of an input."""

LIMIT_BITS = 63
"""A signed word holds -2^63 <= x < 2^63."""
LIMIT = 2.0**LIMIT_BITS * (1 - 2.0**-30)
"""What words stay below.  A bound is a float64, of which each operation may lose 2^-53: a billion of them do not reach the rest."""
MOST_FRAC = 1023
"""Fractional bits, above or below 0: two to the power of them is a float."""

Floats = NDArray[np.float64]
_BLOCK = 1 << 14
"""Elements that stay in cache."""
_WHOLE = (int, np.integer, np.bool_)
_NUMBERS = (*_WHOLE, float, Decimal, np.number)
_OTHERS = {"U": "text", "S": "text", "M": "dates", "m": "spans of time", "c": "complex numbers"}
"""What arrays of these kinds hold."""


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


def column_names(x: object) -> tuple[str, ...]:
    """How a frame calls its columns, or a series itself; an array has no names."""
    # An Arrow table's `columns` are its data.
    for attribute in ("column_names", "columns"):
        # Never what `__getattr__` makes up: of a column with that name, a frame gives the data.
        if inspect.getattr_static(x, attribute, None) is not None:
            return tuple(map(str, getattr(x, attribute)))
    # A series is what can become a frame of one column: other arrays have a `name`, too, such as where they are in a file.
    # Of pandas, a row has one that is no text: its number in the frame.
    name = getattr(x, "name", None) if inspect.getattr_static(x, "to_frame", None) is not None else None
    return (name,) if isinstance(name, str) and name else ()


def refuse_frame(x: object, call: str) -> None:
    """ProgramError for a frame or series in a call that takes one from each party, and that compares neither names nor labels."""
    if any(inspect.getattr_static(x, attribute, None) is not None for attribute in ("column_names", "columns", "to_frame")):
        msg = (
            f"{call} takes an array, not a {type(x).__name__}: nobody would compare its names and index with those of others; pass frame.to_numpy(), "
            "with rows and columns in an order on which all parties agree"
        )
        raise ProgramError(msg)


def column_of(number: int, names: tuple[str, ...]) -> str:
    """How a message calls a column: by its name, where the data has names."""
    return f"column {names[number]!r}" if names else f"column {number}"


def _where(index: tuple[int, ...], names: tuple[str, ...]) -> str:
    match index:
        case ():
            return "the value"
        case (row,):
            return f"row {row}"
        case (row, column):
            return f"row {row}, {column_of(column, names)}"
        case _:
            return f"index {index}"


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


def as_numbers(values: ArrayLike) -> NDArray[Any]:
    """The numbers of an array, a list, a data frame or one of its columns; what is missing is NaN.

    Raises PrecisionError, without any value, for text, dates, categories, rows of different lengths and whatever else is no number; it names the columns.
    """
    _refuse_categories(values)
    array = _array(values)
    if array.dtype.kind == "O" and all(_missing(entry) or isinstance(entry, _NUMBERS) for entry in array.flat):
        # Frames give objects for columns of different types, of decimals, and where something is missing.
        if all(map(_is_whole, array.flat)):
            with suppress(OverflowError):
                return array.astype(np.int64)
        else:
            _refuse_changed(array, column_names(values))
        with suppress(OverflowError, ValueError):
            return np.array([math.nan if _missing(entry) else float(entry) for entry in array.flat]).reshape(array.shape)
    if array.dtype.kind not in "fiub":
        msg = f"numbers are needed, not an array of {array.dtype}{_what_else(array, column_names(values))}"
        raise PrecisionError(msg)
    return array


def _is_whole(entry: Any) -> bool:
    """Whether it is a whole number; of decimals, one that a word holds."""
    if isinstance(entry, Decimal):
        return entry.is_finite() and abs(entry) <= 2**LIMIT_BITS and entry == entry.to_integral_value()
    return isinstance(entry, _WHOLE)


def _refuse_changed(array: NDArray[Any], names: tuple[str, ...]) -> None:
    """PrecisionError for a whole number beyond 2^53 that is not the same as a float, which it becomes beside numbers that are not whole."""
    for place, entry in np.ndenumerate(array):
        if _is_whole(entry) and abs(entry) > 2**53 and int(float(entry)) != int(entry):
            msg = (
                f"{_where(place, names)} is a whole number that would be changed beside numbers that are not whole, as a float: pass these by "
                "themselves, or round it"
            )
            raise PrecisionError(msg)


def _refuse_categories(values: Any) -> None:
    """PrecisionError for categories of pandas: where their names are numbers, an array has these, and they are no amounts."""
    kinds = getattr(values, "dtypes", getattr(values, "dtype", None))
    if kinds is None or isinstance(kinds, np.dtype):
        return
    names = column_names(values)
    columns = [(column_of(number, names), kind) for number, kind in enumerate(kinds)] if np.iterable(kinds) else [("it", kinds)]
    if told := ", ".join(f"{where} holds categories" for where, kind in columns if str(kind) == "category"):
        msg = f"numbers are needed, not an array of category: {told}; encode that as numbers (astype(float), where they are amounts), or leave it out"
        raise PrecisionError(msg)


def _array(values: ArrayLike) -> NDArray[Any]:
    """The array of whatever this is; PrecisionError for rows of different lengths."""
    try:
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            return np.asarray(np.ma.filled(values.astype(np.float64), math.nan))
        return np.asarray(values)
    except ValueError:
        msg = "these rows are of different lengths, and so no array: fill what is missing, or drop it"
        raise PrecisionError(msg) from None
    except TypeError:
        # The columns of an Arrow table, dates beside numbers, have no type in common but this.
        return np.asarray(values, object)


def _what_else(array: NDArray[Any], names: tuple[str, ...]) -> str:
    """Where an array holds something else than numbers, of which types, and what to do; nothing where each entry is a number by itself."""
    if array.dtype.kind in _OTHERS:
        return f": it holds {_OTHERS[array.dtype.kind]}; encode that as numbers, or leave it out"
    if array.dtype.kind == "O" and not array.ndim:
        return f": it is a {type(array.item()).__name__}; make an array of numbers of it"
    if array.dtype.kind != "O" or array.ndim > 2:
        return ""
    columns = {"it": array} if array.ndim == 1 else {column_of(number, names): column for number, column in enumerate(array.T)}
    held = {
        where: sorted({type(entry).__name__ for entry in column if not (_missing(entry) or isinstance(entry, _NUMBERS))})
        for where, column in columns.items()
    }
    told = ", ".join(f"{where} holds {' and '.join(kinds)}" for where, kinds in held.items() if kinds)
    return f": {told}; encode that as numbers, or leave it out" if told else ""


def shape_of(values: ArrayLike) -> tuple[int, ...]:
    """The shape of what a party has; PrecisionError for rows of different lengths, which have none."""
    try:
        return np.shape(values)
    except ValueError:
        return as_numbers(values).shape


def _missing(entry: object) -> bool:
    return entry is None or type(entry).__name__ == "NAType"  # pandas' own mark


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
    return PrecisionError(f"{_where(where, names)} is {fault} ({int(alike.sum())} such value(s)); {remedy}")


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
