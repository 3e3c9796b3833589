"""Dry runs of all parties of a job side by side, for its cost: they know each other's shapes, and get what a healthy pool would reveal."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mpc.blocking import blocking
from mpc.preprocessing.plan import Estimate, Plan
from mpc.session import dry_run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mpc.naming.scope import Scope
    from mpc.session import Session


class UnwantedError(Exception):
    """Nobody wants to know any more."""


class Meeting:
    """Where the parties of a dry run exchange their shapes, and learn whether their plans are still wanted."""

    def __init__(self, n: int, wanted: Callable[[], bool]) -> None:
        self.wanted = wanted
        self._n = n
        self._told: dict[tuple[int, ...], dict[int, tuple[int, ...]]] = {}
        self._complete: dict[tuple[int, ...], asyncio.Event] = {}

    async def shapes(self, path: tuple[int, ...], index: int, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return everyone's shape at this point of the program, in party order."""
        told, complete = self._told.setdefault(path, {}), self._complete.setdefault(path, asyncio.Event())
        told[index] = shape
        if len(told) == self._n:
            complete.set()
        await complete.wait()
        return [told[number] for number in range(self._n)]


_meeting: ContextVar[Meeting] = ContextVar("beaver_meeting")


class SideBySide(Estimate):
    """One party's dry run beside those of all others."""

    def check_alive(self) -> None:
        """Raise UnwantedError if the plan is no longer wanted.  Called before every op, since some programs have millions."""
        if not _meeting.get().wanted():
            raise UnwantedError

    async def announce(self, scope: Scope, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the shapes that the parties really announce."""
        await super().announce(scope, shape)
        return await _meeting.get().shapes(scope.path, self.index, shape)


def dry(
    program: Callable[[Session], Awaitable[Any]], names: Sequence[str], client: str = "", wanted: Callable[[], bool] = lambda: True
) -> list[Plan]:
    """Return the plan of `program` at every party, in their order.  `client` also gets results, besides the parties `names`.

    Raises UnwantedError soon after `wanted` returns False.
    """

    async def one(index: int) -> Plan:
        s, plan = dry_run(names, index, SideBySide, client)
        await program(s)
        return plan

    async def every() -> list[Plan]:
        _meeting.set(Meeting(len(names), wanted))
        return await asyncio.gather(*(one(index) for index in range(len(names))))

    return blocking(every())
