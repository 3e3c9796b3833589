"""The contracts of a link, which carries frames (byte strings) in order and knows nothing of keys, and of a network, which makes links.

Links push: a frame is handed to `on_frame` inside the transport's own callback, so that no task switch lies between its arrival and the
receive that it completes.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from mpc.errors import PeerMisbehaved
from mpc.framing.handshake import SEAL_BYTES
from mpc.framing.records import MAX_RECORD

if TYPE_CHECKING:
    from mpc.membership.members import Member

MAX_FRAME = MAX_RECORD + SEAL_BYTES
"""Most bytes of a frame: a whole sealed record."""
HIGH_WATER = 1 << 20
"""Bytes waiting to be sent above which a link takes no more blocks."""

OnFrame = Callable[[memoryview], None]
OnClosed = Callable[[Exception | None], None]
OnWritable = Callable[[], None]
Part = bytes | bytearray | memoryview


def check_length(length: int, largest: int, label: str) -> None:
    """PeerMisbehaved for a length that no Beaver party sends; called before memory is allocated for the frame."""
    if not 0 < length <= largest:
        raise PeerMisbehaved(
            label, f"announced a frame of {length} bytes; something else than Beaver uses this port, or changes bytes on the way"
        )


class Link(Protocol):
    """One connection to one peer."""

    label: str
    largest: int
    """Bytes of a frame that the peer may announce now, MAX_FRAME unless lowered: a longer one ends the link before memory is allocated for
    it.
    """

    @property
    def heard(self) -> float:
        """When the last byte arrived, on the loop's clock: a large frame over a slow link is not silence."""

    def start(self, on_frame: OnFrame, on_closed: OnClosed, on_writable: OnWritable) -> None:
        """Deliver frames from now on, earlier ones first.

        The memoryview is valid only during the call. `on_closed` is called exactly once, after the last frame, with the reason if there is
        one. `on_writable` is called when `writable` becomes true again.
        """

    def send(self, *parts: Part) -> None:
        """Send one frame made of `parts`. Never blocks; ignored once closed."""

    @property
    def writable(self) -> bool:
        """False while more than HIGH_WATER bytes wait to be sent."""

    def close(self) -> None:
        """Send what is buffered, then close."""

    def abort(self) -> None:
        """Close at once: no frame is handed over any more."""

    async def wait_closed(self) -> None:
        """Return when the link is closed."""


class Network(Protocol):
    """Makes links: one member's connections to the others."""

    async def listen(self, on_link: Callable[[Link], None]) -> None:
        """Hand every incoming link to `on_link`; ConfigError if this member cannot be reached as its files say."""

    async def dial(self, member: Member) -> Link:
        """A link to `member`; OSError, or PeerLost with the full reason, if there is none within some seconds."""

    async def close(self) -> None:
        """Stop listening and free the port."""


TOO_MANY = (errno.EMFILE, errno.ENFILE)
"""Errors for too many open files in this process or on this machine."""


def reason(fault: Exception) -> str:
    """Why a network call failed, in the system's own words; asyncio's text repeats the address in another form."""
    if isinstance(fault, OSError) and fault.errno and not isinstance(fault, socket.gaierror):
        return os.strerror(fault.errno)
    return getattr(fault, "strerror", None) or str(fault)
