"""Links that delay every frame: distance, for benchmarks and tests. No configuration enables them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.membership.members import Member
    from mpc.transport.link import Link, Network, OnClosed, OnFrame, OnWritable, Part

_EARLY = 0.001
"""Seconds by which a timer ends early, since an event loop's timers count in milliseconds; turns of the loop fill the rest."""


class DelayedLink:
    """One end of a connection: `link`, with every frame handed over `delay` seconds after it arrived.

    Frames keep their order and travel together: a thousand that arrive at once are late once. With both ends delayed, a round trip takes
    twice `delay` longer. Frames in flight are kept in memory, without limit.
    """

    def __init__(self, link: Link, delay: float) -> None:
        self.label = link.label
        self._link = link
        self._delay = delay
        self._heard = link.heard
        self._coming: deque[tuple[float, bytes | Callable[[], None]]] = deque()
        self._timer: asyncio.Handle | None = None
        self._on_frame: OnFrame | None = None
        self._aborted = False

    def __repr__(self) -> str:
        return f"DelayedLink({self._link!r}, {self._delay})"

    @property
    def largest(self) -> int:
        """See Link.largest."""
        return self._link.largest

    @largest.setter
    def largest(self, size: int) -> None:
        self._link.largest = size

    @property
    def heard(self) -> float:
        """See Link.heard: when the last frame was handed over."""
        return self._heard

    def start(self, on_frame: OnFrame, on_closed: OnClosed, on_writable: OnWritable) -> None:
        """See Link.start."""
        self._on_frame = on_frame
        # The end of the link travels like a frame, behind the last one.
        self._link.start(lambda frame: self._comes(bytes(frame)), lambda reason: self._comes(lambda: on_closed(reason)), on_writable)

    def _comes(self, what: bytes | Callable[[], None]) -> None:
        self._coming.append((time.monotonic() + (0.0 if self._aborted else self._delay), what))
        self._wait()

    def _wait(self) -> None:
        if self._coming and self._timer is None:
            loop = asyncio.get_running_loop()
            left = self._coming[0][0] - time.monotonic() - _EARLY
            self._timer = loop.call_later(left, self._deliver) if left > 0 else loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        try:
            while self._coming and self._coming[0][0] <= time.monotonic():
                self._hand_over(self._coming.popleft()[1])
        finally:
            self._wait()

    def _hand_over(self, what: bytes | Callable[[], None]) -> None:
        if not isinstance(what, bytes):
            what()
        elif self._on_frame is not None and not self._aborted:
            self._heard = asyncio.get_running_loop().time()
            self._on_frame(memoryview(what))

    def send(self, *parts: Part) -> None:
        """See Link.send."""
        self._link.send(*parts)

    @property
    def writable(self) -> bool:
        """See Link.writable."""
        return self._link.writable

    def close(self) -> None:
        """See Link.close."""
        self._link.close()

    def abort(self) -> None:
        """See Link.abort: drop frames in flight at once."""
        self._aborted = True
        self._coming = deque((0.0, what) for _, what in self._coming)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wait()
        self._link.abort()

    async def wait_closed(self) -> None:
        """See Link.wait_closed."""
        await self._link.wait_closed()


class DelayedNetwork:
    """The `network` of a member, with every frame that arrives delayed by `delay` seconds."""

    def __init__(self, network: Network, delay: float) -> None:
        self._network = network
        self._delay = delay

    async def listen(self, on_link: Callable[[Link], None]) -> None:
        """See Network.listen."""
        await self._network.listen(lambda link: on_link(DelayedLink(link, self._delay)))

    async def dial(self, member: Member) -> Link:
        """See Network.dial."""
        return DelayedLink(await self._network.dial(member), self._delay)

    async def close(self) -> None:
        """See Network.close."""
        await self._network.close()
