"""The jobs that a node knows, its own and the others'."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from parties.jobs.states import AGREEMENT, REVEALING, Accepted, Approved, Cancelled, Computing, Failed, Over, Proposed, Waiting, follow
from parties.programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpc.errors import BeaverError
    from mpc.ledger import Ledger
    from parties.config import NodeConfig
    from parties.jobs.job import Task
    from parties.jobs.states import State

KEPT = 1000
"""Finished jobs that `beaver jobs` still knows."""
MAX_IDS = 1 << 16
"""Ids that are refused when they come again, and those of which it is known what they were used for; the oldest are forgotten first."""


@dataclass(slots=True)
class Effort:
    """What a job took of this party until now: how many `rows` of this party count in it, the `cost` of its session, and seconds by a clock without dates."""

    rows: int | None = None
    cost: Ledger | None = None
    began: float | None = None
    stopped: float | None = None

    def begins(self, cost: Ledger) -> None:
        """All parties have joined."""
        self.cost, self.began = cost, time.monotonic()

    def stops(self) -> None:
        """Its program is over, well or badly."""
        self.stopped = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has computed."""
        if self.began is None:
            return 0.0
        return (time.monotonic() if self.stopped is None else self.stopped) - self.began


class Record:
    """One job as this node knows it.

    `approval` is when someone here approved it, and which user of this machine (set by Approvals).  `config` is what counted when this party signed it, None
    until then (set by Admission).  `ended` is why another party, or another policy or roster here, ended it before it began (set by Service).
    """

    __slots__ = ("_state", "approval", "asker", "config", "effort", "ended", "id", "since", "task")

    def __init__(self, job: str, task: Task, asker: str) -> None:
        self.id = job
        self.task = task
        self.asker = asker
        self.since = time.time()
        self.approval: dict[str, Any] | None = None
        self.config: NodeConfig | None = None
        self.ended: BeaverError | None = None
        self.effort = Effort()
        self._state: State = Proposed()

    @property
    def state(self) -> State:
        """Where it is, with what belongs to that."""
        return self._state

    def becomes(self, state: State) -> None:
        """The job moves on; ForbiddenError if that state cannot follow."""
        self._state = follow(self._state, state)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return isinstance(self.state, Over)

    @property
    def error(self) -> str:
        """Why it is over, empty if it went well or is not over."""
        return self.state.error if isinstance(self.state, Failed | Cancelled) else ""

    @property
    def approval_stands(self) -> bool:
        """Whether someone here approved it, and it has not started."""
        return self.approval is not None and isinstance(self.state, Proposed | Approved | Accepted)

    @property
    def stage(self) -> str:
        """What a person would say that it does."""
        match self.state:
            case Proposed(awaited=awaited):
                return Waiting.name if awaited else AGREEMENT
            case Accepted():
                return AGREEMENT
            case Computing() if self.effort.cost is not None and self.effort.cost.revealing:
                return REVEALING
            case state:
                return state.phase or state.name

    def progress(self) -> dict[str, Any]:
        """How far it is, in figures of this party: rounds, bytes to the peer that gets most, and seconds since it began to compute."""
        cost = self.effort.cost
        return {
            "phase": self.stage,
            "rounds": cost.rounds if cost else 0,
            "bytes": cost.payload if cost else 0,
            "seconds": round(self.effort.seconds, 3),
            "rows": self.effort.rows,
            "pool": self.task.pool,
        }

    def summary(self) -> dict[str, Any]:
        """What `beaver jobs list` shows."""
        return {
            "id": self.id,
            "protocol": self.task.protocol,
            "dataset": self.task.dataset,
            "parties": list(self.task.parties),
            "purpose": self.task.purpose,
            "asker": self.asker,
            "state": self.state.name,
            "since": self.since,
            "error": self.error,
            "progress": self.progress(),
        }


class Records:
    """Jobs by id: all that are not over, and the last that are."""

    def __init__(self) -> None:
        self._known: dict[str, Record] = {}
        self._ids: dict[tuple[str, str], None] = {}
        self._uses: dict[str, tuple[str, str, int]] = {}

    def __iter__(self) -> Iterator[Record]:
        return iter(tuple(self._known.values()))

    def get(self, job: str) -> Record | None:
        """The job of this id, if it is known."""
        return self._known.get(job)

    def spent(self, job: str, asker: str) -> bool:
        """Whether a job of this id is there now, or one of this asker was refused or started before: nobody spends the ids of others."""
        return job in self._known or (asker, job) in self._ids

    def used_otherwise(self, job: str, asker: str, task: Task) -> bool:
        """Whether this id was proposed before, and not by this asker for this task, of which only the rows that are wanted may have grown.

        Else a person could approve one job, and the node sign another.
        """
        before = self._uses.get(job)
        return before is not None and (before[:2] != (asker, _apart_from_rows(task)) or task.pool < before[2])

    def add(self, job: str, task: Task, asker: str) -> Record:
        """A new job."""
        while len(self._known) >= KEPT and (old := next((record for record in self._known.values() if record.over), None)):
            del self._known[old.id]
        self.spend(job, asker)
        self._uses[job] = asker, _apart_from_rows(task), task.pool
        _shorten(self._uses)
        record = self._known[job] = Record(job, task, asker)
        return record

    def spend(self, job: str, asker: str) -> None:
        """Refuse this id when it comes again from this asker."""
        self._ids[asker, job] = None
        _shorten(self._ids)

    def forget(self, record: Record) -> None:
        """A job that was never started is known no more: its proposer may ask again for the same under its id."""
        del self._known[record.id]
        self._ids.pop((record.asker, record.id), None)


def _shorten(ids: dict[Any, Any]) -> None:
    if len(ids) > MAX_IDS:
        del ids[next(iter(ids))]


def _apart_from_rows(task: Task) -> str:
    """A digest of all but what the policies of its parties make of it."""
    return replace(task, pool=0).program


def named(task: Task) -> str:
    """What the parties compare.  With the version: two versions of a protocol disagree before anything is shared."""
    version = PROGRAMS[task.protocol].version if task.protocol in PROGRAMS else 0
    return f"{task.protocol}@{version} {task.program}"
