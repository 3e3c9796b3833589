"""The contents of a sealed record: strict frames, and strict canonical msgpack for control messages.

Bytes only; no sockets, no state. `docs/wire.md` is the normative text.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from mpc import canonical
from mpc.errors import PeerMisbehaved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TAG_BYTES = 12
DIGEST_BYTES = 12
SESSION_PREFIX = 4
TAG_HASH_BYTES = TAG_BYTES - SESSION_PREFIX
"""Bytes of a tag after its session's prefix."""
MAX_CONTROL = 1 << 16
"""Bytes of a control message's frame."""
MAX_TOTAL = 1 << 40
"""Bytes of a message."""

_RECORD_HEAD = struct.Struct("<II")
_FRAME_HEAD = struct.Struct("<I")
_FIRST = struct.Struct(f"<I{TAG_BYTES}s{DIGEST_BYTES}sQ")
_TAGGED = struct.Struct(f"<I{TAG_BYTES}s")
_CREDIT = struct.Struct(f"<I{SESSION_PREFIX}sQ")
_READY = struct.Struct("<I64sQ")
NEW = bytes(64)
"""In place of a transcript: the connection is new and continues no other."""


class Kind(IntEnum):
    """The kind of a frame: the upper 8 bits of its first word, so its fourth byte in memory."""

    READY = 1
    FIRST = 2
    MORE = 3
    GRANT = 4
    CREDIT = 5
    CONTROL = 6
    PING = 7
    CLOSE = 8
    AHEAD = 9


Part = bytes | bytearray | memoryview
Body = dict[str, Any]


@dataclass(slots=True)
class Ready:
    """The handshake is over: the channel with this `transcript` continues, and `received` of its records arrived; or NEW."""

    transcript: bytes
    received: int


@dataclass(slots=True)
class First:
    """The first bytes of a message of `total` bytes. `data`, here and below, is valid only while the record is being handled."""

    tag: bytes
    digest: bytes
    total: int
    data: memoryview


@dataclass(slots=True)
class More:
    """The next bytes of a message that was granted."""

    tag: bytes
    data: memoryview


@dataclass(slots=True)
class Ahead:
    """The next eager bytes of a message."""

    tag: bytes
    data: memoryview


@dataclass(slots=True)
class Grant:
    """The receiver has a buffer for all of the message."""

    tag: bytes


@dataclass(slots=True)
class Credit:
    """Eager bytes were consumed: `amount` more may be sent for the session whose id begins with `session`."""

    session: bytes
    amount: int


@dataclass(slots=True)
class Control:
    """A control message; see `parse_control`."""

    data: memoryview


@dataclass(slots=True)
class Ping:
    """The peer lives; the record also acknowledges what it received."""


@dataclass(slots=True)
class Close:
    """The peer's goodbye."""


FlowFrame = First | More | Ahead | Grant | Credit
"""Frames that belong to one session's flow of messages."""
Frame = FlowFrame | Control | Ready | Ping | Close


def _head(kind: Kind, length: int) -> int:
    return kind << 24 | length


def record_head(sequence: int, acknowledged: int) -> bytes:
    """The 8 bytes that open every record: its number and how many records were received, both mod 2^32."""
    return _RECORD_HEAD.pack(sequence & 0xFFFFFFFF, acknowledged & 0xFFFFFFFF)


def first(tag: bytes, digest: bytes, total: int, length: int) -> bytes:
    """Head of a message's first frame: `length` of its `total` bytes follow."""
    return _FIRST.pack(_head(Kind.FIRST, _FIRST.size - 4 + length), tag, digest, total)


def more(tag: bytes, length: int) -> bytes:
    """Head of a later frame of a granted message: the next `length` bytes follow."""
    return _TAGGED.pack(_head(Kind.MORE, TAG_BYTES + length), tag)


def ahead(tag: bytes, length: int) -> bytes:
    """Head of a later frame of a message: the next `length` bytes, also eager, follow."""
    return _TAGGED.pack(_head(Kind.AHEAD, TAG_BYTES + length), tag)


def grant(tag: bytes) -> bytes:
    """Grant: the receiver has a buffer for all of `tag`."""
    return _TAGGED.pack(_head(Kind.GRANT, TAG_BYTES), tag)


def credit(session: bytes, amount: int) -> bytes:
    """Credit: `amount` eager bytes of `session` were consumed and may be sent again."""
    return _CREDIT.pack(_head(Kind.CREDIT, _CREDIT.size - 4), session, amount)


def ready(transcript: bytes, received: int) -> bytes:
    """The handshake is over: the connection with this `transcript` continues, and `received` of its records arrived; or NEW."""
    return _READY.pack(_head(Kind.READY, _READY.size - 4), transcript, received)


