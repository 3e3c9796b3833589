"""Cells of one column as float64, whatever they were.  A cell that is no number or category is noted by its place, never by its value."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import numpy as np

from parties.data import Identifiers
from parties.schema import IdentifierSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from mpc import Floats
    from parties.schema import ColumnSettings

EXACT = 2**53
"""Every whole number up to this one is a float64."""
ABSENT = frozenset(("", "NA", "NaN", "nan"))
"""What a cell of a text file holds where there is no value: R writes NA, and pandas nothing or what it is told to."""
TRUTH = {word: float(value) for value in (True, False) for word in (str(value), str(value).lower(), str(value).upper())}
"""Truth values as text files have them: R writes capitals, pandas writes them as Python does."""
NOT_FINITE = "no finite number"
INEXACT = "a whole number beyond 2^53 that 64-bit floating point does not hold exactly"
TEXT = "text, but a number is needed"
COMMA = 'a number with a comma; if that is a decimal comma, declare decimal = "," for the dataset, else write thousands without commas'
POINT = 'a number with a point, where decimal = "," is declared; write thousands without points, or declare decimal = "."'
UNKNOWN = "not among the declared categories"
IDENTIFYING = {str, int, dt.date, UUID}
"""Types whose values have one text each.  A float or a time has several, depending on the writer."""


class Cells(NamedTuple):
    """`values` are numbers or places in the list of categories, NaN where there is none; `wrong` says of some cells why they are neither.

    A NaN without an entry in `wrong` is a missing value: the cell is empty, null, NaN, or NA in a text file.  For a column that identifies
    records, `identifiers` has its texts, empty where there is none, and the values are 0.
    """

    values: Floats
    wrong: dict[int, str]
    identifiers: Identifiers = Identifiers()

    def missing(self, place: int) -> bool:
        """Return whether there is no value in this cell."""
        return place not in self.wrong and math.isnan(self.values[place])


_WHOLE = re.compile(r"(-?(?:0|[1-9]\d{0,15}))([.,])0+", re.ASCII)
"""A whole number as pandas writes it where a value of the column is missing: 1.0."""
_MARKED = re.compile(r"[+-]?\d+([.,]\d{3})*([.,]\d*)?", re.ASCII)
"""A number with points or commas, but no date."""


def of_texts(given: Sequence[str], column: ColumnSettings, decimal: str = ".") -> Cells:
    """Return the cells of a text file whose numbers have this decimal mark."""
    if isinstance(column, IdentifierSettings):
        return _identifiers(given, ABSENT)

    def quickly() -> Floats | None:
        together = "".join(given)
        if not together.isascii() or "_" in together or (decimal != "." and "." in together):
            return None
        return np.array(list(map(float, given if decimal == "." else [cell.replace(decimal, ".") for cell in given])))

    return _read(given, column, quickly, partial(_number_in_text, decimal=decimal), partial(_category_in_text, decimal=decimal))


def of_objects(given: Sequence[Any], column: ColumnSettings) -> Cells:
    """Return the cells of Python objects.  Text that looks like a number is text."""
    if isinstance(column, IdentifierSettings):
        return _identifiers(given, ())
    plain = set(map(type, given)) <= {int, float}
    return _read(given, column, lambda: np.array(given, np.float64) if plain else None, _number, _category)


def of_array(values: NDArray[Any], empty: NDArray[np.bool_]) -> Cells:
    """Return the cells of an array of numbers; where `empty` is set there is no value."""
    floats: Floats = values.astype(np.float64)
    floats[empty] = math.nan
    wrong: dict[int, str] = {}
    if values.dtype.kind in "iu":
        beyond = np.flatnonzero((values > EXACT) | (values < -EXACT))
        wrong = {int(place): INEXACT for place in beyond if not empty[place] and int(values[place]) != int(floats[place])}
    return Cells(floats, wrong)


def _identifiers(given: Sequence[Any], absent: Collection[str]) -> Cells:
    """Return texts as they are, without the blanks around them."""
    texts: list[str] = []
    wrong: dict[int, str] = {}
    for place, cell in enumerate(given):
        text = ""
        if type(cell) in IDENTIFYING or (isinstance(cell, Decimal) and cell.as_tuple().exponent == 0):
            text = str(cell).strip()
        elif cell is not None:
            wrong[place] = f"a value of type {type(cell).__name__}, but an identifier is text, a whole number, a date or a UUID"
        texts.append("" if text in absent else text)
    return Cells(np.array([0.0 if text else math.nan for text in texts], np.float64), wrong, Identifiers(texts))


def _read(
    given: Sequence[Any],
    column: ColumnSettings,
    quickly: Callable[[], Floats | None],
    number: Callable[[Any], tuple[float, str]],
    category: Callable[[Any, dict[str, float]], tuple[float, str]],
) -> Cells:
    if column.categories is not None:
        places = _places(column.categories)
        return _slowly(given, lambda cell: category(cell, places))
    try:
        values = quickly()
    except (ValueError, OverflowError):
        values = None
    # From 2^53 on it matters how a number was written.
    return Cells(values, {}) if values is not None and (np.abs(values) < EXACT).all() else _slowly(given, number)


def _slowly(given: Sequence[Any], read: Callable[[Any], tuple[float, str]]) -> Cells:
    pairs = [read(cell) for cell in given]
    return Cells(np.array([value for value, _ in pairs], np.float64), {place: text for place, (_, text) in enumerate(pairs) if text})


def is_number(text: str) -> bool:
    """Return whether a cell of text is a number.  float() alone also reads 1_000 and digits of other scripts."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def _number_in_text(cell: str, decimal: str) -> tuple[float, str]:
    word = cell.strip()
    if word in ABSENT:
        return math.nan, ""
    if word in TRUTH:
        return TRUTH[word], ""
    other = "," if decimal == "." else "."
    if other in word:
        # A mark of thousands, or the decimal mark of a neighbour: the two differ by a factor of a thousand, so nobody guesses.
        return math.nan, (COMMA if other == "," else POINT) if _MARKED.fullmatch(word) else TEXT
    word = word.replace(decimal, ".")
    return _exact(float(word), word) if is_number(word) else (math.nan, TEXT)


