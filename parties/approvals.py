"""Jobs that wait until someone of this organisation approves or denies them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mpc.errors import ConfigError, PolicyDenied
from parties.proposals import unapproved
from parties.records import PROPOSED, WAITING

if TYPE_CHECKING:
    from collections.abc import Callable

    from parties.job import Task
    from parties.records import Record

    Decided = Callable[[bool], object]

MAX_GIVEN = 1000
DIGITS = 32
"""Of a job's digest, what a person sees and copies: too many for anyone to make two jobs that share them."""


class Approvals:
    """Who waits, and what was approved and has not started yet.  One approval is good for one start of exactly this job."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._waiting: dict[str, tuple[Record, Decided]] = {}
        self._given: dict[str, tuple[str, Task]] = {}

    def given(self, record: Record) -> bool:
        """Whether it was approved before: proposers ask again if another party was busy."""
        return self._given.get(record.id) == (record.asker, record.task)

    def ask(self, record: Record, decided: Decided) -> None:
        """Let the job wait; `decided` is called with what someone decides, unless it is withdrawn before."""
        record.state = WAITING
        self._waiting[record.id] = record, decided

    def withdraw(self, job: str) -> None:
        """Nobody needs to decide any more."""
        self._waiting.pop(job, None)

    async def own(self, record: Record, left: float, wait: float) -> None:
        """Return when a proposal of this node itself is approved; PolicyDenied if it is not to be, Refused if nobody decides within the `left` of its `wait` seconds."""
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def decided(approved: bool) -> None:  # noqa: FBT001
            # Its command may have ended in this very moment.
            if not decision.done():
                decision.set_result(approved)

        self.ask(record, decided)
        try:
            async with asyncio.timeout(left):
                approved = await decision
        except TimeoutError:
            raise unapproved(self._me, wait) from None
        finally:
            self.withdraw(record.id)
        if not approved:
            raise denied()
        record.state = PROPOSED

    def waits(self, job: str) -> Record:
        """The job that waits under this id; ConfigError if none does."""
        if job not in self._waiting:
            msg = f"no job {job!r} waits for approval here; `beaver jobs list` lists them"
            raise ConfigError(msg)
        return self._waiting[job][0]

    def decide(self, job: str, *, approved: bool) -> None:
        """What someone decided about a job that waits."""
        record = self.waits(job)
        _, decided = self._waiting.pop(job)
        if approved and record.asker != self._me:
            while len(self._given) >= MAX_GIVEN:
                del self._given[next(iter(self._given))]
            self._given[job] = (record.asker, record.task)
        decided(approved)

    def spend(self, job: str) -> None:
        """The job starts, or its proposer gave it up for good."""
        self._given.pop(job, None)

    def void(self, asker: str | None = None) -> list[tuple[str, str, Task]]:
        """`asker` is gone, or this node stops: what was approved (for it) and did not start, as job, asker and task, is so no more."""
        void = [(job, *given) for job, given in self._given.items() if asker in (None, given[0])]
        for job, *_ in void:
            self.spend(job)
        return void


def denied() -> PolicyDenied:
    """Someone said no."""
    return PolicyDenied("rule `ask`: someone of this organisation denied it (`beaver jobs deny`)", "ask")
