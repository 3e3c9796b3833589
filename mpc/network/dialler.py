"""Dialling: one attempt after another to connect with a peer, as long as the mesh wants to meet it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from mpc.channels.channel import Channel
from mpc.errors import PeerLost
from mpc.network.ways import unreachable

if TYPE_CHECKING:
    from mpc.network.mesh import Mesh
    from mpc.network.peer import Peer
    from mpc.network.unproven import Unproven
    from mpc.transport.link import Network

_BACKOFF = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before the next attempt to connect: a peer that starts is met within the last of them, however long it was away."""
CONTESTED = 5.0
"""Seconds before the next attempt if two nodes seem to use one identity."""


class Dialler:
    """Dials for a mesh, which owns the channels."""

    def __init__(self, mesh: Mesh, network: Network, unproven: Unproven) -> None:
        self._mesh = mesh
        self._network = network
        self._unproven = unproven

    async def dial(self, peer: Peer) -> None:
        """Keep a channel to `peer` until cancelled, or until the mesh closes and has parted with it."""
        failures = 0
        while not self._mesh.closing or peer.last is not None:
            # Attempts while hurrying are many; none of them counts against the peer.
            failures = 0 if await self._tried(peer) or peer.interrupted else failures
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.pause(peer, failures)):
                    await peer.again.wait()
            peer.again.clear()
            failures += 1

    def pause(self, peer: Peer, failures: int) -> float:
        """Seconds until the next attempt; while a channel is interrupted, many attempts fit into its time for repair."""
        # Two nodes that cut each other off at once would do nothing else. After a silence there was no other node, and the peer may have
        # waited as long as this one.
        silent = peer.last is not None and asyncio.get_running_loop().time() - peer.last.heard > self._mesh.clocks.lost
        hurried = self._mesh.contested(peer.member.name) and not silent
        pause = CONTESTED if hurried else _BACKOFF[min(failures, len(_BACKOFF) - 1)]
        return min(pause, self._mesh.clocks.repair / (4 if hurried else 20)) if peer.interrupted else pause

    async def _tried(self, peer: Peer) -> bool:
        """Make one attempt to connect and wait for the end of its channel; return whether the link was ever used."""
        # A network that swallows everything must not use up the time in which a channel can be resumed.
        limit = self._mesh.clocks.repair / 4 if peer.interrupted else None
        try:
            async with asyncio.timeout(limit) as attempt:
                link = await self._network.dial(peer.member)
        except (OSError, UnicodeError, PeerLost) as fault:
            if not attempt.expired():
                self._not_dialled(peer, unreachable(peer.member, fault))
            return False
        channel = Channel(link, self._mesh.identity, self._mesh.roster, self._mesh, dialled=peer.member)
        self._unproven.add(channel)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while channel in self._unproven:
                    await peer.next_change()
        if channel in self._unproven:
            channel.end(PeerLost(channel.name, f"did not finish the handshake within {limit:g} s"))
        while peer.last is not None and not peer.interrupted:
            await peer.next_change()
        return channel.served

    def _not_dialled(self, peer: Peer, problem: PeerLost) -> None:
        if str(problem) != str(peer.problem):
            self._mesh.log.info("peer=%s phase=dial %s; trying again until it can", problem.party, problem.text)
        peer.problem = problem
