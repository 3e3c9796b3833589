"""Datasets in CSV files."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from parties.sources.cells import is_number, of_texts
from parties.sources.file import opened
from parties.sources.sheet import Batch

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from parties.schema import DatasetSettings
    from parties.sources.sheet import Sheet

BLOCK = 4096
"""Rows that are checked and converted at a time."""
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def read(path: Path, settings: DatasetSettings, sheet: Sheet) -> Generator[Batch]:
    """Yield the rows of a CSV file in UTF-8 whose first line names the columns."""
    with opened(path, sheet, "r", encoding="utf-8-sig", newline="") as file:
        try:
            yield from _Reader(sheet, settings, csv.reader(file, delimiter=settings.separator, strict=True)).batches()
        except UnicodeDecodeError:
            sheet.refuse("is not UTF-8 text; save it as CSV in UTF-8", line=_undecodable(path))


def _undecodable(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


class _Fault(NamedTuple):
    text: str
    row: int
    line: int


class _Reader:
    """The rest of the file, the number of rows before it, and the first of the empty lines since the last row."""

    def __init__(self, sheet: Sheet, settings: DatasetSettings, rows: Any) -> None:
        self._sheet = sheet
        self._settings = settings
        self._rows = rows
        self._row = 0
        self._blank = 0

    def batches(self) -> Generator[Batch]:
        """Yield all rows after the header."""
        places, width = self._header()
        while True:
            rows, lines, fault = self._block(width)
            if rows:
                columns = zip(places, self._sheet.columns.values(), strict=True)
                decimal = self._settings.decimal
                yield Batch(len(rows), [of_texts([row[place] for row in rows], column, decimal) for place, column in columns], lines)
            self._row += len(rows)
            if fault is not None:
                # Raised only now: a mistake in an earlier row comes first.
                self._sheet.refuse(fault.text, row=fault.row, line=fault.line)
            if len(rows) < BLOCK:
                return

    def _header(self) -> tuple[list[int], int]:
        try:
            header = next(self._rows, None)
        except csv.Error as fault:
            self._sheet.refuse(f"is not CSV: {fault}", line=self._rows.line_num)
        if not header:
            self._sheet.refuse("is empty; its first line must name the columns", line=0 if header is None else 1)
        names = [name.strip() for name in header]
        others = [mark for mark in _SEPARATORS if mark != self._settings.separator and len(names) == 1 and mark in names[0]]
        if others:
            self._sheet.refuse(
                f"the cells are separated by {_SEPARATORS[others[0]]}; declare separator = {json.dumps(others[0])} for the dataset", line=1
            )
        hint = "the first line holds numbers, so it may be no header" if any(map(is_number, names)) else ""
        return self._sheet.places(names, line=1, hint=hint), len(names)

    def _block(self, width: int) -> tuple[list[list[str]], list[int], _Fault | None]:
        """Return some rows, the lines on which they start, and what is wrong after them."""
        rows: list[list[str]] = []
        lines: list[int] = []
        line = self._rows.line_num + 1
        try:
            for row in self._rows:
                if not row:
                    # Empty lines mean nothing at the end of a file, and are a mistake before it.
                    self._blank = self._blank or line
                elif self._blank:
                    return rows, lines, _Fault("is empty, but rows follow", 0, self._blank)
                elif len(row) != width:
                    text = f"has {len(row)} cell(s), but the header has {width}"
                    return rows, lines, _Fault(text, self._row + len(rows) + 1, line)
                else:
                    rows.append(row)
                    lines.append(line)
                    if len(rows) == BLOCK:
                        break
                line = self._rows.line_num + 1
        except csv.Error as fault:
            # The csv module's own messages hold no text of the file.
            return rows, lines, _Fault(f"is not CSV: {fault}", 0, line)
        return rows, lines, None
