"""The node of one organisation: takes proposals, proposes jobs itself, and runs what all of a job's parties accepted.

Proposing takes no place: a place is held from accepting a job until it is over, and given back if the proposer withdraws.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mpc.agreement import GAVE_UP, describe
from mpc.errors import AuthenticationFailed, BeaverError, ConfigError, Disagreement, LocalFault, PeerLost, PeerMisbehaved, Refused
from parties.job import ID, Task, fresh_id, unpack_task
from parties.policy import admit
from parties.programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.node import Node
    from mpc.session import Session
    from mpc.wire import Body
    from parties.config import NodeConfig
    from parties.data import Table

    Tell = Callable[[str], None]

KEPT = 1000
"""Finished jobs that `beaver jobs` still knows."""
MAX_IDS = 1 << 16
"""Ids that are refused when they come again; the oldest are forgotten first."""
MAX_CONSIDERED = 16
"""Proposals of one peer that are looked at at once; for more this node is busy."""
ACCEPTED, DENIED, BUSY, START, WITHDRAWN = "accepted", "denied", "busy", "start", "withdrawn"
LOST = "lost"
"""A verdict that no peer sends: this node's own word of a peer that is gone."""


@dataclass(slots=True, repr=False)
class Record:
    """One job as this node knows it."""

    id: str
    task: Task
    asker: str
    state: str
    since: float = field(default_factory=time.time)
    result: dict[str, Any] | None = None
    error: str = ""

    def summary(self) -> dict[str, Any]:
        """What `beaver jobs` shows."""
        return {
            "id": self.id,
            "protocol": self.task.protocol,
            "dataset": self.task.dataset,
            "parties": list(self.task.parties),
            "asker": self.asker,
            "state": self.state,
            "since": self.since,
            "error": self.error,
        }


def _named(task: Task) -> str:
    """What the parties compare.  With the version: two versions of a protocol disagree before anything is shared."""
    version = PROGRAMS[task.protocol].version if task.protocol in PROGRAMS else 0
    return f"{task.protocol}@{version} {task.program}"


async def _report(s: Session, tell: Tell) -> None:
    """Say every second how far a job is."""
    while True:
        await asyncio.sleep(1)
        tell(f"running: {s.cost.rounds} rounds, {s.cost.payload} bytes to each peer")


