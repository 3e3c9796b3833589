"""What this side of a channel has received and not acknowledged."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OWED = 1 << 21
"""Bytes after which a receiver acknowledges although it has nothing else to say."""
OWED_A_WHILE = 1 << 16
"""Bytes that a receiver acknowledges after a WHILE at the latest: the sender keeps the arrays that they are from."""
WHILE = 0.05


class Owed:
    """Bytes received that this side has not acknowledged; `pay` does so, where nothing else is said for a WHILE."""

    def __init__(self, pay: Callable[[], None]) -> None:
        self._pay = pay
        self._size = 0
        self._reminder: asyncio.TimerHandle | None = None

    @property
    def much(self) -> bool:
        """Whether the peer should hear of it now."""
        return self._size > OWED

    def add(self, size: int) -> None:
        """`size` bytes were received."""
        self._size += size
        if self._size > OWED_A_WHILE and self._reminder is None:
            # A context of its own: a timer must not keep the session in whose context it was set.
            self._reminder = asyncio.get_running_loop().call_later(WHILE, self._remind, context=Context())

    def _remind(self) -> None:
        self._reminder = None
        if self._size > OWED_A_WHILE:
            self._pay()

    def paid(self) -> None:
        """A record went, and with it an acknowledgement of all."""
        self._size = 0

    def clear(self) -> None:
        """Nothing is owed any more."""
        self._size = 0
        if self._reminder is not None:
            self._reminder.cancel()
        self._reminder = None
