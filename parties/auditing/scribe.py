"""Writes the entries of the audit log in a thread, one after the other: connections must not wait for a slow disk."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

R = TypeVar("R")


class Scribe:
    """Entries are written in the order in which they are given.  One that was given is in the log or has failed, and never given up on its way."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, "audit")
        self._last: asyncio.Future[Any] | None = None

    async def write(self, entry: Callable[..., R], *arguments: Any) -> R:
        """What `entry` returns.  Who is cancelled meanwhile is so when it is written."""
        writing = self._begin(entry, *arguments)
        cancelled = await _finished(writing)
        written = writing.result()
        if cancelled:
            raise asyncio.CancelledError
        return written

    async def conclude(self, entry: Callable[..., R], *arguments: Any) -> R:
        """The same, but nobody is cancelled: it is too late for that."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        before = task.cancelling()
        writing = self._begin(entry, *arguments)
        await _finished(writing)
        while task.cancelling() > before:
            # Else a timeout around this, or a group of tasks, would take it for cancelled all the same.
            task.uncancel()
        return writing.result()

    def later(self, job: str, entry: Callable[..., object], *arguments: Any) -> None:
        """Write an entry that nobody waits for; if that fails, the log says so."""

        def told(writing: asyncio.Future[Any]) -> None:
            if (fault := writing.exception()) is not None:
                self._log.error("job=%s its end is not in the audit log: %s", job, fault)

        self._begin(entry, *arguments).add_done_callback(told)

    async def settled(self) -> None:
        """Return when all that was given is written."""
        if self._last is not None and await _finished(self._last):
            raise asyncio.CancelledError

    async def close(self) -> None:
        """The same, for the last time."""
        await self.settled()
        self._thread.shutdown(wait=False)

    def _begin(self, entry: Callable[..., R], *arguments: Any) -> asyncio.Future[R]:
        writing = asyncio.get_running_loop().run_in_executor(self._thread, partial(entry, *arguments))
        self._last = writing
        return writing


async def _finished(writing: asyncio.Future[Any]) -> bool:
    """Wait for the end, whoever cancels and how often; whether someone did."""
    cancelled = False
    while not writing.done():
        try:
            await asyncio.wait([writing])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


__all__ = ["Scribe"]
