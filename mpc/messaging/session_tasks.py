"""Work that goes on beside a program, whose session ends after it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mpc.naming.scope import Scope

    Doer = asyncio.Task[Any] | None

R = TypeVar("R")

UNDER_WAY = 1 << 10
"""Pieces of work that a task may have under way before it waits for them: nothing else would keep it from running ahead of its peers."""
MOST = 1 << 14
"""Pieces that all tasks of a session may have under way before a call that has begun one waits: a slow peer takes only MAX_EARLY_MESSAGES ahead."""


class Work(Generic[R]):
    """One piece; any number of calls may wait for it, or none."""

    def __init__(self, task: asyncio.Task[R]) -> None:
        self._task = task

    async def result(self, _: Scope) -> R:
        """What it gives, or the fault that ended it."""
        if self._task.done():
            return self._task.result()
        # Shielded: who waits for it does not end it.
        return await asyncio.shield(self._task)


class SessionTasks:
    """What is under way in one session beside its program."""

    def __init__(self) -> None:
        self._tasks: dict[Doer, set[asyncio.Task[Any]]] = {}
        self._many = 0
        self._fault: BaseException | None = None

    async def room(self) -> None:
        """Wait until this task may begin another piece."""
        # For its own only: what other tasks have begun may need what this one does next, at a peer that came here first.
        mine = self._tasks.get(asyncio.current_task(), ())
        if len(mine) >= UNDER_WAY:
            await asyncio.wait(mine)

    async def pace(self) -> None:
        """Wait, in a call that has begun one, for those of this task if there are too many in all.

        A program that gathers calls in a loop has each in a task of its own, which ends with the call: `room` finds none of its pieces.
        """
        mine = self._tasks.get(asyncio.current_task(), ())
        if mine and self._many >= MOST:
            await asyncio.wait(mine)

    async def sent(self) -> None:
        """Wait, in a call that has begun one, until its messages have left: peers compute on them, however long the program goes on."""
        # The work begins, then its messages are written.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def start(self, work: Coroutine[None, None, R], *awaited: Coroutine[Any, Any, Any]) -> Work[R]:
        """Begin `work`.  The coroutines that it awaits are closed when it ends, even if it never ran."""
        doer, task = asyncio.current_task(), asyncio.create_task(work)
        self._tasks.setdefault(doer, set()).add(task)
        self._many += 1
        task.add_done_callback(partial(self._ended, doer, awaited))
        return Work(task)

    def _ended(self, doer: Doer, awaited: tuple[Coroutine[Any, Any, Any], ...], task: asyncio.Task[Any]) -> None:
        self._many -= 1
        self._tasks[doer].discard(task)
        if not self._tasks[doer]:
            del self._tasks[doer]
        for each in awaited:
            each.close()
        # Read here, every one, and the first kept, since nobody may wait for it.
        fault = None if task.cancelled() else task.exception()
        self._fault = self._fault or fault

    async def ended(self) -> None:
        """Wait for all; raises the first fault that any of them ever had."""
        await asyncio.gather(*(task for mine in self._tasks.values() for task in mine))
        if self._fault is not None:
            raise self._fault

    def cancel(self) -> None:
        """The program has failed, and nobody needs what is under way."""
        for mine in self._tasks.values():
            for task in mine:
                task.cancel()