def _number(cell: Any) -> tuple[float, str]:
    if cell is None:
        return math.nan, ""
    if isinstance(cell, str):
        return math.nan, TEXT if cell.strip() else ""
    if type(cell) in {int, float, bool, Decimal}:
        try:
            return _exact(float(cell), cell)
        except (OverflowError, ValueError):
            return math.nan, NOT_FINITE
    return math.nan, f"{_kind(cell)}, but a number is needed"


def _kind(cell: Any) -> str:
    return "a date or time" if isinstance(cell, dt.date | dt.time | dt.timedelta) else f"a value of type {type(cell).__name__}"


def _exact(value: float, cell: Any) -> tuple[float, str]:
    if not abs(value) >= EXACT or not math.isfinite(value):
        return value, ""
    try:
        return value, INEXACT if int(str(cell)) != int(value) else ""
    except ValueError:
        # The cell is not written as a whole number.
        return value, ""


def _places(categories: Sequence[str]) -> dict[str, float]:
    """Return the place of each category in the list.

    A truth value is there under all its spellings, unless several of them are categories.
    """
    places = {name: float(place) for place, name in enumerate(categories)}
    for value in (True, False):
        spellings = [word for word in TRUTH if TRUTH[word] == value]
        named = [word for word in spellings if word in places]
        if len(named) == 1:
            places |= dict.fromkeys(spellings, places[named[0]])
    return places


def _category_in_text(cell: str, places: dict[str, float], decimal: str) -> tuple[float, str]:
    word = cell.strip()
    if word not in places:
        # NA may be a category: Namibia.
        if word in ABSENT:
            return math.nan, ""
        whole = _WHOLE.fullmatch(word)
        if whole and whole[2] == decimal and abs(int(whole[1])) <= EXACT:
            word = str(int(whole[1]))
    return _category(word, places)


def _category(cell: Any, places: dict[str, float]) -> tuple[float, str]:
    if isinstance(cell, bool):
        cell = str(cell).lower()
    elif isinstance(cell, int | Decimal):
        cell = str(cell)
    elif isinstance(cell, float) and math.isfinite(cell):
        cell = str(int(cell)) if cell.is_integer() and abs(cell) <= EXACT else f"{cell:.15g}"
    if cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and math.isnan(cell)):
        return math.nan, ""
    if not isinstance(cell, str):
        return math.nan, f"{_kind(cell)}, but a category is text, a whole number, or true or false"
    place = places.get(cell.strip())
    return (math.nan, UNKNOWN) if place is None else (place, "")


__all__ = ["NOT_FINITE", "Cells", "is_number", "of_array", "of_objects", "of_texts"]
