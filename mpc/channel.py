"""A channel: one link after hello and handshake, carrying sealed records in both directions.

The handshake is a generator that is fed frames, so that everything happens inside the link's callback: no task switch lies
between a frame's arrival and the receive that it completes.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Protocol

from mpc import wire
from mpc.errors import AuthenticationFailed, BeaverError, Disagreement, PeerLost, PeerMisbehaved
from mpc.flow import ON_FRAME, Flow
from mpc.handshake import KK, Hello, Keys, local_suites, negotiate
from mpc.records import Opener, Sealer

if TYPE_CHECKING:
    from collections.abc import Generator

    from mpc.identity import Identity
    from mpc.roster import Member, Roster
    from mpc.transport.link import Link

RECORD_TARGET = 1 << 19
_PUMP_BYTES = 1 << 22


class Upstairs(Protocol):
    """Who owns channels: the mesh."""

    def opened(self, channel: Channel) -> None:
        """The peer proved who it is; for a responder only after the initiator's first sealed record."""

    def control(self, channel: Channel, body: wire.Body) -> None:
        """A control message arrived; a fault raised here ends the channel."""

    def closed(self, channel: Channel, fault: BeaverError) -> None:
        """The channel is gone, or never came to be; called exactly once."""


class Channel:
    """Sealed frames to and from one peer.  `peer` is known to be true only once `ready` is set."""

    def __init__(self, link: Link, identity: Identity, roster: Roster, upstairs: Upstairs, *, dialled: Member | None = None) -> None:
        self.ready = False
        self.peer: Member | None = dialled
        self.exporter = b""
        self.transcript = b""
        self.born = self.spoke = asyncio.get_running_loop().time()
        self.wire_bytes = 0
        self._link = link
        self._identity = identity
        self._roster = roster
        self._upstairs = upstairs
        self._flows: dict[bytes, Flow] = {}
        self._queue: list[wire.Part] = []
        self._queued = 0
        self._flush_due = False
        self._pumps: list[Flow] = []
        self._sent = self._received = 0
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._over = False
        self._parting = False
        self._script = self._initiate(dialled) if dialled is not None else self._respond()
        next(self._script)
        link.start(self._on_frame, self._on_closed, self._on_writable)

    def __repr__(self) -> str:
        return f"Channel({self.name}, {self._link.label})"

    @property
    def name(self) -> str:
        """The peer's name, or the link's label while it is unknown."""
        return self.peer.name if self.peer is not None else self._link.label

    @property
    def heard(self) -> float:
        """When the last byte came."""
        return self._link.heard

    @property
    def alive(self) -> bool:
        """Ready and not closed."""
        return self.ready and not self._over

    # -- hello and handshake -----------------------------------------------------------------------------------

    def _hello(self, receiver: str) -> Hello:
        return Hello(self._identity.name, receiver, self._roster.digest, local_suites(), secrets.token_bytes(32))

    def _initiate(self, peer: Member) -> Generator[None, bytes, tuple[Member, Keys]]:
        mine = self._hello(peer.name)
        self._link.send(mine.encode())
        raw = yield
        theirs = Hello.decode(raw, peer.name)
        suite = negotiate(mine, theirs)
        prologue = mine.encode() + raw
        kk = KK(True, suite, prologue, self._identity.curve_secret, peer.curve_public, peer=peer.name)
        self._link.send(kk.write_message())
        kk.read_message((yield))
        return self._keyed(peer, kk.split(), suite)

    def _respond(self) -> Generator[None, bytes, tuple[Member, Keys]]:
        raw = yield
        theirs = Hello.decode(raw, self._link.label)
        mine = self._hello(theirs.sender)
        # Answered before it is judged: from our hello the peer sees which version, roster or name does not match.
        self._link.send(mine.encode())
        suite = negotiate(mine, theirs)
        if theirs.sender not in self._roster:
            raise AuthenticationFailed(self._link.label, f"calls itself {theirs.sender!r}, which is not in the roster")
        peer = self._roster[theirs.sender]
        prologue = raw + mine.encode()
        kk = KK(False, suite, prologue, self._identity.curve_secret, peer.curve_public, peer=peer.name)
        kk.read_message((yield))
        self._link.send(kk.write_message())
        return self._keyed(peer, kk.split(), suite)

    def _keyed(self, peer: Member, keys: Keys, suite: str) -> tuple[Member, Keys]:
        self._sealer = Sealer(keys.send, suite)
        self._opener = Opener(keys.receive, suite, peer.name)
        return peer, keys

    def _advance(self, frame: bytes) -> None:
        try:
            self._script.send(frame)
        except StopIteration as finished:
            initiator = self.peer is not None
            self.peer, keys = finished.value
            self.exporter, self.transcript = keys.exporter, keys.handshake_hash
            if initiator:
                self.send(wire.bare(wire.Kind.READY))
                self._become_ready()

    def _become_ready(self) -> None:
        self.ready = True
        self._upstairs.opened(self)

    # -- receiving ---------------------------------------------------------------------------------------------

    def _on_frame(self, frame: memoryview) -> None:
        if self._over:
            self._after_the_end(frame)
            return
        try:
            if self._opener is None:
                self._advance(bytes(frame))
            else:
                self._on_record(self._opener.open(frame))
        except BeaverError as fault:
            self.end(fault)

    def _after_the_end(self, frame: memoryview) -> None:
        """Both sides say CLOSE at the same time: whoever said it and hears it is done."""
        if not self._parting or self._opener is None:
            return
        try:
            sequence, self._received = self._received, self._received + 1
            if any(part.kind is wire.Kind.CLOSE for part in wire.parse(self._opener.open(frame), sequence, self.name)):
                self._link.close()
        except BeaverError:
            self._link.abort()

    def _on_record(self, record: bytes) -> None:
        sequence, self._received = self._received, self._received + 1
        for frame in wire.parse(record, sequence, self.name):
            if not self.ready:
                # The first sealed record proves that the initiator holds its key now: message 1 alone could be a replay.
                if frame.kind is not wire.Kind.READY:
                    raise PeerMisbehaved(self.name, "spoke before it was ready")
                self._become_ready()
            elif frame.tag:
                flow = self._flows.get(frame.tag[: wire.SESSION_PREFIX])
                if flow is not None:
                    self._to_flow(flow, frame)
            elif frame.kind is wire.Kind.CONTROL:
                self._upstairs.control(self, wire.parse_control(frame.data, self.name))
            elif frame.kind is wire.Kind.CLOSE:
                self.end(PeerLost(self.name, "closed the connection"))
            if self._over:
                return

    def _to_flow(self, flow: Flow, frame: wire.Frame) -> None:
        try:
            ON_FRAME[frame.kind](flow, frame)
        except Disagreement as fault:
            flow.on_disagreement(fault)

    # -- sending -----------------------------------------------------------------------------------------------

    def send(self, *parts: wire.Part) -> None:
        """Queue one frame.  Frames queued while tasks are runnable leave together, as one record."""
        self._queue.extend(parts)
        self._queued += sum(map(len, parts))
        if self._queued >= RECORD_TARGET:
            self._seal()
        self._schedule()

    def control(self, **body: object) -> None:
        """Queue a control message."""
        self.send(wire.control(body))

    def wants_pump(self, flow: Flow) -> None:
        """Let `flow` send granted blocks whenever the link can take them."""
        if flow not in self._pumps:
            self._pumps.append(flow)
        self._schedule()

    def _schedule(self) -> None:
        if not self._flush_due and not self._over:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _seal(self) -> None:
        if self._sealer is None or self._over:
            self._queue.clear()
            return
        head = wire.record_head(self._sent, self._received)
        sealed = self._sealer.seal(b"".join((head, *self._queue)))
        self._queue.clear()
        self._queued = 0
        self._sent += 1
        self.wire_bytes += len(sealed) + 4
        self.spoke = asyncio.get_running_loop().time()
        self._link.send(sealed)

    def _flush(self) -> None:
        self._flush_due = False
        if self._over:
            return
        budget = _PUMP_BYTES
        while self._pumps and self._link.writable and budget > 0:
            flow = self._pumps.pop(0)
            if flow.pump():
                self._pumps.append(flow)
            budget -= RECORD_TARGET // 2
        if self._queue:
            self._seal()
        if self._pumps and self._link.writable:
            self._schedule()

    def _on_writable(self) -> None:
        if self._pumps:
            self._schedule()

    # -- flows -------------------------------------------------------------------------------------------------

    def open_flow(self, session: bytes, window: int) -> Flow:
        """Start carrying the messages of `session`."""
        flow = Flow(session, self.name, self, window)
        self._flows[session[: wire.SESSION_PREFIX]] = flow
        return flow

    def close_flow(self, session: bytes, fault: BeaverError) -> None:
        """Stop carrying `session`; whatever still arrives for it is dropped."""
        flow = self._flows.pop(session[: wire.SESSION_PREFIX], None)
        if flow is not None:
            flow.fail(fault)
            if flow in self._pumps:
                self._pumps.remove(flow)

    # -- the end -----------------------------------------------------------------------------------------------

    def _on_closed(self, reason: Exception | None) -> None:
        if isinstance(reason, BeaverError):
            self._finish(reason)
        elif self.ready:
            self._finish(PeerLost(self.name, "the connection was lost"))
        else:
            self._finish(
                AuthenticationFailed(
                    self.name,
                    "hung up during the handshake. Either it does not hold the key that the roster gives it, or it rejects ours: its log says which.",
                )
            )

    def end(self, fault: BeaverError) -> None:
        """Drop the link at once; everything on it fails with `fault`."""
        self._link.abort()
        self._finish(fault)

    def abort(self) -> None:
        """Give up a `close` that the peer does not let end."""
        self._link.abort()

    async def close(self) -> None:
        """Say goodbye, and return when the peer has heard it: a socket closed earlier could lose what the system still holds."""
        if self._over:
            return
        if self.ready:
            self.send(wire.bare(wire.Kind.CLOSE))
            self._seal()
            self._parting = True
        else:
            self._link.close()
        self._finish(PeerLost(self.name, "this party closed the connection"))
        await self._link.wait_closed()

    def _finish(self, fault: BeaverError) -> None:
        if self._over:
            return
        self._over = True
        self.exporter = b""
        self._queue.clear()
        self._pumps.clear()
        for flow in self._flows.values():
            flow.fail(fault)
        self._flows.clear()
        self._upstairs.closed(self, fault)
