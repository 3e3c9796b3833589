"""Tables for people: whole at any width, on a terminal and in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 200
"""Characters of a line of a table where no terminal has a width: an id is copied from it."""


def wide(columns: int = WIDTH, *, highlight: bool = True) -> Console:
    """A terminal as it is; where there is none, as in a pipe, a page that is wide enough for a table."""
    console = Console(highlight=highlight)
    return console if console.is_terminal else Console(width=columns, highlight=highlight)


def grid(*headings: str, ids: str | None = None, title: str | None = None) -> Grid:
    """An empty table, whose cells go on in the next line where the width ends; but not those of the column `ids`, which are copied."""
    made = Grid(title=title, title_justify="left")
    for heading in headings:
        made.add_column(heading, overflow="fold", no_wrap=heading == ids, min_width=32 if heading == ids else None)
    return made


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and what they stand for as they are: someone decides by it."""
    made = grid("", "")
    made.show_header = False
    for row in rows:
        made.add_row(*map(Text, row))
    Console().print(made)


__all__ = ["grid", "pairs", "wide"]
