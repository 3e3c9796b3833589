"""The acknowledgements that this side of a channel owes."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OWED = 1 << 21
"""Bytes after which a receiver acknowledges even if it has nothing else to send."""
OWED_A_WHILE = 1 << 16
"""Bytes that a receiver acknowledges after a WHILE at the latest: until then the sender keeps their arrays."""
WHILE = 0.05


class Owed:
    """Bytes received but not acknowledged; `pay` acknowledges them if nothing else is sent for a WHILE."""

    def __init__(self, pay: Callable[[], None]) -> None:
        self._pay = pay
        self._size = 0
        self._reminder: asyncio.TimerHandle | None = None

    @property
    def much(self) -> bool:
        """Whether the peer should be told now."""
        return self._size > OWED

    def add(self, size: int) -> None:
        """`size` bytes were received."""
        self._size += size
        if self._size > OWED_A_WHILE and self._reminder is None:
            # A fresh context: a timer must not keep the current session alive.
            self._reminder = asyncio.get_running_loop().call_later(WHILE, self._remind, context=Context())

    def _remind(self) -> None:
        self._reminder = None
        if self._size > OWED_A_WHILE:
            self._pay()

    def paid(self) -> None:
        """A record was sent, which acknowledged everything."""
        self._size = 0

    def clear(self) -> None:
        """Nothing is owed any more."""
        self._size = 0
        if self._reminder is not None:
            self._reminder.cancel()
        self._reminder = None
