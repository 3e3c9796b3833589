"""A link over a service that carries messages but promises nothing: they may be lost, doubled, overtaken or late.

Every message but RESET acknowledges the bytes of the other direction. Missing bytes are sent again, from the first missing one on; repeated
bytes are dropped. So frames arrive exactly once and in order, or the link ends.
"""

from __future__ import annotations

import asyncio
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from mpc.errors import BeaverError, PeerLost
from mpc.transport.incoming import HEAD_BYTES, VERSION, IncomingStream
from mpc.transport.link import HIGH_WATER
from mpc.transport.outgoing import OutgoingStream

if TYPE_CHECKING:
    from mpc.transport.link import OnClosed, OnFrame, OnWritable, Part

_MESSAGE = struct.Struct("<BxxxIQQ")
MESSAGE_OVERHEAD = _MESSAGE.size
_ANSWER_BYTES = 1 << 18
_ANSWER_MESSAGES = 16
_EARLY = HIGH_WATER


class MessageKind(IntEnum):
    """The kind of a link's message."""

    DATA = 1
    LAST = 2
    ACK = 3
    GAP = 4
    PROBE = 5
    RESET = 6


class RelayedMessage:
    """One message: kind, number of the link, offset of `data` in its stream, and how much of the other stream has arrived."""

    __slots__ = ("acknowledged", "data", "kind", "link", "offset")

    def __init__(self, plain: memoryview) -> None:
        """ValueError if `plain` is no message."""
        if len(plain) < MESSAGE_OVERHEAD:
            msg = "too short"
            raise ValueError(msg)
        kind, self.link, self.offset, self.acknowledged = _MESSAGE.unpack_from(plain)
        self.kind = MessageKind(kind)
        self.data = plain[MESSAGE_OVERHEAD:]


def reset(number: int) -> bytes:
    """A message that tells the peer that this side has no link `number` (any more)."""
    return _MESSAGE.pack(MessageKind.RESET, number, 0, 0)


class Carrier(Protocol):
    """Carries messages to the peer, and delivers the peer's."""

    def wants(self, link: RelayedLink) -> None:
        """`link` has something to send: call its `next_message` until that is None."""

    def finished(self, link: RelayedLink, *, tell: bool) -> None:
        """`link` is over; `tell` the peer if true."""


