"""The records that a peer has not acknowledged. A repaired link sends them again, each exactly once as the peer counts."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from mpc.errors import PeerMisbehaved

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpc.framing.wire import Part

HELD = 1 << 25
"""Unacknowledged bytes above which no more granted blocks are sent: more than any common link has in flight."""


class Unacknowledged:
    """Unacknowledged records by number, oldest first. Their parts are kept as they are, so nothing is copied."""

    def __init__(self) -> None:
        self._records: deque[tuple[Sequence[Part], int]] = deque()
        self._first = self._marked = 0
        self._progress = 0.0
        self.size = 0

    @property
    def full(self) -> bool:
        """Whether more than HELD bytes are unacknowledged."""
        return self.size > HELD

    def keep(self, parts: Sequence[Part], size: int) -> int:
        """Keep the parts of the next record, `size` bytes in all; return its number."""
        if not self._records:
            self._progress = time.monotonic()
        self._records.append((parts, size))
        self.size += size
        return self._first + len(self._records) - 1

    def acknowledged(self, count: int, peer: str) -> None:
        """`peer` has received `count` records in all (mod 2^32); PeerMisbehaved if that is impossible."""
        newly = (count - self._first) % (1 << 32)
        if newly > len(self._records):
            raise PeerMisbehaved(peer, "acknowledged records that it was not sent")
        for _ in range(newly):
            self.size -= self._records.popleft()[1]
        self._first += newly
        if newly:
            self._progress = time.monotonic()

    def mark(self) -> None:
        """Note that a session ends: the records kept now, and the next one, may be its last."""
        self._marked = self._first + len(self._records) + 1

    @property
    def of_sessions(self) -> bool:
        """Whether the peer may lack records of a session that has ended; true until the next record is acknowledged, too."""
        return self._first < self._marked

    def overdue(self, seconds: float) -> bool:
        """Whether one record has been the oldest for more than `seconds`: the peer may be alive, but records do not reach it."""
        return bool(self._records) and time.monotonic() - self._progress > seconds

    def again(self) -> Iterator[tuple[int, Sequence[Part]]]:
        """Number and parts of every unacknowledged record, to be sent again."""
        self._progress = time.monotonic()
        return iter([(self._first + index, parts) for index, (parts, _) in enumerate(self._records)])

    def clear(self) -> None:
        """Forget all records."""
        self._records.clear()
        self.size = 0
