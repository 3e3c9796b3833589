"""What `beaver check` finds: whether this organisation is set up and reaches every other member, and what to do if not."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import mpc
import parties
import protocols
from mpc.errors import AuthenticationFailed, BeaverError, ConfigError, Disagreement, PeerLost, PeerMisbehaved
from mpc.membership.endpoints import format_endpoint
from mpc.membership.identity import spoken
from mpc.membership.members import meet, minute
from mpc.membership.roster import ADD_DEALER, DEALERLESS, transport_between
from mpc.network.peer import SOON
from mpc.network.ways import dials
from mpc.transport.link import reason
from parties.control import socket_path
from parties.faults import told
from parties.policy import absent, check_policy

if TYPE_CHECKING:
    from mpc.membership.endpoints import Endpoint
    from mpc.membership.members import Member
    from mpc.network.mesh import Mesh
    from parties.config import NodeConfig

PATIENCE = 8.0
"""Seconds to wait for a peer, and for its answers; a peer that dials again after a failure takes 5."""

MAX_PATIENCE = 600.0

MAX_AHEAD = 60.0
"""Seconds that clocks may differ: keys retire, and audits are compared, by the clock."""

_STEP = 5.0
"""Seconds for a name server, and for a port."""

_SOON = 1.5
"""Seconds before a peer's address is tried although the peer should dial this member: a try costs the peer a line in its log."""

OURS = (mpc, protocols, parties)
_LOOK = 0.05


@dataclass(slots=True)
class Own:
    """One finding about this organisation's own files.  An empty remedy means that nothing is wrong."""

    what: str
    found: str
    remedy: str = ""


@dataclass(slots=True)
class Row:
    """The findings about one peer; steps that were not reached are empty.  `kind`, `problem` and `remedy` describe a failure."""

    peer: str
    address: str
    resolved: str = ""
    reached: str = ""
    handshake: str = ""
    roster: str = ""
    version: str = ""
    ahead: float | None = None
    round_trip: float | None = None
    throughput: float | None = None
    kind: str = ""
    problem: str = ""
    remedy: str = ""

    def fail(self, fault: BeaverError, remedy: str = "") -> None:
        """End the check of this peer with a fault.  Without `remedy`, the remedy is the one that most messages end with."""
        self.kind = type(fault).__name__
        self.problem, self.remedy = fault.text, remedy
        if not remedy:
            self.problem, _, self.remedy = self.problem.partition("; ")
        self.remedy = self.remedy or f"see that the node of {self.peer} runs, and what its log says"


# -- this organisation -----------------------------------------------------------------------------------------------


def own_files(config: NodeConfig, path: Path) -> list[Own]:
    """Check the configuration at `path`, key, roster, their permissions, and the names that programs import.

    Raises ConfigError for whatever a node refuses to start with.
    """
    identity, roster = config.identity(), config.load_roster()
    said = roster.content
    signed = f"not signed by {', '.join(roster.unsigned)}: taken since `unsigned` asks for it" if roster.unsigned else "signed by all"
    found = [
        Own("key", f"{config.key_path}, fingerprint {spoken(identity.public)}"),
        Own("roster", f"version {said.version}, digest {roster.digest.hex()[:16]}, {len(roster.members)} members, {signed}"),
        Own("control socket", str(socket_path(config))),
    ]
    if roster.dealer is None:
        found.append(Own("dealer", DEALERLESS, ADD_DEALER))
    me = roster[config.name]
    if me.retiring == identity.public:
        found.append(Own("rotation", f"this key retires on {minute(me.retires)}; set `key` to the new one before"))
    if roster.relay is not None:
        config.relay_password()
        if config.relay_ca is not None and not os.access(config.relay_ca, os.R_OK):
            found.append(Own("certificates", f"{config.relay_ca} cannot be read", "correct `ca` under [relay]"))
    files = [("configuration", path), ("roster file", config.roster_path)]
    if me.role == "client" and (far := [member.name for member in roster.parties if not dials(me, member)]):
        found.append(Own("out of reach", f"{', '.join(far)}: no endpoint, and a client only dials; ask the others (--parties)"))
    if me.role == "party":
        check_policy(config)
        for fault in absent(config):
            problem, _, remedy = str(fault).partition("; ")
            found.append(Own("policy entry", problem, remedy))
        files += [("policy", config.rules.file)] if config.rules.file not in (None, path) else []
    found += [_guarded(what, file) for what, file in files]
    return [*found, *_datasets(config), *shadows(Path.cwd())]