class RelayedLink:
    """One end. The carrier calls `receive`, `next_message`, `tick`, `resume`, `doubt` and `fail`; the rest is the Link's contract."""

    def __init__(self, carrier: Carrier, number: int, label: str, *, chunk: int, flight: int) -> None:
        self.label, self.number = label, number
        self.answered = False
        self._carrier = carrier
        self._loop = asyncio.get_running_loop()
        self.born = self._heard = self._loop.time()
        self._outgoing = OutgoingStream(chunk, flight)
        self._incoming = IncomingStream(label)
        self._early = bytearray()
        self._handlers: tuple[OnFrame, OnClosed, OnWritable] | None = None
        self._owed = self._owed_messages = 0
        self._answer: MessageKind | None = None
        self._told_gap = -1
        self._probe = False
        self._doubt: tuple[float, PeerLost] | None = None
        self._was_full = False
        self._ending = self._over = self._told = False
        self._reason: Exception | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._outgoing.write(VERSION)
        carrier.wants(self)

    def __repr__(self) -> str:
        return f"RelayedLink({self.label}, {self.number})"

    # -- the contract ------------------------------------------------------------------------------------------

    @property
    def largest(self) -> int:
        """See Link.largest."""
        return self._incoming.largest

    @largest.setter
    def largest(self, size: int) -> None:
        self._incoming.largest = size

    @property
    def heard(self) -> float:
        """See Link.heard. While the peer is known to be away, the carrier, not the silence, decides when it is lost."""
        return self._loop.time() if self._doubt else self._heard

    def start(self, on_frame: OnFrame, on_closed: OnClosed, on_writable: OnWritable) -> None:
        """See Link.start."""
        self._handlers = (on_frame, on_closed, on_writable)
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        early, self._early = self._early, bytearray()
        self._deliver(memoryview(early))
        if self._over:
            self._tell_closed()

    def send(self, *parts: Part) -> None:
        """See Link.send."""
        if self._ending or self._over:
            return
        self._outgoing.write(sum(map(len, parts)).to_bytes(HEAD_BYTES, "little"), *parts)
        self._was_full = self._was_full or self._outgoing.unsent > HIGH_WATER
        self._carrier.wants(self)

    @property
    def writable(self) -> bool:
        """See Link.writable."""
        return self._outgoing.unsent <= HIGH_WATER and not self._ending and not self._over

    def close(self) -> None:
        """See Link.close."""
        if not self._ending and not self._over:
            self._ending = True
            self._outgoing.end()
            self._carrier.wants(self)

    def abort(self) -> None:
        """See Link.abort."""
        self._finish(None, tell=True)

    async def wait_closed(self) -> None:
        """See Link.wait_closed."""
        await asyncio.shield(self._closed)

    # -- what comes --------------------------------------------------------------------------------------------

    def receive(self, message: RelayedMessage) -> None:
        """Handle a message of the peer for this link."""
        now = self._heard = self._loop.time()
        self.answered = True
        self._doubt = None
        if message.kind is MessageKind.RESET:
            self._finish(None, tell=False)
            return
        self._outgoing.acknowledge(message.acknowledged, now)
        if message.kind is MessageKind.GAP:
            self._outgoing.rewind()
        elif message.kind in {MessageKind.DATA, MessageKind.LAST}:
            self._take(message)
        elif message.kind is MessageKind.PROBE:
            self._answer = self._answer or MessageKind.ACK
        if self._outgoing.done:
            self._finish(None, tell=False)
        self._carrier.wants(self)

    def _take(self, message: RelayedMessage) -> None:
        fresh = self._incoming.fresh(message.offset, message.data)
        if fresh is None:
            # Asked once per gap: other messages in flight would only ask for the same bytes again.
            if self._told_gap != self._incoming.expected:
                self._told_gap = self._incoming.expected
                self._answer = MessageKind.GAP
            return
        if (self._handlers is None or self._early) and len(self._early) + len(fresh) > _EARLY:
            return
        self._incoming.expected += len(fresh)
        self._owed += len(fresh)
        self._owed_messages += 1
        if self._owed >= _ANSWER_BYTES or self._owed_messages >= _ANSWER_MESSAGES or not fresh:
            self._answer = self._answer or MessageKind.ACK
        ends = message.kind is MessageKind.LAST and self._incoming.expected == message.offset + len(message.data)
        self._deliver(fresh)
        if ends:
            self._incoming.expected += 1
            self._incoming.ended = True
            self._answer = MessageKind.ACK
            self._finish(None, tell=False)

    def _deliver(self, data: memoryview) -> None:
        if self._handlers is None or self._early:
            # Also between `start` and its first turn, in which the loop may read: earlier frames go first.
            self._early += data
            return
        try:
            for frame in self._incoming.frames(data):
                if self._over and not self._incoming.ended:
                    return
                self._handlers[0](frame)
        except BeaverError as fault:
            self._finish(fault, tell=True)

    # -- what leaves -------------------------------------------------------------------------------------------

    def next_message(self) -> bytes | None:
        """The next message to send."""
        kind, offset = self._answer, 0
        data: Part = b""
        if kind is not MessageKind.GAP and self._probe:
            kind, self._probe = MessageKind.PROBE, False
        elif kind is not MessageKind.GAP:
            # Every message acknowledges, so one with data makes an answer superfluous.
            chunk = None if self._over else self._outgoing.take(self._loop.time())
            if chunk is not None:
                kind, offset, data = MessageKind.LAST if chunk.last else MessageKind.DATA, chunk.offset, chunk.data
        if kind is None:
            return None
        self._owed = self._owed_messages = 0
        self._answer = None
        self._tell_writable()
        return b"".join((_MESSAGE.pack(kind, self.number, offset, self._incoming.expected), data))

    def _tell_writable(self) -> None:
        if self._was_full and self.writable:
            self._was_full = False
            if self._handlers is not None:
                self._loop.call_soon(self._handlers[2])

    # -- what the carrier knows --------------------------------------------------------------------------------

    def fit(self, chunk: int) -> None:
        """Send at most `chunk` bytes in one message."""
        self._outgoing.fit(chunk)

    def tick(self, now: float, patience: float) -> None:
        """Time has passed: acknowledge, resend, or give up."""
        if self._doubt is not None and now > self._doubt[0]:
            self._finish(self._doubt[1], tell=True)
        elif self._ending and now - max(self._heard, self.born) > patience:
            self._finish(None, tell=True)
        elif self._doubt is not None:
            self._ask()
        elif self._outgoing.overdue(now):
            self._outgoing.failed()
            # Sent alone, since the broker may drop large messages: so both ends know that the other one lives.
            self._ask()
        elif self._owed:
            self._answer = self._answer or MessageKind.ACK
            self._carrier.wants(self)

    def doubt(self, seconds: float, fault: PeerLost) -> None:
        """End with `fault` unless the peer is heard within `seconds`."""
        self._doubt = (self._loop.time() + seconds, fault)
        self._ask()

    def resume(self, *, lost: bool) -> None:
        """The connection to the peer is open again; `lost` if messages in flight were lost on this side."""
        if lost:
            self._outgoing.failed()
        else:
            self._outgoing.rewind()
        self._ask()

    def _ask(self) -> None:
        self._probe = True
        self._carrier.wants(self)

    def fail(self, fault: PeerLost) -> None:
        """End with `fault`."""
        self._finish(fault, tell=True)

    # -- the end -----------------------------------------------------------------------------------------------

    def _finish(self, reason: Exception | None, *, tell: bool) -> None:
        if self._over:
            return
        self._over = True
        self._reason = reason
        if not self._incoming.ended:
            self._early.clear()
        self._closed.set_result(None)
        self._carrier.finished(self, tell=tell)
        # Not at once: a caller that ends a link gives its own reason first.
        self._loop.call_soon(self._tell_closed)

    def _tell_closed(self) -> None:
        if self._handlers is not None and self._over and not self._told:
            self._told = True
            self._handlers[1](self._reason)
