"""The parent of the demo: it makes keys, roster and configurations, starts four processes, and compares their results."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.errors import BeaverError
from mpc.membership.endpoints import Relay
from mpc.membership.identity import Identity
from mpc.membership.members import Member
from mpc.membership.roster import Roster
from parties.data import load_diabetes
from parties.demo import broker
from parties.demo.report import report
from parties.demo.study import pooled, split, tolerance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mpc.membership.members import Transport
    from parties.data import Table
    from parties.demo.study import Holding

HOSPITALS = {"hospital_a": 0.5, "hospital_b": 0.3, "hospital_c": 0.2}
DEALER = "the_dealer"
PATIENCE = 60.0
"""Seconds within which a stopped process has to be gone before it is killed, and the `join` clock of the demo."""


class DemoError(BeaverError):
    """A process of the demo failed; the text holds what it printed."""


@dataclass(slots=True)
class Organisation:
    """One process to start: its configuration, and its listening socket unless all meet at a broker."""

    name: str
    config: Path
    listener: socket.socket | None


def prepare(folder: Path, parties: Iterable[str], relay: Relay | None = None) -> list[Organisation]:
    """Write the key and the configuration of each of the `parties` and of the dealer, which comes last, and the roster that all share.

    With a `relay` no member has an endpoint.
    """
    names = [*parties, DEALER]
    identities = {name: Identity.generate(name) for name in names}
    listeners = {} if relay is not None else {name: bound() for name in names}
    endpoints = {name: listener.getsockname() for name, listener in listeners.items()}
    roster = Roster(
        (Member(name, identities[name].public, endpoints.get(name), "dealer" if name == DEALER else "party") for name in names),
        transport="tcp" if relay is None else "mqtt",
        relay=relay,
    )
    for identity in identities.values():
        roster.accept(identity.name, roster.sign(identity))
    organisations = []
    for name in names:
        home = folder / name
        home.mkdir()
        identities[name].save(home / "key")
        (home / "roster.toml").write_text(roster.dump())
        config = home / "party.toml"
        config.write_text(f'name = "{name}"\nkey = "key"\nroster = "roster.toml"\n\n[clocks]\njoin = {PATIENCE}\n')
        organisations.append(Organisation(name, config, listeners.get(name)))
    return organisations


def bound() -> socket.socket:
    """Return a listening socket for a child process, so that no two processes race for a port."""
    return socket.create_server(("127.0.0.1", 0), backlog=64)


def write(path: Path, table: Table) -> None:
    """Write a table as CSV."""
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows(table.rows.tolist())


async def spawn(
    program: Sequence[str], listener: socket.socket | None, *arguments: str, env: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start `python PROGRAM FD ARGUMENTS`.  FD is the number of `listener`, which the process inherits, or - without one.

    The process has its own session: Ctrl-C reaches only the parent, which then stops everyone.
    """
    descriptors = [] if listener is None else [listener.fileno()]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        *map(str, descriptors or "-"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=descriptors,
        start_new_session=True,
        env=env,
    )
    if listener is not None:
        listener.close()
    return process


async def start(organisation: Organisation, holding: Holding | None) -> asyncio.subprocess.Process:
    """Start the process of a hospital, with its `holding` as files, or of the dealer, which has none."""
    data = []
    if holding is not None:
        home = organisation.config.parent
        write(home / "patients.csv", holding.rows)
        write(home / "columns.csv", holding.columns)
        data = [str(home)]
    return await spawn(("-m", "parties.demo.member"), organisation.listener, str(organisation.config), *data)


async def stop(process: asyncio.subprocess.Process) -> None:
    """Ask the process to end, and make sure that it does."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE / 10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def outcome(organisation: Organisation, process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Return what a hospital printed.  Raises DemoError with the process's own words if it failed."""
    printed, complained = await _outputs(process)
    if process.returncode:
        msg = f"{organisation.name} ended with status {process.returncode}: {complained.decode(errors='replace').strip()}"
        raise DemoError(msg)
    results: dict[str, Any] = json.loads(printed)
    return results


async def _outputs(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    # Not communicate(), which closes the standard input that tells the process that its parent lives.
    if process.stdout is None or process.stderr is None:
        msg = "the process has no pipes"
        raise DemoError(msg)
    printed, complained, _ = await asyncio.gather(process.stdout.read(), process.stderr.read(), process.wait())
    return printed, complained


async def compute(folder: Path, holdings: dict[str, Holding], transport: Transport = "tcp") -> list[dict[str, Any]]:
    """Run all processes.  Return the results of every hospital, in order."""
    async with contextlib.AsyncExitStack() as stack:
        relay = await meeting_place(stack) if transport == "mqtt" else None
        organisations = prepare(folder, holdings, relay)
        processes = []
        for organisation in organisations:
            process = await start(organisation, holdings.get(organisation.name))
            stack.push_async_callback(stop, process)
            processes.append(process)
        hospitals = list(zip(organisations, processes, strict=True))[:-1]
        outcomes = await asyncio.gather(*(outcome(*pair) for pair in hospitals), return_exceptions=True)
    faults = [str(entry) for entry in outcomes if isinstance(entry, BaseException)]
    if faults:
        raise DemoError("\n".join(faults))
    return [entry for entry in outcomes if not isinstance(entry, BaseException)]


async def meeting_place(stack: contextlib.AsyncExitStack) -> Relay:
    """Run a broker until `stack` closes.  Its socket listens already, so nobody waits for it to start."""
    listener = bound()
    host, port = listener.getsockname()
    stack.push_async_callback(stop, await spawn(("-m", "parties.demo.broker"), listener))
    return Relay(host, port, tls=False)


async def demo(transport: Transport) -> bool:
    """Run the study and show it beside the pooled plaintext.  Return whether every number is right at every hospital.

    Over "mqtt" all meet at a broker, which is one more process, and no hospital has an open port.  Raises ConfigError if amqtt is not
    installed.
    """
    if transport == "mqtt":
        broker.check()
    table = load_diabetes()
    holdings = dict(zip(HOSPITALS, split(table, list(HOSPITALS.values())), strict=True))
    try:
        with tempfile.TemporaryDirectory(prefix="beaver-demo-") as folder:
            results = await compute(Path(folder), holdings, transport)
    except OSError as fault:
        msg = (
            f"{fault.filename or 'this machine'}: {fault.strerror}; the demo needs a writable temporary folder, a "
            "process and a port for each member"
        )
        raise DemoError(msg) from None
    expected, allowed = pooled(list(holdings.values())), tolerance(list(holdings.values()))
    report(holdings, results[0], expected, transport)
    return all(right(result, expected, allowed) for result in results)


def right(result: dict[str, Any], expected: dict[str, Any], allowed: dict[str, Any]) -> bool:
    """Return whether every number of one hospital is within its tolerance."""
    return all(_close(result[name]["value"], expected[name], allowed[name]) for name in expected)


def _close(value: Sequence[float], expected: Sequence[float], allowed: Any) -> bool:
    return bool(np.all(np.abs(np.subtract(value, expected)) <= allowed))
