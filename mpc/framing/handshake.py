"""Hello and Noise KK, sans I/O (papers: noise, rfc7748, blake2).

The hello only diagnoses; the handshake authenticates. Both hellos, byte for byte, are the Noise prologue, so a change to either in flight
makes message 1 fail.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from nacl import bindings
from nacl.exceptions import CryptoError

from mpc.errors import AuthenticationFailed, ConfigError, Disagreement, PeerMisbehaved
from mpc.membership.identity import FINGERPRINT_BYTES, check_name, curve_public_of, fingerprint
from mpc.membership.members import minute

if TYPE_CHECKING:
    from mpc.membership.members import Member
    from mpc.membership.roster import Roster

WIRE_VERSION = 16
SUITES = {"AESGCM": 1, "ChaChaPoly": 2}
MAGIC = b"BEAVER\r\n"
NONCE_BYTES = 32
SEAL_BYTES = 16
"""Bytes that either AEAD adds: its authentication tag. "Tag" alone means the name of a message, see `wire`."""
_NAME_BYTES = 32
_GREETING = struct.Struct(f"<8sH{_NAME_BYTES}s{_NAME_BYTES}s")
_REST = struct.Struct(f"<32sH{NONCE_BYTES}s{FINGERPRINT_BYTES}s")
HELLO_SIZE = _GREETING.size + _REST.size
_HASH_BYTES = 64


def local_suites() -> int:
    """The cipher suites of this build as bit flags. OpenSSL's AES is constant-time with and without hardware support."""
    return sum(SUITES.values())


def _pad(name: str) -> bytes:
    return name.encode().ljust(_NAME_BYTES, b"\0")


def _unpad(raw: bytes, peer: str) -> str:
    # The form that names have in the roster: a log line may begin with the name before anything is proven.
    try:
        return check_name(raw.rstrip(b"\0").decode("ascii"))
    except (UnicodeDecodeError, ConfigError):
        raise PeerMisbehaved(peer, "sent a hello with an impossible name") from None


@dataclass(frozen=True, slots=True)
class Hello:
    """The one plaintext message each way, of fixed size. Magic, version and names keep their places in every wire version."""

    sender: str
    receiver: str
    roster_digest: bytes
    suites: int
    nonce: bytes
    key: bytes
    """The fingerprint of the sender's key: during a rotation the sender has two keys."""
    version: int = WIRE_VERSION

    def encode(self) -> bytes:
        """HELLO_SIZE bytes."""
        greeting = _GREETING.pack(MAGIC, self.version, _pad(self.sender), _pad(self.receiver))
        return greeting + _REST.pack(self.roster_digest, self.suites, self.nonce, self.key)

    @classmethod
    def decode(cls, raw: bytes, peer: str) -> Hello:
        """Read a hello; PeerMisbehaved if `raw` is not one. If its wire version differs, only the greeting is read."""
        if len(raw) >= _GREETING.size and raw.startswith(MAGIC):
            _, version, sender, receiver = _GREETING.unpack_from(raw)
            names = _unpad(sender, peer), _unpad(receiver, peer)
            if version != WIRE_VERSION:
                return cls(*names, b"", 0, b"", b"", version)
            if len(raw) == HELLO_SIZE:
                digest, suites, nonce, key = _REST.unpack_from(raw, _GREETING.size)
                return cls(*names, digest, suites, nonce, key)
        raise PeerMisbehaved(peer, "did not greet as a Beaver party; something else uses this port, or a proxy is in between")


def negotiate(mine: Hello, theirs: Hello) -> str:
    """The cipher suite that both list. Each mismatch has its own error; all are diagnosis only, before authentication."""
    peer = theirs.sender
    if theirs.version != mine.version:
        raise Disagreement(peer, f"speaks wire version {theirs.version}, this party {mine.version}; install the same release on both")
    if theirs.receiver != mine.sender:
        raise Disagreement(
            peer, f"expects {theirs.receiver!r} at this address, but this is {mine.sender!r}; compare the endpoints in the roster"
        )
    if theirs.sender != mine.receiver:
        raise AuthenticationFailed(
            mine.receiver, f"its address is answered by {theirs.sender!r}; compare the endpoints in the roster with where each listens"
        )
    if theirs.roster_digest != mine.roster_digest:
        raise Disagreement(
            peer,
            f"has another roster ({theirs.roster_digest.hex()[:16]}) than this party ({mine.roster_digest.hex()[:16]}); "
            "give both the same file, and let both nodes take it",
        )
    common = mine.suites & theirs.suites
    for suite, flag in SUITES.items():
        if common & flag:
            return suite
    raise Disagreement(peer, "shares no cipher suite with this party")


def retired(peer: Member) -> AuthenticationFailed:
    """The fault of a `peer` that still uses an expired key."""
    text = f"still uses the key that retired on {minute(peer.retires)}; it sets `key` to its new one, or a clock is wrong"
    return AuthenticationFailed(peer.name, text)


def static_key(theirs: Hello, roster: Roster) -> bytes:
    """The Curve25519 key of the sender of this hello: the roster's key for it that the hello announces.

    AuthenticationFailed if the announced key is not valid now. Announcing another member's key gains nothing: the handshake needs its
    secret.
    """
    return curve_public_of(key_of(roster[theirs.sender], theirs.key, roster))


