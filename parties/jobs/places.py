"""The places of a node: how many jobs run at once, and how long an accepted job keeps one without being started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Places:
    """`most` places, each held by one job.  An accepted job has `patience` seconds to start.

    The jobs of one asker that have not started hold at most all places but one.  To propose costs nothing, so an asker that never starts
    its jobs must not keep out the others.
    """

    def __init__(self, most: int, patience: float) -> None:
        self.most = most
        self.patience = patience
        self._held: set[str] = set()
        self._lapses: dict[str, tuple[str, asyncio.TimerHandle]] = {}
        """For each job that was accepted and has not started: who asked for it, and the timer after which its place lapses."""

    @property
    def full(self) -> bool:
        """Whether every place is held."""
        return len(self._held) >= self.most

    def hold(self, job: str, asker: str = "") -> bool:
        """Hold a place until `free`, for a job of this node or of the member `asker`.  Return whether there was one."""
        unstarted = sum(each == asker for each, _ in self._lapses.values())
        if self.full or 0 < self.most - 1 <= unstarted:
            return False
        self._held.add(job)
        return True

    def expect(self, job: str, asker: str, lapsed: Callable[[], None]) -> None:
        """Call `lapsed` unless `asker` starts the job in time, or the job is over before."""
        self._lapses[job] = asker, asyncio.get_running_loop().call_later(self.patience, lapsed)

    def starts(self, job: str) -> None:
        """Note that the job started in time."""
        if job in self._lapses:
            self._lapses.pop(job)[1].cancel()

    def free(self, job: str) -> None:
        """Free the place of a job that is over, or was never started."""
        self.starts(job)
        self._held.discard(job)

    def close(self) -> None:
        """Stop waiting for jobs to start."""
        for job in tuple(self._lapses):
            self.starts(job)
