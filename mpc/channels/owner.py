"""What a channel asks and tells its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mpc.channels.channel import Channel
    from mpc.errors import BeaverError
    from mpc.framing import wire


class ChannelOwner(Protocol):
    """The owner of channels: the mesh."""

    def opened(self, channel: Channel) -> None:
        """The peer proved its identity; for a responder only after the initiator's first sealed record."""

    def welcomes(self, name: str) -> bool:
        """Whether to answer a hello that claims to be from `name`."""

    def previous(self, name: str) -> Channel | None:
        """The channel to `name` that a new link may continue."""

    def interrupted(self, channel: Channel, fault: BeaverError) -> bool:
        """The channel's link is gone. Return whether to wait for another one; the owner then resumes or ends the channel later."""

    def resumed(self, channel: Channel, through: Channel) -> None:
        """The channel continues over the link of `through`, which does not become a channel itself."""

    def control(self, channel: Channel, body: wire.Body) -> None:
        """A control message arrived; a fault raised here ends the channel."""

    def closed(self, channel: Channel, fault: BeaverError) -> None:
        """The channel carries nothing any more, or was never opened; called exactly once. It may be `parting` now."""

    def parted(self, channel: Channel, fault: BeaverError | None) -> None:
        """The channel is parting no more: both goodbyes arrived, or were given up because of `fault`."""
