"""Where the words of a message go as they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.ring import WORD

if TYPE_CHECKING:
    from mpc.ring import Words

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Sum:
    """A sink for the messages of several peers: their sum (or XOR) with this party's `own` words, in `total`, as they arrive.

    Where no `total` is given, there is none before the first words are here: many openings may be under way.
    """

    __slots__ = ("_combine", "_own", "_reached", "_total")

    def __init__(self, own: Words, total: Words | None = None, combine: np.ufunc = np.add) -> None:
        self._own = own
        self._total = total
        self._combine = combine
        self._reached = 0

    @property
    def total(self) -> Words:
        """What has come so far, and this party's own words."""
        if self._total is None:
            self._total = np.empty_like(self._own)
        return self._total

    def write(self, offset: int, data: memoryview) -> None:
        """Add the words that start at byte `offset`: to this party's own where they are the first, which saves a copy of them all."""
        words = np.frombuffer(data, WORD)
        start = offset // WORD.itemsize
        stop = start + words.size
        # A peer's words come in order, so where it goes on, the total is complete up to there for those who came before.
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
    """A sink that keeps bytes in `words`, of which it makes `size` when the first are here: many may be awaited long before they come."""

    __slots__ = ("_size", "_words")

    def __init__(self, size: int) -> None:
        self._size = size
        self._words: Words | None = None

    @property
    def words(self) -> Words:
        """They, the last ones without meaning where the message is shorter."""
        if self._words is None:
            self._words = np.empty(self._size, WORD)
        return self._words

    def write(self, offset: int, data: memoryview) -> None:
        """Copy the bytes that start at `offset`."""
        Store(self.words).write(offset, data)
