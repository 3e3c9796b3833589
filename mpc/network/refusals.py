"""What the log has of links that were refused: anyone who reaches the port can make as many as they like."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 20
"""Refusals of one MINUTE that are told one by one; of the others only how many there were."""
MINUTE = 60.0


class Refusals:
    """Gives `warn` a line for each refusal, but not more than the log can take."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._told = self._more = 0
        self._end: asyncio.TimerHandle | None = None

    def tell(self, fault: Exception) -> None:
        """A link was refused because of `fault`."""
        if self._end is None:
            # A context of its own: a timer must not keep what is in that of whoever was refused.
            self._end = asyncio.get_running_loop().call_later(MINUTE, self.close, context=Context())
        if self._told < LINES:
            self._told += 1
            self._warn(f"link refused: {fault}")
        else:
            self._more += 1

    def close(self) -> None:
        """The minute is over, or the node's time is."""
        if self._more:
            self._warn(f"{self._more:,} more links were refused within a minute, beside the {LINES} that are told one by one")
        if self._end is not None:
            self._end.cancel()
        self._told, self._more, self._end = 0, 0, None
