"""Groups of rows that a result tells apart: the result of a small group says what its few rows hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parties.data import Table
from protocols.descent import least_of_a_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parties.programs.program import Group, Settings


def minorities(table: Table, _: Settings) -> Iterator[Group]:
    """Yield the number of rows with other values, for each column in which one value has half of the rows or more."""
    for name, values in zip(table.columns, table.rows.T, strict=True):
        others = len(values) - int(np.unique(values, return_counts=True)[1].max(initial=0))
        if 0 < others <= len(values) / 2:
            yield f"differ from the rest in column {name!r}", others


def with_weight(table: Table, settings: Settings) -> Table:
    """Return the rows whose weight is not 0."""
    return Table(table.columns, table.rows[table.rows[:, table.columns.index(settings["weights"])] != 0])


def weighted(contributing: Table, settings: Settings) -> Iterator[Group]:
    """Yield the groups among the rows that have a weight: all of them, and those that the columns tell apart."""
    yield f"have a weight in column {settings['weights']!r} that is not 0", len(contributing.rows)
    yield from minorities(contributing, settings)


def fitted(table: Table, settings: Settings) -> Iterator[Group]:
    """Yield the groups that a regression tells apart: those of the columns, and the rows of each step of a descent."""
    if settings["solver"] == "sgd":
        batch = settings["batch_size"]
        yield f"may be in one step of the descent, for batch_size={batch}", least_of_a_step(len(table.rows), batch)
    yield from minorities(table, settings)


__all__ = ["fitted", "minorities", "weighted", "with_weight"]
