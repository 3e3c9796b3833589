"""Who speaks with whom at a broker: a member of the roster, its successive processes, and their links."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from mpc.transport.relayed import MessageKind, RelayedLink, RelayedMessage, reset

if TYPE_CHECKING:
    from mpc.transport.envelopes import Pair, Presence
    from mpc.transport.multiplexer import Multiplexer


MAX_ASSOCIATIONS = 64
"""Processes of one peer, beside those with links now, whose counters are remembered. A peer decides alone how often it starts, or claims
to.
"""


MAX_RESETS = 64
"""Most ended links of which the peer is still to be told. While nothing leaves, the peer may ask for any number; it asks again."""


class Sender(Protocol):
    """Has messages to send."""

    def next_message(self) -> bytes | None:
        """The next message, or None."""


class Association:
    """All links between this process and one process of a peer."""

    def __init__(self, multiplexer: Multiplexer, pair: Pair, process: bytes) -> None:
        self.pair = pair
        self.links: dict[int, RelayedLink] = {}
        self.envelopes = pair.envelopes(process)
        self._multiplexer = multiplexer
        # Each side numbers the links that it opens: the lower name with even, the other with odd numbers.
        self._mine = 0 if pair.me < pair.peer else 1
        self._opened = self._taken = 0
        self._resets: deque[int] = deque(maxlen=MAX_RESETS)

    def open(self) -> RelayedLink:
        """A new link to the peer."""
        self._opened += 1
        return self._add(2 * self._opened + self._mine)

    def _add(self, number: int) -> RelayedLink:
        link = RelayedLink(self, number, f"mqtt {self.pair.peer}", chunk=self._multiplexer.chunk, flight=self._multiplexer.flight)
        self.links[number] = link
        return link

    def receive(self, plain: memoryview) -> None:
        """Handle an opened message of the peer."""
        try:
            message = RelayedMessage(plain)
        except ValueError:
            return
        link = self.links.get(message.link) or self._accept(message)
        if link is not None:
            link.receive(message)

    def _accept(self, message: RelayedMessage) -> RelayedLink | None:
        known = message.link % 2 == self._mine or message.link // 2 <= self._taken
        if not known and message.kind in {MessageKind.DATA, MessageKind.LAST} and message.offset == 0:
            self._taken = message.link // 2
            link = self._add(message.link)
            self._multiplexer.accept(link)
            return link
        if known and message.kind in {MessageKind.DATA, MessageKind.LAST, MessageKind.PROBE}:
            self._tell_reset(message.link)
        return None

    def _tell_reset(self, number: int) -> None:
        self._resets.append(number)
        self._multiplexer.wants(self, self)

    def next_message(self) -> bytes | None:
        """The next RESET for a link that has ended."""
        return reset(self._resets.pop()) if self._resets else None

    def wants(self, link: RelayedLink) -> None:
        """See Carrier.wants."""
        self._multiplexer.wants(link, self)

    def finished(self, link: RelayedLink, *, tell: bool) -> None:
        """See Carrier.finished."""
        self.links.pop(link.number, None)
        if tell:
            self._tell_reset(link.number)


class RelayPeer:
    """One member under one of its keys: whether it is at the broker, and the associations with its processes."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.presence: Presence | None = None
        self.token = b""
        self.farewell = ""
        """The peer's one topic for its farewell."""
        self.associations: dict[bytes, Association] = {}
        """By process. Old processes are included, so that their messages are not accepted twice."""

    def keep(self, process: bytes, association: Association) -> None:
        """Remember `association` with this process; beyond the limit, forget the oldest one without a link.

        Replaying a forgotten process's messages gets a link, but its handshake never completes: that needs fresh material of this side.
        """
        self.associations[process] = association
        spare = [each for each, known in self.associations.items() if each != process and not known.links]
        if spare and len(self.associations) > MAX_ASSOCIATIONS:
            del self.associations[spare[0]]

    @property
    def here(self) -> bool:
        """Whether the peer can be dialled: it announced itself, and the broker did not announce that it left."""
        return self.presence is not None and not self.presence.known_by(self.token)

    @property
    def links(self) -> list[RelayedLink]:
        """All links with the peer."""
        return [link for association in self.associations.values() for link in association.links.values()]
