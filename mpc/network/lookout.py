"""Waiting awake for a message that is about to come: to be woken takes longer than many rounds do between machines that are close."""

from __future__ import annotations

import asyncio

LOOKS = 100
"""How often the event loop looks for a message before the process sleeps; a look takes a microsecond or two."""
PAUSES = 64
"""How many waits are slept through after looking was no use, at most."""


class Lookout:
    """Keeps the event loop from sleeping as long as that pays: where it did not, it pauses, each time twice as long."""

    __slots__ = ("_future", "_left", "_pause", "_penalty")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._left = 0
        self._pause = 0
        self._penalty = 1

    def look_for(self, future: asyncio.Future[None]) -> None:
        """Stay awake until `future` is done, for a while."""
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
