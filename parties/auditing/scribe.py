"""Writes the entries of the audit log in a thread, one after the other, so that connections do not wait for a slow disk."""

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
    """Writes entries in the order in which they are given.  Each is written or fails; none is given up on its way."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, "audit")
        self._last: asyncio.Future[Any] | None = None

    async def write(self, entry: Callable[..., R], *arguments: Any) -> R:
        """Write an entry and return what `entry` returns.  A cancellation takes effect once the entry is written."""
        writing = self._begin(entry, *arguments)
        cancelled = await _finished(writing)
        written = writing.result()
        if cancelled:
            raise asyncio.CancelledError
        return written

    async def conclude(self, entry: Callable[..., R], *arguments: Any) -> R:
        """Write an entry and return what `entry` returns.  A cancellation has no effect: it is too late for one."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        before = task.cancelling()
        writing = self._begin(entry, *arguments)
        await _finished(writing)
        while task.cancelling() > before:
            # Otherwise a timeout around this, or a group of tasks, would take the task for cancelled.
            task.uncancel()
        return writing.result()

    def later(self, job: str, entry: Callable[..., object], *arguments: Any) -> None:
        """Write an entry that nobody waits for; if that fails, the log says so."""

        def told(writing: asyncio.Future[Any]) -> None:
            if (fault := writing.exception()) is not None:
                self._log.error("job=%s its end is not in the audit log: %s", job, fault)

        self._begin(entry, *arguments).add_done_callback(told)

    async def settled(self) -> None:
        """Return when every entry that was given is written."""
        if self._last is not None and await _finished(self._last):
            raise asyncio.CancelledError

    async def close(self) -> None:
        """Return when every entry is written, and take no more."""
        await self.settled()
        self._thread.shutdown(wait=False)

    def _begin(self, entry: Callable[..., R], *arguments: Any) -> asyncio.Future[R]:
        writing = asyncio.get_running_loop().run_in_executor(self._thread, partial(entry, *arguments))
        self._last = writing
        return writing


async def _finished(writing: asyncio.Future[Any]) -> bool:
    """Wait until the writing is done, however often this is cancelled.  Return whether it was cancelled."""
    cancelled = False
    while not writing.done():
        try:
            await asyncio.wait([writing])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


__all__ = ["Scribe"]
