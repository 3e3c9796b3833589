"""`beaver estimate`: what a job will cost, and how long its messages will travel, without touching data or network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from mpc.errors import ConfigError
from parties.faults import as_object
from parties.jobs.job import MAX_POOL, Task, names_in
from parties.programs import program
from parties.programs.forecast import Forecast

if TYPE_CHECKING:
    from collections.abc import Mapping

LEFT_OUT = "Not in the seconds: reading data, computing at each party (`beaver bench` times this machine), and people who approve."


def estimate(
    protocol: Annotated[str, typer.Argument(help="What to compute.")],
    columns: Annotated[str, typer.Option(help="Its columns, with commas between.")],
    parties: Annotated[int, typer.Option(min=2, max=256, help="How many parties.")] = 3,
    rows: Annotated[int, typer.Option(min=0, help="Rows of each party.")] = 1000,
    receivers: Annotated[int | None, typer.Option(min=1, help="How many parties get the result; all by default.")] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the protocol, NAME=VALUE; see `beaver protocols`.")
    ] = None,
    pool_rows: Annotated[
        int,
        typer.Option(min=0, max=MAX_POOL, help="Rows of all parties together that a party's policy asks for: comparing them costs rounds."),
    ] = 0,
    rtt: Annotated[float, typer.Option(min=0.0, max=1e6, help="Milliseconds of a round trip between any two members.")] = 20.0,
    bandwidth: Annotated[float, typer.Option(min=0.001, max=1e9, help="Mbit/s of every member's line, each way.")] = 100.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002
) -> None:
    """What a job will cost, without touching data or network.

    Rounds, bytes and correlations are those that the ledger of the job will have; the seconds are how long its messages travel.
    """
    with as_object(wanted=as_json):
        names = tuple(f"p{number}" for number in range(parties))
        wanted = program(protocol)
        if receivers is not None and receivers > parties:
            msg = f"of {parties} parties {receivers} cannot get the result; correct --receivers or --parties"
            raise ConfigError(msg)
        to = names[:receivers] if receivers else ()
        task = Task(protocol, "estimate", names_in(columns), names, to, wanted.parse(parameters or []), pool=pool_rows)
        figures = _figures(Forecast.of(wanted.plans(task, parties, rows), names), rtt, bandwidth)
    if as_json:
        print(json.dumps({name.replace(" ", "_"): value for name, value in figures.items()}))
        return
    grid = Grid(show_header=False)
    for name, value in figures.items():
        grid.add_row(name, f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}")
    Console().print(grid)
    print(LEFT_OUT)


def _figures(cost: Forecast, rtt: float, bandwidth: float) -> Mapping[str, Any]:
    return {
        "rounds": cost.rounds,
        "bytes to each peer": cost.payload,
        "bytes from the dealer": cost.dealt,
        "correlations": cost.correlations,
        "bytes of arrays at one party": cost.peak,
        "one-way trips": cost.trips,
        "bytes through the busiest line": cost.busiest,
        "rtt in ms": rtt,
        "bandwidth in Mbit/s": bandwidth,
        "network seconds": cost.seconds(rtt, bandwidth),
    }
