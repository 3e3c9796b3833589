"""Waiting for what others do, not for a time."""

from __future__ import annotations

import asyncio


async def until(condition, within=20.0):
    """Return when `condition()` holds; TimeoutError after `within` seconds without."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


async def turns(number=1000):
    """Let everything else in this loop run for `number` turns: over links in memory, as far as it can without the caller."""
    for _ in range(number):
        await asyncio.sleep(0)