def _guarded(what: str, path: Path) -> Own:
    mode = path.stat().st_mode
    if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Own(what, f"{path} may be changed by others (mode {stat.S_IMODE(mode):04o})", f"run `chmod go-w {path}`")
    return Own(what, str(path))


def _datasets(config: NodeConfig) -> list[Own]:
    """Check only whether the files can be opened; `beaver data` reads them."""
    return [
        Own(f"dataset {name}", f"{path} cannot be read", "correct its path, or let this user read it")
        for name, settings in config.datasets.items()
        if settings.path is not None and not os.access(path := config.resolve(settings.path), os.R_OK)
    ]


def shadows(folder: Path) -> list[Own]:
    """Find what a program started in `folder` would import instead of this software: other software uses these names too."""
    found = []
    for module in OURS:
        name = module.__name__
        spec = PathFinder.find_spec(name, [str(folder)])
        # A folder without __init__.py gives way to a real package.
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() != Path(str(module.__file__)).resolve():
            found.append(
                Own(f"import {name}", f"{spec.origin} hides this software's {name}", "rename it, or start programs in another folder")
            )
    return found


# -- the others ------------------------------------------------------------------------------------------------------


async def examine(node: mpc.Node, patience: float = PATIENCE) -> list[Row]:
    """Check all peers of an open node: connect with all at once, then measure one after the other so that they do not share the line."""
    mesh = node.mesh
    me = mesh.roster[mesh.identity.name]
    # A client is connected only while it asks for something.
    peers = [
        member
        for member in mesh.roster.members
        if member is not me and meet(me, member) and (member.role != "client" or mesh.channel(member.name) is not None)
    ]
    rows = await asyncio.gather(*(_connect(node, me, member, patience) for member in peers))
    for row in rows:
        if not row.problem:
            await _measure(node, row, patience)
        if mesh.contested(row.peer):
            # Whatever else was found holds for only one of the two nodes, and for one moment.
            row.fail(
                PeerLost(row.peer, f"connects again and again, each time within {SOON:g} s: two nodes seem to run with one key"),
                "stop the second node that runs with its key, or with this member's, as after a restore or a "
                "move: the two cut each other off",
            )
    return list(rows)


async def _connect(node: mpc.Node, me: Member, member: Member, patience: float) -> Row:
    where = _where(node, me, member)
    row, known = Row(member.name, format_endpoint(where) if where is not None else "dials only"), None
    if not await _came(node, member.name, _SOON) and where is not None:
        # A peer that should dial this member may be unable to reach it behind a firewall, and otherwise be in order.
        await _reach(row, member, where, needed=dials(me, member) or transport_between(me, member) == "mqtt")
        # The peer decides how often it dials: its last failed attempt counts until the next one.
        known = None if dials(me, member) else node.mesh.fault(member.name)
        # The way is open: an earlier failure, when the peer may not have been there, says nothing any more.
        node.mesh.try_again(member.name)
    if row.problem:
        return row
    if await _came(node, member.name, patience):
        row.reached, row.handshake, row.roster = "ok", "ok", _common(node.mesh, member.name)
        row.resolved = row.resolved or (await _resolved(where) if where is not None else "")
    else:
        row.handshake = "failed"
        row.fail(*_silence(node, me, member, patience, known))
    return row


def _common(mesh: Mesh, name: str) -> str:
    """Return what is known of the roster of `name`, which is compared when the two connect."""
    channel = mesh.channel(name)
    if channel is None or channel.roster.digest == mesh.roster.digest:
        return "same"
    return f"version {channel.roster.content.version} when connected"


async def _came(node: mpc.Node, name: str, patience: float) -> bool:
    """Return whether there is a channel to `name` within `patience` seconds, or before an attempt at one has failed."""
    mesh, loop = node.mesh, asyncio.get_running_loop()
    deadline = loop.time() + patience
    while mesh.missing([name]) and mesh.fault(name) is None and loop.time() < deadline:  # noqa: ASYNC110  no event tells of a failed attempt
        await asyncio.sleep(_LOOK)
    return not mesh.missing([name])


