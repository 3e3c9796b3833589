"""Waiting awake for a message that is about to come: to be woken takes longer than many rounds do between machines that are close."""

from __future__ import annotations

import asyncio
import os
import time

LOOKS = 50
"""How often the event loop looks for a message before the process sleeps; a look takes a microsecond or two."""
SLOW = 0.00005
"""Seconds of one look after which it is clear that somebody else needs the processor: then looking would only delay them."""
PAUSES = 64
"""How many waits are slept through after looking was no use, at most."""
_LET_OTHERS_RUN = getattr(os, "sched_yield", lambda: None)  # absent on Windows


class Lookout:
    """Keeps the event loop from sleeping as long as that pays: where it did not, it pauses, each time twice as long."""

    __slots__ = ("_before", "_future", "_left", "_pause", "_penalty")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._left = 0
        self._before = 0.0
        self._pause = 0
        self._penalty = 1

    def look_for(self, future: asyncio.Future[None]) -> None:
        """Stay awake until `future` is done, for a while."""
        if self._pause:
            self._pause -= 1
            return
        looking = self._future is not None
        self._future, self._left, self._before = future, LOOKS, time.monotonic()
        if not looking:
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if self._future is None or self._future.done():
            self._future, self._penalty = None, 1
            return
        _LET_OTHERS_RUN()
        now = time.monotonic()
        self._left -= 1
        if self._left and now - self._before < SLOW:
            self._before = now
            asyncio.get_running_loop().call_soon(self._look)
            return
        self._future, self._pause = None, self._penalty
        self._penalty = min(2 * self._penalty, PAUSES)
