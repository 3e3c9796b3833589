"""The records that a peer has not acknowledged: what a repaired link sends again, each exactly once as the peer counts them."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from mpc.errors import PeerMisbehaved

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpc.framing.wire import Part

HELD = 1 << 25
"""Bytes that may wait for acknowledgement before no more granted blocks are sent: above what is on its way over any common link."""


class Unacknowledged:
    """Records by number, oldest first.  Their parts are kept as they are, so nothing is copied."""

    def __init__(self) -> None:
        self._records: deque[tuple[Sequence[Part], int]] = deque()
        self._first = self._marked = 0
        self._progress = 0.0
        self.size = 0

    @property
    def full(self) -> bool:
        """Whether more than HELD bytes wait."""
        return self.size > HELD

    def keep(self, parts: Sequence[Part], size: int) -> int:
        """The next record, `size` bytes in all; its number."""
        if not self._records:
            self._progress = time.monotonic()
        self._records.append((parts, size))
        self.size += size
        return self._first + len(self._records) - 1

    def acknowledged(self, count: int, peer: str) -> None:
        """`peer` has received `count` records in all (mod 2^32); PeerMisbehaved if that cannot be."""
        newly = (count - self._first) % (1 << 32)
        if newly > len(self._records):
            raise PeerMisbehaved(peer, "acknowledged records that it was not sent")
        for _ in range(newly):
            self.size -= self._records.popleft()[1]
        self._first += newly
        if newly:
            self._progress = time.monotonic()

    def mark(self) -> None:
        """A session ends: what waits now, and the next record, may be the last of it."""
        self._marked = self._first + len(self._records) + 1

    @property
    def of_sessions(self) -> bool:
        """Whether the peer may lack something of a session that has ended; until the next record is acknowledged, too."""
        return self._first < self._marked

    def overdue(self, seconds: float) -> bool:
        """Whether the oldest record that waits has been the oldest for more than `seconds`: the peer may live, but none comes through to it."""
        return bool(self._records) and time.monotonic() - self._progress > seconds

    def again(self) -> Iterator[tuple[int, Sequence[Part]]]:
        """Number and parts of every record that waits, to be sent once more."""
        self._progress = time.monotonic()
        return iter([(self._first + index, parts) for index, (parts, _) in enumerate(self._records)])

    def clear(self) -> None:
        """Forget them all."""
        self._records.clear()
        self.size = 0
