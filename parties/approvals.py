"""Jobs that wait until someone of this organisation approves or denies them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mpc.errors import ConfigError, PolicyDenied
from parties.proposals import unapproved
from parties.records import PROPOSED, WAITING

if TYPE_CHECKING:
    from parties.job import Task
    from parties.records import Record

MAX_GIVEN = 1000


class Approvals:
    """Who waits, and what was approved and has not started yet.  One approval is good for one start of exactly this job."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._given: dict[str, tuple[str, Task]] = {}

    def given(self, record: Record) -> bool:
        """Whether it was approved before: proposers ask again if another party was busy."""
        return self._given.get(record.id) == (record.asker, record.task)

    async def wait(self, record: Record) -> None:
        """Return when the job is approved; PolicyDenied if it is not to be."""
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[record.id] = decision
        try:
            approved = await decision
        finally:
            # Withdrawn and proposed again, it may wait anew already.
            if self._waiting.get(record.id) is decision:
                del self._waiting[record.id]
        if not approved:
            msg = "rule `ask`: someone of this organisation denied it (`beaver jobs deny`)"
            raise PolicyDenied(msg, "ask")
        while len(self._given) >= MAX_GIVEN:
            del self._given[next(iter(self._given))]
        self._given[record.id] = (record.asker, record.task)

    async def own(self, record: Record, left: float, wait: float) -> None:
        """The same for a proposal of this node itself; Refused if nobody decides within the `left` of its `wait` seconds."""
        record.state = WAITING
        try:
            async with asyncio.timeout(left):
                await self.wait(record)
        except TimeoutError:
            raise unapproved(self._me, wait) from None
        record.state = PROPOSED

    def decide(self, job: str, *, approved: bool) -> None:
        """What someone decided; ConfigError if no such job waits."""
        if job not in self._waiting or self._waiting[job].done():
            msg = f"no job {job!r} waits for approval here; `beaver jobs list` lists them"
            raise ConfigError(msg)
        self._waiting[job].set_result(approved)

    def spend(self, job: str) -> None:
        """The job starts, or its proposer gave it up for good."""
        self._given.pop(job, None)

    def void(self, asker: str | None = None) -> list[tuple[str, str, Task]]:
        """`asker` is gone, or this node stops: what was approved (for it) and did not start, as job, asker and task, is so no more."""
        void = [(job, *given) for job, given in self._given.items() if asker in (None, given[0])]
        for job, *_ in void:
            self.spend(job)
        return void
