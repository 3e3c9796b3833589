"""The node of one organisation: takes proposals, proposes jobs itself, and runs what all of a job's parties accepted.

Proposing takes no place: a place is held from accepting a job until it is over, and given back if the proposer withdraws.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mpc.agreement import describe
from mpc.errors import BeaverError, ConfigError, LocalFault, PeerLost, Refused
from parties.job import ID, Task, fresh_id, unpack_task
from parties.policy import admit
from parties.programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.node import Node
    from mpc.wire import Body
    from parties.config import NodeConfig
    from parties.data import Table

    Tell = Callable[[str], None]

KEPT = 1000
"""Finished jobs that `beaver jobs` still knows."""
MAX_IDS = 1 << 20
ACCEPTED, DENIED, BUSY, START, WITHDRAWN = "accepted", "denied", "busy", "start", "withdrawn"


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


class Service:
    """Jobs of one node, its own and the others'."""

    def __init__(self, config: NodeConfig, node: Node) -> None:
        self.me = config.name
        self.log = node.mesh.log
        self.records: dict[str, Record] = {}
        self._config = config
        self._node = node
        self._mesh = node.mesh
        self._ids: set[str] = set()
        self._held: dict[str, Table] = {}
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._verdicts: dict[str, asyncio.Queue[tuple[str, str]]] = {}
        self._mesh.subscribe(self)

    async def close(self) -> None:
        """Cancel everything."""
        self._mesh.unsubscribe(self)
        tasks = list(self._running.values())
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
        describe("check", self._mesh, task.parties, task.program)
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
            record.state = f"busy: {busy}"
            if time.monotonic() > deadline:
                raise Refused(busy, f"is busy: it serves max_jobs = {self._limit(busy)} at once. Try again later, or raise max_jobs there.")
            tell(f"{busy} is busy; asking again")
            await asyncio.sleep(0.05 + secrets.randbelow(400) / 1000)

    def _limit(self, name: str) -> str:
        return str(self._config.max_jobs) if name == self.me else "its limit"

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
                raise PeerLost(missing[0], f"did not come within {wait:g} s ({self._mesh.problem(missing[0])}). Start it, or raise --wait.")
            await asyncio.sleep(0.05)

    async def _propose(self, record: Record, table: Table, deadline: float, tell: Tell) -> str | None:
        """Ask everyone; None if all accepted and this node has a place too, else who is busy."""
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
                pending.discard(name)
                if verdict in (DENIED, WITHDRAWN):
                    raise Refused(name, "denied the job" if verdict == DENIED else "was lost before it answered")
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
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise

    # -- running -----------------------------------------------------------------------------------------------

    def _hold(self, job: str, table: Table) -> bool:
        if len(self._held) >= self._config.max_jobs:
            return False
        self._held[job] = table
        return True

    def _start(self, record: Record, table: Table, tell: Tell) -> asyncio.Task[dict[str, Any] | None]:
        record.state = "running"
        work = asyncio.create_task(self._work(record, table, tell))
        self._running[record.id] = work
        return work

    async def _work(self, record: Record, table: Table, tell: Tell) -> dict[str, Any] | None:
        task = record.task
        # With its version: two versions of a protocol disagree before anything is shared.
        named = f"{task.protocol}@{PROGRAMS[task.protocol].version} {task.program}"
        try:
            async with self._node.session(record.id, parties=task.parties, program=named, all_present=True) as s:
                tell("started")
                record.result = await s.run(PROGRAMS[task.protocol].run, table, task)
            record.state = "done"
        except BaseException as fault:
            self._over(record, fault)
            raise
        finally:
            self._held.pop(record.id, None)
            self._running.pop(record.id, None)
        return record.result

    def _over(self, record: Record, fault: BaseException) -> None:
        if record.state in ("cancelled", "failed"):
            return
        record.state = "cancelled" if isinstance(fault, asyncio.CancelledError) else "failed"
        record.error = f"{type(fault).__name__}: {fault}" if isinstance(fault, BeaverError) else type(fault).__name__
        self.log.warning("job=%s phase=%s %s", record.id, record.state, record.error)

    def _new_record(self, job: str, task: Task, asker: str, state: str) -> Record:
        while len(self.records) >= KEPT and (over := next((key for key in self.records if key not in self._held), None)):
            del self.records[over]
        self._ids.add(job)
        record = self.records[job] = Record(job, task, asker, state)
        return record

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
            work = asyncio.create_task(self._consider(name, body["job"], body["task"]))
            self._running[f"consider {body['job']} {name}"] = work
            work.add_done_callback(lambda _: self._running.pop(f"consider {body['job']} {name}", None))
        elif body["kind"] == "answer" and body["job"] in self._verdicts:
            self._verdicts[body["job"]].put_nowait((name, body["verdict"]))
        elif body["kind"] == "answer":
            self._concluded(name, body["job"], body["verdict"])

    async def _consider(self, name: str, job: str, data: dict[str, Any]) -> None:
        verdict, why = DENIED, ""
        try:
            if not ID.fullmatch(job) or job in self._ids or len(self._ids) >= MAX_IDS:
                msg = "the job's id was used before, or is none"
                raise ConfigError(msg)
            self._ids.add(job)
            task = unpack_task(data)
            table = await asyncio.to_thread(admit, self._config, self._mesh.roster, task)
            verdict = ACCEPTED if self._hold(job, table) else BUSY
            record = self._new_record(job, task, name, verdict)
            why = "" if verdict == ACCEPTED else f": {self._config.max_jobs} jobs are running"
            if verdict == BUSY:
                del self.records[record.id]
        except LocalFault as fault:
            # The reason stays here: elsewhere it is only "denied".
            why = f": {fault}"
        self.log.info("job=%s peer=%s phase=%s%s", job, name, verdict, why)
        self._send(name, kind="answer", job=job, verdict=verdict)

    def _concluded(self, name: str, job: str, verdict: str) -> None:
        record = self.records.get(job)
        if record is None or record.asker != name or record.state != ACCEPTED:
            return
        if verdict == START:
            work = self._start(record, self._held[job], lambda _: None)
            # Told in the log and the record; nobody waits for it here.
            work.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        else:
            self._release(record)

    def _release(self, record: Record) -> None:
        self._held.pop(record.id, None)
        record.state = WITHDRAWN

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
        for record in self.records.values():
            if record.asker == name and record.state == ACCEPTED:
                self._release(record)
        for job, verdicts in self._verdicts.items():
            if name in self.records[job].task.parties:
                verdicts.put_nowait((name, WITHDRAWN))
