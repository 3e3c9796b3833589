"""The jobs that a node knows, its own and the others'."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from parties.programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpc.errors import BeaverError
    from mpc.ledger import Ledger
    from parties.job import Task

KEPT = 1000
"""Finished jobs that `beaver jobs` still knows."""
MAX_IDS = 1 << 16
"""Ids that are refused when they come again; the oldest are forgotten first."""
PROPOSED, WAITING, ACCEPTED, RUNNING = "proposed", "waiting for approval", "accepted", "running"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
READING, JOINING, COMPUTING = "reading", "joining", "computing"
STARTED, ENDED = "started", "ended"


@dataclass(slots=True, repr=False)
class Record:
    """One job as this node knows it.

    `phase` is how far a running job is, and `cost` what its session took until now.  `ended` is why another party ended it before it began.  `logged` is what the audit
    log has of it: nothing, its start, or its end.
    """

    id: str
    task: Task
    asker: str
    state: str
    since: float = field(default_factory=time.time)
    result: dict[str, Any] | None = None
    seal: str = ""
    error: str = ""
    signatures: dict[str, bytes] = field(default_factory=dict)
    phase: str = READING
    cost: Ledger | None = None
    ended: BeaverError | None = None
    logged: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in (DONE, FAILED, CANCELLED)

    @property
    def session_began(self) -> bool:
        """Whether all parties have joined: from then on the session itself says how it ends."""
        return self.phase == COMPUTING

    def summary(self) -> dict[str, Any]:
        """What `beaver jobs list` shows."""
        return {
            "id": self.id,
            "protocol": self.task.protocol,
            "dataset": self.task.dataset,
            "parties": list(self.task.parties),
            "purpose": self.task.purpose,
            "asker": self.asker,
            "state": self.state,
            "since": self.since,
            "error": self.error,
        }


class Records:
    """Jobs by id: all that are not over, and the last that are."""

    def __init__(self) -> None:
        self._known: dict[str, Record] = {}
        self._ids: dict[str, None] = {}

    def __iter__(self) -> Iterator[Record]:
        return iter(tuple(self._known.values()))

    def get(self, job: str) -> Record | None:
        """The job of this id, if it is known."""
        return self._known.get(job)

    def spent(self, job: str) -> bool:
        """Whether a job of this id was refused or started before, or is there now."""
        return job in self._ids

    def add(self, job: str, task: Task, asker: str, state: str) -> Record:
        """A new job."""
        while len(self._known) >= KEPT and (old := next((record for record in self._known.values() if record.over), None)):
            del self._known[old.id]
        self.spend(job)
        record = self._known[job] = Record(job, task, asker, state)
        return record

    def spend(self, job: str) -> None:
        """Refuse this id when it comes again."""
        self._ids[job] = None
        if len(self._ids) > MAX_IDS:
            del self._ids[next(iter(self._ids))]

    def forget(self, record: Record) -> None:
        """A job that was never started leaves nothing behind: its proposer may ask again under the same id."""
        del self._known[record.id]
        self._ids.pop(record.id, None)


def named(task: Task) -> str:
    """What the parties compare.  With the version: two versions of a protocol disagree before anything is shared."""
    version = PROGRAMS[task.protocol].version if task.protocol in PROGRAMS else 0
    return f"{task.protocol}@{version} {task.program}"
