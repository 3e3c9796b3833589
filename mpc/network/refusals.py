"""The log lines of refused links: anyone who reaches the port can cause any number of refusals."""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.errors import BeaverError

LINES = 20
"""Refusals per MINUTE that are logged one by one; of the rest only the number is logged."""
MINUTE = 60.0
QUIET = 3600.0
"""Seconds in which the same refusal of the same address is logged only once: health checks may connect every few seconds for ever."""
MOST = 1000
"""Logged refusals that are remembered; beyond these the oldest is forgotten and would be logged again."""


@dataclass(slots=True)
class _Told:
    """When a refusal was logged, and how often it has recurred since."""

    when: float
    again: int = 0


class Refusals:
    """Calls `warn` with a line for each refusal, but with no more lines than the log can take."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._told = self._more = 0
        self._known: dict[tuple[str, str], _Told] = {}
        self._end: asyncio.TimerHandle | None = None

    def tell(self, fault: BeaverError) -> None:
        """Report that a link was refused because of `fault`."""
        loop = asyncio.get_running_loop()
        what = _address(fault), fault.text
        known = self._known.get(what)
        if known is not None and loop.time() - known.when < QUIET:
            # A repeat uses up none of the LINES for other refusals.
            known.again += 1
            return
        if self._end is None:
            # A fresh context: a timer must not keep the objects in the refused link's context alive.
            self._end = loop.call_later(MINUTE, self._next_minute, context=Context())
        if self._told >= LINES:
            self._more += 1
            return
        self._told += 1
        self._warn(
            f"link refused: {fault}{f' ({known.again:,} times more since this was told last)' if known is not None and known.again else ''}"
        )
        # Moved behind all that were logged before.
        self._known.pop(what, None)
        self._known[what] = _Told(loop.time())
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]

    def let_in(self, name: str) -> None:
        """The member `name` connected: later refusals of it are news."""
        self._known = {what: told for what, told in self._known.items() if what[0] != name}

    def _next_minute(self) -> None:
        if self._more:
            self._warn(f"{self._more:,} more links were refused within a minute, beside the {LINES} that are told one by one")
        if self._end is not None:
            self._end.cancel()
        self._told, self._more, self._end = 0, 0, None

    def close(self) -> None:
        """The node closes: log what was only counted."""
        self._next_minute()
        if again := sum(each.again for each in self._known.values()):
            self._warn(f"{again:,} more links were refused for what was told of their addresses before")
        self._known.clear()


def _address(fault: BeaverError) -> str:
    """The address of a link, without its port, which differs each time; for a known member, its name."""
    party = fault.party or ""
    return party.rpartition(":")[0] or party
