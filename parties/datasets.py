"""The numbers of a job's columns, read from the CSV file of a dataset.  An error says where, never what stands there."""

from __future__ import annotations

import csv
import math
from array import array
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from mpc.errors import ConfigError
from mpc.fixed_point import BOUND
from parties.data import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mpc import Floats
    from parties.config import NodeConfig

_BLOCK = 4096
"""Rows that are checked and converted at a time."""

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_Range = tuple[float, float] | None


class _Sheet(NamedTuple):
    """The wanted columns of one dataset."""

    dataset: str
    path: Path
    columns: tuple[str, ...]
    ranges: tuple[_Range, ...]

    def refuse(self, text: str, *, row: int = 0, line: int = 0, column: str = "") -> NoReturn:
        place = f", row {row}" if row else ""
        place += (f" (line {line})" if row else f", line {line}") if line else ""
        place += f", column {column!r}" if column else ""
        msg = f"{self.path}: dataset {self.dataset!r}{place}: {text}"
        raise ConfigError(msg) from None


def load(config: NodeConfig, dataset: str, columns: Sequence[str]) -> Table:
    """The rows of `columns`, in that order.  A file with a header and nothing else has no rows.

    ConfigError names dataset, file, row (the first after the header is 1), line and column of what is wrong, never a value.
    Memory is little more than the result's.
    """
    ranges = tuple(config.column(dataset, column).range for column in columns)
    sheet = _Sheet(dataset, config.file_of(dataset), tuple(columns), ranges)
    if not columns or len(set(columns)) < len(columns):
        sheet.refuse("a job names one column or more, each once")
    if sheet.path.exists() and not sheet.path.is_file():
        sheet.refuse("cannot be read (not a file)")
    try:
        with sheet.path.open(encoding="utf-8-sig", newline="") as file:
            rows = _read(sheet, file)
    except OSError as fault:
        sheet.refuse(f"cannot be read ({fault.strerror})")
    except UnicodeDecodeError:
        sheet.refuse("is not UTF-8 text; save it as CSV in UTF-8", line=_undecodable(sheet.path))
    return Table(list(columns), rows)


def bounds(config: NodeConfig, dataset: str, columns: Sequence[str]) -> list[float]:
    """For each of `columns` the largest absolute value that its declared range allows; without a range, the engine's default."""
    ranges = [config.column(dataset, column).range for column in columns]
    return [BOUND if declared is None else max(map(abs, declared)) for declared in ranges]


def _undecodable(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


def _read(sheet: _Sheet, file: Iterator[str]) -> Floats:
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, None)
    except csv.Error as fault:
        sheet.refuse(f"is not CSV: {fault}", line=reader.line_num)
    if not header:
        sheet.refuse("is empty; its first line must name the columns", line=0 if header is None else 1)
    places = _places(sheet, [name.strip() for name in header])
    numbers = _Numbers(sheet, places, len(header), reader.line_num)
    while block := list(islice(file, _BLOCK)):
        numbers.take(block, file)
    return numbers.rows()


def _places(sheet: _Sheet, header: list[str]) -> list[int]:
    """Where the wanted columns are.  The file may lack a header, so nothing is shown of it but names that were asked for."""
    if len(header) == 1 and (other := next((word for mark, word in _SEPARATORS.items() if mark in header[0]), None)):
        sheet.refuse(f"the cells are separated by {other}; Beaver reads commas", line=1)
    first: dict[str, int] = {}
    for place, name in enumerate(header):
        if name and name in first:
            which = f", {name!r}" if name in sheet.columns else ""
            sheet.refuse(f"columns {first[name] + 1} and {place + 1} have the same name{which}", line=1)
        first[name] = place
    for column in sheet.columns:
        if column not in first:
            bare = any(_number(name) for name in header)
            hint = "the first line holds numbers, so it may be no header" if bare else _similar(column, header)
            sheet.refuse(f"the file has no such column; {hint}", line=1, column=column)
    return [first[column] for column in sheet.columns]


def _similar(column: str, header: list[str]) -> str:
    alike = [name for name in header if name.casefold() == column.casefold()]
    return f"did you mean {alike[0]!r}?" if alike else "its header must name the column exactly so"


