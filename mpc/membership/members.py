"""The contents of a roster as data: its members, their present and former keys, and how they reach each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Literal

from mpc import canonical
from mpc.membership.endpoints import Endpoint, Relay, format_endpoint
from mpc.membership.identity import fingerprint, verify
from mpc.prg import fields

Role = Literal["party", "dealer", "client"]
Transport = Literal["tcp", "mqtt"]

PURPOSE = "roster"
"""The purpose of roster signatures: no other signature of the same key passes as one."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member. Without an endpoint it only dials; without a transport of its own it uses the roster's.

    `retiring` is the key that `public` replaces: both are valid until `retires`, whole seconds in UTC.
    """

    name: str
    public: bytes
    endpoint: Endpoint | None
    role: Role = "party"
    transport: Transport | None = None
    retiring: bytes | None = None
    retires: datetime | None = None

    @property
    def publics(self) -> tuple[bytes, ...]:
        """The member's key, and the one that is retiring or has retired."""
        return (self.public,) if self.retiring is None else (self.public, self.retiring)

    def valid(self, now: datetime | None = None) -> tuple[bytes, ...]:
        """The keys that are valid at `now`."""
        over = self.retires is None or self.retires <= (now or datetime.now(UTC))
        return self.publics[:1] if over else self.publics

    def shown_by(self, announced: bytes) -> Member:
        """This member as a handshake proved it: with only the key of that fingerprint, and with `retires` only if that is the retiring
        key.
        """
        public = next(public for public in self.publics if fingerprint(public) == announced)
        return replace(self, public=public, retiring=None, retires=self.retires if public == self.retiring else None)

    def signed(self, purpose: str, message: bytes, signature: bytes, when: datetime | None = None) -> bool:
        """Whether the member signed `message` for `purpose` with a key that is valid at `when`, by default now."""
        return any(verify(public, purpose, message, signature) for public in self.valid(when))


def minute(when: datetime | None) -> str:
    """The time at which a key retires, for people to read."""
    return "never" if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def meet(one: Member, other: Member) -> bool:
    """Whether the two ever speak with each other: a client speaks only with parties."""
    roles = {one.role, other.role}
    return "client" not in roles or roles == {"client", "party"}


@dataclass(frozen=True, slots=True)
class Revoked:
    """A key that nobody may use again, its former owner, and the reason."""

    name: str
    public: bytes
    reason: str
    since: date


@dataclass(frozen=True, slots=True)
class Content:
    """The contents of a roster without its signatures. `previous` is the digest of the version before, empty for the first."""

    members: tuple[Member, ...] = ()
    transport: Transport = "tcp"
    relay: Relay | None = None
    version: int = 1
    previous: bytes = b""
    revoked: tuple[Revoked, ...] = ()

    def canonical(self) -> bytes:
        """The bytes that every member signs; `docs/wire.md` describes them."""
        return canonical.pack(
            {
                "members": [
                    {
                        "name": member.name,
                        "key": member.public,
                        "endpoint": format_endpoint(member.endpoint) if member.endpoint else "",
                        "role": member.role,
                        "transport": member.transport or self.transport,
                        "retiring": member.retiring or b"",
                        "retires": int(member.retires.timestamp()) if member.retires else 0,
                    }
                    for member in sorted(self.members, key=lambda member: member.name)
                ],
                "transport": self.transport,
                "relay": self.relay.url if self.relay else "",
                "version": self.version,
                "previous": self.previous,
                "revoked": [
                    {"name": each.name, "key": each.public, "reason": each.reason, "since": each.since.isoformat()}
                    for each in sorted(self.revoked, key=lambda each: each.public)
                ],
            }
        )

    @property
    def digest(self) -> bytes:
        """A 32-byte digest of the whole content."""
        return blake2b(fields("beaver/roster/v1", self.canonical()), digest_size=32).digest()
