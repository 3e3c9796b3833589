"""The asking side of `beaver run` and `beaver jobs`: talks to one's own node and shows what it says."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from mpc import errors
from mpc.errors import BeaverError, ConfigError, RemoteFault
from parties.control import ask, socket_path
from parties.entries import finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mpc import Plan
    from parties.config import NodeConfig
    from parties.job import Task


def told(message: dict[str, Any]) -> BeaverError:
    """The node's fault as the same kind of fault here."""
    kind = getattr(errors, str(message["error"]), BeaverError)
    if isinstance(kind, type) and issubclass(kind, RemoteFault):
        party, _, text = str(message["text"]).partition(": ")
        return kind(party, text)
    return kind(message["text"]) if isinstance(kind, type) and issubclass(kind, BeaverError) else BeaverError(message["text"])


async def request(config: NodeConfig, message: dict[str, Any], *, quiet: bool = True) -> dict[str, Any]:
    """One request to the own node; its last message, with progress on standard error on the way.  Raises what the node raised."""
    last: dict[str, Any] | None = None
    start = time.monotonic()
    async for reply in ask(socket_path(config), message):
        if "error" in reply:
            raise told(reply)
        if "event" in reply and not quiet:
            print(f"{time.monotonic() - start:7.2f} s  {reply['event']}", file=sys.stderr, flush=True)
        last = reply
    if last is None or ("event" in last and message["do"] == "run"):
        msg = "the node ended before it answered: its log says why. Start it again with `beaver party -c`, and ask again"
        raise ConfigError(msg)
    return last


async def run(config: NodeConfig, task: Task, wait: float) -> dict[str, Any]:
    """Hand a job to the own node and wait for the end."""
    return await request(config, {"do": "run", "task": task.pack(), "wait": wait}, quiet=False)


def show(answer: dict[str, Any], *, as_json: bool) -> None:
    """A result as a table, or as one JSON object."""
    if as_json:
        print(json.dumps(finite(answer), allow_nan=False))
        return
    result = answer["result"]
    if result is None:
        print(f"job {answer['id']} is done; the result is at its receivers")
        return
    grid = Grid(title=f"job {answer['id']}", title_justify="left", show_header=False)
    for name, value in result.items():
        for row in _rows(name, value):
            grid.add_row(*map(escape, row))
    Console().print(grid)


def _rows(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [(f"{name} {key}", _text(entry)) for key, entry in value.items()]
    return [(name, _text(value))]


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, list) else str(value)


@contextlib.contextmanager
def reserved(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A way to write the result as JSON to a new file that only this user can read; the file is made before the job runs, so that nothing is lost."""
    if path is None:
        yield lambda _: None
        return
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as fault:
        msg = f"{path}: cannot be written ({fault.strerror}); choose a new file with --out"
        raise ConfigError(msg) from None
    with os.fdopen(handle, "wb", buffering=0) as file:

        def save(answer: dict[str, Any]) -> None:
            rest = json.dumps(finite(answer), allow_nan=False).encode()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as fault:
                msg = f"{path}: cannot be written ({fault.strerror}); the node still has the result: `beaver jobs show {answer['id']}`"
                raise ConfigError(msg) from None

        try:
            yield save
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def show_estimate(plan: Plan, *, as_json: bool) -> None:
    """What a plan costs."""
    figures = {
        "rounds": plan.rounds,
        "bytes to each peer": plan.payload,
        "bytes from the dealer": plan.dealer,
        "correlations": len(plan.relations),
        "bytes of arrays at one party": plan.peak,
    }
    if as_json:
        print(json.dumps({name.replace(" ", "_"): value for name, value in figures.items()}))
        return
    grid = Grid(show_header=False)
    for name, value in figures.items():
        grid.add_row(name, f"{value:,}")
    Console().print(grid)
