"""A roster as people and programs read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.markup import escape

from mpc.membership.endpoints import format_endpoint
from mpc.membership.identity import encode_key, spoken
from mpc.membership.members import minute
from parties.tables import grid, wide

if TYPE_CHECKING:
    from mpc.membership.members import Member
    from mpc.membership.roster import Roster


def standing(roster: Roster, member: Member) -> str:
    """What the roster holds of a member's signature."""
    if member.name not in roster.signatures:
        return "missing"
    if roster.signed_by(member.name, member.public):
        return "signed"
    retiring = member.retiring is not None and roster.signed_by(member.name, member.retiring)
    return "of the retiring key, which does not count" if retiring else "of other contents"


def address(member: Member) -> str:
    """How others reach a member."""
    if member.transport == "mqtt":
        return "at the broker"
    return format_endpoint(member.endpoint) if member.endpoint is not None else "dials only"


def table(roster: Roster) -> None:
    """Print it."""
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


def as_json_object(roster: Roster) -> str:
    """The same as one JSON object."""
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
        }
    )


__all__ = ["address", "as_json_object", "standing", "table"]
