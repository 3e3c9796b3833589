"""Why a session ended, as its members tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mpc.errors import Disagreement, PeerLost, PeerMisbehaved, Refused, RemoteFault

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


ROOM = "room"
"""The reason of a dealer whose machine is too small for the session: nobody is to blame."""
NO_ROOM = "no room"
"""The reason of a dealer without a place for a job; a party that hears it passes it on to the job's other parties."""
MAX_PLACE = 1 << 12
"""Characters of a place in a program as told by another member; places of deep calls are long."""
ON_ITS_WAY = 1.0
"""Seconds for messages in flight to arrive after a member has ended a session that all have begun."""


class Departure(NamedTuple):
    """Why a session ended, whom the reason concerns, and who saw it where; other members pass it on unchanged."""

    reason: str
    party: str
    by: str
    at: str

    @classmethod
    def of(cls, fault: BaseException, me: str, at: str) -> Departure:
        """The departure to tell for `fault`. Texts come from fixed lists only: an abort carries no secret-dependent text."""
        at = printable_place(at)
        match fault:
            case PeerLost() if fault.party != me:
                return cls("lost", fault.party, me, at)
            case Disagreement():
                return cls("disagreement", fault.party, me, at)
            case PeerMisbehaved():
                return cls("misbehaved", fault.party, me, at)
            case _:
                return cls("program", me, me, at)

    @classmethod
    def told(cls, body: Mapping[str, str]) -> Departure:
        """The departure in a member's `leave`."""
        return cls(body["reason"], body["party"], body["by"], body["at"])


def printable_place(at: str) -> str:
    """The place in a program that a member told, made printable if it can be a place."""
    return at if at.isprintable() and len(at) <= MAX_PLACE else "a place without a name"


def reported(name: str, told: Departure, me: str, members: Sequence[str]) -> RemoteFault:
    """The fault to raise at `me` for the departure `told` by `name`: it names the same two members everywhere, and says whose word it
    is if `name` tells of another member.
    """
    at = printable_place(told.at)
    about = told.party if told.party in members else name
    by = told.by if told.by in members else name
    found = told.reason if told.reason in ("lost", "misbehaved") else "gone"
    kind: type[RemoteFault] = {"disagreement": Disagreement, ROOM: Refused}.get(told.reason, PeerLost)
    if about == me:
        about, by = (by if by != me else name), me
        if kind is not Disagreement:
            return PeerLost(about, f"ended the session at {at}, since it found {me} {found}{according_to(name, about)}")
    text = {
        "lost": f"was lost at {at}" if by == name else f"was lost at {at} to {by}",
        "disagreement": f"disagrees with {by} at {at}: they run different programs, shapes, bounds or settings",
        "misbehaved": f"sent {by} what the wire format does not allow, at {at}",
        ROOM: no_memory(at),
    }.get(told.reason, f"left at {at}: its program ended there (its log says why)")
    return kind(about, text + according_to(name, about))


def no_memory(at: str) -> str:
    """The text for a dealer that has no memory for the program at this place."""
    return (
        f"has no memory for what the program needs of it at {at}; "
        "let the program take smaller pieces, or give the dealer's machine more memory"
    )


def dealer_full(dealer: str, teller: str) -> Refused:
    """The fault of a dealer that has no place for a job."""
    text = "serves as many jobs at once as it can, or as this party may have; run it again when some are over"
    return Refused(dealer, text + according_to(teller, dealer), NO_ROOM)


def withdrawal_fault(name: str, missed: str, others: Collection[str], reason: str) -> PeerLost | Refused:
    """The fault after `name` withdrew from a job: of `name`, or of the member `missed` because of which it withdrew, as that one was
    lost or had no room.
    """
    if missed in others and missed != name:
        if reason == NO_ROOM:
            return dealer_full(missed, name)
        return PeerLost(missed, f"went missing before the job started, says {name}")
    return PeerLost(name, "gave up the job before it started")


def according_to(name: str, about: str) -> str:
    """A phrase that names the source, if `name` is not the member concerned: nothing proves what one member tells of another."""
    return f", says {name}" if name != about else ""
