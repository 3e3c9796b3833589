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
    """Looks for messages as long as that pays: where it did not, it pauses, each time twice as long."""

    __slots__ = ("_pause", "_penalty")

    def __init__(self) -> None:
        self._pause = 0
        self._penalty = 1

    async def look(self, future: asyncio.Future[None]) -> None:
        """Return when `future` is done, or soon."""
        if self._pause:
            self._pause -= 1
            return
        before = time.monotonic()
        for _ in range(LOOKS):
            _LET_OTHERS_RUN()
            await asyncio.sleep(0)
            if future.done():
                self._penalty = 1
                return
            now = time.monotonic()
            if now - before > SLOW:
                break
            before = now
        self._pause = self._penalty
        self._penalty = min(2 * self._penalty, PAUSES)
