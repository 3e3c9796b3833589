"""The roster: who takes part, with which key, where, and in which role. The same file at every member; no trust on first use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mpc import durable
from mpc.errors import ConfigError
from mpc.membership import roster_file
from mpc.membership.identity import Identity, check_name, curve_public_of, verify
from mpc.membership.members import PURPOSE, Content, Member, Revoked, Transport
from mpc.membership.toml_text import did_you_mean, undecodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mpc.membership.endpoints import Relay
DEALERLESS = "the roster names no dealer, so no job can run"
ADD_DEALER = "add the lines of one (`beaver init NAME --role dealer`) with `beaver roster add`, and let all members sign that version"
NO_DEALER = f"{DEALERLESS}; {ADD_DEALER}"
"""A notice about a roster that is valid all the same: such a roster cuts off a dealer whose key was stolen, before there is another one."""


class Roster:
    """All members, checked. `members` and `parties` are sorted by name: that is the party order everywhere.

    ConfigError for contents that no roster may have. Signatures are checked separately: see `unsigned`.
    """

    def __init__(
        self,
        members: Iterable[Member],
        *,
        transport: Transport = "tcp",
        relay: Relay | None = None,
        version: int = 1,
        previous: bytes = b"",
        revoked: Iterable[Revoked] = (),
        signatures: Mapping[str, bytes] | None = None,
    ) -> None:
        written = tuple(sorted(members, key=lambda member: member.name))
        self.content = Content(written, transport, relay, version, previous, tuple(revoked))
        self.members = tuple(replace(member, transport=member.transport or transport) for member in written)
        self.relay = relay
        _check(self.content, self.members)
        self._by_name = {member.name: member for member in self.members}
        self.parties = tuple(member for member in self.members if member.role == "party")
        self.dealer = next((member for member in self.members if member.role == "dealer"), None)
        self.digest = self.content.digest
        self.signatures = dict(signatures or {})
        for name in self.signatures:
            if name not in self:
                msg = f"[signatures] {name}: is not in the roster; {did_you_mean(name, self._by_name)}"
                raise ConfigError(msg)

    def __repr__(self) -> str:
        return f"Roster({', '.join(member.name for member in self.members)}, digest={self.digest.hex()[:16]})"

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Member:
        if name not in self._by_name:
            msg = f"{name!r} is not in the roster; {did_you_mean(name, self._by_name)}"
            raise ConfigError(msg)
        return self._by_name[name]

    def keys_of(self, name: str) -> list[bytes]:
        """All keys known of a member: its key, the one that this replaces, and those that were revoked."""
        return [*self[name].publics, *(each.public for each in self.content.revoked if each.name == name)]

    @classmethod
    def of(cls, content: Content, signatures: Mapping[str, bytes] | None = None) -> Roster:
        """The roster with these contents."""
        return cls(
            content.members,
            transport=content.transport,
            relay=content.relay,
            version=content.version,
            previous=content.previous,
            revoked=content.revoked,
            signatures=signatures,
        )

    @classmethod
    def load(cls, path: str | Path) -> Roster:
        """Read a roster file."""
        return cls.parse(read_text(path), str(path))

    @classmethod
    def parse(cls, text: str, source: str) -> Roster:
        """Read roster TOML; `source` names it in errors."""
        content, signatures = roster_file.read(text, source)
        try:
            return cls.of(content, signatures)
        except ConfigError as fault:
            msg = f"{source}: {fault}"
            raise ConfigError(msg) from None

    def dump(self) -> str:
        """The roster as TOML, with its signatures."""
        return roster_file.write(self.content, self.signatures)

    # -- signatures --------------------------------------------------------------------------------------------

    def sign(self, identity: Identity) -> bytes:
        """The signature of `identity`; ConfigError unless its key is its current one in the roster, not one that was replaced."""
        member = self[identity.name]
        if identity.public == member.retiring:
            msg = f"{member.name} replaces this key in it; sign with the new one, `--key` and the file that `beaver roster rotate` wrote"
            raise ConfigError(msg)
        if identity.public != member.public:
            msg = f"the roster gives {member.name} another key than this one; sign with the key that it names"
            raise ConfigError(msg)
        return identity.sign(PURPOSE, self.content.canonical())

    def accept(self, name: str, signature: bytes) -> None:
        """Add a member's signature; ConfigError unless it is a signature of this very roster."""
        if not verify(self[name].public, PURPOSE, self.content.canonical(), signature):
            msg = (
                f"this is no signature of {name} for version {self.content.version} with digest {self.digest.hex()}, with the key that it "
                f"gives {name}; compare the digest with what {name} sees (`beaver roster show`)"
            )
            raise ConfigError(msg)
        self.signatures[name] = signature

    def signed_by(self, name: str, public: bytes) -> bool:
        """Whether the signature under `name` is made with the key `public`."""
        return name in self.signatures and verify(public, PURPOSE, self.content.canonical(), self.signatures[name])

    @property
    def unsigned(self) -> list[str]:
        """The members whose signatures are missing.

        This does not change with time. A retiring key counts for connections and jobs, but not here: a roster does not say when it was
        signed. Its signature would either become invalid on the day the key retires, so that no node could start, or a holder of the old
        key could agree in its owner's name to every later roster that still lists the key.
        """
        return [each.name for each in self.members if not self.signed_by(each.name, each.public)]

    @property
    def hosts(self) -> list[str]:
        """The hosts at which members and the broker are reached."""
        found = [member.endpoint[0] for member in self.members if member.endpoint is not None]
        return found if self.relay is None else [*found, self.relay.host]


