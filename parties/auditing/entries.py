"""The line of an audit log: one event as canonical JSON, chained to the line before by a hash, and signed.

The signature covers the line without its field `signature`.  `previous` is the digest of the whole line before, so a valid signature
vouches for all lines up to its own.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from mpc.errors import ConfigError
from mpc.membership.identity import encode_key, verify
from mpc.messaging.job import Job
from mpc.prg import fields
from parties.jobs.job import unpack_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpc.membership.identity import Identity

PURPOSE = "audit"
START = blake2b(b"", digest_size=32, person=b"beaver/audit/v1").hexdigest()
"""The digest that the first line has as `previous`."""
BEGINNINGS = (b"{", b"\0")
"""How the rest of an entry begins after a crash: with the entry, or with a block that was never written."""
ALTERED, UNSIGNED = "is no entry, or was altered", "its signature is not right: it was altered"
CLOSED, CONTINUED = "closed", "continued"
"""The kind of the last entry of a closed file, and the kind of the first entry in the file after it."""
STARTED, ENDED, RENEWED = "started", "ended", "renewed"
UNKNOWN = "unknown"
"""The outcome of a job whose end the log does not have."""
NOT_WRITTEN = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What reading an entry raises if no node writes such an entry: a field is missing, has another type, or is too large or too deep."""
Entry = dict[str, Any]


def canonical(entry: Entry) -> bytes:
    """Return the one valid form of an entry: ASCII, sorted keys, no blanks."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(line: bytes) -> str:
    """Return the digest that the next line has as `previous`."""
    return blake2b(line, digest_size=32, person=b"beaver/audit/v1").hexdigest()


def sealed(entry: Entry, identity: Identity) -> bytes:
    """Return the signed line of `entry`, without its line end."""
    whole = {**entry, "key": encode_key(identity.public)}
    return canonical({**whole, "signature": encoded(identity.sign(PURPOSE, canonical(whole)))})


def opened(line: bytes) -> Entry:
    """Return the entry of a line.  Raises ValueError unless the line is an entry in its canonical form."""
    try:
        entry: Entry = json.loads(line)
        right = isinstance(entry, dict) and canonical(entry) == line and type(entry.get("number")) is int
    except RecursionError:
        right = False
    # A head has 20 digits, so every number below 10^20 can be written into it.
    if (
        not right
        or not 0 <= entry["number"] < 10**20
        or not all(isinstance(entry.get(field), str) for field in ("previous", "kind", "key", "signature"))
    ):
        raise ValueError(len(line))
    return entry


class Chain:
    """Takes line after line; each must follow the one before."""

    def __init__(self) -> None:
        self.number = 0
        self.head = START

    def take(self, line: bytes) -> Entry:
        """Return the entry of the next line.

        Raises ValueError, which says what is wrong; the line after is compared with this one all the same.
        """
        number, head = self.number + 1, self.head
        self.number, self.head = number, digest(line)
        try:
            entry = opened(line)
        except ValueError:
            raise ValueError(ALTERED) from None
        self.number = entry["number"]
        if entry["number"] == number and entry["previous"] != head:
            msg = "does not follow the line before: that was altered, or this is an entry of another log"
            raise ValueError(msg)
        if entry["number"] != number:
            msg = (
                f"does not follow the line before: entry {entry['number']} where {number} belongs, a file before it is missing, "
                "or the line before was altered"
            )
            raise ValueError(msg)
        return entry


def signed(entry: Entry, keys: Iterable[bytes]) -> bool:
    """Return whether the entry is signed with the key that it names, and that is one of `keys`."""
    body = {name: value for name, value in entry.items() if name != "signature"}
    key = next((key for key in keys if encode_key(key) == entry["key"]), None)
    return key is not None and verify(key, PURPOSE, canonical(body), decoded(entry["signature"]))


def encoded(raw: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(raw).decode()


def decoded(text: object) -> bytes:
    """Return the bytes of `encoded` text; no bytes for anything else."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""


def finite(value: Any) -> Any:
    """Return `value` as JSON can have it: NaN and infinite numbers become null."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shortened(text: str, room: int) -> str:
    """Return the longest beginning of `text` that takes at most `room` bytes in a line, where one character may take twelve."""
    ends = accumulate(len(json.dumps(character)) - 2 for character in text)
    kept = "".join(character for character, end in zip(text, ends, strict=True) if end <= room)
    return text if kept == text else f"{kept}..."


def described(job: Job) -> Entry:
    """Return the job description that all parties signed, as JSON."""
    return {**job.description, "roster": job.description["roster"].hex()}


def fault_of(entry: Entry) -> str:
    """Return what is wrong with the digest of the job, or of its task, in a `started` entry; empty if nothing is."""
    try:
        said = {**entry["description"], "roster": bytes.fromhex(entry["description"]["roster"])}
        job = Job(entry["job"], tuple(said["members"]), said)
        task = unpack_task(entry["task"])
        right = job.digest.hex() == entry["digest"] and said["job"] == entry["job"] and task.program in said["program"].split()
    except (*NOT_WRITTEN, ConfigError):
        right = False
    return "" if right else "its digest is not that of its job"


def seal_of(result: Any, key: bytes) -> str:
    """Return the keyed digest of a result: without the key nobody can try out results."""
    return blake2b(fields("result", canonical({"result": finite(result)})), digest_size=32, key=key).hexdigest()


__all__ = [
    "ALTERED",
    "BEGINNINGS",
    "CLOSED",
    "CONTINUED",
    "ENDED",
    "NOT_WRITTEN",
    "PURPOSE",
    "RENEWED",
    "START",
    "STARTED",
    "UNKNOWN",
    "UNSIGNED",
    "Chain",
    "Entry",
    "canonical",
    "decoded",
    "described",
    "digest",
    "encoded",
    "fault_of",
    "finite",
    "opened",
    "seal_of",
    "sealed",
    "shortened",
    "signed",
]
