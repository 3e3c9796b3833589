"""Tables for people: complete at any width, on a terminal and in a pipe."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from parties.logs import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WIDTH = 200
"""Characters of a table's line if no terminal has a width: people copy ids from it."""


def wide(columns: int = WIDTH, *, highlight: bool = True) -> Console:
    """Return the terminal as it is; without one, as in a pipe, a page that is wide enough for a table."""
    console = Console(highlight=highlight)
    return console if console.is_terminal else Console(width=columns, highlight=highlight)


def grid(*headings: str, title: str | None = None) -> Grid:
    """Return an empty table of a few rows, whose cells continue in the next line where the width ends."""
    made = Grid(title=title, title_justify="left")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def listing(headings: Sequence[str], rows: Iterable[Sequence[str]], ids: str) -> None:
    """Print a table that looks like a `grid`, of any number of rows.  Cells of the column `ids`, which people copy, are never split.

    A year of jobs is a hundred thousand rows, and Rich takes a millisecond for each.
    """
    # What a peer wrote must not move the reader's cursor.
    console, listed = wide(), [["\n".join(map(printable, cell.split("\n"))) for cell in row] for row in rows]
    widths = _widths(console.width, headings, listed, headings.index(ids))
    edges, padded = box.HEAVY_HEAD.substitute(console.options), [width + 2 for width in widths]
    print(edges.get_top(padded))
    for line in _lines(console, headings, widths):
        print(f"{edges.head_left} {f' {edges.head_vertical} '.join(line)} {edges.head_right}")
    print(edges.get_row(padded, "head"))
    for row in listed:
        for line in _lines(console, row, widths):
            print(f"{edges.mid_left} {f' {edges.mid_vertical} '.join(line)} {edges.mid_right}")
    print(edges.get_bottom(padded))


def _widths(room: int, headings: Sequence[str], rows: Sequence[Sequence[str]], fixed: int) -> list[int]:
    """Return how wide each column is: as its widest line, or less if there is no room for all; the column `fixed` is never less."""
    widths = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in zip(headings, *rows, strict=True)]
    others = [place for place in range(len(widths)) if place != fixed]
    # Beside each cell are two blanks and an edge.
    excess = sum(widths) + 3 * len(widths) + 1 - room
    while excess > 0 and max(widths[place] for place in others) > 1:
        widths[max(others, key=widths.__getitem__)] -= 1
        excess -= 1
    return widths


def _lines(console: Console, row: Sequence[str], widths: Sequence[int]) -> Iterator[list[str]]:
    """Yield the lines of a row, with each cell as wide as its column."""
    for line in zip_longest(*(_folded(console, cell, width) for cell, width in zip(row, widths, strict=True)), fillvalue=""):
        yield [part + " " * (width - cell_len(part)) for part, width in zip(line, widths, strict=True)]


def _folded(console: Console, cell: str, width: int) -> Iterator[str]:
    for line in cell.split("\n"):
        if cell_len(line) <= width:
            yield line
        else:
            yield from (part.plain for part in Text(line).wrap(console, width, overflow="fold"))


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and their values in full: someone decides by them."""
    made = grid("", "")
    made.show_header = False
    for row in rows:
        made.add_row(*map(Text, row))
    Console().print(made)


__all__ = ["grid", "listing", "pairs", "wide"]
