"""One link with its keys, and the channel that has it now: a channel outlives the links that carry it."""

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
    """Who is told what a line's link delivers: a channel."""

    def on_frame(self, line: Line, frame: memoryview) -> None:
        """A frame arrived."""

    def on_closed(self, line: Line, reason: Exception | None) -> None:
        """The link is closed."""

    def on_writable(self) -> None:
        """The link takes more again."""


class _OpeningBuffer(threading.local):
    """Where a thread opens the records of all its lines: of each, everything is taken before the next one comes."""

    def __init__(self) -> None:
        self.memory = opening_buffer()


_BUFFER = _OpeningBuffer()


class Line:
    """A link, and from the end of the handshake on what seals and opens its records."""

    def __init__(self, link: Link, owner: LineOwner) -> None:
        self.link = link
        self.owner = owner
        self.opener: Opener | None = None
        self.spoke = asyncio.get_running_loop().time()
        self._sealer: Sealer | None = None

    def __repr__(self) -> str:
        return f"Line({self.link.label})"

    def start(self) -> None:
        """Deliver to the owner, whoever that is when something comes."""
        # Until there are keys the peer may be anyone, and nobody may make this party hold a whole record.
        self.link.largest = MAX_GREETING
        self.link.start(
            lambda frame: self.owner.on_frame(self, frame),
            lambda reason: self.owner.on_closed(self, reason),
            lambda: self.owner.on_writable(),  # noqa: PLW0108  the owner changes
        )

    def key(self, keys: Keys, suite: str, peer: str) -> None:
        """The handshake is over."""
        self._sealer, self.opener = Sealer(keys.send, suite), Opener(keys.receive, suite, peer, _BUFFER.memory)
        self.link.largest = MAX_FRAME

    @property
    def keyed(self) -> bool:
        """Whether records can be sealed."""
        return self._sealer is not None

    def transmit(self, number: int, received: int, parts: Sequence[wire.Part]) -> int:
        """Seal `parts` as record `number`, acknowledge `received` records, send it; bytes on the wire."""
        if self._sealer is None:
            return 0
        sealed = self._sealer.seal(b"".join((wire.record_head(number, received), *parts)))
        self.spoke = asyncio.get_running_loop().time()
        self.link.send(sealed)
        return len(sealed) + 4
