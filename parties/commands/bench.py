"""`beaver bench`: how fast this machine computes."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.console import Console

from mpc import BeaverError
from parties.bench import picture
from parties.bench.catalogue import chosen, listed
from parties.bench.machine import machine
from parties.bench.report import line, result, show
from parties.bench.runner import REPEATS, BenchmarkError, measure
from parties.run import commanded
from parties.tables import wide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from parties.bench.figures import Figures
    from parties.bench.workload import Workload

WIDTH = 150
"""Columns of the tables if the output is no terminal."""


def bench(
    only: Annotated[str | None, typer.Option(help="Workloads, with commas between, such as W3,W4; all by default.")] = None,
    parties: Annotated[int | None, typer.Option(min=2, max=32, help="How many parties, instead of the workload's own 2 or 3.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Elements, rows, products or side, instead of the workload's own.")] = None,
    rtt: Annotated[float, typer.Option(min=0.0, max=2000.0, help="Milliseconds that every round trip takes longer.")] = 0.0,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Timed runs of each workload, after one to warm up.")] = REPEATS,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write a JSON line for each workload to this file; - for standard output alone."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(readable=False, help="Draw the times to this .svg or .png file.")] = None,
) -> None:
    """Time the workloads between processes of this machine, sealed and with a dealer process, and compare every result with plaintext."""
    workloads = chosen(listed(only), parties, size)
    if plot is not None:
        picture.check(plot)
    faults: list[str] = []
    with _lines(json_file) as file:
        measured = commanded(_measured(workloads, rtt, repeats, file, faults))
    if measured and json_file != "-":
        show(wide(WIDTH), measured, machine())
    if measured and plot is not None:
        picture.draw(plot, measured, line(machine()))
    if faults:
        raise BenchmarkError("\n".join(faults))


def _lines(path: str | None) -> AbstractContextManager[TextIO | None]:
    """Return where the JSON lines go."""
    if path is None or path == "-":
        return contextlib.nullcontext(None if path is None else sys.stdout)
    return Path(path).open("w", encoding="utf-8")


async def _measured(workloads: Sequence[Workload], rtt: float, repeats: int, file: TextIO | None, faults: list[str]) -> list[Figures]:
    """Return what could be measured.  What could not, and every wrong result, goes to `faults`."""
    here = machine()
    measured = []
    with Console(stderr=True).status("") as status:
        for workload in workloads:
            name = f"{workload.key}, {workload.dimensions}, {workload.n} parties"
            status.update(name)
            try:
                measured.append(figures := await measure(workload, rtt=rtt, repeats=repeats))
            except BeaverError as fault:
                faults.append(f"{name}: {fault}")
                continue
            if not figures.right:
                faults.append(f"{name}: the result is {result(figures)}, compared with that of the plaintext")
            if file is not None:
                print(json.dumps({**figures.as_json(), "machine": here}), file=file, flush=True)
    return measured
