"""A party's own data: arrays, lists, and frames, tables and series of pandas, polars and Arrow. Reads their column names and numbers."""

from __future__ import annotations

import inspect
import math
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.errors import PrecisionError, ProgramError
from mpc.ring import BITS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_WHOLE = (int, np.integer, np.bool_)
_NUMBERS = (*_WHOLE, float, Decimal, np.number)
_OTHERS = {"U": "text", "S": "text", "M": "dates", "m": "spans of time", "c": "complex numbers"}
"""The contents of arrays of these kinds."""


def column_names(x: object) -> tuple[str, ...]:
    """The column names of a frame, or the name of a series; an array has no names."""
    # An Arrow table's `columns` are its data.
    for attribute in ("column_names", "columns"):
        # Not through `__getattr__`: for a column with that name, a frame would return the data.
        if inspect.getattr_static(x, attribute, None) is not None:
            return tuple(map(str, getattr(x, attribute)))
    # A series can become a frame of one column: other arrays may have a `name`, too, such as their place in a file.
    # In pandas, a row's name is no text: it is its number in the frame.
    name = getattr(x, "name", None) if inspect.getattr_static(x, "to_frame", None) is not None else None
    return (name,) if isinstance(name, str) and name else ()


def refuse_frame(x: object, call: str) -> None:
    """ProgramError for a frame or series in a call that takes one per party and compares neither names nor labels."""
    if any(inspect.getattr_static(x, attribute, None) is not None for attribute in ("column_names", "columns", "to_frame")):
        msg = (
            f"{call} takes an array, not a {type(x).__name__}: nobody would compare its names and index with those of others; "
            "pass frame.to_numpy(), "
            "with rows and columns in an order on which all parties agree"
        )
        raise ProgramError(msg)


def column_of(number: int, names: tuple[str, ...]) -> str:
    """A column in a message: its name, if the data has names."""
    return f"column {names[number]!r}" if names else f"column {number}"


def place_of(index: tuple[int, ...], names: tuple[str, ...]) -> str:
    """An element in a message: its row and column, if the data has them."""
    match index:
        case ():
            return "the value"
        case (row,):
            return f"row {row}"
        case (row, column):
            return f"row {row}, {column_of(column, names)}"
        case _:
            return f"index {index}"


def as_numbers(values: ArrayLike) -> NDArray[Any]:
    """The numbers of an array, a list, a data frame or one of its columns; missing ones are NaN.

    Raises PrecisionError, without any value, for text, dates, categories, rows of different lengths and anything else that is no number; it
    names the columns.
    """
    _refuse_categories(values)
    array = _array(values)
    if array.dtype.kind == "O" and all(_missing(entry) or isinstance(entry, _NUMBERS) for entry in array.flat):
        # Frames give objects for columns of different types, for decimals, and if entries are missing.
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
    """Whether `entry` is an integer; for decimals, one that fits a word."""
    if isinstance(entry, Decimal):
        return entry.is_finite() and abs(entry) <= 2 ** (BITS - 1) and entry == entry.to_integral_value()
    return isinstance(entry, _WHOLE)


def _refuse_changed(array: NDArray[Any], names: tuple[str, ...]) -> None:
    """PrecisionError for an integer beyond 2^53 that changes as a float, which it becomes beside numbers that are not integers."""
    for place, entry in np.ndenumerate(array):
        if _is_whole(entry) and abs(entry) > 2**53 and int(float(entry)) != int(entry):
            msg = (
                f"{place_of(place, names)} is a whole number that would be changed beside numbers that are not whole, as a float: "
                "pass these by "
                "themselves, or round it"
            )
            raise PrecisionError(msg)


def _refuse_categories(values: Any) -> None:
    """PrecisionError for pandas categories: an array would have their names if these are numbers, and they are no amounts."""
    kinds = getattr(values, "dtypes", getattr(values, "dtype", None))
    if kinds is None or isinstance(kinds, np.dtype):
        return
    names = column_names(values)
    columns = [(column_of(number, names), kind) for number, kind in enumerate(kinds)] if np.iterable(kinds) else [("it", kinds)]
    if told := ", ".join(f"{where} holds categories" for where, kind in columns if str(kind) == "category"):
        msg = (
            f"numbers are needed, not an array of category: {told}; "
            "encode that as numbers (astype(float), where they are amounts), or leave it out"
        )
        raise PrecisionError(msg)


def _array(values: ArrayLike) -> NDArray[Any]:
    """The array of `values`; PrecisionError for rows of different lengths."""
    try:
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            return np.asarray(np.ma.filled(values.astype(np.float64), math.nan))
        return np.asarray(values)
    except ValueError:
        msg = "these rows are of different lengths, and so no array: fill what is missing, or drop it"
        raise PrecisionError(msg) from None
    except TypeError:
        # The only common type of an Arrow table's columns, such as dates beside numbers.
        return np.asarray(values, object)


def _what_else(array: NDArray[Any], names: tuple[str, ...]) -> str:
    """Where an array holds something other than numbers, of which types, and the remedy; empty if each entry alone is a number."""
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
    """The shape of a party's data; PrecisionError for rows of different lengths, which have no shape."""
    try:
        return np.shape(values)
    except ValueError:
        return as_numbers(values).shape


def _missing(entry: object) -> bool:
    return entry is None or type(entry).__name__ == "NAType"  # pandas' own mark
