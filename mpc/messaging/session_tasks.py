"""Work that runs beside a program; the session ends after it."""

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
"""Pieces of work that a task may have pending before it waits for them: nothing else would keep it from running ahead of its peers."""
MOST = 1 << 14
"""Pieces that all tasks of a session may have pending before a call that has begun one waits: a slow peer accepts only
MAX_EARLY_MESSAGES ahead.
"""


class Work(Generic[R]):
    """One piece of work; any number of calls may wait for it, or none."""

    def __init__(self, task: asyncio.Task[R]) -> None:
        self._task = task

    async def result(self, _: Scope) -> R:
        """The result of the work, or the fault that ended it."""
        if self._task.done():
            return self._task.result()
        # Shielded: cancelling a waiter does not cancel the work.
        return await asyncio.shield(self._task)


class SessionTasks:
    """The pending work of one session beside its program."""

    def __init__(self) -> None:
        self._tasks: dict[Doer, set[asyncio.Task[Any]]] = {}
        self._many = 0
        self._fault: BaseException | None = None

    async def room(self) -> None:
        """Wait until the current task may begin another piece."""
        # For this task's pieces only: other tasks' pieces may need this task's next message, at a peer that came here first.
        mine = self._tasks.get(asyncio.current_task(), ())
        if len(mine) >= UNDER_WAY:
            await asyncio.wait(mine)

    async def pace(self) -> None:
        """Wait, in a call that has begun a piece, for the pieces of this task if all tasks together have too many.

        A program that gathers calls in a loop runs each in a task of its own, which ends with the call: `room` finds none of its pieces.
        """
        mine = self._tasks.get(asyncio.current_task(), ())
        if mine and self._many >= MOST:
            await asyncio.wait(mine)

    async def sent(self) -> None:
        """Wait, in a call that has begun a piece, until its messages have left: peers compute on them, however long the program
        continues.
        """
        # First the work begins, then its messages are written.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def start(self, work: Coroutine[None, None, R], *awaited: Coroutine[Any, Any, Any]) -> Work[R]:
        """Begin `work`. The coroutines that it awaits are closed when it ends, even if it never ran."""
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
        # Retrieve every exception and keep the first, since nobody may wait for it.
        fault = None if task.cancelled() else task.exception()
        self._fault = self._fault or fault

    async def ended(self) -> None:
        """Wait for all pieces; raise the first fault that any piece ever had."""
        await asyncio.gather(*(task for mine in self._tasks.values() for task in mine))
        if self._fault is not None:
            raise self._fault

    def cancel(self) -> None:
        """Cancel all pieces: the program has failed, and nobody needs them."""
        for mine in self._tasks.values():
            for task in mine:
                task.cancel()
