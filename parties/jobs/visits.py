"""The clients whose jobs this node has accepted: where their rows come in, where their results go out, and what they hear of the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mpc.errors import BeaverError, Disagreement, PeerLost, PolicyDenied, Refused
from mpc.messaging.departure import ROOM, Departure, according_to
from mpc.messaging.visit import Visit
from parties.jobs.endings import DENIED, UNWRITTEN, denied_by, unwritten
from parties.jobs.proposals import CANCELLED, DONE, say

if TYPE_CHECKING:
    from collections.abc import Collection

    from mpc.network.mesh import Mesh
    from parties.jobs.records import Record


DIFFERS = "disagreement"
"""What a client hears if its rows mean something else than this party's."""
_SHOWN = ("lost", "misbehaved", "program", DIFFERS, CANCELLED)


class Visits:
    """One visit for each accepted job of a client.  A client has one at a time here, which limits what it can make this node hold."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._open: dict[str, Visit] = {}

    def of(self, job: str) -> Visit | None:
        """Return the visit for a job if a client asked for the job."""
        return self._open.get(job)

    def obstacle(self, record: Record) -> str:
        """Return why the job of a client cannot start now; empty if it can.

        A party that proposes sees for itself whether the dealer is there.
        """
        dealer = self._mesh.roster.dealer
        if record.task.client is None:
            return ""
        if any(visit.client == record.asker for visit in self._open.values()):
            return "another of its jobs runs here"
        return f"{dealer.name}, the dealer, is not connected" if dealer and self._mesh.missing([dealer.name]) else ""

    def open(self, record: Record, digest: bytes) -> None:
        """Expect the client of a job, before it hears that the job is accepted.  Does nothing for a job that a party proposed."""
        channel = self._mesh.channel(record.asker)
        if record.task.client is not None and channel is not None:
            self._open[record.id] = Visit(channel, digest, record.asker, self._mesh.window)

    def close(self, job: str) -> None:
        """Close the visit for a job that was never started."""
        if (visit := self._open.pop(job, None)) is not None:
            visit.close()

    def over(self, record: Record, fault: BaseException | None) -> None:
        """Tell the client how its job ended."""
        if record.id in self._open:
            reason, party = _ending(fault, self._mesh.identity.name, record.task.parties)
            say(self._mesh, [record.asker], kind="ended", job=record.id, reason=reason, party=party)
            self.close(record.id)


def _ending(fault: BaseException | None, me: str, parties: Collection[str]) -> tuple[str, str]:
    """Return what a client hears: a reason from a fixed list, and the member that it is about.

    A member that refuses and is no party is the dealer, which denies nothing.
    """
    match fault:
        case None:
            return DONE, me
        case BeaverError() if fault.ending == UNWRITTEN:
            return UNWRITTEN, fault.party or me
        case Refused():
            return DENIED if fault.party in parties else ROOM, fault.party
        case PolicyDenied():
            return DENIED, me
        case asyncio.CancelledError():
            return CANCELLED, me
        case _:
            told = Departure.of(fault, me, "")
            return told.reason, told.party


def heard(name: str, reason: str, party: str, me: str) -> BeaverError:
    """Return the fault that the party `name` reports to the client `me`.  Its text has only words of ours, none of `name`."""
    if reason == DENIED:
        return denied_by(party, name)
    if reason == UNWRITTEN and party != me:
        return unwritten(party, name)
    if reason == ROOM and party != me:
        return Refused(
            party,
            f"has no room for the job: let it be smaller, or ask again later; the log of {name} says which{according_to(name, party)}",
        )
    if party == me and reason == DIFFERS:
        return Disagreement(
            name,
            "describes the job, or the units or categories of its columns, otherwise than this client; its log says which. "
            "Declare the same everywhere.",
        )
    told = reason if reason in _SHOWN else "gone"
    if party == me:
        return PeerLost(name, f"ended the job, since it found this client {told}; run it again")
    if party == name:
        return PeerLost(name, f"ended the job: {told}; its log says why")
    return PeerLost(party, f"the job ended, since {name} found it {told}; run it again")


__all__ = ["Visits", "heard"]
