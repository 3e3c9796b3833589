"""The network of a node that reaches some members over TCP and meets others at a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from mpc.membership.members import Member
    from mpc.transport.link import Link
    from mpc.transport.mqtt import MqttNetwork
    from mpc.transport.tcp import TcpNetwork


class Routes:
    """Both networks as one: the members in `met` through `broker`, all others over `tcp`."""

    def __init__(self, tcp: TcpNetwork, broker: MqttNetwork, met: Container[str]) -> None:
        self._tcp, self._broker, self._met = tcp, broker, met

    async def listen(self, on_link: Callable[[Link], None]) -> None:
        """Listen on both; ConfigError from either closes both."""
        await self._tcp.listen(on_link)
        try:
            await self._broker.listen(on_link)
        except BaseException:
            await self._tcp.close()
            raise

    async def dial(self, member: Member) -> Link:
        """A link to `member` over its own network."""
        return await (self._broker if member.name in self._met else self._tcp).dial(member)

    async def close(self) -> None:
        """Free the port, and leave the broker."""
        await self._tcp.close()
        await self._broker.close()
