"""A roster as text and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.markup import escape

from mpc.membership.endpoints import format_endpoint
from mpc.membership.identity import encode_key, spoken
from mpc.membership.members import minute
from parties.tables import grid, wide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpc.membership.members import Member
    from mpc.membership.roster import Roster


def standing(roster: Roster, member: Member) -> str:
    """Return what the roster has as a member's signature."""
    if member.name not in roster.signatures:
        return "missing"
    if roster.signed_by(member.name, member.public):
        return "signed"
    retiring = member.retiring is not None and roster.signed_by(member.name, member.retiring)
    return "of the retiring key, which does not count" if retiring else "of other contents"


def address(member: Member) -> str:
    """Return how others reach a member."""
    if member.transport == "mqtt":
        return "at the broker"
    return format_endpoint(member.endpoint) if member.endpoint is not None else "dials only"


def table(roster: Roster) -> None:
    """Print the roster."""
    listed = grid("name", "role", "address", "fingerprint of the key", "signature")
    for member in roster.members:
        key = spoken(member.public)
        if member.retiring is not None:
            key += f"\n{spoken(member.retiring)} until {minute(member.retires)}"
        listed.add_row(*map(escape, (member.name, member.role, address(member), key, standing(roster, member))))
    wide(highlight=False).print(listed)
    said = roster.content
    print(f"version   {said.version}\ndigest    {roster.digest.hex()}")
    if said.previous:
        print(f"previous  {said.previous.hex()}")
    if said.relay is not None:
        print(f"broker    {said.relay.url}")
    for each in said.revoked:
        print(f"revoked   {each.name}, {spoken(each.public)}, since {each.since}: {each.reason}")


def changes(before: Roster, after: Roster) -> list[str]:
    """Return what differs in `after`, one line for each difference: what its members agree to when they sign it."""
    names = sorted({member.name for member in (*before.members, *after.members)})
    found = [line for name in names for line in _changed(name, before, after)]
    found += [
        f"{each.name}: the key {spoken(each.public)} is revoked ({each.reason})"
        for each in after.content.revoked
        if each not in before.content.revoked
    ]
    was, now = (roster.content.relay.url if roster.content.relay is not None else "none" for roster in (before, after))
    return found if was == now else [*found, f"the broker is {now}, was {was}"]


def _changed(name: str, before: Roster, after: Roster) -> Iterator[str]:
    if name not in after:
        yield f"{name} leaves"
        return
    new = after[name]
    if name not in before:
        yield f"{name} joins: {new.role}, {address(new)}, key {spoken(new.public)}"
        return
    old = before[name]
    if new.public != old.public:
        yield f"{name}: the key is {spoken(new.public)}, was {spoken(old.public)}"
    for public in sorted({*old.publics, *new.publics} - {new.public}):
        if public not in new.publics:
            yield f"{name}: the key {spoken(public)} does not count any more"
        elif new.retires != old.retires:
            yield f"{name}: the key {spoken(public)} counts until {minute(new.retires)}"
    for what, is_now, was in (("role", new.role, old.role), ("address", address(new), address(old))):
        if is_now != was:
            yield f"{name}: the {what} is {is_now}, was {was}"


def as_json_object(roster: Roster, previous: Roster | None) -> str:
    """Return the roster as one JSON object, with what has changed since `previous`."""
    said = roster.content
    return json.dumps(
        {
            "version": said.version,
            "digest": roster.digest.hex(),
            "previous": said.previous.hex(),
            "relay": said.relay.url if said.relay is not None else None,
            "unsigned": roster.unsigned,
            "members": [
                {
                    "name": member.name,
                    "role": member.role,
                    "address": address(member),
                    "key": encode_key(member.public),
                    "fingerprint": spoken(member.public),
                    "retires": member.retires.isoformat() if member.retires is not None else None,
                    "signature": standing(roster, member),
                }
                for member in roster.members
            ],
            "revoked": [
                {"name": each.name, "key": encode_key(each.public), "reason": each.reason, "since": each.since.isoformat()}
                for each in said.revoked
            ],
            **({} if previous is None else {"changes": changes(previous, roster)}),
        }
    )


__all__ = ["address", "as_json_object", "changes", "standing", "table"]
