"""`beaver data`: whether a node's datasets can be used, reported in counts and places, never in values."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path  # noqa: TC003  typer reads it from the annotation
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape

from mpc.errors import ConfigError
from parties.config import load_node_config
from parties.datasets import note_repeated, objections
from parties.reading import Reading, in_time
from parties.run import commanded
from parties.sources import batches, source_of
from parties.sources.sheet import Sheet
from parties.tables import grid, wide

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parties.config import NodeConfig
    from parties.sources.halt import Halt

UNREAD = "stopped before all datasets were read, so nothing is told of them"
"""What an interrupt prints."""

EMPTY = "no row has a value, so no job can use this column: look for it in the source, or leave it out of the configuration"

app = typer.Typer(help="Look after the datasets of this organisation's node.", no_args_is_help=True)


@dataclass
class ColumnReport:
    """One column: how many cells are missing, how many jobs may not use, and why, with the place of the first such cell.

    The column that says which record a row is, which no job may use in any case, has the rule "identifier".
    """

    column: str
    unit: str
    missing: int = 0
    rule: str = "error"
    refused: int = 0
    why: str = ""


@dataclass
class DatasetReport:
    """One dataset: its rows, or why it cannot be read to its end."""

    dataset: str
    source: str
    rows: int = 0
    columns: list[ColumnReport] = field(default_factory=list)
    error: str = ""

    @property
    def usable(self) -> bool:
        """Whether jobs on all columns of the dataset find nothing wrong."""
        return not self.error and not any(column.why for column in self.columns)


async def examine(config: NodeConfig, dataset: str) -> DatasetReport:
    """Read all declared columns of `dataset` to the end, within its seconds.  Raises ConfigError if there is no such dataset."""
    settings = config.dataset(dataset)
    report = DatasetReport(dataset, source_of(config, dataset))
    report.columns = [ColumnReport(name, "", rule="identifier") for name in settings.identifying]
    report.columns += [ColumnReport(name, column.unit or "", rule=column.missing) for name, column in settings.columns.items()]
    try:
        await in_time(Reading(partial(_count, config, report)), config, dataset)
    except ConfigError as fault:
        report.error = str(fault)
    return report


def _count(config: NodeConfig, report: DatasetReport, halt: Halt) -> None:
    """Add all findings to `report`.  `halt` may end the reading."""
    settings = config.dataset(report.dataset)
    columns = settings.identifying | settings.columns
    seen: set[str] = set()
    sheet = Sheet(f"{report.source}: dataset {report.dataset!r}", columns, halt)
    # Closed at once when it is told to stop: a database stays open no longer than it is read.
    with closing(batches(config, report.dataset, sheet)) as parts:
        for part in parts:
            halt.check()
            note_repeated(part, seen)
            for cells, column, one in zip(part.columns, columns.values(), report.columns, strict=True):
                found = objections(cells, column)
                one.missing += sum(map(cells.missing, np.flatnonzero(np.isnan(cells.values)).tolist()))
                one.refused += sum(map(len, found.values()))
                if found and not one.why:
                    place, text = min((places[0], text) for text, places in found.items())
                    one.why = f"row {report.rows + place + 1}: {text}"
            report.rows += part.rows
    for one in report.columns:
        if report.rows and one.missing == report.rows and not one.why:
            one.why = EMPTY


async def _examined(config: NodeConfig, datasets: Iterable[str]) -> list[DatasetReport]:
    return [await examine(config, name) for name in datasets]


def show(reports: list[DatasetReport], *, as_json: bool) -> None:
    """Print the reports, as text or as JSON."""
    if as_json:
        print(json.dumps([asdict(report) | {"usable": report.usable} for report in reports]))
        return
    if not reports:
        print("no dataset is declared")
    console = wide()
    for report in reports:
        if report.error:
            console.print(escape(report.error), soft_wrap=True)
            continue
        console.print(escape(f"{report.dataset}: {report.rows:,} rows from {report.source}"), soft_wrap=True)
        listed = grid("column", "unit", "missing", "rule", "refused", "what is wrong")
        for one in report.columns:
            listed.add_row(*map(escape, (one.column, one.unit, f"{one.missing:,}", one.rule, f"{one.refused:,}", one.why)))
        console.print(listed)


@app.command()
def check(
    config: Annotated[Path, typer.Option("-c", "--config", readable=False, help="This organisation's configuration file.")],
    dataset: Annotated[str | None, typer.Argument(help="One dataset; all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,  # noqa: FBT002  how typer declares a flag
) -> None:
    """Read datasets as jobs would, and count what is missing and what jobs would refuse.  Needs no node, and shows no value.

    The exit status is 1 if a dataset cannot be used as it is.
    """
    settings = load_node_config(config)
    reports = commanded(_examined(settings, settings.datasets if dataset is None else [dataset]), UNREAD)
    show(reports, as_json=as_json)
    if not all(report.usable for report in reports):
        raise typer.Exit(1)


__all__ = ["app", "examine", "show"]