class _Numbers:
    """The rows so far, as float64, and how many rows and lines they were."""

    def __init__(self, sheet: _Sheet, places: list[int], width: int, line: int) -> None:
        self._sheet = sheet
        self._places = places
        self._width = width
        self._line = line
        self._row = 0
        self._blank = 0
        self._values = array("d")
        self._low = np.array([-math.inf if declared is None else declared[0] for declared in sheet.ranges])
        self._high = np.array([math.inf if declared is None else declared[1] for declared in sheet.ranges])

    def rows(self) -> Floats:
        """All rows, without a copy."""
        shape = (self._row, len(self._places))
        return np.frombuffer(self._values, dtype=np.float64).reshape(shape) if self._row else np.empty(shape)

    def take(self, block: list[str], more: Iterator[str]) -> None:
        """Add the rows of the lines `block`; `more` lines are read if a cell goes on there."""
        values = self._quickly(block)
        if values is None:
            self._carefully(block, more)
            return
        self._values.frombytes(values.tobytes())
        self._row += len(block)
        self._line += len(block)

    def _quickly(self, block: list[str]) -> Floats | None:
        """The numbers of an ordinary block, one row to a line; None if anything is unusual or wrong."""
        commas = self._width - 1
        if self._blank:
            return None
        quoted = any('"' in line for line in block)
        if not quoted and any(line.count(",") != commas or not line.strip() for line in block):
            return None
        lines, places = (self._unquoted(block), None) if quoted else (block, self._places)
        if not lines:
            return None
        try:
            values = np.loadtxt(lines, dtype=np.float64, delimiter=",", comments=None, usecols=places, ndmin=2)
        except ValueError:
            return None
        # NaN is neither above nor below.
        usual = values.shape == (len(block), len(self._places))
        return values if usual and (np.isfinite(values) & (values >= self._low) & (values <= self._high)).all() else None

    def _unquoted(self, block: list[str]) -> list[str]:
        """The wanted cells of every line without quotes; nothing if the lines are not one complete row each."""
        try:
            rows = list(csv.reader(block, strict=True))
        except csv.Error:
            return []
        if len(rows) != len(block) or any(len(row) != self._width for row in rows):
            return []
        lines = [",".join([row[place] for place in self._places]) for row in rows]
        return lines if all(lines) else []

    def _carefully(self, block: list[str], more: Iterator[str]) -> None:
        """The same for every block, row by row; the first mistake is refused where it stands."""
        reader = csv.reader(chain(block, more), strict=True)
        while reader.line_num < len(block):
            line = self._line + reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as fault:
                # The csv module's own messages hold no text of the file.
                self._sheet.refuse(f"is not CSV: {fault}", line=line)
            if not row:
                # Empty lines are nothing at the end of a file, and a mistake before.
                self._blank = self._blank or line
                continue
            if self._blank:
                self._sheet.refuse("is empty, but rows follow", line=self._blank)
            self._row += 1
            if len(row) != self._width:
                self._sheet.refuse(f"has {len(row)} cell(s), but the header has {self._width}", row=self._row, line=line)
            cells = [row[place] for place in self._places]
            for cell, column, declared in zip(cells, self._sheet.columns, self._sheet.ranges, strict=True):
                objection = _objection(cell, declared)
                if objection:
                    self._sheet.refuse(objection, row=self._row, line=line, column=column)
            self._values.extend(map(float, cells))
        self._line += reader.line_num


def _number(cell: str) -> bool:
    """Whether a cell is a number.  float() alone also reads 1_000 and digits of other scripts."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def _objection(cell: str, declared: _Range) -> str:
    """What is wrong with a cell, without its contents; empty if nothing is."""
    if not cell.strip():
        return "the cell is empty, a number is needed"
    if not _number(cell):
        return "text, but a number is needed"
    if not math.isfinite(float(cell)):
        return "no finite number"
    if declared is not None and not declared[0] <= float(cell) <= declared[1]:
        return f"outside the declared range [{declared[0]:.15g}, {declared[1]:.15g}]; mend the cell or declare another range"
    return ""


__all__ = ["bounds", "load"]
