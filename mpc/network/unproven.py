"""Channels whose peers have not proved their identity. For a dialled channel the expected peer is known, for an accepted one nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mpc.errors import PeerLost

if TYPE_CHECKING:
    from mpc.channels.channel import Channel

MAX_STRANGERS = 128
"""Most accepted links with unproven peers: one more displaces the oldest."""


class Unproven:
    """The unproven channels of one mesh: each from its beginning until its peer has proved its identity, or the channel is over."""

    def __init__(self) -> None:
        self._channels: dict[Channel, None] = {}

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._channels

    def add(self, channel: Channel) -> None:
        """Add a channel whose link was dialled or accepted."""
        self._channels[channel] = None
        strangers = [each for each in self._channels if not each.dialled]
        if len(strangers) > MAX_STRANGERS:
            # The oldest unproven link makes room: a flood costs only other unproven links, never a ready channel.
            _end(strangers[0], "did not prove who it is while many others tried")

    def discard(self, channel: Channel) -> None:
        """Remove a channel whose peer has proved its identity, or that is over."""
        self._channels.pop(channel, None)

    def end(self, why: str, born_before: float = math.inf) -> None:
        """End all unproven channels, or only those born before `born_before`."""
        for channel in tuple(self._channels):
            if channel.born < born_before:
                _end(channel, why)


def _end(channel: Channel, why: str) -> None:
    channel.end(PeerLost(channel.name, why))
