"""The sending half of a stream over messages that may be lost, doubled or overtaken: numbered, kept, and resent."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mpc.transport.link import Part

WINDOW = 1 << 22
"""Most bytes in flight: no more of each link wait at the broker."""
_FIRST_WINDOW = 1 << 20
SMALLEST_CHUNK = 1 << 10
"""Bytes in one message that every broker must accept: with fewer, a stream would stall."""
_PATIENCE = 0.3
"""Least seconds without acknowledgement before bytes are sent again."""
_ANSWER_DELAY = 0.1
_TRIES = 2


class Chunk(NamedTuple):
    """Bytes of a stream from `offset` on; `last` if the stream ends after them."""

    offset: int
    data: Part
    last: bool


class OutgoingStream:
    """The bytes that the peer has not acknowledged. One message carries `chunk` bytes; at most `flight` messages are in flight.

    The end of the stream counts as one byte. Chunks that never arrive get smaller: a broker may silently drop messages that are too large.
    """

    def __init__(self, chunk: int, flight: int) -> None:
        self._kept = bytearray()
        self._base = self._next = self._top = self._sent = 0
        self._ended = False
        self._chunk = max(chunk, SMALLEST_CHUNK)
        self._most = flight
        self._window = _FIRST_WINDOW
        self._flight: deque[tuple[int, float]] = deque()
        self._measured_from = 0
        self._trip = _ANSWER_DELAY
        self._spread = _ANSWER_DELAY
        self._failures = 0
        self._deadline: float | None = None

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent or resent."""
        return self._top - self._next

    @property
    def done(self) -> bool:
        """Everything, including the end, is acknowledged."""
        return self._ended and self._base > self._top

    def write(self, *parts: Part) -> None:
        """Append bytes."""
        for part in parts:
            self._kept += part
            self._top += len(part)

    def end(self) -> None:
        """Nothing follows what was written."""
        self._ended = True

    def fit(self, chunk: int) -> None:
        """Send at most `chunk` bytes in one message from now on."""
        self._chunk = min(self._chunk, max(chunk, SMALLEST_CHUNK))

    def take(self, now: float) -> Chunk | None:
        """The next chunk that may be sent. Its data are valid until the next call of any method."""
        wanted = max(0, min(self._chunk, self._top - self._next))
        if not wanted and not (self._ended and self._next == self._top):
            return None
        if self._flight and (wanted > self._base + self._window - self._next or len(self._flight) >= self._most):
            return None
        offset, start = self._next, self._next - self._base
        last = self._ended and offset + wanted == self._top
        self._next += wanted + last
        self._sent = max(self._sent, self._next)
        self._flight.append((self._next, now))
        if self._deadline is None:
            self._deadline = now + self._timeout()
        return Chunk(offset, memoryview(self._kept)[start : start + wanted], last)

    def acknowledge(self, upto: int, now: float) -> None:
        """The peer has everything before `upto`. Acknowledgements of bytes that were never sent are ignored."""
        if not self._base < upto <= self._sent:
            return
        del self._kept[: upto - self._base]
        self._window = min(WINDOW, self._window + upto - self._base)
        self._base = upto
        self._next = max(self._next, upto)
        while self._flight and self._flight[0][0] <= upto:
            end, sent = self._flight.popleft()
            if end > self._measured_from:
                self._measure(now - sent)
        self._failures = 0
        self._deadline = now + self._timeout() if self._flight else None

    def _measure(self, trip: float) -> None:
        # The usual estimate of a round trip and its spread (RFC 6298); resent bytes are not measured.
        self._spread += (abs(trip - self._trip) - self._spread) / 4
        self._trip += (trip - self._trip) / 8

    def _timeout(self) -> float:
        return max(_PATIENCE, self._trip + 4 * self._spread + _ANSWER_DELAY) * (1 + self._failures % _TRIES)

    def rewind(self) -> None:
        """Send again from the first unacknowledged byte."""
        self._next = self._base
        self._measured_from = self._sent
        self._flight.clear()
        self._deadline = None

    def failed(self) -> None:
        """Everything in flight is lost: send it again, after the second loss in smaller chunks."""
        self._failures += 1
        self._window = max(2 * self._chunk, self._window // 2)
        if self._failures % _TRIES == 0:
            self.fit(self._chunk // 4)
        self.rewind()

    def overdue(self, now: float) -> bool:
        """Whether an acknowledgement is overdue."""
        return self._deadline is not None and now > self._deadline
