"""Where the words of a message go as they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.ring import WORD

if TYPE_CHECKING:
    from mpc.ring import Words

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Sum:
    """A sink that combines words with `total` as they arrive: their sum, or their XOR."""

    __slots__ = ("_combine", "_total")

    def __init__(self, total: Words, combine: np.ufunc = np.add) -> None:
        self._total = total
        self._combine = combine

    def write(self, offset: int, data: memoryview) -> None:
        """Add the words that start at byte `offset`."""
        words = np.frombuffer(data, WORD)
        start = offset // WORD.itemsize
        target = self._total[start : start + words.size]
        self._combine(target, words, out=target)


class Store:
    """A sink that keeps bytes in `target`, an array of exactly the message's size."""

    __slots__ = ("_bytes",)

    def __init__(self, target: Words | Bytes) -> None:
        self._bytes = target.reshape(-1).view(np.uint8)

    def write(self, offset: int, data: memoryview) -> None:
        """Copy the bytes that start at `offset`."""
        self._bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
