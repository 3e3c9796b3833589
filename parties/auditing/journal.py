"""The entries that this node writes into its audit log: names, digests, shapes and costs of jobs, and never a value."""

from __future__ import annotations

import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from mpc.errors import BeaverError, Disagreement, RemoteFault
from parties.auditing.entries import ENDED, RENEWED, STARTED, canonical, described, encoded, finite, seal_of, shortened
from parties.auditing.history import used
from parties.auditing.scribe import Scribe
from parties.jobs.tally import DECLINED, Tally
from parties.policy import own_columns, own_declared

if TYPE_CHECKING:
    from collections import Counter

    from mpc.ledger import Release
    from mpc.network.mesh import Mesh
    from mpc.session import Session
    from parties.auditing.audit import AuditLog
    from parties.auditing.history import Use
    from parties.config import NodeConfig
    from parties.jobs.admission import Admission
    from parties.jobs.job import Task
    from parties.jobs.records import Record

MAX_DECLINED, HOUR = 100, 3600.0
"""How many denied proposals of one member within an hour get an entry each: a flood must not fill the disk."""
MAX_TASK, MAX_REASON, MAX_NAMES = 1000, 500, 3
"""Bytes that an entry has for a denied task and for the reason, and names that it has of each list of a longer task.

A peer chooses their length.
"""


class Journal:
    """One method for every kind of entry, which a Scribe writes.

    An awaited entry is in the log when the method returns.  The method raises ConfigError if the entry cannot be written.  Nobody waits for
    `failed` and `declined`.
    """

    def __init__(self, admission: Admission, mesh: Mesh, audit: AuditLog) -> None:
        self.tally = Tally()
        self._admission = admission
        self._mesh = mesh
        self._audit = audit
        self._scribe = Scribe(mesh.log)
        self.settled, self.close = self._scribe.settled, self._scribe.close
        self._recent: dict[str, deque[float]] = {}

    def _about(self, record: Record) -> dict[str, Any]:
        return {"job": record.id, "asker": record.asker, **_counting(self._admission.under(record))}

    def _columns(self, record: Record) -> list[str]:
        config, task = self._admission.under(record), record.task
        return own_declared(config, own_columns(config, task), task.dataset)

    def overlaps(self, record: Record) -> dict[str, dict[str, Any]]:
        """Return which of this party's columns of a job were used by earlier jobs."""
        return self._audit.history.overlaps(record.task.dataset, self._columns(record))

    def starting(self, record: Record) -> dict[str, dict[str, Any]]:
        """Count a job that starts, and return its overlaps before that.  Writes nothing: `started` does, and then `counts` is called."""
        before = self.overlaps(record)
        self._audit.history.starting(record.id, record.task.dataset, self._columns(record))
        return before

    def counts(self, record: Record) -> None:
        """Count a job whose start is in the log."""
        self._audit.history.started(record.id, record.task.dataset, self._columns(record))

    def use(self, record: Record, rows: int) -> Use:
        """Return what a job uses of this party, whose rows are there."""
        me, columns = self._mesh.identity.name, self._columns(record)
        about = {"job": record.id, "asker": record.asker, "member": me, "task": record.task.pack(), "columns": columns}
        return used(about, rows, record.since)

    async def started(self, record: Record, signatures: dict[str, bytes], overlaps: dict[str, dict[str, Any]]) -> None:
        """Write that everyone signed: data will be read, and results may leave from here on.

        A cancellation takes effect once this is written.
        """
        await self._scribe.write(self._started, record, signatures, overlaps)

    def _started(self, record: Record, signatures: dict[str, bytes], overlaps: dict[str, dict[str, Any]]) -> None:
        job = self._admission.job(record)
        self._audit.append(
            STARTED,
            **self._about(record),
            task=record.task.pack(),
            columns=self._columns(record),
            overlaps=overlaps,
            approval=record.approval,
            digest=job.digest.hex(),
            description=described(job),
            signatures={name: encoded(signature) for name, signature in signatures.items()},
        )

    async def done(self, record: Record, s: Session, result: dict[str, Any] | None) -> str:
        """Write that a job went well; nobody can cancel it any more.

        Return the key of the result's digest, which only a receiver of the result gets; empty without a result.
        """
        return await self._scribe.conclude(self._done, record, s, result)

    def _done(self, record: Record, s: Session, result: dict[str, Any] | None) -> str:
        key = secrets.token_bytes(32)
        output = None if result is None else seal_of(result, key)
        self._audit.append(ENDED, **self._about(record), outcome="done", reason="", output=output, rows=record.effort.rows, **_spent(s))
        self.tally.ended("done")
        return "" if result is None else key.hex()

    async def renewed(self, config: NodeConfig) -> None:
        """Write that the running node applies the policy and roster of `config` from here on."""
        await self._scribe.write(self._renewed, config)

    def _renewed(self, config: NodeConfig) -> None:
        self._audit.append(RENEWED, **_counting(config), roster_version=config.load_roster().content.version)

    async def rotate(self) -> int:
        """Go on in a new file, after the entries that wait already.  Return the number of the closed file."""
        return await self._scribe.write(self._audit.rotate)

    def failed(self, record: Record, s: Session | None, outcome: str, fault: BaseException) -> None:
        """Write that a started job is over without a result."""
        self._scribe.later(record.id, self._failed, record, s, outcome, fault)

    def _failed(self, record: Record, s: Session | None, outcome: str, fault: BaseException) -> None:
        self.tally.ended(outcome, fault)
        self._audit.append(
            ENDED, **self._about(record), outcome=outcome, reason=reason(fault), output=None, rows=record.effort.rows, **_spent(s)
        )

    def declined(self, job: str, asker: str, task: Task | None, fault: BaseException) -> None:
        """Write that a job never started: it was denied here, denied elsewhere, a party was busy, or one did not come."""
        # Asked at once, so that what waits for the disk is limited too.
        if self._notable(job, asker, fault):
            self._scribe.later(job, self._declined, job, asker, task, fault)

    def _notable(self, job: str, asker: str, fault: BaseException) -> bool:
        self.tally.ended(DECLINED, fault)
        recent = self._recent.setdefault(asker, deque(maxlen=MAX_DECLINED))
        if asker != self._mesh.identity.name and len(recent) == MAX_DECLINED and recent[0] > time.monotonic() - HOUR:
            self._mesh.log.warning("job=%s peer=%s not in the audit log: %d of its jobs are within an hour", job, asker, MAX_DECLINED)
            return False
        recent.append(time.monotonic())
        return True

    def _declined(self, job: str, asker: str, task: Task | None, fault: BaseException) -> None:
        by = self._mesh.identity.name
        # An asker whose job names a category that is not listed here did not decline the job.
        if isinstance(fault, RemoteFault) and not (isinstance(fault, Disagreement) and fault.party == asker):
            by = fault.party
        about = {"job": job, "asker": asker, **_counting(self._admission.config)}
        try:
            self._audit.append(DECLINED, **about, **_outlined(task), by=by, reason=shortened(reason(fault), MAX_REASON))
        except BeaverError as trouble:
            self._mesh.log.error("job=%s not in the audit log: %s", job, trouble)  # noqa: TRY400  its text says all


