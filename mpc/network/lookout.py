"""Busy waiting for a message that is about to arrive: waking up takes longer than many rounds between machines that are close."""

from __future__ import annotations

import asyncio

LOOKS = 100
"""How often the event loop polls for a message before the process sleeps; a poll takes a microsecond or two."""
PAUSES = 64
"""Most waits in a row that are slept through after polling did not pay."""


class Lookout:
    """Keeps the event loop from sleeping as long as that pays: each time it does not, it pauses for twice as many waits."""

    __slots__ = ("_future", "_left", "_pause", "_penalty")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._left = 0
        self._pause = 0
        self._penalty = 1

    def look_for(self, future: asyncio.Future[None]) -> None:
        """Stay awake until `future` is done, for a limited number of polls."""
        if self._pause:
            self._pause -= 1
            return
        looking = self._future is not None
        self._future, self._left = future, LOOKS
        if not looking:
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if self._future is None or self._future.done():
            self._future, self._penalty = None, 1
            return
        self._left -= 1
        if self._left:
            asyncio.get_running_loop().call_soon(self._look)
            return
        # The message is far away, or its sender needs this processor.
        self._future, self._pause = None, self._penalty
        self._penalty = min(2 * self._penalty, PAUSES)
