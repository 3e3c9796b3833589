"""The mesh's record of one peer: its channel, its traffic, and the channel that is awaited."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpc.channels.channel import Channel
    from mpc.errors import BeaverError
    from mpc.membership.members import Member

IN_A_ROW = 5
"""New channels to one peer, each within SOON seconds of the one before, after which two programs seem to use one identity."""
SOON = 30.0
_TWICE = "if a second node runs with the key of either, as after a restore or a move, stop it: the two cut each other off"


@dataclass(slots=True)
class Traffic:
    """Sealed bytes to and from one peer since this member started, and the numbers of connections and of repairs."""

    sent: int = 0
    received: int = 0
    connections: int = 0
    repairs: int = 0

    def count(self, channel: Channel) -> None:
        """Add the traffic of `channel`."""
        self.sent += channel.wire_bytes
        self.received += channel.wire_received


@dataclass(slots=True)
class Peer:
    """One other member of the roster."""

    member: Member
    channel: Channel | None = None
    parting: Channel | None = None
    """The previous channel, while its goodbyes are in flight."""
    traffic: Traffic = field(default_factory=Traffic)
    """All traffic but that of the current channel."""
    problem: BeaverError | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    expiry: asyncio.TimerHandle | None = None
    in_a_row: int = 0
    """Number of new channels in a row, each soon after the one before."""
    born: float = float("-inf")
    """When the last of these channels was made."""

    @property
    def connected(self) -> bool:
        """Whether a channel carries messages now."""
        return self.channel is not None and not self.channel.interrupted

    @property
    def last(self) -> Channel | None:
        """The current channel, or the one that is parting."""
        return self.channel or self.parting

    @property
    def interrupted(self) -> bool:
        """Whether the last channel waits for another link."""
        return self.last is not None and self.last.interrupted

    def met_anew(self, now: float) -> str:
        """Count a new channel that continues no older one. Return a warning for the log if there are too many in a row."""
        # A client comes for one job, and again for the next.
        self.in_a_row = self.in_a_row + 1 if now - self.born < SOON and self.member.role != "client" else 1
        self.born = now
        if self.in_a_row % IN_A_ROW:
            return ""
        return f"{self.in_a_row} new connections, each within {SOON:g} s of the one before; {_TWICE}"

    def contested(self, now: float) -> bool:
        """Whether channels to the peer keep displacing each other, as they do if a second program has the peer's key or this member's."""
        return self.in_a_row >= IN_A_ROW and now - self.born < SOON

    def stop_waiting(self) -> None:
        """Stop waiting for the interrupted channel: it continues, or was given up."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    async def next_change(self) -> None:
        """Return when a channel to the peer is opened, closed or interrupted."""
        self.changed.clear()
        await self.changed.wait()
