"""The places of a node: how many jobs run at once, and how long an accepted job keeps one without being started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Places:
    """`most` places, by job.  What is accepted has `patience` seconds to start.

    One asker's jobs that have not started hold all places but one: to propose costs nothing, and whoever never starts must not keep out the rest.
    """

    def __init__(self, most: int, patience: float) -> None:
        self.most = most
        self.patience = patience
        self._held: set[str] = set()
        self._lapses: dict[str, tuple[str, asyncio.TimerHandle]] = {}
        """By job that was accepted and has not started: who asked for it, and when it lapses."""

    @property
    def full(self) -> bool:
        """Whether nothing more can be accepted."""
        return len(self._held) >= self.most

    def hold(self, job: str, asker: str = "") -> bool:
        """Hold a place until `free`, for a job of this node or of the member `asker`; whether there was one."""
        unstarted = sum(each == asker for each, _ in self._lapses.values())
        if self.full or 0 < self.most - 1 <= unstarted:
            return False
        self._held.add(job)
        return True

    def expect(self, job: str, asker: str, lapsed: Callable[[], None]) -> None:
        """Call `lapsed` unless `asker` starts the job, or it is over, in time."""
        self._lapses[job] = asker, asyncio.get_running_loop().call_later(self.patience, lapsed)

    def starts(self, job: str) -> None:
        """It is in time."""
        if job in self._lapses:
            self._lapses.pop(job)[1].cancel()

    def free(self, job: str) -> None:
        """The job is over, or was never started."""
        self.starts(job)
        self._held.discard(job)

    def close(self) -> None:
        """Nothing is waited for any more."""
        for job in tuple(self._lapses):
            self.starts(job)
