"""The node of one organisation: it takes proposals, proposes jobs itself, and runs the jobs that all of their parties accepted and signed.

Neither proposing a job nor waiting for approval takes a place.  A node holds a place from accepting a job until the job is over, and gives
the place back if the proposer withdraws.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mpc.errors import BeaverError, ConfigError, Disagreement, LocalFault, PeerLost, PeerMisbehaved, Refused, RemoteFault
from mpc.messaging.agreement import GAVE_UP
from mpc.messaging.departure import NO_ROOM, withdrawal_fault
from parties.auditing.journal import Journal, reason
from parties.jobs.admission import Admission
from parties.jobs.approvals import Approvals, denied, stale
from parties.jobs.endings import LOST, cancelled, given_up, no_place, why
from parties.jobs.job import ID, Task, fresh_id, unpack_task
from parties.jobs.places import Places
from parties.jobs.proposals import ACCEPTED, APART, AWAITS, BUSY, ROWS, START, Proposal, say
from parties.jobs.records import Record, Records
from parties.jobs.states import Accepted, Cancelled, Computing, Ending, Failed, Proposed, Running, Starting, Unshared, Waiting
from parties.jobs.visits import Visits
from parties.jobs.work import Work, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.framing.wire import Body
    from mpc.node import Node
    from parties.auditing.audit import AuditLog
    from parties.config import NodeConfig
    from parties.jobs.states import Done

    Tell = Callable[[str], None]

MAX_WAITING = 16
"""How many jobs of one peer may wait for approval at once; for more this node answers that it is busy."""


class Service:
    """The jobs of one node, its own and those of others."""

    def __init__(self, config: NodeConfig, node: Node, audit: AuditLog) -> None:
        self.me = config.name
        self.log = node.mesh.log
        self.records = Records()
        self._node = node
        self._mesh = node.mesh
        self.admission = Admission(config, node.mesh, self.records, audit.history)
        self.approvals = Approvals(config.name, self.log, self.admission.digest, lambda record: self._over(record, stale()))
        self.journal = Journal(self.admission, node.mesh, audit)
        self._visits = Visits(node.mesh)
        self._places = Places(config.max_jobs, node.mesh.clocks.join)
        self._closing = False
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._proposals: dict[str, Proposal] = {}
        self._proposing: dict[str, asyncio.Task[Any]] = {}
        self._mesh.subscribe(self)

    async def close(self) -> None:
        """Cancel everything."""
        self._mesh.unsubscribe(self)
        self._closing = True
        self._places.close()
        for record in self.records:
            if isinstance(record.state, Waiting) and record.asker != self.me:
                # A waiting job is not kept for the next start: its asker hears that this node is gone, and asks again.
                self.approvals.withdraw(record.id)
                self._over(record, cancelled(record.id, stopped=self._closing))
        for record in self.approvals.void():
            self._over(record, cancelled(record.id, stopped=self._closing))
        tasks = [*self._running.values(), *self._proposing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.journal.close()

    async def renew(self, config: NodeConfig) -> None:
        """Apply `config`, with its policy and roster, from now on.

        Jobs that this party has signed go on as they were; all others are judged again.
        """
        await self.journal.renewed(config)
        # Nothing is awaited from here on, so that no job sees half of the change.
        other = self.admission.follow(config)
        self._mesh.follow(config.load_roster())
        for record in [each for each in (self.approvals.void() if other else ()) if not isinstance(each.state, Accepted)]:
            self._over(record, stale())
        for record in self.records:
            if isinstance(record.state, Proposed | Waiting) and (fault := self.admission.objection(record, other_roster=other)) is not None:
                self._refuse(record, fault)

    # -- own jobs ----------------------------------------------------------------------------------------------

    def asked(self, task: Task, wait: float, tell: Tell) -> Record:
        """Propose a job of this node until all accept it or `wait` seconds have passed.  Return its record; `run` tells how it ends."""
        record = self.records.add(fresh_id(), replace(task, pool=max(task.pool, self.admission.least(task))), self.me)
        # Created in the same step: whoever gives the job up finds the task that proposes it.
        self._proposing[record.id] = asyncio.create_task(self._propose(record, wait, tell))
        return record

    async def run(self, record: Record) -> Done:
        """Run a job that was `asked` for.  Return its end, with the result if this party is a receiver.

        Raises this party's PolicyDenied and ConfigError before anyone is asked, Refused if another party denies or is busy, and PeerLost if
        another does not come.
        """
        try:
            work = await self._proposing[record.id]
        except BaseException as fault:
            if started := self._running.get(record.id):
                # The job was cancelled at the very moment of its start, of which the others know already.
                started.cancel()
                raise
            self._places.free(record.id)
            ended = record.ended if isinstance(fault, asyncio.CancelledError) else None
            self._over(record, ended or fault)
            if isinstance(fault, asyncio.CancelledError) and (ended or self._closing):
                raise ended or cancelled(record.id, stopped=self._closing) from None
            raise
        finally:
            del self._proposing[record.id]
        return await self._follow(record, work)

    async def _propose(self, record: Record, wait: float, tell: Tell) -> asyncio.Task[Done]:
        """Return the running job once everyone was told to start."""
        proposal = Proposal(self._mesh, record, lambda: self.admission.digest(record), wait, tell)
        if self.admission.admits(record.task, self.me):
            tell(f"job {record.id}: waiting for approval at {self.me}")
            await self.approvals.own(record, proposal.left, wait)
        self.admission.digest(record)
        self._proposals[record.id] = proposal
        try:
            full = await proposal.agree(lambda: self._places.full, lambda: self._places.hold(record.id))
        finally:
            del self._proposals[record.id]
        if full is not None:
            raise no_place(full, f"all max_jobs = {self._places.most} places" if full == self.me else "the places of its max_jobs")
        proposal.start(self.admission.sign(record))
        return self._start(record, proposal.signatures, tell)

    async def _follow(self, record: Record, work: asyncio.Task[Done]) -> Done:
        try:
            # Awaited even where the work is over already: `_ended`, a callback that was added before, has been called when this returns.
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise
        if work.cancelled():
            raise record.ended or cancelled(record.id, stopped=self._closing)
        return work.result()

    # -- running -----------------------------------------------------------------------------------------------

    def _start(self, record: Record, signatures: dict[str, bytes], tell: Tell) -> asyncio.Task[Done]:
        record.becomes(Starting())
        work = Work(self.admission, self._node, self.journal, record, signatures, tell, self._visits.of(record.id))
        running = asyncio.create_task(work.complete())
        self._running[record.id] = running
        # A callback, and not part of `complete`: a task that is cancelled before its first step runs nothing of its body.
        running.add_done_callback(lambda done: self._ended(record, work, done))
        return running

    def _ended(self, record: Record, work: Work, done: asyncio.Task[Done]) -> None:
        work.when_free(lambda: self._places.free(record.id))
        self._running.pop(record.id, None)
        # A task that was cancelled before its first step could not say itself who ended the job.
        fault = (record.ended or asyncio.CancelledError()) if done.cancelled() else done.exception()
        self._visits.over(record, fault)
        if fault is None:
            return
        if isinstance(record.state, Unshared) and record.ended is None:
            # The others must not wait for this party's data.
            about = fault.party if isinstance(fault, PeerLost | PeerMisbehaved | Refused) else self.me
            self._decline(record, about, why(fault))
        self._over(record, fault, work)

    def _over(self, record: Record, fault: BaseException, work: Work | None = None) -> None:
        """End a job badly: here, in the log and in the audit log."""
        self.approvals.spend(record.id, record.asker)
        logged, outcome = record.state.logged, outcome_of(fault)
        if isinstance(fault, asyncio.CancelledError):
            fault = cancelled(record.id, stopped=self._closing)
            record.becomes(Cancelled(reason(fault)))
        else:
            record.becomes(Failed(reason(fault)))
        self.log.warning("job=%s phase=%s %s", record.id, record.state.name, record.error, extra={"error": type(fault).__name__})
        if work is not None and logged:
            self.journal.failed(record, work.session, outcome, fault)
        else:
            self.journal.declined(record.id, record.asker, record.task, fault)

    def cancel(self, job: str) -> None:
        """End a job here, and so everywhere."""
        if job not in self._running:
            msg = f"no job {job!r} is running here; `beaver jobs list` lists them"
            raise ConfigError(msg)
        if (record := self.records.get(job)) is not None and isinstance(record.state, Ending):
            msg = f"job {job!r} is done, and its end is being written into the audit log: it is too late to cancel it"
            raise ConfigError(msg)
        self._running[job].cancel()

    # -- the others' jobs --------------------------------------------------------------------------------------

    def control(self, name: str, body: Body) -> None:
        """Take a control message: a proposal, an answer to one of ours, or the end of a job before it began."""
        if body["kind"] == "propose":
            if not ID.fullmatch(body["job"]):
                raise PeerMisbehaved(name, "proposed a job whose id is none")
            self._proposed(name, body["job"], body["task"])
        elif body["kind"] == "answer" and body["job"] in self._proposals:
            self._proposals[body["job"]].heard(name, body)
        elif body["kind"] == "answer":
            self._concluded(name, body)
        elif body["kind"] == "decline":
            self._declined(name, body)
        elif body["kind"] == "withdraw" and body["reason"] in (GAVE_UP, NO_ROOM):
            self._gave_up(name, body)

    def _answer(self, name: str, job: str, verdict: str, why: str = "told so", **more: Any) -> None:
        self.log.info("job=%s peer=%s phase=%s %s", job, name, verdict, why)
        say(self._mesh, [name], kind="answer", job=job, verdict=verdict, **{"signatures": {}, "rows": 0, **more})

    def _proposed(self, name: str, job: str, data: dict[str, Any]) -> None:
        task = None
        try:
            task = unpack_task(data)
            ask = self.admission.proposed(job, name, task)
        except (LocalFault, Disagreement) as fault:
            # The reason stays here: others only hear "denied", or that categories differ.
            self.records.spend(job, name)
            self.approvals.spend(job, name)
            self._answer(name, job, why(fault), str(fault))
            self.journal.declined(job, name, task, fault)
            return
        if (least := self.admission.least(task)) > task.pool:
            self._answer(name, job, ROWS, rows=least)
            return
        record = self.records.add(job, task, name)
        # Asked in any case: a standing approval belongs to this job even if a newer policy wants none.
        if self.approvals.given(record) or not ask:
            self._accept(record)
        elif sum(each.asker == name and isinstance(each.state, Waiting) for each in self.records) >= MAX_WAITING:
            self._not_now(record, BUSY, f"{MAX_WAITING} of its jobs wait for approval")
        else:
            self._answer(name, job, AWAITS)
            self.approvals.ask(record, self._decided)

    def _decided(self, record: Record, approved: bool) -> None:  # noqa: FBT001
        if approved:
            self._accept(record)
            return
        self._refuse(record, denied())

    def _refuse(self, record: Record, fault: LocalFault | Disagreement) -> None:
        """Deny another member's job that this party has not signed, or give up a job of its own."""
        if record.asker == self.me:
            record.ended = fault
            self._proposing[record.id].cancel()
            return
        # Spent even if the job was approved and then withdrawn: it must not come again.
        self.records.spend(record.id, record.asker)
        self._answer(record.asker, record.id, why(fault), str(fault))
        self._release(record, fault)

    def _not_now(self, record: Record, verdict: str, why: str) -> None:
        self._release(record)
        self._answer(record.asker, record.id, verdict, why)

    def _accept(self, record: Record) -> None:
        if obstacle := self._visits.obstacle(record):
            self._not_now(record, BUSY, obstacle)
            return
        if missing := self._mesh.missing(name for name in self.admission.members(record) if name != self.me):
            # A job that begins without a connection ends badly everywhere; a little later the connection may be back.
            self._not_now(record, APART, f"{', '.join(missing)} not connected here")
            return
        if not self._places.hold(record.id, record.asker):
            self._not_now(record, BUSY, "no place: jobs run, or were accepted and have not started")
            return
        signature = self.admission.sign(record)
        self._visits.open(record, self.admission.digest(record))
        record.becomes(Accepted())
        self._places.expect(record.id, record.asker, lambda: self._lapse(record))
        self._answer(record.asker, record.id, ACCEPTED, signatures={self.me: signature})

    def _lapse(self, record: Record) -> None:
        self.log.warning("job=%s phase=withdrawn %s did not start it within %g s", record.id, record.asker, self._places.patience)
        self._release(record)

    def _concluded(self, name: str, body: Body) -> None:
        job, verdict = body["job"], body["verdict"]
        record = self.records.get(job)
        if verdict == START and (record is None or record.over):
            # The start comes too late: `name` must not wait for this party.
            say(self._mesh, [name], kind="withdraw", job=job, reason=GAVE_UP, party=self.me, answers=b"")
        if record is None or record.asker != name or not isinstance(record.state, Accepted | Waiting):
            return
        if verdict == START and isinstance(record.state, Accepted):
            self._places.starts(job)
            self.approvals.spend(job, name)
            signatures = {each: body["signatures"].get(each, b"") for each in record.task.signers}
            # The log and the record tell its progress; nobody waits for it here.
            self._start(record, signatures, lambda _: None)
        else:
            self._forgo(record, PeerLost(name, "withdrew the job while it waited for approval here"))

    def _forgo(self, record: Record, why: PeerLost) -> None:
        if isinstance(record.state, Waiting):
            self.journal.declined(record.id, record.asker, record.task, why)
        self._release(record)

    def _release(self, record: Record, fault: BeaverError | None = None) -> None:
        """Give back the place of a job that was never started; with `fault`, for good."""
        self.approvals.withdraw(record.id)
        self._places.free(record.id)
        self._visits.close(record.id)
        if fault is None:
            self.records.forget(record)
            self.approvals.keep(record)
        else:
            self._over(record, fault)

    # -- jobs that end before they begin -----------------------------------------------------------------------

    def _decline(self, record: Record, party: str, why: str) -> None:
        """Tell all other parties who ended the job."""
        say(self._mesh, [name for name in record.task.parties if name != self.me], kind="decline", job=record.id, party=party, reason=why)

    def _declined(self, name: str, body: Body) -> None:
        record = self.records.get(body["job"])
        if record is None or name not in record.task.signers:
            return
        party = body["party"] if body["party"] in self.admission.members(record) and body["party"] != self.me else name
        fault = given_up(party, body["reason"], record.task, name)
        # A job of this node itself that waits here was proposed to nobody yet.
        waits = isinstance(record.state, Waiting) and record.asker != self.me and name in (record.asker, party)
        # A party that has started may be done with the job before this party is told to start.
        if isinstance(record.state, Accepted) or waits:
            self._release(record, fault)
        elif isinstance(record.state, Running):
            self._end(record, fault)

    def _gave_up(self, name: str, body: Body) -> None:
        """End a job that `name` left and this party has accepted or is reading for: it would later wait for `name` in vain."""
        record = self.records.get(body["job"])
        if record is None or name not in record.task.parties:
            return
        fault = withdrawal_fault(
            name, body["party"], [member for member in self.admission.members(record) if member != self.me], body["reason"]
        )
        if isinstance(record.state, Accepted):
            self._release(record, fault)
        elif isinstance(record.state, Unshared):
            self._end(record, fault)

    def _end(self, record: Record, fault: RemoteFault) -> None:
        """End a job that runs here and has not begun, because another party ended it."""
        if record.ended is not None or isinstance(record.state, Computing) or record.id not in self._running:
            return
        record.ended = fault
        # Sent before this party's own goodbye: a peer that hears the goodbye first would take this party for the one that left.
        self._decline(record, fault.party, why(fault))
        if not isinstance(record.state, Unshared) or not isinstance(fault, Refused):
            self._running[record.id].cancel()
        # Otherwise the job ends after reading: a fault in this party's own data is more useful here than another party's denial.

    def peer_up(self, name: str) -> None:
        """Do nothing."""

    def peer_down(self, name: str, fault: BeaverError) -> None:  # noqa: ARG002  the mesh tells why
        """Void what `name` proposed and did not start, and give up its answers.

        The other parties are told, since a client may have told one of them to start.
        """
        gone = PeerLost(name, "was lost before the job started")
        for record in self.approvals.void(name):
            self.journal.declined(record.id, record.asker, record.task, gone)
        for record in self.records:
            if record.asker == name and isinstance(record.state, Accepted | Waiting):
                if record.task.client is not None:
                    self._decline(record, name, LOST)
                self._forgo(record, gone)
            elif isinstance(record.state, Unshared) and name in self.admission.members(record):
                self._end(record, gone)
        for proposal in self._proposals.values():
            proposal.lost(name)
