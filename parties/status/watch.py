"""What a node's operator wants to know, put together from what the node counts anyway."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from mpc.errors import BeaverError
from mpc.membership.endpoints import format_endpoint
from mpc.membership.roster import transport_between
from parties.auditing.verification import TORN, Verification
from parties.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpc.framing.wire import Body
    from mpc.ledger import Ledger
    from mpc.membership.members import Member
    from mpc.network.peer import Traffic
    from mpc.node import Node
    from parties.auditing.audit import AuditLog
    from parties.config import NodeConfig
    from parties.jobs.service import Service

EVERY = 10.0
"""Seconds between two questions to a peer, of some hundred bytes each."""
PATIENCE = 5.0
SHARE = 50
"""A long log is verified less often: verifying waits this many times as long as the last verification took."""
UP, DOWN, INTERRUPTED = "up", "down", "interrupted"


@dataclass(slots=True)
class Contact:
    """One peer: since when it has been there or not, and what the last question to it showed."""

    member: Member
    since: float = field(default_factory=time.time)
    round_trip: float | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """One job, without its columns, its data and its result.  `fault` is the kind of the fault that ended it."""

    id: str
    protocol: str
    asker: str
    parties: tuple[str, ...]
    state: str
    phase: str
    since: float
    cost: Ledger | None
    fault: str
    over: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the last verification of the audit log found: the first fault, or nothing."""

    at: float
    entries: int
    fault: str


class Watch:
    """`async with` it as long as the node runs.  A dealer has neither `service` nor `audit`."""

    def __init__(self, config: NodeConfig, node: Node, service: Service | None, audit: AuditLog | None) -> None:
        self._config = config
        self.node = node
        self.service = service
        self.audit = audit
        self.verdict: Verdict | None = None
        self.since = time.time()
        self._mesh = node.mesh
        self._contacts: dict[str, Contact] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def config(self) -> NodeConfig:
        """The configuration that applies now."""
        return self._config if self.service is None else self.service.admission.config

    async def __aenter__(self) -> Self:
        self._mesh.subscribe(self)
        self._task = asyncio.create_task(self._guarded())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._mesh.unsubscribe(self)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _guarded(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask())
                if self.audit is not None:
                    group.create_task(self._verify(self.audit))
        except Exception:
            # A fault in what is only shown must not end what is computed.
            self._mesh.log.exception("phase=status the page shows old news from here on")

    # -- peers -------------------------------------------------------------------------------------------------

    def contacts(self) -> list[Contact]:
        """Return the peers; a client is one only while it is connected."""
        met = [self._contact(member) for member in self._mesh.roster.members if self._mesh.meets(member.name)]
        return [each for each in met if each.member.role != "client" or self.state(each.member.name) == UP]

    def _contact(self, member: Member) -> Contact:
        contact = self._contacts.setdefault(member.name, Contact(member))
        contact.member = member
        return contact

    def state(self, name: str) -> str:
        """Return whether a peer is connected."""
        channel = self._mesh.channel(name)
        if channel is None:
            return DOWN
        return INTERRUPTED if channel.interrupted else UP

    def traffic(self, name: str) -> Traffic:
        """Return what passed between this node and a peer."""
        return self._mesh.traffic(name)

    def address(self, member: Member) -> str:
        """Return where a peer is met."""
        relay = self._mesh.roster.relay
        if relay is not None and transport_between(self._mesh.roster[self.config.name], member) == "mqtt":
            return relay.url
        return format_endpoint(member.endpoint) if member.endpoint is not None else "dials only"

    def problem(self, name: str) -> str:
        """Return why a peer is not connected; empty if it is."""
        return "" if self.state(name) == UP else self._mesh.problem(name)

    def peer_up(self, name: str) -> None:
        """Note that a peer is connected from now on."""
        self._contact(self._mesh.roster[name]).since = time.time()
        self._news.set()

    def peer_down(self, name: str, fault: BeaverError) -> None:  # noqa: ARG002  the mesh remembers why
        """Note that a peer is gone from now on."""
        contact = self._contacts.get(name)
        if contact is None:
            # The peer was never connected, or took part only in an earlier roster.
            return
        contact.since, contact.round_trip, contact.version = time.time(), None, ""

    def control(self, name: str, body: Body) -> None:
        """Do nothing: no message is shown."""

    async def _ask(self) -> None:
        while True:
            self._news.clear()
            await asyncio.gather(*(self._ask_one(contact) for contact in self.contacts() if self.state(contact.member.name) == UP))
            try:
                async with asyncio.timeout(EVERY):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _ask_one(self, contact: Contact) -> None:
        try:
            contact.round_trip, contact.version = await self.node.checks.round_trip(contact.member.name, PATIENCE)
        except BeaverError:
            # The peer is gone, or too busy: it may answer the next question.
            contact.round_trip = None

    # -- jobs --------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Shown]:
        """Return the known jobs, the newest first."""
        found = self._served() if self.service is None else self._records(self.service)
        return sorted(found, key=lambda job: job.since, reverse=True)

    def _served(self) -> Iterable[Shown]:
        served = self.node.dealer.served if self.node.dealer is not None else []
        return (Shown(each.job, "", "", each.parties, each.state, "", each.since, each.cost, "", each.over) for each in served)

    @property
    def approved(self) -> list[str]:
        """The jobs that someone here approved and that have not started; none at a dealer."""
        known = [] if self.service is None else self.service.approvals.with_standing(self.service.records)
        return [record.id for record in known if record.approval_stands]

    def _records(self, service: Service) -> Iterable[Shown]:
        for record in service.approvals.with_standing(service.records):
            # Only the kind of a fault: its text may name a file or a column.
            fault = record.error.partition(":")[0]
            task, state = record.task, record.state
            yield Shown(
                record.id,
                task.protocol,
                record.asker,
                task.parties,
                state.name,
                state.phase,
                record.since,
                record.effort.cost,
                fault,
                record.over,
            )

    @property
    def outcomes(self) -> Counter[str]:
        """How many jobs ended in each way."""
        if self.service is not None:
            return self.service.journal.tally.outcomes
        return self.node.dealer.outcomes if self.node.dealer is not None else Counter()

    @property
    def denials(self) -> Counter[str]:
        """How many jobs each rule of this organisation denied."""
        return self.service.journal.tally.denials if self.service is not None else Counter()

    # -- the audit log -----------------------------------------------------------------------------------------

    async def _verify(self, audit: AuditLog) -> None:
        every = self.config.status.verify if self.config.status is not None else EVERY
        while True:
            began = time.monotonic()
            # In a thread of its own: a long log takes minutes, and the node may have to end meanwhile.
            self.verdict = await Reading(lambda _: self._verified(audit)).within(None)
            await asyncio.sleep(max(every, SHARE * (time.monotonic() - began)))

    def _verified(self, audit: AuditLog) -> Verdict:
        """Return what `beaver audit verify` would say now, and whether everything is there that this node wrote."""
        head = audit.last
        try:
            fault = TORN
            for _ in range(2):
                # A line that is being written looks torn, once.
                if fault.endswith(TORN):
                    check = Verification(self.config, self.config.earlier_keys, [head])
                    problems = check.problems(audit.path)
                    fault = next((f"{line.file.name}, line {line.number}: {text}" for line, text in problems), "") or check.missing(head)
        except BeaverError as trouble:
            return Verdict(time.time(), 0, str(trouble))
        return Verdict(time.time(), check.chain.number, fault)


__all__ = ["DOWN", "INTERRUPTED", "UP", "Contact", "Shown", "Verdict", "Watch"]
