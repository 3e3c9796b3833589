"""The receiving half of a stream over messages: exactly the next bytes, once and in order, cut into frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpc.errors import PeerMisbehaved
from mpc.transport.link import MAX_FRAME, check_length

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = b"\x01"
"""The first byte of every stream."""
HEAD_BYTES = 4


class IncomingStream:
    """The position in the stream, and the frame that is incomplete."""

    def __init__(self, label: str) -> None:
        self.expected = 0
        self.largest = MAX_FRAME
        self.ended = False
        self._label = label
        self._opened = False
        self._head = bytearray()
        self._frame = bytearray()
        self._length = self._filled = 0

    def fresh(self, offset: int, data: memoryview) -> memoryview | None:
        """The part of `data` that is next in the stream; None if bytes before it are missing."""
        return None if offset > self.expected else data[self.expected - offset :]

    def frames(self, data: memoryview) -> Iterator[memoryview]:
        """The frames that `data`, the next bytes, complete. Each is valid until the next one; PeerMisbehaved for an impossible frame."""
        if not self._opened and data:
            if data[:1] != VERSION:
                raise PeerMisbehaved(self._label, f"speaks version {data[0]} of the relay's framing; install the same release on both")
            self._opened, data = True, data[1:]
        while data:
            if not self._length:
                missing = HEAD_BYTES - len(self._head)
                self._head += data[:missing]
                data = data[missing:]
                if len(self._head) < HEAD_BYTES:
                    return
                self._begin()
                continue
            missing = self._length - self._filled
            frame = data[:missing] if not self._filled and len(data) >= missing else self._gather(data[:missing])
            data = data[missing:]
            if frame:
                self._length = self._filled = 0
                yield frame

    def _begin(self) -> None:
        self._length = int.from_bytes(self._head, "little")
        self._head.clear()
        check_length(self._length, self.largest, self._label)

    def _gather(self, part: memoryview) -> memoryview | None:
        """Keep a part of a frame; return the frame once it is complete."""
        if len(self._frame) < self._length:
            self._frame = bytearray(self._length)
        self._frame[self._filled : self._filled + len(part)] = part
        self._filled += len(part)
        return memoryview(self._frame)[: self._length] if self._filled == self._length else None
