"""Canonical msgpack: every value has exactly one encoding, and nothing else decodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

MAX_BYTES = 1 << 16
_PLAIN = (bool, int, float, str, bytes)


def pack(value: object) -> bytes:
    """Maps sorted by key, lists for tuples, shortest integers."""
    return msgpack.packb(_ordered(value), use_bin_type=True)  # type: ignore[no-any-return]


def _ordered(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if value is None or type(value) in _PLAIN:
        return value
    msg = f"a {type(value).__name__} has no canonical encoding"
    raise TypeError(msg)


def unpack(raw: bytes) -> Any:
    """The value whose encoding is exactly `raw`; ValueError says what is wrong otherwise."""
    try:
        if len(raw) > MAX_BYTES:
            raise ValueError(len(raw))
        value = msgpack.unpackb(raw, raw=False, strict_map_key=True)
        again = pack(value)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as fault:
        msg = "not msgpack"
        raise ValueError(msg) from fault
    if again != raw:
        msg = "not in canonical form"
        raise ValueError(msg)
    return value
