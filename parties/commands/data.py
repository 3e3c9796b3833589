"""`beaver data`: whether a node's datasets can be used, told in counts and places, never in values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path  # noqa: TC003  typer reads it from the annotation
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from mpc.errors import ConfigError
from parties.config import load_node_config
from parties.datasets import objections
from parties.sources import batches, source_of
from parties.sources.halt import Halt
from parties.sources.sheet import Sheet

if TYPE_CHECKING:
    from parties.config import NodeConfig

app = typer.Typer(help="Look after the datasets of this organisation's node.", no_args_is_help=True)


@dataclass
class ColumnReport:
    """One column: how many cells are missing, how many no job may use, and why and where the first of these is."""

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
        """Whether jobs on all of its columns find nothing wrong."""
        return not self.error and not any(column.refused for column in self.columns)


def examine(config: NodeConfig, dataset: str) -> DatasetReport:
    """Read all declared columns of `dataset` to the end.  ConfigError if there is no such dataset."""
    settings = config.dataset(dataset)
    reports = {name: ColumnReport(name, column.unit or "", rule=column.missing) for name, column in settings.columns.items()}
    report = DatasetReport(dataset, source_of(config, dataset), columns=list(reports.values()))
    sheet = Sheet(f"{report.source}: dataset {dataset!r}", settings.columns, Halt())
    try:
        for part in batches(config, dataset, sheet):
            for cells, (name, column) in zip(part.columns, settings.columns.items(), strict=True):
                found = objections(cells, column)
                one = reports[name]
                one.missing += sum(map(cells.missing, np.flatnonzero(np.isnan(cells.values)).tolist()))
                one.refused += sum(map(len, found.values()))
                if found and not one.why:
                    place, text = min((places[0], text) for text, places in found.items())
                    one.why = f"row {report.rows + place + 1}: {text}"
            report.rows += part.rows
    except ConfigError as fault:
        report.error = str(fault)
    return report


def show(reports: list[DatasetReport], *, as_json: bool) -> None:
    """Print what was found, for people or as JSON."""
    if as_json:
        print(json.dumps([asdict(report) | {"usable": report.usable} for report in reports]))
        return
    if not reports:
        print("no dataset is declared")
    console = Console()
    for report in reports:
        if report.error:
            console.print(escape(report.error), soft_wrap=True)
            continue
        grid = Grid(title=f"{report.dataset}: {report.rows:,} rows from {report.source}", title_justify="left")
        for heading in ("column", "unit", "missing", "rule", "refused", "first refused"):
            grid.add_column(heading)
        for one in report.columns:
            grid.add_row(*map(escape, (one.column, one.unit, f"{one.missing:,}", one.rule, f"{one.refused:,}", one.why)))
        console.print(grid)


@app.command()
def check(
    config: Annotated[Path, typer.Option("-c", "--config", help="This organisation's configuration file.")],
    dataset: Annotated[str | None, typer.Argument(help="One dataset; all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,  # noqa: FBT002  how typer declares a flag
) -> None:
    """Read datasets as jobs would, and count what is missing and what jobs would refuse.  Needs no node, and shows no value.

    The exit status is 1 if a dataset cannot be used as it is.
    """
    settings = load_node_config(config)
    reports = [examine(settings, name) for name in ([dataset] if dataset is not None else settings.datasets)]
    show(reports, as_json=as_json)
    if not all(report.usable for report in reports):
        raise typer.Exit(1)


__all__ = ["app", "examine", "show"]
