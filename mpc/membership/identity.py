"""A member's identity: one Ed25519 key, whose Curve25519 form agrees on channel keys (papers: rfc8032, rfc7748)."""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

from mpc import durable
from mpc.errors import ConfigError
from mpc.prg import fields

KEY_BYTES = 32
SIGNATURE_BYTES = 64
FINGERPRINT_BYTES = 16
_KEY_PREFIX = "ed25519:"
_FILE_MARK = "beaver-ed25519-v1"


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


def check_name(name: str) -> str:
    """Return `name`; ConfigError if it cannot be a member's name."""
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is no name; use 1 to 32 letters, digits, '_', '.', '-', beginning with a letter or digit"
        raise ConfigError(msg)
    return name


def encode_key(public: bytes) -> str:
    """A public key as text, for a roster."""
    return _KEY_PREFIX + base64.b64encode(public).decode()


def decode_key(text: str) -> bytes:
    """The public key that `encode_key` wrote; ConfigError otherwise."""
    try:
        raw = base64.b64decode(text.removeprefix(_KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(_KEY_PREFIX) or len(raw) != KEY_BYTES or encode_key(raw) != text:
        msg = f'a public key reads "{_KEY_PREFIX}" and 44 characters of base64, as `beaver keygen` prints it'
        raise ConfigError(msg)
    return raw


def fingerprint(public: bytes) -> bytes:
    """A 16-byte digest of a public key, to tell keys apart and to compare them by voice."""
    return blake2b(fields("beaver/key/v1", public), digest_size=FINGERPRINT_BYTES).digest()


def spoken(public: bytes) -> str:
    """A public key's fingerprint in groups of four digits."""
    digits = fingerprint(public).hex()
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def curve_public_of(public: bytes) -> bytes:
    """The Curve25519 form of an Ed25519 key; ConfigError for points of small order or outside the prime subgroup."""
    try:
        curve = bindings.crypto_sign_ed25519_pk_to_curve25519(public)
    except CryptoError:
        curve = bytes(KEY_BYTES)
    if curve == bytes(KEY_BYTES):
        msg = "this public key is no valid point of the curve; generate a new one with `beaver keygen`"
        raise ConfigError(msg)
    return curve


def _purposed(purpose: str, message: bytes) -> bytes:
    return b"beaver/" + purpose.encode() + b"/v1\0" + message


def verify(public: bytes, purpose: str, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the key's signature of exactly this message for this purpose."""
    # Checked with the message behind it: a longer signature would hold the beginning of another message, signed for another purpose.
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + _purposed(purpose, message), public)
    except (BadSignatureError, CryptoError, ValueError):
        return False
    return True


def private_text(path: Path, what: str, remedy: str, *, pipes: bool = False) -> str:
    """The text of a file that only its owner may read or write, or of a pipe (see `durable`). ConfigError names it as `what`; `remedy`
    is for a missing file.
    """
    try:
        text, mode = durable.read_text(path, pipes=pipes)
    except FileNotFoundError:
        msg = f"{path}: no such {what} file; {remedy}"
        raise ConfigError(msg) from None
    except (OSError, UnicodeDecodeError) as fault:
        why = getattr(fault, "strerror", None) or "it is not UTF-8 text"
        msg = f"{path}: cannot be read as a {what} file ({why}); let this user read it, or restore it"
        raise ConfigError(msg) from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        msg = f"{path}: others may read or write this {what} (mode {stat.S_IMODE(mode):04o}); run `chmod 600 {path}`"
        raise ConfigError(msg)
    return text


@dataclass(frozen=True, slots=True)
class Identity:
    """A name and its secret key.  The repr shows the name only."""

    name: str
    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> Identity:
        """A new key from the operating system's randomness."""
        return cls(check_name(name), secrets.token_bytes(KEY_BYTES))

    @property
    def public(self) -> bytes:
        """The Ed25519 public key."""
        return bindings.crypto_sign_seed_keypair(self.seed)[0]

    @property
    def curve_secret(self) -> bytes:
        """The X25519 secret key that belongs to `curve_public`."""
        return bindings.crypto_sign_ed25519_sk_to_curve25519(bindings.crypto_sign_seed_keypair(self.seed)[1])

    @property
    def curve_public(self) -> bytes:
        """The X25519 public key."""
        return curve_public_of(self.public)

    def sign(self, purpose: str, message: bytes) -> bytes:
        """A 64-byte signature that is valid for this purpose only."""
        return bindings.crypto_sign(_purposed(purpose, message), bindings.crypto_sign_seed_keypair(self.seed)[1])[:SIGNATURE_BYTES]

    def save(self, path: str | Path) -> None:
        """Write the key to a new file that only its owner can read; never replace an existing file."""
        line = f"{_FILE_MARK} {self.name} {base64.b64encode(self.seed).decode()}\n"
        try:
            durable.create(Path(path), line.encode())
        except FileExistsError:
            msg = f"{path}: exists already; a key is never overwritten. Move it away first if it is no longer used"
            raise ConfigError(msg) from None
        except OSError as fault:
            raise durable.unwritable(path, fault) from None

    @classmethod
    def load(cls, path: str | Path) -> Identity:
        """Read a key that `save` wrote.  ConfigError if it is missing, readable by others, or malformed."""
        where = Path(path)
        text = private_text(where, "key", "`beaver keygen NAME` makes one")
        words = text.split()
        try:
            seed = base64.b64decode(words[2], validate=True) if len(words) == 3 and words[0] == _FILE_MARK else b""
        except (binascii.Error, ValueError):
            seed = b""
        if len(seed) != KEY_BYTES:
            msg = f"{where}: is no Beaver key file of format {_FILE_MARK}; restore it from a backup or make a new key"
            raise ConfigError(msg)
        return cls(words[1], seed)