def transport_between(one: Member, other: Member) -> Transport:
    """The transport between two members of a roster: the broker if either of them uses it, else TCP."""
    return "mqtt" if "mqtt" in (one.transport, other.transport) else "tcp"


def read_text(path: str | Path) -> str:
    """The text of a roster file, or of a part of one."""
    try:
        return durable.read_text(Path(path), "utf-8-sig")[0]
    except UnicodeDecodeError as fault:
        raise undecodable(str(path), fault) from None
    except OSError as fault:
        msg = (
            f"{path}: cannot be read as a roster ({fault.strerror}); correct the path, "
            "or make a roster of all members' lines with `beaver roster add`"
        )
        raise ConfigError(msg) from None


def _check(content: Content, members: tuple[Member, ...]) -> None:
    names: set[str] = set()
    for member in members:
        check_name(member.name)
        if member.name in names:
            msg = f"two members are called {member.name}; names must differ"
            raise ConfigError(msg)
        names.add(member.name)
        if member.transport == "mqtt" and content.relay is None:
            msg = f'{member.name} uses MQTT, but the roster names no broker; add [relay] with url = "mqtts://HOST:PORT"'
            raise ConfigError(msg)
    _check_keys(content, members)
    if sum(member.role == "dealer" for member in members) > 1:
        msg = "two members are dealers; a roster names at most one"
        raise ConfigError(msg)
    if sum(member.role == "party" for member in members) < 2:
        msg = "fewer than two parties; a computation needs at least two"
        raise ConfigError(msg)
    if (content.version > 1) != bool(content.previous):
        msg = "a roster of a later version than 1 names the digest of the one before as `previous`, and only such a one does"
        raise ConfigError(msg)


def _check_keys(content: Content, members: tuple[Member, ...]) -> None:
    """ConfigError unless all keys differ as Curve25519 keys, which two Ed25519 keys may share, and none was revoked."""
    revoked = {_curve(each.name, each.public): each for each in content.revoked}
    owners: dict[bytes, str] = {}
    for member in members:
        for public in member.publics:
            curve = _curve(member.name, public)
            if curve in owners:
                msg = f"{owners[curve]} and {member.name} have the same key; every member generates its own"
                raise ConfigError(msg)
            if curve in revoked:
                msg = f"a key of {member.name} was revoked on {revoked[curve].since} ({revoked[curve].reason}); it makes a new one"
                raise ConfigError(msg)
            owners[curve] = member.name


def _curve(name: str, public: bytes) -> bytes:
    try:
        return curve_public_of(public)
    except ConfigError as fault:
        msg = f"{name}: {fault}"
        raise ConfigError(msg) from None


__all__ = ["ADD_DEALER", "DEALERLESS", "NO_DEALER", "Member", "Revoked", "Roster", "read_text", "transport_between"]
