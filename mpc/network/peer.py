"""What a mesh keeps of one peer: its channel, what passed, and what is waited for."""

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
    parting: Channel | None = None
    """The last one, as long as its goodbyes are on their way."""
    traffic: Traffic = field(default_factory=Traffic)
    """Without the channel that is there now."""
    problem: BeaverError | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    expiry: asyncio.TimerHandle | None = None
    in_a_row: int = 0
    """New channels until now, each soon after the one before."""
    born: float = float("-inf")
    """When the last of them came to be."""

    @property
    def connected(self) -> bool:
        """Whether there is a channel that carries something now."""
        return self.channel is not None and not self.channel.interrupted

    @property
    def last(self) -> Channel | None:
        """Its channel, or the one that is parting."""
        return self.channel or self.parting

    @property
    def interrupted(self) -> bool:
        """Whether its last channel waits for another link."""
        return self.last is not None and self.last.interrupted

    def met_anew(self, now: float) -> str:
        """A new channel came to be, which goes on with no older one.  A warning for the log where it is one of too many."""
        # A client comes for one job, and again for the next.
        self.in_a_row = self.in_a_row + 1 if now - self.born < SOON and self.member.role != "client" else 1
        self.born = now
        if self.in_a_row % IN_A_ROW:
            return ""
        return f"{self.in_a_row} new connections, each within {SOON:g} s of the one before; {_TWICE}"

    def contested(self, now: float) -> bool:
        """Whether channels to it displace each other again and again, as they do where a second program has its key, or this member's."""
        return self.in_a_row >= IN_A_ROW and now - self.born < SOON

    def stop_waiting(self) -> None:
        """Its interrupted channel goes on, or is not waited for any more."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    async def next_change(self) -> None:
        """Return when a channel to it has come, gone, or been interrupted."""
        self.changed.clear()
        await self.changed.wait()
