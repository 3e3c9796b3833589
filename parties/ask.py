"""The asking side of `beaver run` and `beaver jobs`: it sends requests to one's own node and shows the answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from mpc.durable import NewFile
from mpc.errors import ConfigError
from parties import tables
from parties.auditing.entries import finite
from parties.control import ask, socket_path
from parties.faults import told
from parties.jobs.progress import Foresight, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from parties.config import NodeConfig
    from parties.jobs.job import Task


PATIENCE = 5.0
"""Seconds within which a node says that it is there, whatever else it does."""


async def alive(config: NodeConfig, patience: float = PATIENCE) -> str:
    """Return the name of the own node, which answers at once whatever else it does.

    Raises ConfigError without an answer in `patience` seconds.
    """
    try:
        async with asyncio.timeout(patience):
            replies = [reply async for reply in ask(socket_path(config), {"do": "alive"})]
    except TimeoutError:
        # Until its queue is full, the system accepts connections for a process that is stopped or stuck.
        msg = (
            f"the node at {socket_path(config)} did not answer within {patience:g} s: it is stopped, hangs, or is asked too much at once. "
            "Let it run on, ask again later, or start it again"
        )
        raise ConfigError(msg) from None
    if not replies:
        # A node without a free descriptor drops every connection, and runs on.
        msg = (
            f"the node at {socket_path(config)} hung up without an answer: it has too many open files, or has just ended, as its log says. "
            "Raise `ulimit -n` for it, or start it again, and ask again"
        )
        raise ConfigError(msg)
    return str(replies[-1].get("alive", ""))


async def request(config: NodeConfig, message: dict[str, Any], heard: Callable[[dict[str, Any]], object] | None = None) -> dict[str, Any]:
    """Send one request to the own node, if it is `alive`, and return its last message.

    `heard` gets all messages.  Raises what the node raised.
    """
    await alive(config)
    last: dict[str, Any] | None = None
    async for reply in ask(socket_path(config), message):
        if "error" in reply:
            raise told(str(reply["error"]), str(reply["text"]))
        if heard is not None:
            heard(reply)
        last = reply
    if last is None or ("result" not in last and message["do"] == "run"):
        msg = "the node ended before it answered: its log says why. Start it again with `beaver party -c`, and ask again"
        raise ConfigError(msg)
    return last


async def run(config: NodeConfig, task: Task, wait: float) -> dict[str, Any]:
    """Give a job to the own node, show its progress on standard error, and wait for the end."""
    foresight = Foresight(task)
    with shown() as showing:

        def heard(reply: dict[str, Any]) -> None:
            if "event" in reply:
                showing.event(reply["event"])
            elif "progress" in reply:
                foresight.begin(reply["progress"])
                showing.progress(reply["progress"], foresight.totals(reply["progress"], config.name))

        try:
            return await request(config, {"do": "run", "task": task.pack(), "wait": wait}, heard)
        finally:
            foresight.stop()


def show(answer: dict[str, Any], *, as_json: bool) -> None:
    """Print a result as a table, or as one JSON object."""
    if as_json:
        print(json.dumps(finite(answer), allow_nan=False))
        return
    result = answer["result"]
    if result is None:
        print(f"job {answer['id']} is done; the result is at its receivers")
        return
    print(f"job {answer['id']}")
    tables.pairs(row for name, value in result.items() for row in _rows(name, value))


def _rows(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [(f"{name} {key}", _text(entry)) for key, entry in value.items()]
    return [(name, _text(value))]


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, list) else str(value)


KEPT = "the node still has the result: `beaver jobs show {id}`"
"""What to do if the result of a job of the own node cannot be written."""


@contextlib.contextmanager
def reserved(path: Path | None, remedy: str = KEPT) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that writes the result as JSON to a new file that only this user can read.

    Whether the file can be written is tried before the job runs.  The file is complete from the moment when it has its name, and never
    overwrites another.  Raises ConfigError, which says where the result still is (`remedy`).
    """
    if path is None:
        yield lambda _: None
        return
    try:
        file = NewFile(path)
    except OSError as fault:
        msg = f"{path}: cannot be written ({fault.strerror}); choose a new file with --out"
        raise ConfigError(msg) from None
    with file:

        def save(answer: dict[str, Any]) -> None:
            try:
                file.write(json.dumps(finite(answer), allow_nan=False).encode())
                file.finish()
            except OSError as fault:
                msg = f"{path}: cannot be written ({fault.strerror}); {remedy.format(id=answer['id'])}"
                raise ConfigError(msg) from None

        yield save