def _where(node: mpc.Node, me: Member, member: Member) -> Endpoint | None:
    """Return the address to reach in order to speak with `member`: the broker's, or its own."""
    relay = node.mesh.roster.relay
    if relay is not None and transport_between(me, member) == "mqtt":
        return relay.host, relay.port
    return member.endpoint


async def _resolved(where: Endpoint) -> str:
    """Return the addresses of a host; empty if there are none."""
    try:
        async with asyncio.timeout(_STEP):
            found = await asyncio.get_running_loop().getaddrinfo(*where)
    except (OSError, UnicodeError, TimeoutError):
        return ""
    return ", ".join(sorted({str(entry[4][0]) for entry in found}))


async def _reach(row: Row, member: Member, where: Endpoint, *, needed: bool = True) -> None:
    """Find how far one gets to an address without sending anything: that tells a wrong name from a closed port and from a firewall.

    If no way there is `needed`, the only failure is an answer that nothing listens at the port: then the peer's node does not run.
    """
    row.resolved = await _resolved(where)
    if not row.resolved:
        row.resolved = "failed" if needed else "not needed"
        if needed:
            row.fail(
                PeerLost(member.name, f"no address is known for the host {where[0]}"), "correct the host in the roster, or the name server"
            )
        return
    at, row.reached = format_endpoint(where), "failed"
    try:
        async with asyncio.timeout(_STEP):
            _, writer = await asyncio.open_connection(*where)
    except ConnectionRefusedError:
        row.fail(
            PeerLost(member.name, f"nothing listens at {at}"), "start what should listen there, or correct host and port in the roster"
        )
    except OSError as fault:
        if not needed:
            row.reached = "not needed"
        elif isinstance(fault, TimeoutError):
            row.fail(PeerLost(member.name, f"nothing answers at {at}"), "a firewall, or a wrong address: let this machine reach it")
        else:
            row.fail(
                PeerLost(member.name, f"{at} cannot be reached: {reason(fault)}"),
                "correct the address in the roster, or the network's routes",
            )
    else:
        row.reached = "ok"
        writer.close()


def _silence(node: mpc.Node, me: Member, member: Member, patience: float, known: BeaverError | None) -> tuple[BeaverError, str]:
    """Return why there is no channel although the way is open, as far as this node can tell.  `known` is why an earlier attempt failed."""
    fault = node.mesh.fault(member.name) or known
    if isinstance(fault, AuthenticationFailed):
        return fault, "compare both members' keys with the fingerprints of `beaver roster show`, and read its log"
    if isinstance(fault, PeerMisbehaved):
        return fault, "something else listens there: correct host and port in the roster"
    if fault is not None:
        return fault, ""
    if dials(me, member) or transport_between(me, member) == "mqtt":
        return PeerLost(member.name, f"did not finish the handshake within {patience:g} s"), "see that its node runs, and what its log says"
    back = format_endpoint(me.endpoint) if me.endpoint is not None else "nowhere"
    text = f"dials this member at {back}, and did not within {patience:g} s"
    return PeerLost(
        member.name, text
    ), "start its node, see that it has taken the same roster, and that it can reach that address through all firewalls"


async def _measure(node: mpc.Node, row: Row, patience: float) -> None:
    try:
        seen = await node.checks.measure(row.peer, patience)
    except BeaverError as fault:
        row.fail(fault)
        return
    row.version, row.ahead, row.round_trip, row.throughput = seen.version, seen.ahead, seen.round_trip, seen.throughput
    if abs(seen.ahead) > MAX_AHEAD:
        way = "ahead of" if seen.ahead > 0 else "behind"
        row.fail(
            Disagreement(row.peer, f"its clock is {abs(seen.ahead):.0f} s {way} this one"),
            "let both machines set their clocks from a time server",
        )


def first_fault(own: list[Own], rows: list[Row]) -> BeaverError | None:
    """Return the failure that decides the exit status."""
    for each in own:
        if each.remedy:
            return ConfigError(f"{each.found}; {each.remedy}")
    for row in rows:
        if row.problem:
            return told(row.kind, f"{row.peer}: {row.problem}; {row.remedy}")
    return None


__all__ = ["Own", "Row", "examine", "first_fault", "own_files", "shadows"]
