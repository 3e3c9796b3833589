"""Correlations from a dealer, receiving side: one party gets a correction, all others expand their stream (paper: beaver91)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc.correlations import receiver
from mpc.exchange import correction_digest
from mpc.ring import WORD

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mpc.correlations import Product
    from mpc.exchange import Exchange
    from mpc.flow import Arrivals
    from mpc.ring import Words
    from mpc.scope import Scope
    from mpc.streams import Streams


class Dealt:
    """Source of one party in one session."""

    def __init__(self) -> None:
        self._exchange: Exchange
        self._streams: Streams

    def attach(self, exchange: Exchange, streams: Streams) -> None:
        """Join a session."""
        self._exchange = exchange
        self._streams = streams

    def begin(self, scope: Scope, relation: Product) -> Coroutine[Any, Any, Words]:
        """Expand this party's share of `relation.out`, or ask the dealer if this party is the receiver.

        rounds 0 beside an opening, else one way to the dealer and back · dealer 8 bytes per element, to one party
        """
        tag = self._exchange.tag(scope)
        packed = relation.pack()
        if receiver(tag, len(self._exchange.names)) != self._exchange.index:
            return self._expanded(relation)
        self._streams.expect(relation.out, relation.key)
        target = np.empty(relation.out.shape, WORD)
        arrivals = self._exchange.expect_correction(scope, tag, correction_digest(tag, relation), target)
        self._exchange.ask(tag, packed)
        return self._corrected(scope, arrivals, target)

    async def _expanded(self, relation: Product) -> Words:
        return self._streams.share(relation.out, relation.key)

    async def _corrected(self, scope: Scope, arrivals: Arrivals, target: Words) -> Words:
        await self._exchange.arrived(scope, arrivals, target.nbytes)
        return target
