"""Why a session ended, as its members tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mpc.errors import BeaverError, Disagreement, PeerLost, PeerMisbehaved

if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_PLACE = 1 << 12
"""Characters of a place in a program that are believed; deep calls have long ones."""


class Departure(NamedTuple):
    """Why a session ended, whom the reason is about, and who saw it where; other members pass it on unchanged."""

    reason: str
    party: str
    by: str
    at: str


def departure(fault: BaseException, me: str, at: str) -> Departure:
    """What to tell of `fault`.  From fixed lists only: an abort carries no secret-dependent text."""
    match fault:
        case PeerLost():
            return Departure("lost", fault.party, me, at)
        case Disagreement():
            return Departure("disagreement", fault.party, me, at)
        case PeerMisbehaved():
            return Departure("misbehaved", fault.party, me, at)
        case _:
            return Departure("program", me, me, at)


def reported(name: str, told: Departure, me: str, members: Sequence[str]) -> BeaverError:
    """The fault of which `name` told this member.  It names the same two members everywhere, whoever passed it on."""
    at = told.at if told.at.isprintable() and len(told.at) <= MAX_PLACE else "a place without a name"
    about = told.party if told.party in members else name
    by = told.by if told.by in members and told.by != me else name
    text = {
        "lost": f"was lost at {at}, says {by}",
        "disagreement": f"disagrees with {by} at {at}: they run different programs, shapes or settings",
        "misbehaved": f"sent {by} what the wire format does not allow, at {at}",
    }.get(told.reason, f"left at {at}: its program ended there")
    if about == me:
        about, text = by, f"ended the session at {at}, since it found this party {told.reason}"
    return (Disagreement if told.reason == "disagreement" else PeerLost)(about, text)
