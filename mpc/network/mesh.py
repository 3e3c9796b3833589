"""The mesh: one identity's channels to every other member of the roster, dialled, accepted, watched and replaced."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

from mpc.channels.channel import Channel
from mpc.channels.flow import WINDOW
from mpc.errors import AuthenticationFailed, BeaverError, PeerLost, PeerMisbehaved, RemoteFault
from mpc.membership.members import meet
from mpc.network.dialler import Dialler
from mpc.network.heartbeat import Heartbeat
from mpc.network.peer import Peer, Traffic
from mpc.network.refusals import Refusals
from mpc.network.unproven import Unproven
from mpc.network.ways import dials, met, still

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from mpc.framing import wire
    from mpc.membership.identity import Identity
    from mpc.membership.roster import Roster
    from mpc.transport.link import Link, Network

CLIENTS_SAY = frozenset({"propose", "answer", "decline", "check", "checked"})
"""Control messages that a client may send: it takes part in no session, so it has no join, no confirmation and no asks for a dealer."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Limits in seconds, all monotonic: for absent peers, a silent channel, a missing message and a lost connection."""

    join: float = 300.0
    lost: float = 10.0
    stall: float = 600.0
    repair: float = 5.0


class Subscriber(Protocol):
    """Hears of peers and their control messages: the agreement of a job, a session, the dealer."""

    def peer_up(self, name: str) -> None:
        """A fresh channel to `name` is ready; if there was an older one, `peer_down` was called before."""

    def peer_down(self, name: str, fault: BeaverError) -> None:
        """The channel to `name` is gone."""

    def control(self, name: str, body: wire.Body) -> None:
        """`name` sent a control message."""


