"""Waiting for what others do, and not for a time."""

from __future__ import annotations

import asyncio


async def until(condition, within=20.0):
    """Return when `condition()` holds; TimeoutError after `within` seconds without."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)
