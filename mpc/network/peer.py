"""What a mesh keeps of one peer: its channel, what passed, and what is waited for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpc.channels.channel import Channel
    from mpc.errors import BeaverError
    from mpc.membership.members import Member


@dataclass(slots=True)
class Traffic:
    """Sealed bytes to and from one peer since this member started, and how often they connected, and repaired a connection."""

    sent: int = 0
    received: int = 0
    connections: int = 0
    repairs: int = 0

    def count(self, channel: Channel) -> None:
        """Add what went over `channel`."""
        self.sent += channel.wire_bytes
        self.received += channel.wire_received


@dataclass(slots=True)
class Peer:
    """One other member of the roster."""

    member: Member
    channel: Channel | None = None
    traffic: Traffic = field(default_factory=Traffic)
    """Without the channel that is there now."""
    problem: BeaverError | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    expiry: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a channel that carries something now."""
        return self.channel is not None and not self.channel.interrupted

    @property
    def interrupted(self) -> bool:
        """Whether its channel waits for another link."""
        return self.channel is not None and self.channel.interrupted

    def stop_waiting(self) -> None:
        """Its interrupted channel goes on, or is over."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    async def next_change(self) -> None:
        """Return when a channel to it has come, gone, or been interrupted."""
        self.changed.clear()
        await self.changed.wait()