class Mesh:
    """All channels of one identity. `async with Mesh(...) as mesh:` listens, dials and keeps reconnecting."""

    def __init__(
        self, identity: Identity, roster: Roster, network: Network, clocks: Clocks | None = None, window: int | None = None
    ) -> None:
        self.identity = identity
        self.clocks = clocks or Clocks()
        self.window = window or WINDOW
        self.log = logging.getLogger(f"beaver.{identity.name}")
        self._network = network
        self._heart = Heartbeat(self.clocks, self.log)
        self._peers: dict[str, Peer] = {}
        self._adopt(roster)
        self.former: Roster | None = None
        self._subscribers: list[Subscriber] = []
        self._unproven = Unproven()
        self._refusals = Refusals(partial(self.log.warning, "phase=handshake %s"))
        self._dialler = Dialler(self, network, self._unproven)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.closing = False
        """Whether the mesh is saying goodbye: it dials nobody new and lets few in."""

    def _adopt(self, roster: Roster) -> None:
        others = met(self.identity.name, roster)
        self.roster, self._me = roster, roster[self.identity.name]
        self._heart.use(self._me, self.identity.public)
        for name, member in others.items():
            # Members that leave stay known: jobs of an earlier roster may still ask for them.
            self._peers.setdefault(name, Peer(member)).member = member

    async def __aenter__(self) -> Self:
        await self._network.listen(self._accept)
        self.log.info("phase=start waiting for %s", ", ".join(name for name, each in self._peers.items() if each.member.role != "client"))
        self._dial_all()
        self._begin(self.identity.name, self._heartbeat())
        return self

    def follow(self, roster: Roster) -> None:
        """Adopt `roster`, which gives this member its role and key. ConfigError, with nothing changed, if it names a peer that cannot be
        met.

        Members whose keys are no longer valid, or that are not in it, are cut off; all others stay connected.
        """
        former = self.roster
        self._adopt(roster)
        if roster.digest == former.digest:
            return
        self.former = former
        self._unproven.end("began its handshake before this member took another roster")
        for peer in self._peers.values():
            if peer.channel is None or peer.channel.peer is None:
                peer.problem = None
                continue
            try:
                peer.channel.peer = still(peer.channel.peer, roster)
            except AuthenticationFailed as fault:
                peer.channel.end(fault)
        self._dial_all()

    def _dial_all(self) -> None:
        """Keep dialling the peers that this member dials, and no others."""
        for name, peer in self._peers.items():
            wanted = self.meets(name) and dials(self._me, peer.member)
            if wanted and name not in self._tasks:
                self._begin(name, self._dialler.dial(peer))
            elif wanted:
                peer.again.set()
            elif name in self._tasks:
                self._tasks.pop(name).cancel()

    def _begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        self._tasks[name] = task = asyncio.create_task(work)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            # Heartbeats and dialling go on until cancelled; an error in one must be heard, or a peer is no longer dialled or pinged and
            # nobody knows why.
            self.log.critical("phase=mesh ended by a fault of this node itself; restart it", exc_info=fault)

    async def __aexit__(self, *_: object) -> None:
        self.closing = True
        # A goodbye may take one silence and one repair, and no more: a supervisor kills a process that takes too long to stop.
        needed = any(peer.last is not None and peer.last.unacknowledged.of_sessions for peer in self._peers.values())
        patience = self.clocks.stall if needed else min(self.clocks.stall, 2.5 * self.clocks.lost)
        try:
            # Other peers are dialled no more. A connection that is lost now is made again, or the messages that it holds would be lost.
            await self._stop([name for name in self._tasks if name in self._peers and self._peers[name].last is None])
            async with asyncio.timeout(patience):
                await self._part()
        except TimeoutError:
            for each in [peer.last for peer in self._peers.values() if peer.last is not None]:
                each.end(PeerLost(each.name, f"did not say goodbye within {patience:g} s"))
        finally:
            # First, or its handshake could end meanwhile, and nobody would close it.
            self._unproven.end("this party is closing")
            try:
                await self._stop(list(self._tasks))
            finally:
                self._refusals.close()
                await self._network.close()  # last: the links of a relay leave through its one connection

    async def _part(self) -> None:
        """Say goodbye to all peers; return when each has answered or cannot."""
        while there := [peer for peer in self._peers.values() if peer.last is not None]:
            for peer in there:
                # Including channels made meanwhile: nobody else would close them.
                if peer.channel is not None:
                    peer.channel.close()
            await there[0].next_change()

    async def _stop(self, names: list[str]) -> None:
        stopped = [self._tasks.pop(name) for name in names]
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)

    # -- who is there ------------------------------------------------------------------------------------------

    def meets(self, name: str) -> bool:
        """Whether this member ever speaks with `name`."""
        return name in self.roster and name in self._peers and meet(self._me, self.roster[name])

    def channel(self, name: str) -> Channel | None:
        """The ready channel to `name`, or None."""
        return self._peers[name].channel

    def missing(self, names: Iterable[str]) -> list[str]:
        """The members among `names` that are not connected now; an interrupted channel may come back, but carries nothing meanwhile."""
        return [name for name in names if not self._peers[name].connected]

    def fault(self, name: str) -> BeaverError | None:
        """The fault of the last attempt to connect with `name`, if it failed."""
        return self._peers[name].problem

    def try_again(self, name: str) -> None:
        """Forget why `name` could not be reached, and dial it at once if this member is the one that dials."""
        self._peers[name].problem = None
        self._peers[name].again.set()

    def contested(self, name: str) -> bool:
        """Whether channels to `name` keep displacing each other: see Peer.contested."""
        return self._peers[name].contested(asyncio.get_running_loop().time())

    def traffic(self, name: str) -> Traffic:
        """The traffic between this member and `name` so far."""
        peer = self._peers[name]
        traffic = replace(peer.traffic)
        if peer.channel is not None:
            traffic.count(peer.channel)
        return traffic

    def problem(self, name: str) -> str:
        """Why `name` is not connected, as far as this member knows."""
        return str(self.fault(name) or f"{name}: has not connected yet")

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell `subscriber` of peers and control messages from now on."""
        self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Stop telling `subscriber`."""
        self._subscribers.remove(subscriber)

    # -- channels come and go ----------------------------------------------------------------------------------

    def _accept(self, link: Link) -> None:
        if self.closing and not any(peer.parting for peer in self._peers.values()):
            link.abort()
            return
        self._unproven.add(Channel(link, self.identity, self.roster, self))

    def opened(self, channel: Channel) -> None:
        """Take a channel whose peer has proved its identity; it replaces an older one."""
        self._unproven.discard(channel)
        peer = self._peers[channel.name]
        if peer.last is not None:
            peer.last.end(PeerLost(channel.name, "connected again, and the older connection was dropped"))
        peer.channel, peer.problem = channel, None
        peer.changed.set()
        self._refusals.let_in(channel.name)
        peer.traffic.connections += 1
        self.log.info("peer=%s connected", channel.name)
        if warning := peer.met_anew(channel.born):
            self.log.warning("peer=%s phase=connect %s", channel.name, warning)
        for subscriber in tuple(self._subscribers):
            subscriber.peer_up(channel.name)

    def welcomes(self, name: str) -> bool:
        """See ChannelOwner: while this member closes, it admits only peers with which it is still parting, so that they get what they
        lack.
        """
        return not self.closing or (name in self._peers and self._peers[name].parting is not None)

    def previous(self, name: str) -> Channel | None:
        """See ChannelOwner."""
        return self._peers[name].last

    def interrupted(self, channel: Channel, fault: BeaverError) -> bool:
        """See ChannelOwner: wait for another link as long as the clock `repair` allows."""
        peer = self._peers[channel.name]
        if peer.last is not channel or not self.clocks.repair:
            return False
        self.log.warning("peer=%s phase=repair %s; waiting %g s for another connection", channel.name, fault, self.clocks.repair)
        peer.problem = fault
        peer.expiry = asyncio.get_running_loop().call_later(self.clocks.repair, self._expire, channel, fault)
        peer.changed.set()
        return True

    def _expire(self, channel: Channel, fault: BeaverError) -> None:
        channel.end(PeerLost(channel.name, f"{fault.text}, and not repaired within {self.clocks.repair:g} s"))

    def resumed(self, channel: Channel, through: Channel) -> None:
        """See ChannelOwner."""
        self._unproven.discard(through)
        peer = self._peers[channel.name]
        peer.problem = None
        peer.changed.set()
        peer.traffic.repairs += 1
        peer.stop_waiting()
        self.log.info("peer=%s phase=repair connected again; what it had not received was sent again", channel.name)

    def control(self, channel: Channel, body: wire.Body) -> None:
        """Hand a control message to all subscribers."""
        if self._peers[channel.name].member.role == "client" and body["kind"] not in CLIENTS_SAY:
            raise PeerMisbehaved(channel.name, f"is a client and sent {body['kind']!r}, which members of a session send")
        for subscriber in tuple(self._subscribers):
            subscriber.control(channel.name, body)

    def closed(self, channel: Channel, fault: BeaverError) -> None:
        """Forget a channel that is over."""
        self._unproven.discard(channel)
        if not (channel.ready or channel.dialled):
            # The channel of a stranger.
            self._refusals.tell(fault)
            self._diagnose(fault)
            return
        peer = self._peers[channel.name]
        if peer.channel is channel:
            if channel.parting:
                peer.parting = channel
            else:
                peer.stop_waiting()
            peer.channel, peer.problem = None, fault
            peer.traffic.count(channel)
            self.log.info("peer=%s disconnected: %s", channel.name, fault)
            for subscriber in tuple(self._subscribers):
                subscriber.peer_down(channel.name, fault)
        elif not channel.ready:
            if str(fault) != str(peer.problem):
                self.log.warning("peer=%s phase=handshake not connected: %s", channel.name, fault)
            peer.problem = fault
        peer.changed.set()

    def parted(self, channel: Channel, fault: BeaverError | None) -> None:
        """See ChannelOwner."""
        peer = self._peers[channel.name]
        if peer.parting is channel:
            peer.stop_waiting()
            peer.parting = None
        if fault is not None:
            self.log.warning("peer=%s phase=closing the last bytes for it may be lost: %s", channel.name, fault)
        peer.changed.set()

    def _diagnose(self, fault: BeaverError) -> None:
        """Remember why a link to a dialled member was refused. Anyone may have caused the refusal, so it is only ever displayed."""
        peer = self._peers.get(fault.party) if isinstance(fault, RemoteFault) else None
        if peer is not None and peer.channel is None and not dials(self._me, peer.member):
            peer.problem = fault

    # -- heartbeats --------------------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        loop, pause = asyncio.get_running_loop(), self.clocks.lost / 4
        while True:
            before = loop.time()
            await asyncio.sleep(pause)
            now = loop.time()
            held_up = now - before - pause
            self._heart.see_itself()
            # `held_up` is the time in which this process itself did not run: the peers were not silent then.
            limit = self.clocks.lost + held_up
            self._unproven.end(f"did not finish the handshake within {self.clocks.lost:g} s", born_before=now - limit)
            for peer in self._peers.values():
                if peer.last is not None and not peer.interrupted:
                    self._heart.beat(peer.last, now, held_up)
