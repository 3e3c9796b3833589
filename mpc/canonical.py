"""Canonical msgpack: every value has exactly one encoding, and nothing else decodes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NoReturn

import msgpack

MAX_BYTES = 1 << 16
_PLAIN = (bool, int, float, str, bytes)


class NotCanonicalError(ValueError):
    """The bytes are msgpack, but not the canonical encoding of their value."""

    def __init__(self) -> None:
        super().__init__("not in canonical form")


def pack(value: object) -> bytes:
    """The canonical encoding: maps sorted by key, lists for tuples, shortest integers."""
    return pack_sequence(_ordered(value))


def _refuse(value: object, *_: object) -> NoReturn:
    msg = f"{type(value).__name__} has no canonical encoding"
    raise TypeError(msg)


def pack_sequence(value: object) -> bytes:
    """As `pack`, at the speed of C, for values without maps: nested lists and tuples of plain values."""
    return msgpack.packb(value, use_bin_type=True, default=_refuse)  # type: ignore[no-any-return]


def unpack_sequence(raw: bytes) -> Any:
    """A value that `pack_sequence` may have packed, lists as tuples; ValueError or TypeError for other bytes. The caller compares its
    encoding.
    """
    return msgpack.unpackb(raw, raw=False, use_list=False, ext_hook=_refuse)


def _ordered(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if value is None or type(value) in _PLAIN:
        return value
    return _refuse(value)


def _sorted_map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if any(left >= right for left, right in pairwise(keys)):
        raise NotCanonicalError
    return dict(pairs)


def unpack(raw: bytes) -> Any:
    """The value whose encoding is exactly `raw`; otherwise ValueError says what is wrong."""
    if len(raw) > MAX_BYTES:
        msg = f"{len(raw)} bytes, more than {MAX_BYTES}"
        raise ValueError(msg)
    try:
        # Timestamps become objects that do not pack again; all other extensions are refused here.
        value = msgpack.unpackb(raw, raw=False, strict_map_key=True, object_pairs_hook=_sorted_map, timestamp=3, ext_hook=_refuse)
        again = pack_sequence(value)
    except NotCanonicalError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as fault:
        msg = "not msgpack"
        raise ValueError(msg) from fault
    if again != raw:
        raise NotCanonicalError
    return value
