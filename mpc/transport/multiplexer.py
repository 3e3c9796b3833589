"""All links of a member through one connection to a broker: their peers, their outgoing messages, and what arrives for them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from mpc.errors import PeerLost
from mpc.membership.identity import curve_public_of
from mpc.transport import envelopes
from mpc.transport.associations import Association, RelayPeer
from mpc.transport.outgoing import SMALLEST_CHUNK
from mpc.transport.relayed import MESSAGE_OVERHEAD, RelayedLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mpc.membership.identity import Identity
    from mpc.membership.members import Member
    from mpc.transport.associations import Sender

_OVERHEAD = 64 + envelopes.OVERHEAD + MESSAGE_OVERHEAD
LEAST = _OVERHEAD + SMALLEST_CHUNK
"""Bytes of a message, topic included, that a broker must accept."""
_MESSAGES_AT_BROKER = 900
"""Brokers queue 1000 messages for a client that does not take them, and then drop."""
_FLIGHT = 64
_DIAL = 5.0
_NEWCOMER = 2.0


class Multiplexer:
    """Many links over one connection that carries messages. Links wait at most `patience` seconds each for the broker and for a peer to
    return.

    It knows nothing of MQTT: the caller calls `arrived`, sends what `next_message` and `announcements` return, and reports when the
    connection is open (`up`) or not (`down`).
    """

    def __init__(self, place: str, identity: Identity, members: Iterable[Member], patience: float, largest: int) -> None:
        self.place = place
        self.work = asyncio.Event()
        """Set when there is a message to send or a topic to subscribe to."""
        self.subscriptions: list[str] = []
        self._largest = largest
        self.chunk = largest - _OVERHEAD
        self.farewell = envelopes.farewell_topic(identity)
        self.on_link: Callable[[RelayedLink], None] = RelayedLink.abort
        self._patience = patience
        self._log = logging.getLogger(f"beaver.{identity.name}")
        process = secrets.token_bytes(envelopes.ID_BYTES)
        pairs = [envelopes.Pair(identity, member.name, curve_public_of(public), process) for member in members for public in member.publics]
        self._peers = [RelayPeer(pair) for pair in pairs]
        self._messages = {peer.pair.inbound: peer for peer in self._peers}
        self._presences = {peer.pair.presence_inbound: peer for peer in self._peers}
        self.flight = max(4, min(_FLIGHT, _MESSAGES_AT_BROKER // max(1, len(self._peers))))
        self._ready: dict[Sender, Association] = {}
        self._news = asyncio.Event()

    # -- for whoever carries messages --------------------------------------------------------------------------

    @property
    def topics(self) -> list[str]:
        """The topics to subscribe to."""
        return [*self._messages, *self._presences, *self._farewells]

    @property
    def _farewells(self) -> set[str]:
        return {peer.farewell for peer in self._peers if peer.farewell}

    def announcements(self, token: bytes) -> Iterator[tuple[str, bytes]]:
        """Topics, with the message to leave at each: this member is there until `token` is published as its farewell."""
        for peer in self._peers:
            yield peer.pair.presence_outbound, peer.pair.announce(envelopes.named(self.farewell), token)

    def next_message(self) -> tuple[str, bytes] | None:
        """The next topic and message to send; links take turns of one message."""
        while self._ready:
            sender = next(iter(self._ready))
            association = self._ready.pop(sender)
            plain = sender.next_message()
            if plain is not None:
                self._ready[sender] = association
                return association.pair.outbound, association.envelopes.seal(plain)
        return None

    def up(self, largest: float) -> None:
        """The connection is open for messages of `largest` bytes: at least LEAST."""
        # The limit holds for this connection only: what a broker once announced must not bind for the life of the process.
        self.chunk = int(min(self._largest, largest)) - _OVERHEAD
        for peer in self._peers:
            for link in peer.links:
                link.fit(self.chunk)
                link.doubt(self._patience, self._left(peer))
                link.resume(lost=True)

    def down(self) -> None:
        """The connection is closed; messages in flight are lost."""
        text = f"is cut off: {self.place} was out of reach for {self._patience:g} s; start the broker again, or mend the way to it"
        for peer in self._peers:
            lost = PeerLost(peer.pair.peer, text)
            peer.presence = None
            for link in peer.links:
                link.doubt(self._patience, lost)

    def tick(self) -> None:
        """Time has passed."""
        now = asyncio.get_running_loop().time()
        for peer in self._peers:
            for link in peer.links:
                link.tick(now, self._patience)
                if not link.answered and now - link.born > self._patience:
                    link.fail(PeerLost(peer.pair.peer, f"does not answer at {self.place}, where it was announced"))

    # -- for links ---------------------------------------------------------------------------------------------

    def wants(self, sender: Sender, association: Association) -> None:
        """`sender` has a message for the other side of `association`."""
        self._ready.setdefault(sender, association)
        self.work.set()

    def accept(self, link: RelayedLink) -> None:
        """The peer opened `link`."""
        self.on_link(link)

    async def dial(self, member: Member) -> RelayedLink | None:
        """A link to `member`, or None if it does not arrive within some seconds."""
        peers = [peer for peer in self._peers if peer.pair.peer == member.name]
        try:
            async with asyncio.timeout(_DIAL):
                while True:
                    for peer in peers:
                        if peer.presence is not None and peer.here:
                            return self._association(peer, peer.presence.process).open()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None

    def _association(self, peer: RelayPeer, process: bytes) -> Association:
        if process not in peer.associations:
            peer.keep(process, Association(self, peer.pair, process))
        return peer.associations[process]

    def abort(self) -> None:
        """End all links."""
        for peer in self._peers:
            for link in peer.links:
                link.abort()

    # -- what comes --------------------------------------------------------------------------------------------

    def arrived(self, topic: str, payload: bytes) -> None:
        """Handle a message, which anyone may have published at the broker; drop it unless the right peer sealed it."""
        if topic in self._messages:
            self._on_envelope(self._messages[topic], payload)
        elif topic in self._presences:
            self._on_presence(self._presences[topic], payload)
        else:
            # A member may name another member's topic; the other one must still receive.
            for peer in self._peers:
                if peer.farewell == topic:
                    self._on_farewell(peer, payload)

    def _on_envelope(self, peer: RelayPeer, payload: bytes) -> None:
        process = envelopes.sender(payload)
        known = peer.associations.get(process)
        association = known or Association(self, peer.pair, process)
        plain = association.envelopes.open(payload)
        if plain is not None:
            # Only messages sealed by the peer for this process make it remember anything.
            if known is None:
                peer.keep(process, association)
            association.receive(plain)

    def _on_presence(self, peer: RelayPeer, payload: bytes) -> None:
        presence = peer.pair.read_presence(payload)
        if presence is None or presence == peer.presence:
            return
        peer.presence = presence
        topic = envelopes.topic(presence.farewell)
        if topic != peer.farewell:
            peer.farewell = topic
            # Each peer once, so no more than there are peers.
            self.subscriptions = [each for each in dict.fromkeys((*self.subscriptions, topic)) if each in self._farewells]
            self.work.set()
        for process, association in peer.associations.items():
            for link in tuple(association.links.values()):
                if process == presence.process:
                    link.resume(lost=False)
                else:
                    # This may be an old presence that the broker repeats: then the peer answers.
                    link.doubt(_NEWCOMER, PeerLost(peer.pair.peer, "was started again"))
        self._news.set()

    def _on_farewell(self, peer: RelayPeer, token: bytes) -> None:
        peer.token = token
        if peer.presence is not None and not peer.here:
            self._log.info("peer=%s phase=relay its connection to the relay broke", peer.pair.peer)
            for link in peer.links:
                link.doubt(self._patience, self._left(peer))

    def _left(self, peer: RelayPeer) -> PeerLost:
        return PeerLost(peer.pair.peer, f"left {self.place} and did not come back within {self._patience:g} s")
