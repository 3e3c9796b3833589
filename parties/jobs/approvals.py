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
"""Seconds that an approval stands: the people of the other parties may take a working day, and what is older was not said of the data of now."""
DIGITS = 32
"""Digits of a job's digest that a person sees and copies: too many for anyone to make two jobs that share them."""


class Approvals:
    """Who waits, and what was approved and has not started yet.

    One approval is good for one start of exactly this job, by the job's `digest`.  It ends with its age, of which `lapsed` is told, or when someone takes it back.
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
        """Whether it was approved before: proposers ask again if another party was busy."""
        before, decided = self._given.get(record.id, (None, None))
        if before is None or decided is None or (before.asker, before.task) != (record.asker, record.task):
            return False
        record.approval = before.approval
        self._given[record.id] = record, decided
        return True

    def standing(self, job: str) -> Record | None:
        """The job of this id, if it was approved and has not started yet."""
        return self._given[job][0] if job in self._given else None

    @property
    def all_standing(self) -> list[Record]:
        """All those jobs."""
        return [record for record, _ in self._given.values()]

    def with_standing(self, records: Records) -> list[Record]:
        """`records`, and the approved jobs that it does not have, since nobody proposes them now."""
        return [*records, *(record for record in self.all_standing if records.get(record.id) is None)]

    def ask(self, record: Record, decided: Decided) -> None:
        """Let the job wait.  `decided` is called with what someone decides, unless it is withdrawn before; and again if an approval is taken back."""
        record.becomes(Waiting())
        self._waiting[record.id] = record, decided

    def withdraw(self, job: str) -> None:
        """Nobody needs to decide any more."""
        self._waiting.pop(job, None)

    async def own(self, record: Record, left: float, wait: float) -> None:
        """Return when a proposal of this node itself is approved; PolicyDenied if it is not to be, Refused if nobody decides within the `left` of its `wait` seconds."""
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def decided(_: Record, approved: bool) -> None:  # noqa: FBT001
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
        record.becomes(Proposed())

    def digest(self, record: Record) -> str:
        """What a person sees, and gives back, of the digest that all parties sign."""
        return self._digest(record).hex()[:DIGITS]

    def approve(self, job: str, user: int, digest: str = "") -> None:
        """The `user` of this machine lets a job run that waits, with `digest` that very one; ConfigError if none waits, or another."""
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
        """The `user` of this machine denies a job that waits, or takes an approval back before the job starts; ConfigError if there is neither."""
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
        # What is accepted in this very moment was approved in time.
        if isinstance(record.state, Approved):
            self._lapsed(record)

    def keep(self, record: Record) -> None:
        """The job is withdrawn.  If it was approved, that stands until it comes again."""
        if self.standing(record.id) is record:
            record.becomes(Approved())

    def spend(self, job: str, asker: str) -> None:
        """The job starts, or is over for good."""
        standing = self.standing(job)
        if standing is not None and standing.asker == asker:
            self._drop(job)

    def void(self, asker: str | None = None) -> list[Record]:
        """`asker` is gone, or this node stops: what was approved (for it) and did not start is so no more."""
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
    """Someone said no."""
    return PolicyDenied("rule `ask`: someone of this organisation denied it (`beaver jobs deny`)", "ask")


def too_small() -> PolicyDenied:
    """The rows that all parties have together were enough when the job was proposed, and are not any more."""
    text = (
        "rule `min_pool_rows`: the policy that this node took while the job was proposed wants more rows of all parties together; "
        "run it again, and it is asked for them"
    )
    return PolicyDenied(text, "min_pool_rows")


def unasked() -> PolicyDenied:
    """Nobody had to say yes when the job was proposed, and somebody has now."""
    text = "rule `ask`: the policy that this node took while the job was proposed asks for approval; run it again, and it waits for one"
    return PolicyDenied(text, "ask")


def stale() -> PolicyDenied:
    """Someone said yes, and nothing came of it."""
    return PolicyDenied("rule `ask`: the job did not start while its approval stood; proposed again, it waits again", "ask")
