"""The contract of a link: it carries frames (byte strings) in order, and knows nothing of keys.

Links push: a frame is handed to `on_frame` inside the transport's own callback, so that no task switch lies between its
arrival and the receive that it completes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Protocol

MAX_FRAME = (1 << 20) + 16
HIGH_WATER = 1 << 20

OnFrame = Callable[[memoryview], None]
OnClosed = Callable[[Exception | None], None]
OnWritable = Callable[[], None]
Part = bytes | bytearray | memoryview


class Link(Protocol):
    """One connection to one peer."""

    label: str

    @property
    def heard(self) -> float:
        """When the last byte came, on the loop's clock: a large frame over a slow link is not silence."""

    def start(self, on_frame: OnFrame, on_closed: OnClosed, on_writable: OnWritable) -> None:
        """Deliver frames from now on, those that came earlier first.

        The memoryview is valid only during the call.  `on_closed` is called exactly once, after the last frame, with
        the reason if there is one.  `on_writable` is called when `writable` becomes true again.
        """

    def send(self, *parts: Part) -> None:
        """Send one frame made of `parts`.  Never blocks; ignored once closed."""

    @property
    def writable(self) -> bool:
        """False while more than HIGH_WATER bytes wait to leave."""

    def close(self) -> None:
        """Send what is buffered, then close."""

    def abort(self) -> None:
        """Close at once."""

    async def wait_closed(self) -> None:
        """Return when the link is closed."""


def reason(fault: Exception) -> str:
    """Why a call of the network failed, in the system's own words; asyncio's repeat the address in a form of their own."""
    if isinstance(fault, OSError) and fault.errno and not isinstance(fault, socket.gaierror):
        return os.strerror(fault.errno)
    return getattr(fault, "strerror", None) or str(fault)
