"""A client's messages with one party: its portion of the client's input, and the party's shares of what is revealed to the client.

They use a flow of their own on the channel between the two, named after the digest of the job, so they have the same order and memory
window as a session's messages. Tags are functions of that name and of the place in the program.
"""

from __future__ import annotations

import asyncio
import hmac
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from mpc.channels.flow import Arrivals
from mpc.errors import PeerLost, PeerMisbehaved
from mpc.framing import wire
from mpc.messaging.sinks import Store
from mpc.prg import fields
from mpc.ring import raw
from mpc.values.sharing import Portion, portion_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.channels.channel import Channel
    from mpc.channels.flow import Sink
    from mpc.ring import Words

PORTION = "portion"
_OVER = "the job is over"


class _Twice:
    """The sink for a second portion of one job: it ends the connection."""

    def __init__(self, client: str) -> None:
        self._client = client

    def write(self, offset: int, data: memoryview) -> None:  # noqa: ARG002  see Sink
        """See Sink."""
        raise PeerMisbehaved(self._client, "sent its rows twice; a job takes them once, and whole")


class Visit:
    """One job of `client` with one party, at either of the two. It lasts until `close`, or as long as the channel."""

    def __init__(self, channel: Channel, job: bytes, client: str, window: int) -> None:
        self.client = client
        self.channel = channel
        self._name = blake2b(fields("client", job), digest_size=32).digest()
        # A client has one job at a time with a party, and their channel carries nothing else: no other flow looks the same.
        self.flow = channel.open_flow(self._name, window)

    def close(self) -> None:
        """Free its memory; later messages are dropped."""
        self.channel.close_flow(self._name, PeerLost(self.channel.name, _OVER))

    def _tag(self, what: str, scope: str) -> bytes:
        tag = blake2b(fields(self._name, what, scope), digest_size=wire.TAG_HASH_BYTES).digest()
        return self._name[: wire.SESSION_PREFIX] + tag

    def _digest(self, what: str, scope: str, about: Sequence[bytes | str | int]) -> bytes:
        return blake2b(fields(self._name, what, scope, *about), digest_size=wire.DIGEST_BYTES).digest()

    # -- from the client to the party --------------------------------------------------------------------------

    def send_portion(self, portion: Portion) -> None:
        """Send the party its portion."""
        about = [portion.commitment]
        self.flow.send(self._tag(PORTION, ""), self._digest(PORTION, "", about), memoryview(portion.pack()))

    async def receive_portion(self, shape: tuple[int, ...], commitment: bytes, *, first: bool) -> Words:
        """This party's share of words of `shape`; it must hold the portion with this commitment.

        PeerMisbehaved if the client sends a different portion; otherwise the fault that ends the flow.
        """
        packed = np.empty(portion_bytes(shape, first=first), np.uint8)
        arrivals = Arrivals(1)
        digest = self._digest(PORTION, "", [commitment])
        self.flow.post(self._tag(PORTION, ""), digest, packed.size, Store(packed), arrivals, "its share of the client's rows")
        await arrivals.future
        self.flow.post(
            self._tag(PORTION, ""), digest, packed.size, _Twice(self.client), Arrivals(1), "its share of the client's rows again"
        )
        return await asyncio.to_thread(self._checked, Portion.parse(packed.data, shape), commitment)

    def _checked(self, portion: Portion, commitment: bytes) -> Words:
        # All parties signed one list of commitments: each that holds its own portion holds a share of the same words.
        if not hmac.compare_digest(portion.commitment, commitment):
            raise PeerMisbehaved(
                self.client, "sent another share of its rows than the job names, so nothing was computed; it must run the job again"
            )
        return portion.words()

    # -- from the party to the client --------------------------------------------------------------------------

    def send_revealed(self, what: str, scope: str, about: Sequence[bytes | str | int], words: Words) -> None:
        """Send the client `words`, this party's part of what is revealed to it at this place of the program."""
        self.flow.send(self._tag(what, scope), self._digest(what, scope, about), raw(words))

    def expect_revealed(self, what: str, scope: str, about: Sequence[bytes | str | int], sink: Sink, size: int, arrivals: Arrivals) -> None:
        """Expect what the party sends at this place; Disagreement if the party runs something else there."""
        self.flow.post(self._tag(what, scope), self._digest(what, scope, about), size, sink, arrivals, what)


__all__ = ["Visit"]
