"""A link with its keys, and the channel that uses it now: a channel outlives its links."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Protocol

from mpc.framing import wire
from mpc.framing.greeting import MAX_GREETING
from mpc.framing.records import Opener, Sealer, opening_buffer
from mpc.transport.link import MAX_FRAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.framing.handshake import Keys
    from mpc.transport.link import Link


class LineOwner(Protocol):
    """The channel that is told what a line's link delivers."""

    def on_frame(self, line: Line, frame: memoryview) -> None:
        """A frame arrived."""

    def on_closed(self, line: Line, reason: Exception | None) -> None:
        """The link is closed."""

    def on_writable(self) -> None:
        """The link takes more again."""


class _OpeningBuffer(threading.local):
    """The buffer in which a thread opens the records of all its lines. Each record is used up before the next one is opened."""

    def __init__(self) -> None:
        self.memory = opening_buffer()


_BUFFER = _OpeningBuffer()


class Line:
    """A link, and after the handshake also the sealer and opener of its records."""

    def __init__(self, link: Link, owner: LineOwner) -> None:
        self.link = link
        self.owner = owner
        self.opener: Opener | None = None
        self.spoke = asyncio.get_running_loop().time()
        self._sealer: Sealer | None = None

    def __repr__(self) -> str:
        return f"Line({self.link.label})"

    def start(self) -> None:
        """Deliver to the owner of the moment."""
        # Before the keys are known the peer may be anyone, and nobody may make this party hold a whole record.
        self.link.largest = MAX_GREETING
        self.link.start(
            lambda frame: self.owner.on_frame(self, frame),
            lambda reason: self.owner.on_closed(self, reason),
            lambda: self.owner.on_writable(),  # noqa: PLW0108  the owner changes
        )

    def key(self, keys: Keys, suite: str, peer: str) -> None:
        """Finish the handshake: from now on records are sealed with `keys`."""
        self._sealer, self.opener = Sealer(keys.send, suite), Opener(keys.receive, suite, peer, _BUFFER.memory)
        self.link.largest = MAX_FRAME

    @property
    def keyed(self) -> bool:
        """Whether records can be sealed."""
        return self._sealer is not None

    def transmit(self, number: int, received: int, parts: Sequence[wire.Part]) -> int:
        """Seal `parts` as record `number`, acknowledge `received` records, and send it; return the bytes on the wire."""
        if self._sealer is None:
            return 0
        sealed = self._sealer.seal(b"".join((wire.record_head(number, received), *parts)))
        self.spoke = asyncio.get_running_loop().time()
        self.link.send(sealed)
        return len(sealed) + 4
