"""Memory that several share: each gets what it asked for in its turn."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class MemoryBudget:
    """`most` bytes; whoever wants more of them than are free waits, and whoever comes later waits behind it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = most
        self._returned = asyncio.Event()
        self._next = asyncio.Lock()

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        """While the body runs, `size` bytes are held.  MemoryError if there are not so many, for which one would wait for ever."""
        if size > self.most:
            msg = f"it takes {size} bytes, of {self.most} that it may have"
            raise MemoryError(msg)
        # The lock is had in the order in which it was asked for: small ones that go on coming would else keep a large one waiting.
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
