"""Flow control of one session with one peer: tag -> posted receive, a window for early bytes, grants for the rest.

The first part of a message is *eager*: it may travel before the receiver posted its receive, inside a window of bytes that the receiver is
ready to hold. The rest waits for the receiver's grant, which is sent when the receive is posted, and then goes straight into its buffer. A
posted receive completes without consuming anything else, so no cycle of waits exists. The window is large enough that most messages need
not wait: over a long distance, a grant would cost a round trip.
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
"""Eager bytes of one session that a peer may have in flight: the most that it can make this party hold ahead of its program."""
CREDITS = 8
"""Number of parts of the window in which consumed bytes are returned. Bytes consumed but not returned yet cannot be sent again."""
BLOCK = 1 << 18
"""Most bytes of a message in one frame, so that several sessions take turns."""
TURN = 8 * BLOCK
"""Bytes of one message sent in a row before others have their turn: more than an op's chunk has in most openings."""
MAX_EARLY_MESSAGES = 1 << 16
"""Messages, however small, that a peer may begin before this party posts their receives."""


class Sink(Protocol):
    """Receives the bytes of one message as they arrive, in order."""

    def write(self, offset: int, data: memoryview) -> None:
        """Take `data`, which is valid only during this call and starts at byte `offset` of the message."""


class Outlet(Protocol):
    """The channel below: queues frames, and calls `Flow.pump` when the link can take more."""

    def send(self, *parts: wire.Part) -> None:
        """Queue one frame."""

    def wants_pump(self, flow: Flow) -> None:
        """Call `flow.pump` as soon as the link is writable."""


class Arrivals:
    """One future for several messages: it resolves when all have arrived, and fails with the first fault."""

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
        """The messages will not arrive."""
        if not self.future.done():
            self.future.set_exception(fault)
            # Retrieve the exception, since nobody may be waiting: the session raises its fault at every call anyway.
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
    """Bytes of the first frame."""
    data: bytearray


@dataclass(slots=True, eq=False)
class _OutgoingMessage:
    """A message of several frames. `allowed` of its bytes may be sent: the eager ones, and all once it is granted."""

    tag: bytes
    data: memoryview
    sent: int
    allowed: int
    granted: bool = False


class Flow:
    """One session's messages with one peer, in both directions."""

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
        """Ends the session when the peer runs another program; the channel lives on for other sessions."""

    # -- receiving ---------------------------------------------------------------------------------------------

    def post(self, tag: bytes, digest: bytes, total: int, sink: Sink, arrivals: Arrivals, label: str) -> None:
        """Expect `total` bytes under `tag` from the peer; resolve `arrivals` when all are in `sink`."""
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
        """Handle a frame of this session. Disagreement if the peer runs another program, PeerMisbehaved for a frame that no program
        sends.
        """
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
            # The peer did nothing wrong if its program calls so many ops at once: the session ends, and the channel lives on.
            raise Disagreement(
                self._peer,
                f"is {MAX_EARLY_MESSAGES} messages ahead of this party, which holds no more. "
                "Call fewer ops at once, or await some in between.",
            )
        self._early[frame.tag] = _Early(frame.digest, frame.total, len(frame.data), bytearray())
        self._keep(frame)

    def _keep(self, frame: wire.First | wire.Ahead) -> None:
        early = self._early[frame.tag]
        self._early_bytes += len(frame.data)
        if self._early_bytes > self._window or len(early.data) + len(frame.data) > early.total:
            raise PeerMisbehaved(self._peer, f"sent more than the message has, or the window of {self._window} bytes, ahead of this party")
        # One array, however small the frames are: a peer can make this party keep no more than the window.
        early.data += frame.data

    def _on_ahead(self, frame: wire.Ahead) -> None:
        if frame.tag in self._early:
            self._keep(frame)
            return
        self._on_more(frame)
        self._give_credit(len(frame.data))

    def _begin(self, tag: bytes, receive: _Receive, digest: bytes, total: int, first: int, data: memoryview) -> None:
        if digest != receive.digest or total != receive.total:
            # Raised before the value is used: nothing of this message has reached the sink.
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
            # Removed only now: until here it had to fail together with the flow.
            del self._receives[tag]
            receive.arrivals.arrived()

    def _give_credit(self, amount: int) -> None:
        self._consumed += amount
        if self._consumed >= self._window // CREDITS:
            self._outlet.send(wire.credit(self._session, self._consumed))
            self._consumed = 0

    # -- sending -----------------------------------------------------------------------------------------------

    def send(self, tag: bytes, digest: bytes, data: memoryview) -> None:
        """Send `data` (bytes that never change) under `tag`: the eager part now, the rest when granted. Nothing goes to a peer that
        left.
        """
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
        # The receiver has posted its receive: the rest may go, and no longer counts against the window.
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
        """Send one block of a granted message; False if there is none. Messages take turns of TURN bytes."""
        if not self._sending:
            return False
        outgoing = self._sending.popleft()
        block = outgoing.data[outgoing.sent : min(outgoing.sent + BLOCK, outgoing.allowed)]
        head = wire.more if outgoing.granted else wire.ahead
        self._outlet.send(head(outgoing.tag, len(block)), block)
        outgoing.sent += len(block)
        self._unsent -= len(block)
        if outgoing.sent < outgoing.allowed:
            # Whole turns, so that data sent in chunks arrives chunk by chunk: the first chunk can be used while others travel.
            over = outgoing.sent // TURN > (outgoing.sent - len(block)) // TURN
            if over:
                self._sending.append(outgoing)
            else:
                self._sending.appendleft(outgoing)
        elif outgoing.sent == len(outgoing.data):
            self._progressed()
        return True

    async def drained(self, below: int = 0) -> None:
        """Return when at most `below` bytes of the sent messages have not left; raise the fault that keeps them from leaving.

        Checked now and whenever a message has left completely: until then, the whole of it is held here.
        """
        while self._unsent > below:
            # A peer that took everything may be gone before this task resumes: that is no fault.
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
        """The peer's program is done: it sends nothing more."""
        self._ended = True
        label = self.waiting()
        if label is not None:
            raise self._ended_early(label)
        if self._ungranted or self._sending:
            raise Disagreement(
                self._peer, "finished its program without taking what this party has for it. Run the same program everywhere."
            )

    def peer_left(self, fault: BeaverError) -> None:
        """The peer's program ended with a fault. Messages sent before still count, a receive that needs more raises `fault`, and sends are
        dropped.
        """
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
        """The label of a receive for which this party still waits."""
        return next((receive.label for receive in self._receives.values()), None)

    def lacks(self, arrivals: Arrivals) -> bool:
        """Whether `arrivals` waits for a message from this peer."""
        return any(receive.arrivals is arrivals for receive in self._receives.values())

    def brings(self, arrivals: Arrivals) -> bool:
        """Whether part of a message from this peer that `arrivals` waits for has arrived."""
        return any(receive.arrivals is arrivals and receive.begun for receive in self._receives.values())

    def cut_off(self, fault: Exception) -> None:
        """The channel is gone. If the peer is done or has left, all its messages have arrived; they stay until this party asks for them."""
        if not self._ended and self._left is None:
            self.fail(fault)

    def fail(self, fault: Exception) -> None:
        """Fail every pending and later message of this flow with `fault`; free its memory."""
        self._fault = fault
        pending = [receive.arrivals for receive in self._receives.values()]
        self._receives.clear()
        self._early.clear()
        self._ungranted.clear()
        self._sending.clear()
        for arrivals in pending:
            arrivals.fail(fault)
        self._progressed()
