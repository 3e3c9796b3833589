"""Work that goes on beside a program, whose session ends after it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

R = TypeVar("R")

UNDER_WAY = 1 << 10
"""Pieces of work after which a program waits for them: nothing else would keep it from running ahead of its peers."""


class Work(Generic[R]):
    """One piece; any number of calls may wait for it, or none."""

    def __init__(self, task: asyncio.Task[R]) -> None:
        self._task = task

    async def result(self) -> R:
        """What it gives, or the fault that ended it."""
        # Shielded: a call that is cancelled does not take it from the others.
        return self._task.result() if self._task.done() else await asyncio.shield(self._task)


class Beside:
    """What is under way in one session."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, work: Coroutine[None, None, R], *awaited: Coroutine[Any, Any, Any]) -> Work[R]:
        """Begin it, and wait for all where there is too much.  What is `awaited` in it is closed when it ends, be it before it began."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, awaited))
        if len(self._tasks) > UNDER_WAY:
            await asyncio.wait(self._tasks)
        return Work(task)

    def _ended(self, awaited: Iterable[Coroutine[Any, Any, Any]], task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        for each in awaited:
            each.close()
        if not task.cancelled():
            # Read here, since nobody may wait for it: what ends it is a fault of the session, which raises it at every call.
            task.exception()

    async def ended(self) -> None:
        """Wait for all; raises the first fault."""
        await asyncio.gather(*self._tasks)

    def cancel(self) -> None:
        """The program has failed, and nobody needs what is under way."""
        for task in self._tasks:
            task.cancel()
