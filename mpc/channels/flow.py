"""Flow control of one session with one peer: tag -> posted receive, a window for what comes early, grants for the rest.

The first part of a message is *eager*: it may travel before the receiver posted its receive, inside a window of bytes that
the receiver is ready to hold.  The rest waits for the receiver's grant, which is sent when the receive is posted, and then
goes straight into its buffer.  A posted receive completes without consuming anything else, so no cycle of waits exists.
The window is large enough that most messages need not wait: over a distance, a grant would cost a round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mpc.errors import BeaverError, Disagreement, PeerMisbehaved
from mpc.framing import wire

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 1 << 25
"""Eager bytes of one session that a peer may have under way: what it can make this party hold ahead of its program."""
CREDITS = 8
"""Consumed bytes are returned in so many parts of the window: what was consumed and not returned cannot be sent meanwhile."""
BLOCK = 1 << 18
"""Bytes of a message in one frame, at most, so that several sessions take turns."""
TURN = 8 * BLOCK
"""Bytes of a message that follow each other before others have their turn: more than a chunk of an op has in most openings."""
MAX_EARLY_MESSAGES = 1 << 16
"""Messages that a peer may have begun before this party posts their receives, however small they are."""


class Sink(Protocol):
    """Where the bytes of one message go as they arrive, in order."""

    def write(self, offset: int, data: memoryview) -> None:
        """Take `data`, which is valid only during this call and starts at byte `offset`."""


class Outlet(Protocol):
    """The channel below: queues frames, and asks `Flow.pump` for more when the link can take it."""

    def send(self, *parts: wire.Part) -> None:
        """Queue one frame."""

    def wants_pump(self, flow: Flow) -> None:
        """Call `flow.pump` as soon as the link is writable."""


class Arrivals:
    """One future for several messages: it resolves when all have arrived and fails with the first fault."""

    __slots__ = ("_missing", "future")

    def __init__(self, messages: int) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._missing = messages
        if not messages:
            self.future.set_result(None)

    def arrived(self) -> None:
        """One message is complete."""
        self._missing -= 1
        if not self._missing and not self.future.done():
            self.future.set_result(None)

    def fail(self, fault: Exception) -> None:
        """The messages will not come."""
        if not self.future.done():
            self.future.set_exception(fault)
            # Read here, since nobody may wait any more: the session itself raises its fault at every call.
            self.future.exception()


@dataclass(slots=True, eq=False)
class _Receive:
    digest: bytes
    total: int
    sink: Sink
    arrivals: Arrivals
    label: str
    begun: bool = False
    received: int = 0


@dataclass(slots=True)
class _Early:
    digest: bytes
    total: int
    first: int
    """Bytes of its first frame."""
    data: bytearray


@dataclass(slots=True, eq=False)
class _OutgoingMessage:
    """A message of several frames; `allowed` bytes of it may go: those that are eager, and all once it is granted."""

    tag: bytes
    data: memoryview
    sent: int
    allowed: int
    granted: bool = False


class Flow:
    """One session's messages with one peer, both directions."""

    def __init__(self, session: bytes, peer: str, outlet: Outlet, window: int = WINDOW) -> None:
        self._session = session[: wire.SESSION_PREFIX]
        self._peer = peer
        self._outlet = outlet
        self._window = window
        self._room = window
        self._consumed = 0
        self._early_bytes = 0
        self._receives: dict[bytes, _Receive] = {}
        self._early: dict[bytes, _Early] = {}
        self._ungranted: dict[bytes, _OutgoingMessage] = {}
        self._sending: deque[_OutgoingMessage] = deque()
        self._unsent = 0
        self._fault: Exception | None = None
        self._ended = False
        self._left: BeaverError | None = None
        self._progress: asyncio.Future[None] | None = None
        self.on_disagreement: Callable[[Disagreement], None] = self.fail
        """Who ends the session when the peer runs another program; the channel lives on for other sessions."""

    # -- receiving ---------------------------------------------------------------------------------------------

    def post(self, tag: bytes, digest: bytes, total: int, sink: Sink, arrivals: Arrivals, label: str) -> None:
        """Expect `total` bytes under `tag` from the peer; `arrivals` is told when all are in `sink`."""
        if self._fault is not None:
            arrivals.fail(self._fault)
            return
        receive = _Receive(digest, total, sink, arrivals, label)
        early = self._early.pop(tag, None)
        if early is None and self._left is not None:
            raise self._left
        if early is None and self._ended:
            raise self._ended_early(label)
        self._receives[tag] = receive
        if early is None:
            return
        self._early_bytes -= len(early.data)
        self._begin(tag, receive, early.digest, early.total, early.first, memoryview(early.data))

    def on_frame(self, frame: wire.FlowFrame) -> None:
        """A frame of this session.  Raises Disagreement if the peer runs another program, PeerMisbehaved for what none would send."""
        match frame:
            case wire.First():
                self._on_first(frame)
            case wire.More():
                self._on_more(frame)
            case wire.Ahead():
                self._on_ahead(frame)
            case wire.Grant():
                self._on_grant(frame)
            case wire.Credit():
                self._on_credit(frame)

    def _on_first(self, frame: wire.First) -> None:
        receive = self._receives.get(frame.tag)
        if receive is not None:
            if receive.begun:
                raise PeerMisbehaved(self._peer, f"began the message {receive.label} twice")
            self._begin(frame.tag, receive, frame.digest, frame.total, len(frame.data), frame.data)
            return
        if frame.tag in self._early:
            raise PeerMisbehaved(self._peer, "began a message twice")
        if len(self._early) >= MAX_EARLY_MESSAGES:
            # No fault of the peer's if its program calls so many ops at once: the session ends, and the channel lives on.
            raise Disagreement(
                self._peer,
                f"is {MAX_EARLY_MESSAGES} messages ahead of this party, which holds no more. Call fewer ops at once, or await some in between.",
            )
        self._early[frame.tag] = _Early(frame.digest, frame.total, len(frame.data), bytearray())
        self._keep(frame)

    def _keep(self, frame: wire.First | wire.Ahead) -> None:
        early = self._early[frame.tag]
        self._early_bytes += len(frame.data)
        if self._early_bytes > self._window or len(early.data) + len(frame.data) > early.total:
            raise PeerMisbehaved(self._peer, f"sent more than the message has, or the window of {self._window} bytes, ahead of this party")
        # One array, however small the frames are: what a peer can make this party keep is the window and no more.
        early.data += frame.data

    def _on_ahead(self, frame: wire.Ahead) -> None:
        if frame.tag in self._early:
            self._keep(frame)
            return
        self._on_more(frame)
        self._give_credit(len(frame.data))

    def _begin(self, tag: bytes, receive: _Receive, digest: bytes, total: int, first: int, data: memoryview) -> None:
        if digest != receive.digest or total != receive.total:
            # Raised before the value is used: nothing of this message reached the sink.
            raise Disagreement(
                self._peer,
                f"runs a different program at {receive.label}: the op, its shape, columns or settings, or the names of its masks differ "
                f"({total} bytes offered, {receive.total} expected). All parties must run the same program on the same public shapes.",
            )
        receive.begun = True
        if first < total:
            self._outlet.send(wire.grant(tag))
        self._take(tag, receive, data)
        self._give_credit(len(data))

    def _on_more(self, frame: wire.More | wire.Ahead) -> None:
        receive = self._receives.get(frame.tag)
        if receive is None or not receive.begun or receive.received + len(frame.data) > receive.total:
            raise PeerMisbehaved(self._peer, "sent bytes that were not granted")
        self._take(frame.tag, receive, frame.data)

    def _take(self, tag: bytes, receive: _Receive, data: memoryview) -> None:
        if len(data) % 8 and receive.received + len(data) != receive.total:
            raise PeerMisbehaved(self._peer, f"split a word of {receive.label} over two frames")
        if len(data):
            receive.sink.write(receive.received, data)
            receive.received += len(data)
        if receive.received == receive.total:
            # Until now it could still be failed together with the flow.
            del self._receives[tag]
            receive.arrivals.arrived()

    def _give_credit(self, amount: int) -> None:
        self._consumed += amount
        if self._consumed >= self._window // CREDITS:
            self._outlet.send(wire.credit(self._session, self._consumed))
            self._consumed = 0

    # -- sending -----------------------------------------------------------------------------------------------

    def send(self, tag: bytes, digest: bytes, data: memoryview) -> None:
        """Send `data` (bytes that never change) under `tag`; its eager part leaves now, the rest when granted.  To a peer that left goes nothing."""
        if self._fault is not None:
            raise self._fault
        if self._left is not None:
            return
        eager = min(len(data), self._room)
        if eager < len(data):
            eager -= eager % 8
        self._room -= eager
        now = min(eager, BLOCK)
        self._outlet.send(wire.first(tag, digest, len(data), now), data[:now])
        if now < len(data):
            outgoing = self._ungranted[tag] = _OutgoingMessage(tag, data, now, eager)
            self._unsent += len(data) - now
            self._go_on(outgoing)

    def _go_on(self, outgoing: _OutgoingMessage) -> None:
        if outgoing.sent < outgoing.allowed:
            self._sending.append(outgoing)
            self._outlet.wants_pump(self)

    def _on_grant(self, frame: wire.Grant) -> None:
        # The receiver posted its receive: the rest may go, and takes no room in the window any more.
        outgoing = self._ungranted.pop(frame.tag, None)
        if outgoing is None:
            raise PeerMisbehaved(self._peer, "granted a message that is not waiting")
        waits = outgoing.sent == outgoing.allowed
        self._room += outgoing.allowed - outgoing.sent
        outgoing.allowed, outgoing.granted = len(outgoing.data), True
        if waits:
            self._go_on(outgoing)

    def _on_credit(self, frame: wire.Credit) -> None:
        self._room += frame.amount
        if self._room > self._window:
            raise PeerMisbehaved(self._peer, "returned more credit than was used")

    def pump(self) -> bool:
        """Send one block of a message that may go on; False if there is none.  Messages take turns, of TURN bytes."""
        if not self._sending:
            return False
        outgoing = self._sending.popleft()
        block = outgoing.data[outgoing.sent : min(outgoing.sent + BLOCK, outgoing.allowed)]
        head = wire.more if outgoing.granted else wire.ahead
        self._outlet.send(head(outgoing.tag, len(block)), block)
        outgoing.sent += len(block)
        self._unsent -= len(block)
        if outgoing.sent < outgoing.allowed:
            # Whole turns, so that what is sent by chunks arrives chunk by chunk: the first is done with while others travel.
            over = outgoing.sent // TURN > (outgoing.sent - len(block)) // TURN
            if over:
                self._sending.append(outgoing)
            else:
                self._sending.appendleft(outgoing)
        elif outgoing.sent == len(outgoing.data):
            self._progressed()
        return True

    async def drained(self, below: int = 0) -> None:
        """Return when at most `below` bytes of the messages sent wait for the peer, now or when one of them has left; raise the fault that keeps them back.

        Not between: until all of a message has left, the whole of it is held here.
        """
        while self._unsent > below:
            # A peer that took all may be gone before this task runs again: that is no fault.
            if self._fault is not None:
                raise self._fault
            self._progress = self._progress or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._progress)

    def _progressed(self) -> None:
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    # -- the end -----------------------------------------------------------------------------------------------

    def peer_finished(self) -> None:
        """The peer says that its program is done: nothing more will come."""
        self._ended = True
        label = self.waiting()
        if label is not None:
            raise self._ended_early(label)
        if self._ungranted or self._sending:
            raise Disagreement(
                self._peer, "finished its program without taking what this party has for it. Run the same program everywhere."
            )

    def peer_left(self, fault: BeaverError) -> None:
        """The peer's program ended there with a fault: what it sent before counts, whoever needs more raises `fault`, and it takes nothing any more."""
        self._left = fault
        self._ungranted.clear()
        self._sending.clear()
        self._unsent = 0
        self._progressed()

    def _ended_early(self, label: str) -> Disagreement:
        return Disagreement(
            self._peer,
            f"finished its program while this party still waits for it at {label}. All parties must run the same program.",
        )

    def waiting(self) -> str | None:
        """The label of a receive that this party still waits for."""
        return next((receive.label for receive in self._receives.values()), None)

    def lacks(self, arrivals: Arrivals) -> bool:
        """Whether a message that `arrivals` waits for is this peer's."""
        return any(receive.arrivals is arrivals for receive in self._receives.values())

    def brings(self, arrivals: Arrivals) -> bool:
        """Whether a part of such a message has come."""
        return any(receive.arrivals is arrivals and receive.begun for receive in self._receives.values())

    def cut_off(self, fault: Exception) -> None:
        """The channel is gone.  Of a peer that is done, or left, all is here, whether this party has asked for it or not: that stays until it does."""
        if not self._ended and self._left is None:
            self.fail(fault)

    def fail(self, fault: Exception) -> None:
        """Every pending and later message of this flow fails with `fault`; its memory is freed."""
        self._fault = fault
        pending = [receive.arrivals for receive in self._receives.values()]
        self._receives.clear()
        self._early.clear()
        self._ungranted.clear()
        self._sending.clear()
        for arrivals in pending:
            arrivals.fail(fault)
        self._progressed()
