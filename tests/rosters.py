"""Rosters for tests, signed like those of real organisations, and their digest, written from docs/wire.md alone."""

from __future__ import annotations

import struct
from hashlib import blake2b

import msgpack


def signed(roster, *identities):
    """The roster with the signatures of these members."""
    for identity in identities:
        roster.accept(identity.name, roster.sign(identity))
    return roster


def fields(*parts):
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def documented_fingerprint(public):
    return blake2b(fields(b"beaver/key/v1", public), digest_size=16).digest()


def documented_content(roster):
    """The bytes that members sign; every map in the order of its keys."""
    members = [
        {
            "endpoint": "" if member.endpoint is None else f"{member.endpoint[0]}:{member.endpoint[1]}",
            "key": member.public,
            "name": member.name,
            "retires": 0 if member.retires is None else round(member.retires.timestamp()),
            "retiring": member.retiring or b"",
            "role": member.role,
            "transport": member.transport,
        }
        for member in sorted(roster.members, key=lambda member: member.name)
    ]
    said = roster.content
    revoked = [
        {"key": each.public, "name": each.name, "reason": each.reason, "since": str(each.since)}
        for each in sorted(said.revoked, key=lambda each: each.public)
    ]
    relay = "" if said.relay is None else f"mqtt{'s' * said.relay.tls}://{said.relay.host}:{said.relay.port}"
    content = {
        "members": members,
        "previous": said.previous,
        "relay": relay,
        "revoked": revoked,
        "transport": said.transport,
        "version": said.version,
    }
    return msgpack.packb(content, use_bin_type=True)


def documented_digest(roster):
    return blake2b(fields(b"beaver/roster/v1", documented_content(roster)), digest_size=32).digest()
