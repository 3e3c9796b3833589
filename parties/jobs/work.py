"""One job that everyone signed, at this party: from reading its data to a result that may be handed over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mpc.errors import ConfigError, Disagreement, PeerLost, PolicyDenied
from parties.datasets import meaning
from parties.jobs.endings import UNWRITTEN
from parties.jobs.pool import large_enough
from parties.jobs.proposals import JOB
from parties.jobs.records import named
from parties.jobs.states import Computing, Done, Ending, Joining, Started
from parties.policy import check_difference, check_limits, rows_for, too_few
from parties.programs import PROGRAMS
from parties.reading import Reading, in_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.messaging.visit import Visit
    from mpc.node import Node
    from mpc.ring import Words
    from mpc.session import Session
    from parties.auditing.journal import Journal
    from parties.data import Table
    from parties.jobs.admission import Admission
    from parties.jobs.records import Record
    from parties.policy import Rows

    Tell = Callable[[str], None]


class Work:
    """`await complete()` once.  `session` is set as soon as all members have joined."""

    def __init__(
        self,
        admission: Admission,
        node: Node,
        journal: Journal,
        record: Record,
        signatures: dict[str, bytes],
        tell: Tell,
        visit: Visit | None,
    ) -> None:
        self.session: Session | None = None
        self._admission = admission
        self._config = admission.under(record)
        self._node = node
        self._journal = journal
        self._record = record
        self._signatures = signatures
        self._tell = tell
        self._visit = visit
        self._reading: Reading[Rows] | None = None

    async def complete(self) -> Done:
        """Run the job to its end, which its record then has.

        If another party ended the job meanwhile, which cancels this call, raises that fault.
        """
        record = self._record
        try:
            done = await self._run()
        except asyncio.CancelledError:
            if record.ended is None:
                raise
            raise record.ended from None
        record.becomes(done)
        return done

    async def _run(self) -> Done:
        """Return the end of the job once it is in the audit log.

        Whatever this raises before the record is Joining ends the job before anyone has shared anything.
        """
        record = self._record
        self._check_signatures()
        terms = meaning(self._config, record.task)
        self._compare(terms)
        # Counted before anything is awaited, so that two jobs that start together do not both pass for the last one allowed.
        check_limits(self._config.rules, self._admission.history, record.task)
        await self._started(self._journal.starting(record))
        self._tell("reading")
        own = await self._rows()
        use = self._journal.use(record, own.counted)
        check_difference(self._config.rules, self._admission.history, use)
        self._admission.history.begins(use)
        record.effort.rows = use.rows
        try:
            return await self._shared(own.table, terms)
        finally:
            self._admission.history.ends(record.id, left=self.session is not None and bool(self.session.releases))

    async def _shared(self, table: Table, terms: dict[str, str]) -> Done:
        """Return the end of the job, once this party's rows are there."""
        record = self._record
        words = await self._given()
        if record.ended is not None:
            raise record.ended
        record.becomes(Joining())
        s, result = await self._computed(table, words, terms)
        # The other parties have the result: what the log says of the job from here on is what happened.
        record.becomes(Ending())
        return Done(result, await self._journal.done(record, s, result))

    async def _started(self, overlaps: dict[str, dict[str, Any]]) -> None:
        """Write the job's start into the audit log.  It is there when this returns, and also when this raises CancelledError."""
        try:
            await self._journal.started(self._record, self._signatures, overlaps)
        except Exception as fault:
            self._admission.history.unstarted(self._record.id)
            if isinstance(fault, ConfigError):
                fault.ending = UNWRITTEN
            raise
        except asyncio.CancelledError:
            self._is_started()
            raise
        self._is_started()

    def _is_started(self) -> None:
        self._journal.counts(self._record)
        self._record.becomes(Started())

    def _check_signatures(self) -> None:
        """Raise Disagreement if one of the parties did not sign the job: then nothing is read."""
        record, mesh = self._record, self._node.mesh
        digest = self._admission.digest(record)
        for name in record.task.signers:
            signature = self._signatures.get(name)
            # Checked with the keys of now: a key that was revoked since signs nothing.
            if not isinstance(signature, bytes) or name not in mesh.roster or not mesh.roster[name].signed(JOB, digest, signature):
                raise Disagreement(name, "its signature of this job is missing or wrong, so its data is not read")

    async def _rows(self) -> Rows:
        """Return this party's rows.  Raises ConfigError if reading them takes longer than the configuration allows."""
        task = self._record.task
        self._reading = Reading(lambda halt: rows_for(self._config, task, halt))
        return await (in_time(self._reading, self._config, task.dataset) if task.dataset else self._reading.within(None))

    def when_free(self, told: Callable[[], None]) -> None:
        """Call `told` once nothing of this job runs any more.  A reading that could not be stopped may outlast the job."""
        reading = self._reading
        if reading is None or reading.over.done():
            told()
        else:
            self._node.mesh.log.warning(
                "job=%s keeps its place until its data's reading ends, which cannot be interrupted", self._record.id
            )
            reading.over.add_done_callback(lambda _: told())

    async def _given(self) -> Words | None:
        """Return this party's share of the client's rows, or None if the client gives none."""
        client, visit = self._record.task.client, self._visit
        if client is None or not client.rows:
            return None
        if visit is None:
            raise PeerLost(client.name, "was lost before the job started")
        patience = self._node.mesh.clocks.join
        shape = (client.rows, len(self._record.task.columns))
        try:
            async with asyncio.timeout(patience):
                return await visit.receive_portion(
                    shape, bytes.fromhex(client.portions[self._config.name]), first=self._config.name == min(client.portions)
                )
        except TimeoutError:
            raise PeerLost(
                client.name, f"is connected but did not send its rows within {patience:g} s; it must run the job again"
            ) from None

    async def _computed(self, table: Table, words: Words | None, terms: dict[str, str]) -> tuple[Session, dict[str, Any] | None]:
        """Return the session and the result.  Raises PolicyDenied if the pool is too small for a result."""
        task = self._record.task
        visit = self._visit if task.told else None
        joined = self._node.session(
            self._record.id,
            parties=task.parties,
            program=named(task),
            terms=terms,
            all_present=True,
            visit=visit,
            roster=self._config.load_roster(),
        )
        async with joined as s:
            self.session = s
            self._record.effort.begins(s.cost)
            self._record.becomes(Computing())
            self._tell("started")
            try:
                # All parties see the same answer and end the session in order, so none takes the others' denial for a loss.
                if await large_enough(s, task, len(table.rows)):
                    return s, await PROGRAMS[task.protocol].compute(s, table, task, words)
            finally:
                self._record.effort.stops()
        raise too_few(task)

    def _compare(self, terms: dict[str, str]) -> None:
        """Raise Disagreement if the client's rows mean something else than this party's rows, with which they are pooled."""
        task = self._record.task
        if task.client is None or not task.given or not task.dataset or task.client.meaning == terms:
            return
        said = task.client.meaning
        differs = sorted(key for key in terms.keys() | said.keys() if terms.get(key) != said.get(key))
        raise Disagreement(task.client.name, f"describes its columns differently: {', '.join(differs)}. Declare the same everywhere.")


def outcome_of(fault: BaseException) -> str:
    """Return what the audit log calls the end of a started job that had this fault."""
    if isinstance(fault, asyncio.CancelledError):
        return "cancelled"
    return "denied" if isinstance(fault, PolicyDenied) else "failed"