def bare(kind: Kind) -> bytes:
    """A frame without contents: PING or CLOSE."""
    return _FRAME_HEAD.pack(_head(kind, 0))


def control(body: Mapping[str, Any]) -> bytes:
    """A control message; its fields are checked against `FIELDS` on arrival."""
    raw = canonical.pack(body)
    return _FRAME_HEAD.pack(_head(Kind.CONTROL, len(raw))) + raw


def acknowledged(record: Part) -> int:
    """How many records the peer has received, mod 2^32, as stated in `record`, which must be one that `parse` accepts."""
    return int(_RECORD_HEAD.unpack_from(record)[1]) if len(record) >= _RECORD_HEAD.size else 0


def parse(record: Part, sequence: int, peer: str) -> Iterator[Frame]:
    """The frames of one opened record, whose number must be `sequence`. PeerMisbehaved on anything else."""
    if len(record) < _RECORD_HEAD.size or _RECORD_HEAD.unpack_from(record)[0] != sequence & 0xFFFFFFFF:
        raise PeerMisbehaved(peer, "a record without its sequence number")
    view = memoryview(record)
    position = _RECORD_HEAD.size
    while position < len(record):
        if len(record) - position < 4:
            raise PeerMisbehaved(peer, "a record ends inside a frame")
        (word,) = _FRAME_HEAD.unpack_from(view, position)
        stop = position + 4 + (word & 0xFFFFFF)
        if stop > len(record):
            raise PeerMisbehaved(peer, "a frame is longer than its record")
        yield _frame(word >> 24, view[position:stop], peer)
        position = stop


def _frame(kind: int, frame: memoryview, peer: str) -> Frame:
    match kind:
        case Kind.FIRST if len(frame) >= _FIRST.size:
            _, tag, digest, total = _FIRST.unpack_from(frame)
            data = frame[_FIRST.size :]
            if len(data) <= total <= MAX_TOTAL:
                return First(tag, digest, total, data)
        case Kind.MORE if len(frame) > _TAGGED.size:
            return More(bytes(frame[4 : _TAGGED.size]), frame[_TAGGED.size :])
        case Kind.AHEAD if len(frame) > _TAGGED.size:
            return Ahead(bytes(frame[4 : _TAGGED.size]), frame[_TAGGED.size :])
        case Kind.GRANT if len(frame) == _TAGGED.size:
            return Grant(bytes(frame[4:]))
        case Kind.CREDIT if len(frame) == _CREDIT.size:
            _, session, amount = _CREDIT.unpack(frame)
            return Credit(session, amount)
        case Kind.CONTROL if len(frame) <= MAX_CONTROL:
            return Control(frame[4:])
        case Kind.READY if len(frame) == _READY.size:
            _, transcript, received = _READY.unpack(frame)
            return Ready(transcript, received)
        case Kind.PING if len(frame) == 4:
            return Ping()
        case Kind.CLOSE if len(frame) == 4:
            return Close()
        case _:
            pass
    raise PeerMisbehaved(peer, f"a frame of kind {kind} with an impossible length or of an unknown kind")


FIELDS: dict[str, dict[str, type]] = {
    "join": {"job": str, "description": dict, "members": list, "nonce": bytes},
    "confirm": {"job": str, "session": bytes, "proof": bytes},
    "withdraw": {"job": str, "reason": str, "party": str, "answers": bytes},
    "propose": {"job": str, "task": dict},
    "answer": {"job": str, "verdict": str, "signatures": dict, "rows": int},
    "decline": {"job": str, "party": str, "reason": str},
    "ended": {"job": str, "reason": str, "party": str},
    "over": {"session": bytes, "party": str},
    "leave": {"session": bytes, "reason": str, "party": str, "by": str, "at": str},
    "waits": {"session": bytes, "tag": bytes, "digest": bytes, "scope": str, "at": str, "on": list},
    "check": {"number": int, "filler": bytes},
    "checked": {"number": int, "version": str, "time": int},
    "ask": {"session": bytes, "relations": list},
}
"""Control messages: every field and its type.  `kind` names the message."""


def parse_control(raw: Part, peer: str) -> Body:
    """The control message in `raw`; PeerMisbehaved unless it has exactly the fields of its kind."""
    try:
        data = canonical.unpack(bytes(raw))
    except ValueError as fault:
        raise PeerMisbehaved(peer, f"a control message that is {fault}") from fault
    kind = data.get("kind") if isinstance(data, dict) else None
    fields = FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise PeerMisbehaved(peer, "a control message of unknown kind")
    if data.keys() != {"kind", *fields} or any(type(data[name]) is not wanted for name, wanted in fields.items()):
        raise PeerMisbehaved(peer, f"a message of kind {kind!r} with missing, unknown or mistyped fields")
    body: Body = data
    return body
