"""Links between two ends on one event loop. They pass only bytes, copied at `send`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from mpc.errors import PeerMisbehaved
from mpc.transport.link import HIGH_WATER, MAX_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.transport.link import OnClosed, OnFrame, OnWritable, Part


class MemoryLink:
    """One end. `schedule` decides when a frame is delivered; each direction keeps its order in any case."""

    def __init__(self, label: str, schedule: Callable[[Callable[[], None]], None], tap: Callable[[bytes], None] | None) -> None:
        self.label = label
        # Unused here, where no lengths are announced: arriving frames are in memory already.
        self.largest = MAX_FRAME
        self.heard = asyncio.get_running_loop().time()
        self._schedule = schedule
        self._tap = tap
        self._far: MemoryLink = self
        self._handlers: tuple[OnFrame, OnClosed, OnWritable] | None = None
        self._inbox: deque[bytes | None] = deque()
        self._unsent = 0
        self._was_full = False
        self._over = False
        self._told = False
        self._reason: Exception | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"MemoryLink({self.label})"

    def join(self, far: MemoryLink) -> None:
        """Make `far` the other end."""
        self._far = far

    def start(self, on_frame: OnFrame, on_closed: OnClosed, on_writable: OnWritable) -> None:
        """See Link.start."""
        self._handlers = (on_frame, on_closed, on_writable)
        for _ in range(len(self._inbox)):
            self._schedule(self._deliver)
        if self._over:
            asyncio.get_running_loop().call_soon(self._tell_closed)

    def send(self, *parts: Part) -> None:
        """See Link.send."""
        if self._over:
            return
        frame = b"".join(parts)
        if self._tap is not None:
            self._tap(frame)
        self._unsent += len(frame)
        self._was_full = self._was_full or self._unsent > HIGH_WATER
        self._far.take(frame)

    def take(self, frame: bytes | None) -> None:
        """Receive a frame, or the end, from the other side."""
        self._inbox.append(frame)
        if self._handlers is not None:
            self._schedule(self._deliver)

    def _deliver(self) -> None:
        if self._handlers is None or not self._inbox:
            return
        frame = self._inbox.popleft()
        self.heard = asyncio.get_running_loop().time()
        if frame is None:
            self._finish()
            return
        self._far.sent(len(frame))
        if self._over:
            return
        if not 0 < len(frame) <= MAX_FRAME:
            self._reason = PeerMisbehaved(self.label, f"sent a frame of {len(frame)} bytes")
            self.abort()
            return
        self._handlers[0](memoryview(frame))

    def sent(self, size: int) -> None:
        """The other side took `size` bytes."""
        self._unsent -= size
        if self._was_full and self._unsent <= HIGH_WATER:
            self._was_full = False
            if self._handlers is not None and not self._over:
                self._handlers[2]()

    @property
    def writable(self) -> bool:
        """See Link.writable."""
        return self._unsent <= HIGH_WATER and not self._over

    def close(self) -> None:
        """See Link.close."""
        if not self._over:
            self._over = True
            self._far.take(None)
            asyncio.get_running_loop().call_soon(self._finish)

    def abort(self) -> None:
        """See Link.abort."""
        if not self._over:
            self._inbox.clear()
        self.close()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._far.take(None)
        if not self._closed.done():
            self._closed.set_result(None)
        self._tell_closed()

    def _tell_closed(self) -> None:
        if self._handlers is not None and not self._told:
            self._told = True
            self._handlers[1](self._reason)

    async def wait_closed(self) -> None:
        """See Link.wait_closed."""
        await asyncio.shield(self._closed)


def memory_pair(
    near: str,
    far: str,
    *,
    tap: Callable[[bytes], None] | None = None,
    schedule: Callable[[Callable[[], None]], None] | None = None,
) -> tuple[MemoryLink, MemoryLink]:
    """Two joined ends, labelled `near` and `far`.  `tap` sees every frame as it is sent."""
    soon = schedule or _soon
    one, two = MemoryLink(near, soon, tap), MemoryLink(far, soon, tap)
    one.join(two)
    two.join(one)
    return one, two


def _soon(deliver: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(deliver)
