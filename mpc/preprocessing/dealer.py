"""The dealing side: rebuilds whole masks, and sends one correction to one party for every relation (paper: beaver91).

The dealer never computes, never sees an input or an opening, and is never a party. What it receives depends on the program and public
shapes only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpc.errors import BeaverError, PeerMisbehaved
from mpc.messaging.agreement import Agreement
from mpc.messaging.departure import NO_ROOM
from mpc.messaging.job import describe
from mpc.preprocessing.dealing import DealerSession
from mpc.preprocessing.memory_budget import MemoryBudget
from mpc.preprocessing.memory_limit import half_of_all

if TYPE_CHECKING:
    from mpc.framing import wire
    from mpc.ledger import Books, Ledger
    from mpc.membership.roster import Roster
    from mpc.messaging.job import Job
    from mpc.messaging.lobby import Key, Lobby
    from mpc.network.mesh import Mesh

MAX_SESSIONS = 128
"""Sessions that are served, or wait for members, at once. A member with as many of them as places are left gets no more, so that others
find places.
"""
MAX_JOINING = 16
"""Sessions of one member that wait for others."""
KEPT = 200
"""Sessions that `Dealer.served` remembers: more than are served at once."""
JOINING, RUNNING = "joining", "running"
DONE, FAILED, ABANDONED = OUTCOMES = ("done", "failed", "abandoned")


@dataclass(slots=True, eq=False)
class Served:
    """The dealer's record of one session."""

    job: str
    parties: tuple[str, ...]
    key: Key
    state: str = JOINING
    since: float = field(default_factory=time.time)
    cost: Ledger | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to the session."""
        return self.state not in {JOINING, RUNNING}


class Dealer:
    """Serves every job that parties of the roster propose, for the life of the mesh.

    `served` are the current and the most recent sessions, `outcomes` the number that ended in each way.
    """

    def __init__(self, mesh: Mesh, lobby: Lobby, books: Books) -> None:
        self.served: list[Served] = []
        self.outcomes: Counter[str] = Counter()
        self._mesh = mesh
        self._lobby = lobby
        self._books = books
        self._memory = MemoryBudget(half_of_all())
        self._jobs: dict[Key, asyncio.Task[None]] = {}
        """By name and parties, since sets of parties may use one name; a party runs one job of a name at a time."""
        self._closing = False
        lobby.on_join.append(self._joined)
        lobby.serving = self._jobs
        mesh.subscribe(self)

    def _joined(self, name: str, join: wire.Body) -> None:
        said = join["description"].get("roster")
        roster = self._roster_of(said)
        try:
            described = self._described(name, join, roster)
        except PeerMisbehaved:
            if said == roster.digest:
                raise
            # It may be a job by a roster that this dealer does not have yet, or any more: nobody is cut off for that.
            self._mesh.log.warning(
                "peer=%s phase=refused a job of another roster than counts here; see that both use the same version", name
            )
            return
        key = self._lobby.key(described.name, described.members)
        if key in self._jobs:
            return
        held = [each.state for each in self.served if self._has(name, each)]
        if len(held) >= MAX_SESSIONS - len(self._jobs) or held.count(JOINING) >= MAX_JOINING:
            self._log(described.name).warning(
                "peer=%s phase=refused %d sessions are being served, of which it takes part in %d, "
                "and for %d that wait for others it has waited longest",
                name,
                len(self._jobs),
                held.count(RUNNING),
                held.count(JOINING),
            )
            if (channel := self._mesh.channel(name)) is not None:
                me = self._mesh.identity.name
                channel.control(kind="withdraw", job=described.name, reason=NO_ROOM, party=me, answers=join["nonce"])
            return
        # Remembered now: many may arrive before the first of their tasks begins.
        served = self._remember(described)
        self._jobs[key] = asyncio.create_task(self._serve(described, served))

    def _has(self, name: str, served: Served) -> bool:
        """Whether a session takes one of the places that `name` may have."""
        # A waiting session counts for the member that has waited longest, not its announcer: one that left it to a member that never
        # confirms takes no place.
        return self._lobby.first(served.key) == name if served.state == JOINING else served.state == RUNNING and name in served.parties

    def _described(self, name: str, join: wire.Body, roster: Roster) -> Job:
        """The job that `name` joins, as this dealer describes it; PeerMisbehaved if this roster allows no such job."""
        members = join["members"]
        if not all(isinstance(member, str) and member in roster for member in members) or name not in members:
            raise PeerMisbehaved(name, "proposed a job with members that are not in the roster")
        program, terms = join["description"].get("program"), join["description"].get("terms")
        if not isinstance(terms, dict) or not all(isinstance(text, str) for pair in terms.items() for text in pair):
            raise PeerMisbehaved(name, "proposed a job whose terms are not text")
        try:
            parties, said = tuple(members[:-1]), program if isinstance(program, str) else ""
            job = describe(join["job"], self._mesh, parties, said, terms, roster)
        except BeaverError as fault:
            raise PeerMisbehaved(name, f"proposed a job that cannot run ({fault})") from fault
        if list(job.members) != members:
            # The job's other members would be searched among these members, where none of them is.
            raise PeerMisbehaved(name, "proposed a job with members in another order than all have")
        return job

    def _roster_of(self, digest: object) -> Roster:
        """The roster of a job: parties that have not taken the newest one yet, or began before it, continue with the one before.

        Nobody regains access by it: a member that is not in the newest one, or has another key there, is not connected.
        """
        former = self._mesh.former
        return former if former is not None and former.digest == digest else self._mesh.roster

    def _log(self, job: str) -> logging.LoggerAdapter[logging.Logger]:
        return logging.LoggerAdapter(self._mesh.log, {"job": job})

    async def _serve(self, job: Job, served: Served) -> None:
        log = self._log(job.name)
        outcome = ABANDONED
        try:
            if self._lobby.first(served.key) is None:
                # The announcer withdrew it before this began.
                return
            agreed = await Agreement(self._mesh, self._lobby, job).reach()
            log.info("phase=started parties=%s", ",".join(job.parties))
            with self._books.ledger() as served.cost:
                served.state = RUNNING
                await DealerSession(agreed, self._mesh, served.cost, self._memory).serve()
            log.info("phase=done")
            outcome = DONE
        except BeaverError as fault:
            log.warning("phase=failed %s", fault)
            outcome = FAILED
        except Exception:
            # A fault of ours in one job is logged, and ends neither the dealer nor its other jobs.
            log.exception("phase=failed by a fault of the dealer itself")
            outcome = FAILED
        finally:
            served.state = outcome
            self.outcomes[outcome] += 1
            del self._jobs[served.key]
            self._lobby.drop_empty(served.key)
            for name, join in () if self._closing else self._lobby.waiting(served.key):
                try:
                    self._joined(name, join)
                except PeerMisbehaved as fault:
                    # It arrived before the roster that forbids it: dropped, so that it costs the others none of their jobs.
                    log.warning("peer=%s phase=refused %s", name, fault.text)

    def _remember(self, job: Job) -> Served:
        if len(self.served) >= KEPT:
            # There is one: fewer are served at once.
            self.served.remove(next(each for each in self.served if each.over))
        self.served.append(served := Served(job.name, job.parties, self._lobby.key(job.name, job.members)))
        return served

    async def close(self) -> None:
        """End every session, and begin none that still waits."""
        self._closing = True
        self._lobby.on_join.clear()
        tasks = list(self._jobs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._mesh.unsubscribe(self)

    def peer_up(self, name: str) -> None:
        """Nothing to do: the lobby and the sessions see it themselves."""

    def peer_down(self, name: str, fault: BeaverError) -> None:  # noqa: ARG002  whoever it was
        """Give up jobs for which nobody waits any more."""
        self._drop_abandoned()

    def control(self, name: str, body: wire.Body) -> None:  # noqa: ARG002  the sender does not matter
        """Give up jobs for which nobody waits any more: this may be a withdrawal."""
        if body["kind"] == "withdraw":
            self._drop_abandoned()

    def _drop_abandoned(self) -> None:
        for job, task in self._jobs.items():
            if self._lobby.watched(job) and not self._lobby.attempt(job).joins:
                task.cancel()
