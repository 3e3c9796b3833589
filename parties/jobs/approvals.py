"""Jobs that wait until someone of this organisation approves or denies them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mpc.errors import ConfigError, PolicyDenied
from parties.jobs.endings import unapproved
from parties.jobs.states import Approved, Proposed, Waiting

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from parties.jobs.records import Record, Records

    Decided = Callable[[Record, bool], object]

MAX_GIVEN = 1000
LASTS = 86_400.0
"""Seconds for which an approval stands.

A working day of the other parties fits in; an older approval was given for data that may have changed.
"""
DIGITS = 32
"""Digits of a job's digest that a person sees and copies: too many for anyone to make two jobs that share them."""


class Approvals:
    """The jobs that wait for a decision, and those that were approved and have not started yet.

    One approval is good for one start of exactly this job, by the job's `digest`.  It ends when it is too old, which calls `lapsed`, or
    when someone takes it back.
    """

    def __init__(
        self,
        me: str,
        log: logging.Logger,
        digest: Callable[[Record], bytes],
        lapsed: Callable[[Record], None],
        lasts: float = LASTS,
    ) -> None:
        self._me = me
        self._log = log
        self._digest = digest
        self._lapsed = lapsed
        self._lasts = lasts
        self._waiting: dict[str, tuple[Record, Decided]] = {}
        self._given: dict[str, tuple[Record, Decided]] = {}
        self._ends: dict[str, asyncio.TimerHandle] = {}

    def given(self, record: Record) -> bool:
        """Return whether the job was approved before.  Proposers ask again if another party was busy."""
        before, decided = self._given.get(record.id, (None, None))
        if before is None or decided is None or (before.asker, before.task) != (record.asker, record.task):
            return False
        record.approval = before.approval
        self._given[record.id] = record, decided
        return True

    def standing(self, job: str) -> Record | None:
        """Return the job of this id if it was approved and has not started yet."""
        return self._given[job][0] if job in self._given else None

    @property
    def all_standing(self) -> list[Record]:
        """All jobs that were approved and have not started yet."""
        return [record for record, _ in self._given.values()]

    def with_standing(self, records: Records) -> list[Record]:
        """Return `records`, and the approved jobs that are not among them because nobody proposes them now."""
        return [*records, *(record for record in self.all_standing if records.get(record.id) is None)]

    def ask(self, record: Record, decided: Decided) -> None:
        """Let the job wait.

        `decided` is called with the decision, unless the job is withdrawn before, and once more if an approval is taken back.
        """
        record.becomes(Waiting())
        self._waiting[record.id] = record, decided

    def withdraw(self, job: str) -> None:
        """Stop waiting for a decision on the job."""
        self._waiting.pop(job, None)

    async def own(self, record: Record, left: float, wait: float) -> None:
        """Return when someone approves a job that this node itself proposes.

        Raises PolicyDenied if someone denies it, and Refused if nobody decides within the `left` seconds that remain of `wait`.
        """
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def decided(_: Record, approved: bool) -> None:  # noqa: FBT001
            # The command that asked for the job may have ended in this very moment.
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
        record.becomes(Proposed())

    def digest(self, record: Record) -> str:
        """Return the digits that a person sees, and gives back, of the digest that all parties sign."""
        return self._digest(record).hex()[:DIGITS]

    def approve(self, job: str, user: int, digest: str = "") -> None:
        """Approve a waiting job in the name of the `user` of this machine; with `digest`, only the job that has it.

        Raises ConfigError if no such job waits.
        """
        record, decided = _decidable(job, self._waiting)
        found = self.digest(record)
        if digest not in ("", found):
            msg = f"job {job!r} has the digest {found}, not {digest!r}: it is not what was shown. Look at it with `beaver jobs show`"
            raise ConfigError(msg)
        self._log.info("job=%s peer=%s phase=approved by the user %d of this machine", job, record.asker, user)
        self.withdraw(job)
        record.approval = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "user": user}
        if record.asker != self._me:
            self._give(record, decided)
        decided(record, True)

    def deny(self, job: str, user: int) -> None:
        """Deny a waiting job in the name of the `user` of this machine, or take its approval back before it starts.  Raises ConfigError if
        the job neither waits nor is approved.
        """
        record, decided = _decidable(job, {**self._given, **self._waiting})
        self._log.info("job=%s peer=%s phase=denied by the user %d of this machine", job, record.asker, user)
        self.withdraw(job)
        decided(record, False)

    def _give(self, record: Record, decided: Decided) -> None:
        self._drop(record.id)
        while len(self._given) >= MAX_GIVEN:
            self._drop(next(iter(self._given)))
        self._given[record.id] = record, decided
        self._ends[record.id] = asyncio.get_running_loop().call_later(self._lasts, self._lapse, record.id)

    def _drop(self, job: str) -> None:
        if job in self._given:
            del self._given[job]
            self._ends.pop(job).cancel()

    def _lapse(self, job: str) -> None:
        record, _ = self._given[job]
        self._drop(job)
        # A job that is accepted in this very moment was approved in time.
        if isinstance(record.state, Approved):
            self._lapsed(record)

    def keep(self, record: Record) -> None:
        """Keep the approval of a job that its proposer has withdrawn, if there is one, until the job is proposed again."""
        if self.standing(record.id) is record:
            record.becomes(Approved())

    def spend(self, job: str, asker: str) -> None:
        """Use up the approval of a job that starts or is over for good."""
        standing = self.standing(job)
        if standing is not None and standing.asker == asker:
            self._drop(job)

    def void(self, asker: str | None = None) -> list[Record]:
        """Drop and return the approved jobs that have not started: those of `asker`, who is gone, or all, since this node stops."""
        void = [record for record in self.all_standing if asker in (None, record.asker)]
        for record in void:
            self._drop(record.id)
        return void


def _decidable(job: str, jobs: dict[str, tuple[Record, Decided]]) -> tuple[Record, Decided]:
    if job not in jobs:
        msg = f"no job {job!r} waits for approval here; `beaver jobs list` lists them"
        raise ConfigError(msg)
    return jobs[job]


def denied() -> PolicyDenied:
    """The denial by a person of this organisation."""
    return PolicyDenied("rule `ask`: someone of this organisation denied it (`beaver jobs deny`)", "ask")


def too_small() -> PolicyDenied:
    """The denial of a job whose parties had enough rows together when it was proposed, and by the new policy no longer have."""
    text = (
        "rule `min_pool_rows`: the policy that this node took while the job was proposed wants more rows of all parties together; "
        "run it again, and it is asked for them"
    )
    return PolicyDenied(text, "min_pool_rows")


def unasked() -> PolicyDenied:
    """The denial of a job that needed no approval when it was proposed, and by the new policy needs one."""
    text = "rule `ask`: the policy that this node took while the job was proposed asks for approval; run it again, and it waits for one"
    return PolicyDenied(text, "ask")


def stale() -> PolicyDenied:
    """The denial of a job that was approved and did not start in time."""
    return PolicyDenied("rule `ask`: the job did not start while its approval stood; proposed again, it waits again", "ask")
