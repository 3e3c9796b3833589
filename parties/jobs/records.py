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
"""How many finished jobs `beaver jobs` still knows."""
MAX_IDS = 1 << 16
"""How many ids are refused when they come again, and of how many ids the use is known.  The oldest are forgotten first."""


@dataclass(slots=True)
class Effort:
    """What a job has taken of this party so far.

    `rows` is how many rows of this party count in it, and `cost` the cost of its session.  `began` and `stopped` are seconds of a monotonic
    clock.
    """

    rows: int | None = None
    cost: Ledger | None = None
    began: float | None = None
    stopped: float | None = None

    def begins(self, cost: Ledger) -> None:
        """Start the clock: all parties have joined."""
        self.cost, self.began = cost, time.monotonic()

    def stops(self) -> None:
        """Stop the clock: the job's program is over, well or badly."""
        self.stopped = time.monotonic()

    @property
    def seconds(self) -> float:
        """How many seconds the job has computed."""
        if self.began is None:
            return 0.0
        return (time.monotonic() if self.stopped is None else self.stopped) - self.began


class Record:
    """One job as this node knows it.

    `approval` is when someone here approved it, and which user of this machine did (set by Approvals).  `config` is the configuration under
    which this party signed it, None until then (set by Admission).  `ended` is the fault with which another party, or a new policy or
    roster here, ended it before it began (set by Service).
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
        """The state of the job, with the data of that state."""
        return self._state

    def becomes(self, state: State) -> None:
        """Move the job on to `state`.  Raises ForbiddenError if that state cannot follow."""
        self._state = follow(self._state, state)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to the job."""
        return isinstance(self.state, Over)

    @property
    def error(self) -> str:
        """Why the job is over; empty if it went well or is not over."""
        return self.state.error if isinstance(self.state, Failed | Cancelled) else ""

    @property
    def approval_stands(self) -> bool:
        """Whether someone here approved the job, and it has not started."""
        return self.approval is not None and isinstance(self.state, Proposed | Approved | Accepted)

    @property
    def stage(self) -> str:
        """What a person would say that the job is doing."""
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
        """Return this party's progress: rounds, bytes to the peer that gets most, and seconds since it began to compute."""
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
        """Return what `beaver jobs list` shows."""
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
    """Jobs by id: all that are not over, and the last finished ones."""

    def __init__(self) -> None:
        self._known: dict[str, Record] = {}
        self._ids: dict[tuple[str, str], None] = {}
        self._uses: dict[str, tuple[str, str, int]] = {}

    def __iter__(self) -> Iterator[Record]:
        return iter(tuple(self._known.values()))

    def get(self, job: str) -> Record | None:
        """Return the job of this id if it is known."""
        return self._known.get(job)

    def spent(self, job: str, asker: str) -> bool:
        """Return whether a job of this id is known now, or this asker's job of this id was refused or started before.

        Nobody spends the ids of others.
        """
        return job in self._known or (asker, job) in self._ids

    def used_otherwise(self, job: str, asker: str, task: Task) -> bool:
        """Return whether this id was proposed before by another asker or for another task.  Only the wanted rows of the task may have
        grown.

        Otherwise a person could approve one job, and the node sign another.
        """
        before = self._uses.get(job)
        return before is not None and (before[:2] != (asker, _apart_from_rows(task)) or task.pool < before[2])

    def add(self, job: str, task: Task, asker: str) -> Record:
        """Add a new job."""
        while len(self._known) >= KEPT and (old := next((record for record in self._known.values() if record.over), None)):
            del self._known[old.id]
        self.spend(job, asker)
        self._uses[job] = asker, _apart_from_rows(task), task.pool
        _shorten(self._uses)
        record = self._known[job] = Record(job, task, asker)
        return record

    def spend(self, job: str, asker: str) -> None:
        """Refuse this id when this asker proposes it again."""
        self._ids[asker, job] = None
        _shorten(self._ids)

    def forget(self, record: Record) -> None:
        """Forget a job that was never started, so that its proposer may ask for it again under the same id."""
        del self._known[record.id]
        self._ids.pop((record.asker, record.id), None)


def _shorten(ids: dict[Any, Any]) -> None:
    if len(ids) > MAX_IDS:
        del ids[next(iter(ids))]


def _apart_from_rows(task: Task) -> str:
    """Return a digest of all of the task but `pool`, which the policies of its parties change."""
    return replace(task, pool=0).program


def named(task: Task) -> str:
    """Return the program name that the parties compare.

    It has the version, so that two versions of a protocol disagree before anything is shared.
    """
    version = PROGRAMS[task.protocol].version if task.protocol in PROGRAMS else 0
    return f"{task.protocol}@{version} {task.program}"
