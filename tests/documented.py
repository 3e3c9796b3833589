"""The hashes, keys, streams and names of docs/wire.md, written from that text alone."""

from __future__ import annotations

import hashlib
import hmac
import struct

import msgpack
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from nacl import bindings as sodium


def fields(*parts):
    out = b""
    for part in parts:
        raw = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else struct.pack("<Q", part)
        out += struct.pack("<I", len(raw)) + raw
    return out


def b2(data, size=32, **more):
    return hashlib.blake2b(data, digest_size=size, **more).digest()


def derive(key, *parts):
    return b2(fields(*parts), key=key, person=b"beaver/seed/v1")


def hkdf(key, material, outputs):
    temporary, result, last = hmac.digest(key, material, "blake2b"), [], b""
    for number in range(outputs):
        last = hmac.digest(temporary, last + bytes([number + 1]), "blake2b")
        result.append(last)
    return result


def stream(seed, label, block, count):
    if count <= 8 and len(label) == 2:
        few = b2("{0} {2} {1}".format(*label, block).encode(), 64, key=seed, person=b"beaver/few/v1")
        return np.frombuffer(few, "<u8", count)
    key = derive(seed, *label)[:16]
    raw = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(16, "big"))).encryptor().update(bytes(8 * count))
    return np.frombuffer(raw, "<u8")


def lineage(operation, *parents):
    value = int.from_bytes(operation.encode()[:15], "little")
    for parent in parents:
        value = (value * 0x1F123BB59E3779B97F4A7C15 + parent + 1) % (2**127 - 1)
    return value


def canonical(value):
    def ordered(item):
        return {key: ordered(item[key]) for key in sorted(item)} if isinstance(item, dict) else item

    return msgpack.packb(ordered(value), use_bin_type=True)


def encoded(values, frac=20):
    return np.array([round(value * 2**frac) for value in values], np.int64).view(np.uint64)


def truncated(c, drop, high, top):
    """The second party's share of truncated words."""
    return ((np.uint64(1) - (c >> np.uint64(63))) << np.uint64(64 - drop)) * top - high


def numbers(words):
    """Integers mod 2^128, two words each."""
    low, high = np.asarray(words).reshape(-1, 2).astype(object).T
    return low + (high << 64)


def lanes(values):
    return np.array([[value % 2**128 >> 43 * lane & 2**43 - 1 for value in values] for lane in range(3)], np.uint64).reshape(-1)


def of_lanes(total):
    low, middle, high = total.reshape(3, -1).astype(object)
    return (low + (middle << 43) + (high << 86)) % 2**128


def mod64(values):
    return np.array([value % 2**64 for value in values], np.uint64)


def ed_to_curve(public):
    return sodium.crypto_sign_ed25519_pk_to_curve25519(public)


def printed(what):
    """The print of the public data whose text this is."""
    return int.from_bytes(b2(str(what).encode(), 15), "little")
