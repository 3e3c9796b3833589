"""`beaver check`: every step from the own files to every peer, in one table, with a remedy where a step fails."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path  # noqa: TC003  typer reads it from the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import mpc
from mpc.errors import ConfigError
from mpc.membership.lock import IdentityLock
from mpc.network.checks import own_version
from parties import ask, tables
from parties.check import MAX_PATIENCE, PATIENCE, Own, Row, examine, first_fault, own_files
from parties.config import load_node_config
from parties.logs import configure
from parties.run import commanded, run

if TYPE_CHECKING:
    from parties.config import NodeConfig


def check(
    config: Annotated[Path, typer.Option("--config", "-c", readable=False, help="This organisation's configuration file.")],
    wait: Annotated[float, typer.Option(min=0.0, max=MAX_PATIENCE, help="Seconds to wait for each peer.")] = PATIENCE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log too.")] = False,  # noqa: FBT002
) -> None:
    """Check the own files, and the way to every other member: name, port or broker, handshake, roster, version, clock, speed.

    If this organisation's node runs, it is asked, since it holds the connections; otherwise this command takes its place for some seconds.
    """
    _quiet(verbose=verbose)
    rows: list[Row] = []
    node: dict[str, Any] = {}
    fault = None
    try:
        settings = load_node_config(config)
        own = own_files(settings, config)
        rows, node = commanded(_rows(settings, config, wait))
        own += _behind(settings, node)
        fault = first_fault(own, rows)
    except ConfigError as broken:
        # No node starts like this, so the other members cannot be tried.
        problem, _, remedy = str(broken).partition("; ")
        own, fault = [Own("set-up", problem, remedy or "mend what the message names")], broken
    if as_json:
        found = {
            "own": list(map(asdict, own)),
            "version": own_version(),
            "node_runs": bool(node),
            "process": node.get("process"),
            "peers": list(map(asdict, rows)),
            "ok": fault is None,
        }
        print(json.dumps(found))
    else:
        _show(own, rows, node)
    if fault is not None:
        raise fault


def alive(
    config: Annotated[Path, typer.Option("--config", "-c", readable=False, help="This organisation's configuration file.")],
) -> None:
    """Ask only whether this organisation's node runs and answers, for whoever watches it; of the others it says nothing."""
    settings = load_node_config(config)
    print(f"{run(ask.alive(settings))} answers")


def _quiet(*, verbose: bool) -> None:
    if verbose:
        configure(1)
    else:
        # The table says it better.
        logging.getLogger("beaver").setLevel(logging.CRITICAL)


async def _rows(settings: NodeConfig, config: Path, wait: float) -> tuple[list[Row], dict[str, Any]]:
    """Return the peers' rows, and the answer of a running node that made them; no answer if none runs."""
    lock = IdentityLock(settings.key_path)
    try:
        lock.acquire()
    except ConfigError:
        answer = await _asked(settings, wait)
        return [Row(**row) for row in answer["peers"]], answer
    lock.release()
    async with mpc.open_node(config) as node:
        return await examine(node, wait), {}


def _behind(settings: NodeConfig, node: dict[str, Any]) -> list[Own]:
    """Return one finding for each of roster and policy that a running node uses in another version than the file has.

    The rows of the node's peers are about the roster that it uses.
    """
    files = {"roster": settings.load_roster().digest, "policy": settings.rules.digest}
    return [
        Own(
            f"{what} in use",
            f"version {used['version']!r}, digest {used['digest'][:16]}: the node takes the file's on SIGHUP, or when it starts again",
        )
        for what, digest in files.items()
        if (used := node.get(what)) is not None and used["digest"] != digest.hex()
    ]


async def _asked(settings: NodeConfig, wait: float) -> dict[str, Any]:
    try:
        return await ask.request(settings, {"do": "check", "wait": wait})
    except ConfigError as fault:
        msg = (
            f"{settings.key_path}: a program with this identity runs, and it answers no `beaver check` as `beaver party` and `beaver "
            f"dealer` do ({fault}); stop it first"
        )
        raise ConfigError(msg) from None


def _show(own: list[Own], rows: list[Row], node: dict[str, Any]) -> None:
    console = tables.wide(highlight=False)
    for each in own:
        mark = "[red]wrong[/red]" if each.remedy else "[green]ok[/green]"
        console.print(f"{mark:<20} {escape(each.what)}: {escape(each.found)}", soft_wrap=True)
    if not rows:
        return
    console.print(
        f"The running node was asked, process {node.get('process')}." if node else "No node runs here; this command took its place.",
        f"Version {own_version()}.",
    )
    listed = tables.grid("peer", "address", "name", "port", "handshake", "roster", "version", "clock", "round trip", "to it")
    for row in rows:
        cells = (row.peer, row.address, row.resolved, row.reached, row.handshake, row.roster, row.version, *_figures(row))
        listed.add_row(*map(escape, cells), style="red" if row.problem else None)
    console.print(listed)
    for row in rows:
        if row.problem:
            console.print(f"[red]{escape(row.peer)}[/red]: {escape(row.problem)}\n    what to do: {escape(row.remedy)}", soft_wrap=True)


def _figures(row: Row) -> tuple[str, str, str]:
    ahead = "" if row.ahead is None else f"{row.ahead:+.3f} s"
    trip = "" if row.round_trip is None else f"{row.round_trip * 1e3:.2f} ms"
    speed = "" if row.throughput is None else f"{row.throughput / 1e6:,.1f} MB/s"
    return ahead, trip, speed


__all__ = ["alive", "check"]