def key_of(peer: Member, announced: bytes, roster: Roster) -> bytes:
    """The key of `peer` with the fingerprint `announced`; AuthenticationFailed if it is not valid now or `roster` revokes it."""
    for each in roster.content.revoked:
        if fingerprint(each.public) == announced:
            raise AuthenticationFailed(peer.name, f"uses a key that was revoked on {each.since} ({each.reason}); it needs its new one")
    known = {fingerprint(public): public for public in peer.publics}
    if announced in map(fingerprint, peer.valid()):
        return known[announced]
    if announced in known:
        raise retired(peer)
    raise AuthenticationFailed(peer.name, "uses another key than the roster gives it; compare its key with the roster")


def _hkdf(key: bytes, material: bytes, outputs: int) -> list[bytes]:
    """Noise's HKDF with HMAC-BLAKE2b."""
    temporary = hmac.digest(key, material, "blake2b")
    result, last = [], b""
    for number in range(1, outputs + 1):
        last = hmac.digest(temporary, last + bytes([number]), "blake2b")
        result.append(last)
    return result


def cipher(suite: str, key: bytes) -> AESGCM | ChaCha20Poly1305:
    """The AEAD of a suite."""
    return AESGCM(key) if suite == "AESGCM" else ChaCha20Poly1305(key)


def nonce(suite: str, counter: int) -> bytes:
    """Noise's 96-bit nonce: four zero bytes, then the counter in the suite's byte order."""
    return bytes(4) + counter.to_bytes(8, "big" if suite == "AESGCM" else "little")


@dataclass(frozen=True, slots=True)
class Keys:
    """The results of Noise's Split: one key per direction, the exporter, and the public handshake hash."""

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)
    exporter: bytes = field(repr=False)
    handshake_hash: bytes


class KK:
    """One side of Noise KK: both know the other's static key. The initiator writes, reads, splits; the responder reads, writes, splits.

    Message 1 can be replayed and is open to key-compromise impersonation: a responder trusts the peer only after the first sealed record
    that follows Split.
    """

    def __init__(
        self,
        initiator: bool,  # noqa: FBT001  Noise's own role flag
        suite: str,
        prologue: bytes,
        secret: bytes,
        remote: bytes,
        *,
        peer: str,
        ephemeral: bytes | None = None,
    ) -> None:
        self._initiator = initiator
        self._suite = suite
        self._peer = peer
        self._s = secret
        self._rs = remote
        self._e = ephemeral or secrets.token_bytes(32)
        self._re = b""
        self._key = b""
        self._counter = 0
        name = f"Noise_KK_25519_{suite}_BLAKE2b".encode()
        self._h = name.ljust(_HASH_BYTES, b"\0")
        self._ck = self._h
        mine = bindings.crypto_scalarmult_base(secret)
        for public in (prologue, *((mine, remote) if initiator else (remote, mine))):
            self._mix_hash(public)

    def __repr__(self) -> str:
        return f"KK({self._peer}, {'initiator' if self._initiator else 'responder'})"

    def _mix_hash(self, data: bytes) -> None:
        self._h = blake2b(self._h + data).digest()

    def _mix_key(self, secret: bytes, public: bytes) -> None:
        try:
            shared = bindings.crypto_scalarmult(secret, public)
        except CryptoError:
            shared = bytes(32)
        if hmac.compare_digest(shared, bytes(32)):
            raise AuthenticationFailed(self._peer, "sent a point of small order")
        self._ck, key = _hkdf(self._ck, shared, 2)
        self._key, self._counter = key[:32], 0

    def write_message(self, payload: bytes = b"") -> bytes:
        """Tokens e, es, ss for the initiator; e, ee, se for the responder."""
        public = bindings.crypto_scalarmult_base(self._e)
        self._mix_hash(public)
        if self._initiator:
            self._mix_key(self._e, self._rs)
            self._mix_key(self._s, self._rs)
        else:
            self._mix_key(self._e, self._re)
            self._mix_key(self._e, self._rs)
        sealed = cipher(self._suite, self._key).encrypt(nonce(self._suite, self._counter), payload, self._h)
        self._counter += 1
        self._mix_hash(sealed)
        return public + sealed

    def read_message(self, raw: bytes) -> bytes:
        """The payload of the peer's message; AuthenticationFailed if the peer does not hold its key or read a different hello."""
        if len(raw) < 32 + SEAL_BYTES:
            raise AuthenticationFailed(self._peer, "sent a handshake message that is too short")
        self._re = raw[:32]
        self._mix_hash(self._re)
        if self._initiator:
            self._mix_key(self._e, self._re)
            self._mix_key(self._s, self._re)
        else:
            self._mix_key(self._s, self._re)
            self._mix_key(self._s, self._rs)
        try:
            payload = cipher(self._suite, self._key).decrypt(nonce(self._suite, self._counter), raw[32:], self._h)
        except InvalidTag:
            raise AuthenticationFailed(
                self._peer, "does not hold the key that the roster gives it, or someone altered the hello; compare its key with the roster"
            ) from None
        self._counter += 1
        self._mix_hash(raw[32:])
        return payload

    def split(self) -> Keys:
        """The record keys and the exporter, which is the third HKDF output.

        The chaining key and the ephemeral secret are dropped here, which gives forward secrecy: stolen static keys cannot compute these
        keys again. Python does not overwrite what it drops.
        """
        first, second, exporter = _hkdf(self._ck, b"", 3)
        self._ck = self._key = self._e = b""
        send, receive = (first, second) if self._initiator else (second, first)
        return Keys(send[:32], receive[:32], exporter, self._h)