def reason(fault: BaseException) -> str:
    """Return what may be kept of a fault: our own texts hold no value, others may."""
    return f"{type(fault).__name__}: {fault}" if isinstance(fault, BeaverError) else type(fault).__name__


def _counting(config: NodeConfig) -> dict[str, Any]:
    """Return the policy and roster that an entry is about."""
    return {"policy": {"version": config.rules.version, "digest": config.rules.digest.hex()}, "roster": config.load_roster().digest.hex()}


def _outlined(task: Task | None) -> dict[str, Any]:
    """Return what an entry says of a task that never started: all of a short one, or the beginnings and the digest of a long one."""
    if task is None:
        return {"task": None, "program": None}
    said = finite(task.pack())
    if len(canonical(said)) > MAX_TASK:
        names = {"columns": task.columns, "parties": task.parties, "to": task.to}
        texts = {"protocol": task.protocol, "dataset": task.dataset, "purpose": task.purpose}
        said = {key: shortened(text, 100) for key, text in texts.items()} | {key: _few(listed) for key, listed in names.items()}
    return {"task": said, "program": task.program}


def _few(names: tuple[str, ...]) -> list[str]:
    few = [shortened(name, 50) for name in names[:MAX_NAMES]]
    return few if len(names) <= MAX_NAMES else [*few, f"... {len(names) - MAX_NAMES} more"]


def _listed(releases: Counter[Release]) -> list[dict[str, Any]]:
    return [{"what": each.what, "shape": list(each.shape), "to": list(each.to), "times": times} for each, times in releases.items()]


def _spent(s: Session | None) -> dict[str, Any]:
    if s is None:
        return {"released": [], "announced": [], "cost": None}
    return {
        "released": _listed(s.releases),
        "announced": _listed(s.announcements),
        "cost": {
            "rounds": s.cost.rounds,
            "bytes_to_each_peer": s.cost.payload,
            "bytes_sent": sum(s.cost.sent.values()),
            "bytes_from_the_dealer": s.cost.corrections,
        },
    }


__all__ = ["Journal", "reason"]
