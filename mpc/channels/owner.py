"""What a channel asks of its owner, and tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mpc.channels.channel import Channel
    from mpc.errors import BeaverError
    from mpc.framing import wire


class ChannelOwner(Protocol):
    """Who owns channels: the mesh."""

    def opened(self, channel: Channel) -> None:
        """The peer proved who it is; for a responder only after the initiator's first sealed record."""

    def welcomes(self, name: str) -> bool:
        """Whether to answer the hello of a link that says that it is from `name`."""

    def previous(self, name: str) -> Channel | None:
        """The channel to `name` that a new link to it may go on with."""

    def interrupted(self, channel: Channel, fault: BeaverError) -> bool:
        """Its link is gone.  Whether to wait for another one: then it is resumed or ended later."""

    def resumed(self, channel: Channel, through: Channel) -> None:
        """It goes on over the link of `through`, which is no channel of its own."""

    def control(self, channel: Channel, body: wire.Body) -> None:
        """A control message arrived; a fault raised here ends the channel."""

    def closed(self, channel: Channel, fault: BeaverError) -> None:
        """Nothing goes through the channel any more, or it never came to be; called exactly once.  It may be `parting` now."""

    def parted(self, channel: Channel, fault: BeaverError | None) -> None:
        """It is parting no more: the goodbyes were heard, or given up because of `fault`."""
