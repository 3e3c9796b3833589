"""A budget of memory for several users: each gets what it asked for in its turn."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class MemoryBudget:
    """`most` bytes; a request for more than are free waits, and later requests wait behind it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = most
        self._returned = asyncio.Event()
        self._next = asyncio.Lock()

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes while the body runs. MemoryError if the budget is smaller than that: the wait would never end."""
        if size > self.most:
            msg = f"it takes {size} bytes, of {self.most} that it may have"
            raise MemoryError(msg)
        # The lock is fair, in the order of requests: else a stream of small requests would keep a large one waiting.
        async with self._next:
            while size > self._free:
                self._returned.clear()
                await self._returned.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._returned.set()
