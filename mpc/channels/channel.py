"""A channel: sealed records in both directions over a link, after hello and handshake, and over the links that replace it.

The handshake is a generator that is fed frames, so that everything happens inside the link's callback: no task switch lies between a
frame's arrival and the receive that it completes.

A channel outlives a broken link. The peers connect again, with new keys, and hand the new link to the interrupted channel. Record numbers
continue, and records that the peer has not received are sealed and sent again. Seeds stay the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mpc.channels.flows import Flows
from mpc.channels.line import Line
from mpc.channels.owed import Owed
from mpc.channels.states import GREETING, HANDED_OVER, LEAVING, OPEN, OVER, PARTING, REFUSED, follow
from mpc.errors import BeaverError, PeerLost, PeerMisbehaved
from mpc.framing import wire
from mpc.framing.greeting import broken_off, initiate, respond
from mpc.framing.unacknowledged import Unacknowledged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.channels.flow import Flow
    from mpc.channels.owner import ChannelOwner
    from mpc.channels.states import State
    from mpc.membership.identity import Identity
    from mpc.membership.members import Member
    from mpc.membership.roster import Roster
    from mpc.transport.link import Link

RECORD_TARGET = 1 << 19
_PUMP_BYTES = 1 << 22


class Channel:
    """Sealed frames to and from one peer; `dialled` if this side dialled it. `peer` is authenticated only once `ready` is set."""

    def __init__(self, link: Link, identity: Identity, roster: Roster, owner: ChannelOwner, *, dialled: Member | None = None) -> None:
        self.state = GREETING
        self.dialled = dialled is not None
        self.interrupted = False
        """Whether the link is gone and the channel waits for another one."""
        self.peer: Member | None = dialled
        self.exporter = b""
        self.transcript = b""
        self.born = asyncio.get_running_loop().time()
        self.wire_bytes = self.wire_received = 0
        self.roster = roster
        self._line = Line(link, self)
        self._owner = owner
        self._flows = Flows(self)
        self._queue: list[wire.Part] = []
        self._queued = 0
        self._flush_due = False
        self._pumps: list[Flow] = []
        self.received = 0
        self._owed = Owed(lambda: self.send(wire.bare(wire.Kind.PING)))
        self.unacknowledged = Unacknowledged()
        self._older: Channel | None = None
        self._addressed = False
        self._script = initiate(link, identity, roster, dialled) if dialled is not None else respond(link, identity, roster, owner.welcomes)
        next(self._script)
        self._line.start()

    def __repr__(self) -> str:
        return f"Channel({self.name}, {self._line.link.label})"

    @property
    def name(self) -> str:
        """The peer's name, or the link's label while the peer is unknown."""
        return self.peer.name if self.peer is not None else self._line.link.label

    @property
    def spoke(self) -> float:
        """When the last record was sent."""
        return self._line.spoke

    @property
    def heard(self) -> float:
        """When the last byte arrived."""
        return self._line.link.heard

    @property
    def writable(self) -> bool:
        """Whether the link takes more; False while many bytes wait to be sent."""
        return self._line.link.writable

    @property
    def ready(self) -> bool:
        """Whether the peer has proved its identity, even if the channel is over now."""
        return self.state.ready

    @property
    def served(self) -> bool:
        """Whether the line was ever used, by this channel or another one."""
        return self.ready or self.state is HANDED_OVER

    @property
    def alive(self) -> bool:
        """Ready and not closed."""
        return self.state is OPEN

    @property
    def resumable(self) -> bool:
        """Whether another link may continue the channel: until the peer's goodbye, the peer may lack records sent before this side's
        goodbye.
        """
        return self.state in (OPEN, PARTING)

    @property
    def parting(self) -> bool:
        """Whether the channel is closed but still needs its line."""
        return self.state.parting

    def _becomes(self, after: State) -> None:
        self.state = follow(self.state, after)

    # -- hello and handshake -----------------------------------------------------------------------------------

    def _advance(self, frame: bytes) -> None:
        self._addressed = True
        try:
            self._script.send(frame)
        except StopIteration as finished:
            self.peer, keys, suite = finished.value
            self._line.key(keys, suite, self.name)
            self.exporter, self.transcript = keys.exporter, keys.handshake_hash
            if self.dialled:
                older = self._owner.previous(self.name)
                if older is not None:
                    # Nothing more may arrive over the older line: the peer resends all that was not received until now.
                    older.interrupt(PeerLost(self.name, "the connection was replaced"))
                self._older = older if older is not None and older.resumable else None
                self._say_ready(self._older)

    def _say_ready(self, older: Channel | None) -> None:
        self.send(wire.ready(older.transcript, older.received) if older is not None else wire.ready(wire.NEW, 0))
        self._seal()

    def _greeted(self, frame: wire.Frame) -> None:
        """Handle the peer's first sealed record, which says which channel the link is for."""
        if not isinstance(frame, wire.Ready):
            raise PeerMisbehaved(self.name, "spoke before it was ready")
        # For a responder, this record proves that the initiator holds its key now: message 1 alone could be a replay.
        older = self._older if self.dialled else self._owner.previous(self.name)
        going_on = older is not None and older.resumable and frame.transcript == older.transcript
        if not self.dialled:
            self._say_ready(older if going_on else None)
        if older is not None and going_on:
            older.resume(self, frame.received)
        elif self.dialled and frame.transcript != wire.NEW:
            raise PeerLost(self.name, "went on with a connection that has ended here")
        else:
            self._becomes(OPEN)
            self._owner.opened(self)

    # -- interruption ------------------------------------------------------------------------------------------

    def interrupt(self, fault: BeaverError) -> None:
        """The link is gone or silent: wait for another one. End with `fault` if the owner does not want to wait or nothing is left to wait
        for.
        """
        if not self.resumable:
            self.end(fault)
        elif not self.interrupted:
            self.interrupted = True
            self._line.link.abort()
            if not self._owner.interrupted(self, fault):
                self.end(fault)

    def hand_over(self, to: Channel) -> Line:
        """Give the line to the channel that continues over it; this channel is never opened."""
        self._becomes(HANDED_OVER)
        self.exporter = b""
        self._line.owner = to
        return self._line

    def resume(self, through: Channel, acknowledged: int) -> None:
        """Continue over the line of `through`; resend the records after the `acknowledged` ones, which the peer did not receive."""
        self.unacknowledged.acknowledged(acknowledged, self.name)
        old, self._line = self._line, through.hand_over(self)
        self.roster = through.roster
        old.link.abort()
        self.interrupted = False
        for number, parts in self.unacknowledged.again():
            self._transmit(number, parts)
        self._owner.resumed(self, through)
        self._schedule()

    # -- receiving ---------------------------------------------------------------------------------------------

    def on_frame(self, line: Line, frame: memoryview) -> None:
        """See LineOwner."""
        if self.state.over:
            return
        try:
            if line.opener is None:
                self._advance(bytes(frame))
            else:
                if self.state.carries:
                    self._owed.add(len(frame))
                self.wire_received += len(frame) + 4
                self._on_record(line.opener.open(frame))
        except BeaverError as fault:
            self.end(fault)

    def _on_record(self, record: wire.Part) -> None:
        sequence, self.received = self.received, self.received + 1
        self._acknowledge(wire.acknowledged(record))
        for frame in wire.parse(record, sequence, self.name):
            if self.state is GREETING:
                self._greeted(frame)
            elif isinstance(frame, wire.Close):
                self._on_goodbye()
            elif self.state is OPEN:
                self._deliver(frame)
            if self.state.over:
                return

    def _deliver(self, frame: wire.Frame) -> None:
        match frame:
            case wire.Control():
                self._owner.control(self, wire.parse_control(frame.data, self.name))
            case wire.Ping() | wire.Ready() | wire.Close():
                # The frame carries no other news than that its record arrived.
                pass
            case _:
                self._flows.on_frame(frame)

    def _acknowledge(self, count: int) -> None:
        was_full = self.unacknowledged.full
        self.unacknowledged.acknowledged(count, self.name)
        if was_full or self._owed.much:
            self._schedule()

    # -- sending -----------------------------------------------------------------------------------------------

    def send(self, *parts: wire.Part) -> None:
        """Queue one frame. Frames queued while tasks are runnable leave together, as one record."""
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
        if not self._flush_due and self.state.carries:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _seal(self) -> None:
        if not self._line.keyed or not self.state.carries:
            self._queue.clear()
            return
        parts, self._queue = self._queue, []
        number = self.unacknowledged.keep(parts, self._queued)
        self._queued = 0
        if not self.interrupted:
            self._transmit(number, parts)

    def _transmit(self, number: int, parts: Sequence[wire.Part]) -> None:
        self.wire_bytes += self._line.transmit(number, self.received, parts)
        self._owed.paid()

    def _flush(self) -> None:
        self._flush_due = False
        if not self.state.carries:
            return
        if self._owed.much and not self._queue:
            self.send(wire.bare(wire.Kind.PING))
        budget = _PUMP_BYTES
        while self._pumps and self._takes_more and budget > 0:
            flow = self._pumps.pop(0)
            if flow.pump():
                self._pumps.append(flow)
            budget -= RECORD_TARGET // 2
        if self._queue:
            self._seal()
        if self._pumps and self._takes_more:
            self._schedule()

    @property
    def _takes_more(self) -> bool:
        return self._line.link.writable and not self.unacknowledged.full and not self.interrupted

    def on_writable(self) -> None:
        """See LineOwner."""
        if self._pumps:
            self._schedule()

    # -- flows -------------------------------------------------------------------------------------------------

    def carries_alike(self, session: bytes) -> bool:
        """Whether the channel carries another session whose frames would look the same; if so, `session` needs another id."""
        return self._flows.alike(session)

    def open_flow(self, session: bytes, window: int) -> Flow:
        """Start carrying the messages of `session`, which must be alike to none."""
        return self._flows.open(session, self.name, window)

    def close_flow(self, session: bytes, fault: BeaverError) -> None:
        """Stop carrying `session`; later frames for it are dropped."""
        flow = self._flows.close(session, fault)
        self.unacknowledged.mark()
        if flow is not None and flow in self._pumps:
            self._pumps.remove(flow)

    # -- the end -----------------------------------------------------------------------------------------------

    def on_closed(self, line: Line, reason: Exception | None) -> None:
        """See LineOwner."""
        if line is not self._line or self.interrupted:
            return
        lost = reason if isinstance(reason, PeerLost) else PeerLost(self.name, "the connection was lost")
        if self.state is LEAVING:
            self._part(None)
        elif isinstance(reason, PeerMisbehaved):
            # The link knows only an address.
            self.end(PeerMisbehaved(self.name, reason.text))
        elif self.state is GREETING:
            self.end(lost if reason is lost else broken_off(self.name, dialled=self.dialled, addressed=self._addressed))
        else:
            self.interrupt(lost)

    def close(self) -> None:
        """Say goodbye. The channel is `parting` until the peer has answered, which proves that it received everything sent before."""
        if self.alive:
            self._say_goodbye(PARTING, PeerLost(self.name, "this party closed the connection"))

    def _say_goodbye(self, after: State, fault: BeaverError) -> None:
        self.send(wire.bare(wire.Kind.CLOSE))
        self._seal()
        self._stop(after, fault)

    def _on_goodbye(self) -> None:
        """Everything that the peer sent has arrived, and it waits only for this side's goodbye, which may already have been sent."""
        if self.state is OPEN:
            self._say_goodbye(LEAVING, PeerLost(self.name, "closed the connection"))
        elif self.state is PARTING:
            self._becomes(LEAVING)
        self._line.link.close()

    def end(self, fault: BeaverError) -> None:
        """Drop the link at once; every flow on it fails with `fault`."""
        self._line.link.abort()
        if self.state.carries:
            self._stop(OVER if self.ready else REFUSED, fault)
        elif self.parting:
            self._part(None if self.state is LEAVING else fault)

    def _stop(self, after: State, fault: BeaverError) -> None:
        """Enter the state `after`: the channel carries nothing any more."""
        self._becomes(after)
        self._owed.clear()
        self.exporter = b""
        self._queue.clear()
        self._pumps.clear()
        if not self.parting:
            self.unacknowledged.clear()
        # First, so that a session ends with one fault that says where it was; waiters for a message get that fault.
        self._owner.closed(self, fault)
        self._flows.cut_off(fault)

    def _part(self, fault: BeaverError | None) -> None:
        """The line is no longer needed: both goodbyes arrived, or were given up because of `fault`."""
        self._becomes(OVER)
        self.unacknowledged.clear()
        self._owner.parted(self, fault)
