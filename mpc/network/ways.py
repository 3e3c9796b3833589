"""Whom a member meets by its roster, which of two members dials, and why a peer is unreachable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpc.errors import AuthenticationFailed, ConfigError, PeerLost
from mpc.framing.handshake import key_of
from mpc.membership.endpoints import format_endpoint
from mpc.membership.identity import fingerprint
from mpc.membership.members import meet
from mpc.membership.roster import transport_between
from mpc.transport.link import TOO_MANY, reason

if TYPE_CHECKING:
    from mpc.membership.members import Member
    from mpc.membership.roster import Roster


def dials(me: Member, other: Member) -> bool:
    """Whether `me` dials `other`: the lower name dials, unless only one of the two can be reached. At a broker everyone can be reached.

    A client is there only while it wants something: it dials, and nobody dials it.
    """
    if "client" in (me.role, other.role):
        return me.role == "client" and (other.endpoint is not None or transport_between(me, other) == "mqtt")
    if transport_between(me, other) == "mqtt":
        return me.name < other.name
    if other.endpoint is None:
        return False
    return me.endpoint is None or me.name < other.name


def met(name: str, roster: Roster) -> dict[str, Member]:
    """The members that `name` meets; ConfigError if one of them cannot be reached. A client meets those that it can dial: its job may do
    without the others.
    """
    me = roster[name]
    others = [member for member in roster.members if member.name != name and meet(me, member)]
    if me.role == "client":
        return {member.name: member for member in others if dials(me, member)}
    for member in others:
        if member.role != "client" and not dials(me, member) and not dials(member, me):
            msg = f"neither {me.name} nor {member.name} has an endpoint in the roster; one of them needs one"
            raise ConfigError(msg)
    return {member.name: member for member in others}


def unreachable(member: Member, fault: OSError | UnicodeError | PeerLost) -> PeerLost:
    """The fault of a `member` that could not be dialled."""
    if isinstance(fault, PeerLost):
        return fault
    if isinstance(fault, OSError) and fault.errno in TOO_MANY:
        return PeerLost(member.name, "was not dialled, since this member has too many open files; raise `ulimit -n`")
    # UnicodeError: a host name that cannot be one.
    where = format_endpoint(member.endpoint or ("nowhere", 0))
    return PeerLost(member.name, f"cannot be reached at {where}, its endpoint in the roster: {reason(fault)}")


def still(shown: Member, roster: Roster) -> Member:
    """The entry in `roster` of a member that proved to be `shown`; AuthenticationFailed if it is not in it, or not with that key."""
    key = fingerprint(shown.public)
    known = next((member for member in roster.members if member.name == shown.name), shown)
    key_of(known, key, roster)
    if known is shown or known.role != shown.role:
        raise AuthenticationFailed(shown.name, f"is no {shown.role} of the roster any more")
    return known.shown_by(key)


__all__ = ["dials", "met", "still", "unreachable"]