class Service:
    """Jobs of one node, its own and the others'."""

    def __init__(self, config: NodeConfig, node: Node) -> None:
        self.me = config.name
        self.log = node.mesh.log
        self.records: dict[str, Record] = {}
        self._config = config
        self._node = node
        self._mesh = node.mesh
        self._ids: dict[str, None] = {}
        self._held: dict[str, Table | None] = {}
        self._considering: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._void: set[str] = set()
        self._lapses: dict[str, asyncio.TimerHandle] = {}
        self._closing = False
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._verdicts: dict[str, asyncio.Queue[tuple[str, str]]] = {}
        self._mesh.subscribe(self)

    async def close(self) -> None:
        """Cancel everything."""
        self._mesh.unsubscribe(self)
        self._closing = True
        for lapse in self._lapses.values():
            lapse.cancel()
        tasks = [*self._running.values(), *self._considering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- own jobs ----------------------------------------------------------------------------------------------

    async def run(self, task: Task, wait: float, tell: Tell) -> tuple[str, dict[str, Any] | None]:
        """Propose `task` until all accept it or `wait` seconds have passed, run it; its id, and the result if this party is a receiver.

        Raises PolicyDenied and ConfigError of this organisation before anyone is asked, Refused if another one denies or stays busy, PeerLost
        if one does not come.
        """
        table = await asyncio.to_thread(admit, self._config, self._mesh.roster, task)
        describe("check", self._mesh, task.parties, _named(task))
        deadline = time.monotonic() + wait
        while True:
            await self._present(task, deadline, wait, tell)
            record = self._new_record(fresh_id(), task, self.me, "proposed")
            try:
                busy = await self._propose(record, table, deadline, tell)
                if busy is None:
                    return record.id, await self._follow(record, table, tell)
            except BaseException as fault:
                self._over(record, fault)
                raise
            # Every try is a job of its own; one that nobody started is none to list.
            self.records.pop(record.id, None)
            if time.monotonic() > deadline:
                raise Refused(busy, f"is busy: it runs {self._limit(busy)} at once. Try again later, or raise max_jobs there.")
            tell(f"{busy} is busy; asking again")
            await asyncio.sleep(0.05 + secrets.randbelow(400) / 1000)

    def _limit(self, name: str) -> str:
        return f"max_jobs = {self._config.max_jobs}" if name == self.me else "as many jobs as its max_jobs allows"

    async def _present(self, task: Task, deadline: float, wait: float, tell: Tell) -> None:
        """Return when everyone is connected; a missing party is waited for, never dropped."""
        everyone = [*task.parties, *([self._mesh.roster.dealer.name] if self._mesh.roster.dealer else [])]
        others = [name for name in everyone if name != self.me]
        told = ""
        while missing := self._mesh.missing(others):
            listed = ", ".join(missing)
            if listed != told:
                told = listed
                tell(f"waiting for {listed}")
            if time.monotonic() > deadline:
                raise self._absent(missing[0], wait)
            await asyncio.sleep(0.05)

    def _absent(self, name: str, wait: float) -> BeaverError:
        """Why `name` did not come: as it is, if waiting longer cannot help."""
        fault = self._mesh.fault(name)
        if isinstance(fault, Disagreement | AuthenticationFailed | PeerMisbehaved):
            return type(fault)(fault.party, fault.text)
        return PeerLost(name, f"did not come within {wait:g} s ({self._mesh.problem(name)}). Start it, or raise --wait.")

    async def _propose(self, record: Record, table: Table, deadline: float, tell: Tell) -> str | None:
        """Ask everyone; None if all accepted and this node has a place too, else who is busy."""
        if len(self._held) >= self._config.max_jobs:
            return self.me
        others = [name for name in record.task.parties if name != self.me]
        verdicts: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._verdicts[record.id] = verdicts
        pending = set(others)
        tell(f"proposed {record.id} to {', '.join(others)}")
        try:
            for name in others:
                self._send(name, kind="propose", job=record.id, task=record.task.pack())
            busy = None
            while pending:
                async with asyncio.timeout(max(deadline - time.monotonic(), 1.0)):
                    name, verdict = await verdicts.get()
                if verdict == LOST:
                    raise PeerLost(name, "was lost before the job started")
                if name not in pending:
                    continue
                pending.discard(name)
                if verdict == DENIED:
                    raise Refused(name, "denied the job")
                busy = name if verdict == BUSY else busy
            if busy is None and not self._hold(record.id, table):
                busy = self.me
        except BaseException as fault:
            self._answer_all(others, record.id, WITHDRAWN)
            if isinstance(fault, TimeoutError):
                raise PeerLost(min(pending), "is connected but does not answer: is `beaver party` running there?") from None
            raise
        finally:
            del self._verdicts[record.id]
        self._answer_all(others, record.id, START if busy is None else WITHDRAWN)
        return busy

    async def _follow(self, record: Record, table: Table, tell: Tell) -> dict[str, Any] | None:
        work = self._start(record, table, tell)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled():
                msg = f"job {record.id} was cancelled: " + (
                    "the node was stopped" if self._closing else "`beaver jobs --cancel` at this node"
                )
                raise BeaverError(msg) from None
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise

    # -- running -----------------------------------------------------------------------------------------------

    def _hold(self, job: str, table: Table | None) -> bool:
        if len(self._held) >= self._config.max_jobs:
            return False
        self._held[job] = table
        return True

    def _start(self, record: Record, table: Table, tell: Tell) -> asyncio.Task[dict[str, Any] | None]:
        record.state = "running"
        work = asyncio.create_task(self._work(record, table, tell))
        self._running[record.id] = work
        # Not in `_work`: a task that is cancelled before its first step runs nothing of it.
        work.add_done_callback(lambda done: self._ended(record, cancelled=done.cancelled()))
        return work

    def _ended(self, record: Record, *, cancelled: bool) -> None:
        self._held.pop(record.id, None)
        self._running.pop(record.id, None)
        if cancelled:
            self._over(record, asyncio.CancelledError())

    async def _work(self, record: Record, table: Table, tell: Tell) -> dict[str, Any] | None:
        task = record.task
        try:
            async with self._node.session(record.id, parties=task.parties, program=_named(task), all_present=True) as s:
                tell("started")
                progress = asyncio.create_task(_report(s, tell))
                try:
                    record.result = await s.run(PROGRAMS[task.protocol].run, table, task)
                finally:
                    progress.cancel()
            record.state = "done"
        except BaseException as fault:
            self._over(record, fault)
            raise
        return record.result

    def _over(self, record: Record, fault: BaseException) -> None:
        if record.state in ("cancelled", "failed"):
            return
        record.state = "cancelled" if isinstance(fault, asyncio.CancelledError) else "failed"
        record.error = f"{type(fault).__name__}: {fault}" if isinstance(fault, BeaverError) else type(fault).__name__
        self.log.warning("job=%s phase=%s %s", record.id, record.state, record.error)

    def _new_record(self, job: str, task: Task, asker: str, state: str) -> Record:
        while len(self.records) >= KEPT and (over := next(filter(self._finished, self.records), None)):
            del self.records[over]
        self._seen(job)
        record = self.records[job] = Record(job, task, asker, state)
        return record

    def _finished(self, job: str) -> bool:
        return job not in self._held and job not in self._verdicts

    def _seen(self, job: str) -> None:
        self._ids[job] = None
        if len(self._ids) > MAX_IDS:
            del self._ids[next(iter(self._ids))]

    def cancel(self, job: str) -> None:
        """End a job here, and so everywhere."""
        if job not in self._running:
            msg = f"no job {job!r} is running here; `beaver jobs` lists them"
            raise ConfigError(msg)
        self._running[job].cancel()

    # -- the others' jobs --------------------------------------------------------------------------------------

    def control(self, name: str, body: Body) -> None:
        """A proposal, or an answer to ours."""
        if body["kind"] == "propose":
            if not ID.fullmatch(body["job"]):
                raise PeerMisbehaved(name, "proposed a job whose id is none")
            if [peer for peer, _ in self._considering.values()].count(name) >= MAX_CONSIDERED:
                self._send(name, kind="answer", job=body["job"], verdict=BUSY)
                return
            work = asyncio.create_task(self._consider(name, body["job"], body["task"]))
            self._considering[work] = (name, body["job"])
            work.add_done_callback(self._considering.pop)
        elif body["kind"] == "answer" and body["job"] in self._verdicts:
            verdict = body["verdict"] if body["verdict"] in (ACCEPTED, BUSY) else DENIED
            self._verdicts[body["job"]].put_nowait((name, verdict))
        elif body["kind"] == "answer":
            self._concluded(name, body["job"], body["verdict"])

    async def _consider(self, name: str, job: str, data: dict[str, Any]) -> None:
        channel = self._mesh.channel(name)
        try:
            verdict, why = await self._verdict(name, job, data)
        except LocalFault as fault:
            # The reason stays here: elsewhere it is only "denied".
            verdict, why = DENIED, f": {fault}"
        except Exception as fault:  # noqa: BLE001  whatever a peer proposes, it gets an answer
            # Its text may hold a value.
            verdict, why = DENIED, f": {type(fault).__name__} while the job was checked"
        self.log.info("job=%s peer=%s phase=%s%s", job, name, verdict, why)
        void = job in self._void or channel is None or self._mesh.channel(name) is not channel
        self._void.discard(job)
        if channel is not None and not void:
            channel.control(kind="answer", job=job, verdict=verdict)
        elif verdict == ACCEPTED:
            # While it was checked, another party denied it, or the proposer was lost: nobody will start it.
            self._release(self.records[job])

    async def _verdict(self, name: str, job: str, data: dict[str, Any]) -> tuple[str, str]:
        if job in self._ids or job in self.records:
            msg = "the job's id was used before"
            raise ConfigError(msg)
        self._seen(job)
        task = unpack_task(data)
        describe(job, self._mesh, task.parties, _named(task))
        if name not in task.parties:
            msg = f"{name} proposed a job that it takes no part in"
            raise ConfigError(msg)
        # The place comes first: no more tables than jobs are ever in memory.
        if not self._hold(job, None):
            return BUSY, f": {self._config.max_jobs} jobs are running"
        try:
            self._held[job] = await asyncio.to_thread(admit, self._config, self._mesh.roster, task)
        except BaseException:
            del self._held[job]
            raise
        self._new_record(job, task, name, ACCEPTED)
        self._lapses[job] = asyncio.get_running_loop().call_later(self._mesh.clocks.join, self._lapse, job)
        return ACCEPTED, ""

    def _lapse(self, job: str) -> None:
        self.log.warning("job=%s phase=withdrawn %s did not start it within %g s", job, self.records[job].asker, self._mesh.clocks.join)
        self._release(self.records[job])

    def _concluded(self, name: str, job: str, verdict: str) -> None:
        record = self.records.get(job)
        if verdict != START and (name, job) in self._considering.values():
            self._void.add(job)
        if record is None and verdict == START:
            # Too late: it must not wait for this party.
            self._send(name, kind="withdraw", job=job, reason=GAVE_UP, answers=b"")
        if record is None or record.asker != name or record.state != ACCEPTED:
            return
        table = self._held[job]
        if verdict == START and table is not None:
            self._lapses.pop(job).cancel()
            work = self._start(record, table, lambda _: None)
            # Told in the log and the record; nobody waits for it here.
            work.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        else:
            self._release(record)

    def _release(self, record: Record) -> None:
        """Give the place of a job back that was accepted and never started."""
        self._lapses.pop(record.id).cancel()
        del self._held[record.id], self.records[record.id]

    def _send(self, name: str, **body: object) -> None:
        channel = self._mesh.channel(name)
        if channel is not None:
            channel.control(**body)

    def _answer_all(self, names: list[str], job: str, verdict: str) -> None:
        for name in names:
            self._send(name, kind="answer", job=job, verdict=verdict)

    def peer_up(self, name: str) -> None:
        """Nothing to do."""

    def peer_down(self, name: str, fault: BeaverError) -> None:  # noqa: ARG002  the mesh tells why
        """What it proposed and did not start is void; what it has not answered it will not."""
        for record in tuple(self.records.values()):
            if record.asker == name and record.state == ACCEPTED:
                self._release(record)
        for job, verdicts in self._verdicts.items():
            if name in self.records[job].task.parties:
                verdicts.put_nowait((name, LOST))
