"""The places of a node: how many jobs run at once, and how long an accepted job keeps one without being started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Places:
    """`most` places, by job.  What is accepted has `patience` seconds to start."""

    def __init__(self, most: int, patience: float) -> None:
        self.most = most
        self.patience = patience
        self._held: set[str] = set()
        self._lapses: dict[str, asyncio.TimerHandle] = {}

    @property
    def full(self) -> bool:
        """Whether nothing more can be accepted."""
        return len(self._held) >= self.most

    def hold(self, job: str) -> bool:
        """Hold a place until `free`; whether there was one."""
        if self.full:
            return False
        self._held.add(job)
        return True

    def expect(self, job: str, lapsed: Callable[[], None]) -> None:
        """Call `lapsed` unless the job starts, or is over, in time."""
        self._lapses[job] = asyncio.get_running_loop().call_later(self.patience, lapsed)

    def starts(self, job: str) -> None:
        """It is in time."""
        if job in self._lapses:
            self._lapses.pop(job).cancel()

    def free(self, job: str) -> None:
        """The job is over, or was never started."""
        self.starts(job)
        self._held.discard(job)

    def close(self) -> None:
        """Nothing is waited for any more."""
        for job in tuple(self._lapses):
            self.starts(job)
