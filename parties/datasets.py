"""The numbers of a job's columns, read from a dataset and treated as its declaration says.  An error gives the place, never the value."""

from __future__ import annotations

from contextlib import closing
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.canonical import pack
from mpc.errors import ConfigError
from parties.data import Identifiers, Table
from parties.schema import DatasetSettings, IdentifierSettings
from parties.sources import batches, source_of
from parties.sources.cells import NOT_FINITE
from parties.sources.columnar import frame
from parties.sources.halt import Halt
from parties.sources.sheet import Sheet
from protocols.labels import index_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mpc import Floats
    from parties.config import NodeConfig
    from parties.jobs.job import Task
    from parties.schema import ColumnSettings
    from parties.sources.cells import Cells
    from parties.sources.sheet import Batch

MAX_MEANING = 40_000
"""Bytes for the meaning of columns, so that a job's description fits into one control message."""
NO_VALUE = 'the value is missing; fill it in, or declare for this column missing = "mean", or "drop" where no columns are split'
NO_IDENTIFIER = "the identifier is missing; fill it in, or leave the row out"
REPEATED = "an earlier row has the same identifier; keep one row for each record"
NO_CATEGORY = 'the category is missing; fill it in, or declare for this column missing = "drop" where no columns are split'
Origins = list[tuple[str, str | None]]
"""For every column of a job the declared column behind it, and its category if it has one."""


def load(config: NodeConfig, dataset: str, columns: Sequence[str], *, aligned: bool = False, halt: Halt | None = None) -> Table:
    """Return the rows of `columns`, in that order.  A table with only a header has no rows.

    `aligned` rows belong to the rows of other parties with the same numbers: none is dropped, and a missing cell is an error where the rule
    is "drop".  If the dataset has an identifier, aligned rows are in its order, by code points, and the table's index has the identifiers;
    no other job reads them.
    ConfigError names the dataset, the row (the first is 1), for text the line, and the column of an error, never a value.  Memory is little
    more than twice the result's, plus the identifiers.  `halt` may end the reading early, with HaltedError.
    """
    origins = [config.source(dataset, column) for column in columns]
    settings = config.dataset(dataset)
    wanted = {name: settings.columns[name] for name, _ in origins}
    if aligned:
        wanted = _aligned(settings, wanted)
    sheet = Sheet(f"{source_of(config, dataset)}: dataset {dataset!r}", wanted, halt or Halt())
    if not columns or len(set(columns)) < len(columns):
        sheet.refuse("a job names one column or more, each once")
    # Closed at once when a cell is refused: a database stays open no longer than it is read.
    with closing(batches(config, dataset, sheet)) as parts:
        return _table(sheet, parts, columns, origins)


def table_of(table: Any, columns: Mapping[str, ColumnSettings], names: Sequence[str] = (), *, identifier: str | None = None) -> Table:
    """Return the columns of a pandas or polars frame or an Arrow table, treated as `columns` declare: all of them, or those `names` of a
    job.

    Rows keep the labels of a frame that has an index, also where some are dropped.  With the column `identifier`, rows are instead what
    `load` makes of aligned ones: in its order, none dropped, and labelled by it.
    Raises what `load` does.  Needs pyarrow.
    """
    settings = DatasetSettings(path="frame", columns=dict(columns), identifier=identifier)
    chosen = settings.expand(names or columns)
    origins = [_known(settings, name) for name in chosen]
    wanted = {name: settings.columns[name] for name, _ in origins}
    if identifier is not None:
        wanted = _aligned(settings, wanted)
    sheet = Sheet("the frame", wanted, Halt())
    return _table(sheet, frame(table, sheet), chosen, origins, index_of(table) if identifier is None else None)


def meaning(config: NodeConfig, task: Task) -> dict[str, str]:
    """Return what the parties of a job must declare alike about its columns; nothing if each has columns of its own, or none."""
    if task.by_columns or not task.dataset:
        return {}
    alike = config.dataset(task.dataset).meaning(task.columns)
    if len(pack(alike)) > MAX_MEANING:
        return {"units and categories of the columns": blake2b(pack(alike), digest_size=32).hexdigest()}
    return alike


