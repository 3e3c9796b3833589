"""Sinks for the words of a message as they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.ring import WORD

if TYPE_CHECKING:
    from mpc.ring import Words

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Sum:
    """A sink for the messages of several peers: `total` is their sum (or XOR) with this party's `own` words so far.

    Without a given `total`, it is allocated when the first words arrive: many openings may be pending.
    """

    __slots__ = ("_combine", "_own", "_reached", "_total")

    def __init__(self, own: Words, total: Words | None = None, combine: np.ufunc = np.add) -> None:
        self._own = own
        self._total = total
        self._combine = combine
        self._reached = 0

    @property
    def total(self) -> Words:
        """The sum of this party's own words and the words received so far."""
        if self._total is None:
            self._total = np.empty_like(self._own)
        return self._total

    def write(self, offset: int, data: memoryview) -> None:
        """Add the words that start at byte `offset`. The first words are added to this party's own, which saves a copy."""
        words = np.frombuffer(data, WORD)
        start = offset // WORD.itemsize
        stop = start + words.size
        # A peer's words arrive in order, so where it continues, the total is complete up to there for earlier peers.
        fresh = min(max(start, self._reached), stop)
        total = self.total
        for source, first, last in ((total, start, fresh), (self._own, fresh, stop)):
            if first < last:
                self._combine(source[first:last], words[first - start : last - start], out=total[first:last])
        self._reached = max(self._reached, stop)


class Store:
    """A sink that keeps bytes in `target`, an array of exactly the message's size."""

    __slots__ = ("_bytes",)

    def __init__(self, target: Words | Bytes) -> None:
        self._bytes = target.reshape(-1).view(np.uint8)

    def write(self, offset: int, data: memoryview) -> None:
        """Copy the bytes that start at `offset`."""
        self._bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)


class Awaited:
    """A sink that keeps bytes in `words`, allocated for `size` bytes when the first ones arrive: many may be awaited long before they
    come.
    """

    __slots__ = ("_size", "_words")

    def __init__(self, size: int) -> None:
        self._size = size
        self._words: Words | None = None

    @property
    def words(self) -> Words:
        """The received words; trailing words are undefined if the message was shorter."""
        if self._words is None:
            self._words = np.empty(self._size, WORD)
        return self._words

    def write(self, offset: int, data: memoryview) -> None:
        """Copy the bytes that start at `offset`."""
        Store(self.words).write(offset, data)
