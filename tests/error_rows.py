"""The rows of docs/errors.md."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mpc

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "errors.md").read_text("utf-8")
WORDS = {"CSV", "TOML", "UTF"}
"""Capitals that are meant literally."""


@cache
def pattern_of(text, *, remote):
    """The pattern of all texts that a text of the document stands for."""
    pattern, end = "", 0
    for found in re.finditer(r"\.\.\.|\b(?:N|[A-Z][A-Z_]*[A-Z])\b", text):
        pattern += re.escape(text[end : found.start()])
        pattern += re.escape(found.group()) if found.group() in WORDS else ".+"
        end = found.end()
    # The document's first paragraph: a remote fault may say whose word it is, and where the program was.
    place = r"(?:, says [^ ,]+)?(?: \(at .+\))?" if remote else ""
    return re.compile(pattern + re.escape(text[end:]) + place)


class Row(NamedTuple):
    """One error of the document."""

    kind: str
    text: str
    status: int
    fault: str
    remedy: str

    def shows(self, text):
        """Whether `text` is this row's, whatever stands for its placeholders."""
        return pattern_of(self.text, remote=self.fault.startswith("theirs")).fullmatch(text) is not None


def rows():
    listed = []
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] in mpc.__all__:
            listed.append(Row(cells[0], cells[1].strip("`").strip(), int(cells[2]), *cells[3:]))
    return listed


ROWS = rows()


def row_of(case):
    """The one row whose text contains the case's name; any other number means that the document and the tests differ."""
    (found,) = (row for row in ROWS if case in row.text)
    return found


def logged(case, log):
    """Whether a line of a log ends with what the case's row says."""
    row = row_of(case)
    return any(row.shows(line[start:]) for line in log.splitlines() for start in range(len(line)))