def objections(cells: Cells, column: ColumnSettings) -> dict[str, list[int]]:
    """Return what makes cells unusable for jobs, and the places of these cells, without a value.

    A missing cell is fine if a rule covers it.
    """
    found: dict[str, list[int]] = {}
    low, high = column.range or (-np.inf, np.inf)
    absent = NO_IDENTIFIER if isinstance(column, IdentifierSettings) else NO_VALUE if column.categories is None else NO_CATEGORY
    out = f"outside the declared range [{low:.15g}, {high:.15g}]; mend the cell or declare another range"
    for place in np.flatnonzero(~(np.isfinite(cells.values) & (cells.values >= low) & (cells.values <= high)) | _noted(cells)).tolist():
        if cells.missing(place) and column.missing != "error":
            continue
        value = cells.values[place]
        text = cells.wrong.get(place) or (absent if np.isnan(value) else out if np.isfinite(value) else NOT_FINITE)
        found.setdefault(text, []).append(place)
    return found


def note_repeated(part: Batch, seen: set[str]) -> None:
    """Mark each identifier of `part` that an earlier row has, which is one that is `seen`, as wrong.  Then add all of them to `seen`."""
    for cells in part.columns:
        for place, text in enumerate(cells.identifiers):
            if text in seen:
                cells.wrong[place] = REPEATED
            elif text:
                seen.add(text)


def _noted(cells: Cells) -> np.ndarray[Any, np.dtype[np.bool_]]:
    noted = np.zeros(len(cells.values), np.bool_)
    noted[list(cells.wrong)] = True
    return noted


def _aligned(settings: DatasetSettings, wanted: Mapping[str, ColumnSettings]) -> dict[str, ColumnSettings]:
    """Return what is wanted of rows that belong to those of others: none is dropped, and the identifier says which they are."""
    kept = {name: column if column.missing != "drop" else column.model_copy(update={"missing": "error"}) for name, column in wanted.items()}
    return kept | settings.identifying


def _known(settings: DatasetSettings, name: str) -> tuple[str, str | None]:
    found = settings.source(name)
    if found is None:
        msg = f"no column {name!r} is declared for the frame"
        raise ConfigError(msg)
    return found


def _table(sheet: Sheet, parts: Iterable[Batch], columns: Sequence[str], origins: Origins, labels: Any = None) -> Table:
    """Return the rows; `labels` are those of all rows, without an identifier among the wanted columns."""
    kept: list[Floats] = []
    stays = [np.empty(0, np.bool_)]
    seen: set[str] = set()
    records: list[str] = []
    row = 0
    for part in parts:
        sheet.halt.check()
        note_repeated(part, seen)
        _check(sheet, part, row)
        row += part.rows
        stay = np.ones(part.rows, np.bool_)
        for cells, column in zip(part.columns, sheet.columns.values(), strict=True):
            if column.missing == "drop":
                stay &= ~np.isnan(cells.values)
            records += cells.identifiers
        kept.append(_expanded(sheet, part, origins)[stay])
        stays.append(stay)
    rows = np.concatenate(kept) if kept else np.empty((0, len(columns)))
    kept.clear()
    for place, (name, _) in enumerate(origins):
        if sheet.columns[name].missing == "mean":
            _fill(sheet, name, rows[:, place])
    if not records:
        return Table(list(columns), rows, None if labels is None else labels[np.concatenate(stays)])
    order = sorted(range(len(records)), key=records.__getitem__)
    return Table(list(columns), rows[order], Identifiers(records[place] for place in order))


def _expanded(sheet: Sheet, part: Batch, origins: Origins) -> Floats:
    """Return the job's columns: a column as it is, or for a category 1 where the value is this category and 0 elsewhere."""
    by_name = dict(zip(sheet.columns, part.columns, strict=True))
    rows: Floats = np.empty((part.rows, len(origins)))
    for place, (name, category) in enumerate(origins):
        values = by_name[name].values
        rows[:, place] = values if category is None else values == (sheet.columns[name].categories or []).index(category)
    return rows


def _check(sheet: Sheet, part: Batch, row: int) -> None:
    """Refuse the first wrong cell: of the first such row, the first column."""
    wrong = [
        (places[0], number, name, text)
        for number, (cells, (name, column)) in enumerate(zip(part.columns, sheet.columns.items(), strict=True))
        for text, places in objections(cells, column).items()
    ]
    if wrong:
        place, _, name, text = min(wrong)
        sheet.refuse(text, row=row + place + 1, line=part.lines[place] if part.lines else 0, column=name)


def _fill(sheet: Sheet, name: str, values: Floats) -> None:
    """Put this party's mean of a column where it has no value."""
    missing = np.isnan(values)
    if missing.any():
        if missing.all():
            sheet.refuse("no row has a value, so there is no mean to fill in", column=name)
        values[missing] = values[~missing].mean()


__all__ = ["load", "meaning", "note_repeated", "objections", "table_of"]
