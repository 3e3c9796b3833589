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
"""Bytes of a frame before the handshake has its end: hellos and messages have fewer, and a hello of another version may have more than this one's."""


class FrameSender(Protocol):
    """Where the frames of a greeting go."""

    label: str

    def send(self, *parts: bytes) -> None:
        """Send one frame."""


class Greeted(NamedTuple):
    """Who is at the other end, with the one key that the handshake shows, and the keys of the link."""

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
    """The responder's side, to whom the hello names; PeerLost, and no word, for who is not one that it `welcomes`."""
    raw = yield
    theirs = Hello.decode(raw, link.label)
    if not welcomes(theirs.sender):
        raise PeerLost(link.label, f"comes as {theirs.sender!r} while this party is closing")
    mine = _hello(identity, roster, theirs.sender)
    # Answered before it is judged: from our hello the peer sees which version, roster or name does not match.
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
    """What to say of a peer whose link ended during the greeting; `addressed`: after it had said something."""
    if addressed:
        text = "hung up during the handshake. Either it does not hold the key that the roster gives it, or it rejects ours: its log says which."
        return AuthenticationFailed(name, text)
    # Nothing is known of its key, so that jobs wait for it as for any member that is not there yet.
    if dialled:
        return PeerLost(name, "took the connection and hung up without a word; see that its node runs, behind whatever forwards to it")
    return PeerLost(name, "hung up without a word, as a scan of ports or a check of health does")
