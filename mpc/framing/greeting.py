"""Hello and handshake of one link, from either end, as generators that are fed the frames that arrive."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mpc.errors import AuthenticationFailed, PeerLost
from mpc.framing.handshake import KK, NONCE_BYTES, Hello, Keys, local_suites, negotiate, static_key
from mpc.membership.identity import fingerprint
from mpc.membership.members import meet

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mpc.errors import RemoteFault
    from mpc.membership.identity import Identity
    from mpc.membership.members import Member
    from mpc.membership.roster import Roster


MAX_GREETING = 1 << 10
"""Bytes of a frame before the end of the handshake: hellos and handshake messages have fewer. A hello of another version may be longer than
ours, but not longer than this.
"""


class FrameSender(Protocol):
    """Where the frames of a greeting go."""

    label: str

    def send(self, *parts: bytes) -> None:
        """Send one frame."""


class Greeted(NamedTuple):
    """The member at the other end, the key of it that the handshake proved, and the keys of the link."""

    peer: Member
    keys: Keys
    suite: str


def _hello(identity: Identity, roster: Roster, receiver: str) -> Hello:
    return Hello(identity.name, receiver, roster.digest, local_suites(), secrets.token_bytes(NONCE_BYTES), fingerprint(identity.public))


def initiate(link: FrameSender, identity: Identity, roster: Roster, peer: Member) -> Generator[None, bytes, Greeted]:
    """The dialler's side, to a known `peer`."""
    mine = _hello(identity, roster, peer.name)
    link.send(mine.encode())
    raw = yield
    theirs = Hello.decode(raw, peer.name)
    suite = negotiate(mine, theirs)
    prologue = mine.encode() + raw
    kk = KK(True, suite, prologue, identity.curve_secret, static_key(theirs, roster), peer=peer.name)
    link.send(kk.write_message())
    kk.read_message((yield))
    return Greeted(peer.shown_by(theirs.key), kk.split(), suite)


def respond(link: FrameSender, identity: Identity, roster: Roster, welcomes: Callable[[str], bool]) -> Generator[None, bytes, Greeted]:
    """The responder's side, towards the member named in the hello. PeerLost, without any reply, unless `welcomes(name)`."""
    raw = yield
    theirs = Hello.decode(raw, link.label)
    if not welcomes(theirs.sender):
        raise PeerLost(link.label, f"comes as {theirs.sender!r} while this party is closing")
    mine = _hello(identity, roster, theirs.sender)
    # Reply before judging: our hello shows the peer which version, roster or name does not match.
    link.send(mine.encode())
    suite = negotiate(mine, theirs)
    if theirs.sender not in roster:
        raise AuthenticationFailed(link.label, f"calls itself {theirs.sender!r}, which is not in the roster")
    peer = roster[theirs.sender]
    if not meet(roster[identity.name], peer):
        raise AuthenticationFailed(link.label, f"says that it is {theirs.sender!r}, a client, which speaks with parties only")
    prologue = raw + mine.encode()
    kk = KK(False, suite, prologue, identity.curve_secret, static_key(theirs, roster), peer=peer.name)
    kk.read_message((yield))
    link.send(kk.write_message())
    return Greeted(peer.shown_by(theirs.key), kk.split(), suite)


def broken_off(name: str, *, dialled: bool, addressed: bool) -> RemoteFault:
    """The fault of a peer whose link ended during the greeting; `addressed` if the peer had sent something."""
    if addressed:
        text = (
            "hung up during the handshake. Either it does not hold the key that the roster gives it, or it rejects ours: "
            "its log says which."
        )
        return AuthenticationFailed(name, text)
    # The peer's key is not known to be wrong, so jobs wait for it as for any absent member.
    if dialled:
        return PeerLost(name, "took the connection and hung up without a word; see that its node runs, behind whatever forwards to it")
    return PeerLost(name, "hung up without a word, as a scan of ports or a check of health does")
