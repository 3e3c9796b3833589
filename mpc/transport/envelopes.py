"""Topics and sealed messages of two members at a broker that neither trusts: only the two can compute the topics.

The secret that the two static keys agree on names the topics and seals the envelopes, so the broker and its other clients see no name, no
number and no content. It does nothing else: authentication and forward secrecy are the task of the handshake inside.
"""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl import bindings

from mpc.errors import ProgramError
from mpc.framing.handshake import SEAL_BYTES
from mpc.prg import derive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpc.membership.identity import Identity
    from mpc.transport.link import Part

ID_BYTES = 16
_PURPOSE = "beaver/relay/v1"
_NONCE_BYTES = 12
_COUNTER_BYTES = 8
_PREFIX = ID_BYTES + _COUNTER_BYTES
OVERHEAD = _PREFIX + SEAL_BYTES
"""Bytes that sealing adds to a message."""


def topic(name: bytes) -> str:
    """A broker topic for 16 random-looking bytes."""
    return f"b/{name[:ID_BYTES].hex()}"


def named(where: str) -> bytes:
    """The 16 bytes that name a topic."""
    return bytes.fromhex(where.removeprefix("b/"))


def farewell_topic(identity: Identity) -> str:
    """The topic on which the broker announces that this member's connection broke; always the same, so the broker keeps one per member."""
    return topic(derive(identity.curve_secret, _PURPOSE, "farewell"))


def commitment(token: bytes) -> bytes:
    """A commitment to the farewell, sent in a presence: only the broker knows the token, and only that of this connection."""
    return blake2b(token, digest_size=ID_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Presence:
    """A member is at the broker: its process, the topic of its farewell, and how to recognise the farewell."""

    process: bytes
    farewell: bytes
    commitment: bytes

    def known_by(self, token: bytes) -> bool:
        """Whether `token` is the farewell of exactly this connection."""
        return hmac.compare_digest(commitment(token), self.commitment)


class Pair:
    """Two members at a broker. `process` identifies this one's: 16 fresh random bytes."""

    def __init__(self, identity: Identity, peer: str, curve_public: bytes, process: bytes) -> None:
        self.me, self.peer, self.process = identity.name, peer, process
        # The roster refused points of small order, so the product is never zero.
        self._shared = bindings.crypto_scalarmult(identity.curve_secret, curve_public)
        self.outbound, self.inbound = (topic(key) for key in self._both("messages"))
        self.presence_outbound, self.presence_inbound = (topic(key) for key in self._both("presence"))
        self._seal, self._open = (AESGCM(key) for key in self._both("presence key"))
        # One counter for all envelopes of this process: envelopes to a forgotten process that returns under the same key continue it.
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"Pair({self.me}, {self.peer})"

    def _both(self, usage: str, *more: bytes) -> tuple[bytes, bytes]:
        """Keys of the two directions, this side's first. `more` is used in its order for this side's key and reversed for the peer's."""
        return (
            derive(self._shared, _PURPOSE, usage, self.me, self.peer, *more),
            derive(self._shared, _PURPOSE, usage, self.peer, self.me, *reversed(more)),
        )

    def announce(self, farewell: bytes, token: bytes) -> bytes:
        """The sealed presence of this process: `farewell` names the topic on which `token` will be published."""
        # Few messages are sealed under this key, over all runs: random nonces do not collide.
        number = secrets.token_bytes(_NONCE_BYTES)
        return number + self._seal.encrypt(number, self.process + farewell + commitment(token), None)

    def read_presence(self, message: bytes) -> Presence | None:
        """The peer's presence, or None if `message` is not one."""
        try:
            plain = self._open.decrypt(message[:_NONCE_BYTES], message[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            return None
        if len(plain) != 3 * ID_BYTES:
            return None
        return Presence(plain[:ID_BYTES], plain[ID_BYTES : 2 * ID_BYTES], plain[2 * ID_BYTES :])

    def envelopes(self, theirs: bytes) -> Envelopes:
        """Envelopes between this process and the peer's process `theirs`."""
        return Envelopes(self.process, self._both("envelope", self.process, theirs), self._numbers)


class Envelopes:
    """Sealed messages between two processes: the sender's 16 bytes, an increasing counter, ciphertext and tag.

    Both processes chose their 16 bytes at random when they started, so a key never serves a second run, and a message of an earlier run
    does not open.
    """

    def __init__(self, mine: bytes, keys: tuple[bytes, bytes], numbers: Iterator[int]) -> None:
        self._mine = mine
        self._seal, self._open = (AESGCM(key) for key in keys)
        self._numbers = numbers
        self._opened = 0
        self._pid = os.getpid()

    def seal(self, *parts: Part) -> bytes:
        """The parts as the next sealed message."""
        if os.getpid() != self._pid:
            # A forked child would reuse its parent's counters.
            msg = "this process was forked from the one that connected to the relay; open a node of its own"
            raise ProgramError(msg)
        number = next(self._numbers).to_bytes(_COUNTER_BYTES, "big")
        return b"".join((self._mine, number, self._seal.encrypt(bytes(4) + number, b"".join(parts), None)))

    def open(self, message: bytes) -> memoryview | None:
        """The plaintext of the peer's message, or None if it is forged, repeated, or for another process."""
        number = message[ID_BYTES:_PREFIX]
        if len(message) < OVERHEAD or int.from_bytes(number, "big") <= self._opened:
            # An overtaken message counts as lost: the peer sends its bytes again.
            return None
        try:
            plain = self._open.decrypt(bytes(4) + number, memoryview(message)[_PREFIX:], None)
        except InvalidTag:
            return None
        self._opened = int.from_bytes(number, "big")
        return memoryview(plain)


def sender(message: bytes) -> bytes:
    """The process that claims to have sealed `message`."""
    return message[:ID_BYTES]
