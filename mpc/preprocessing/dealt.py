"""Correlations from a dealer, receiving side: one party gets a correction, all others expand their streams (paper: beaver91)."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from mpc.messaging.sinks import Awaited
from mpc.naming.correlations import LIFT, receiver
from mpc.ring import count

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mpc.channels.flow import Arrivals
    from mpc.ledger import Ledger
    from mpc.messaging.exchange import Exchange
    from mpc.naming.correlations import Relation
    from mpc.naming.scope import Scope
    from mpc.naming.streams import Streams
    from mpc.preprocessing.plan import Plan
    from mpc.ring import Words

AHEAD_ASKS = 1 << 14
"""Asks of a plan that may be pending before their ops begin."""
AHEAD_NAMES = 1 << 24
"""Bytes of their names."""
AHEAD_DEALT = 3 << 23
"""Bytes of their corrections. Fewer than a flow's window: else a correction that an op awaits could be queued behind corrections for
another party's ops that wait for this one.
"""


class Load:
    """The number of pending asks, the bytes of their names, and the bytes of their corrections."""

    __slots__ = ("asks", "dealt", "nbytes")

    def __init__(self) -> None:
        self.asks = self.nbytes = self.dealt = 0

    def add(self, relation: Relation) -> None:
        """Add an ask."""
        self.asks += 1
        self.nbytes += len(relation.key)
        self.dealt += relation.nbytes

    def remove(self, relation: Relation) -> None:
        """Remove an ask."""
        self.asks -= 1
        self.nbytes -= len(relation.key)
        self.dealt -= relation.nbytes

    def is_below(self, part: int, other: Load | None = None) -> bool:
        """Whether this load, plus `other`, is below one `part`-th of the limits."""
        asks, nbytes = (self.asks, self.nbytes) if other is None else (self.asks + other.asks, self.nbytes + other.nbytes)
        return asks < AHEAD_ASKS // part and nbytes < AHEAD_NAMES // part


class Dealt:
    """The source of one party in one session."""

    def __init__(self, exchange: Exchange, streams: Streams, ledger: Ledger) -> None:
        self._exchange = exchange
        self._streams = streams
        self._ledger = ledger
        self._planned: dict[bytes, Relation] = {}
        self._asked: set[bytes] = set()
        self._ahead = Load()
        """Asked for, but awaited by no op yet."""
        self._due = Load()
        """Asked for, and awaited by ops."""
        self._late: dict[bytes, Relation] = {}
        """Awaited by ops, but to be asked for only once fewer are due."""
        self._lifted: set[bytes] = set()
        """Relations that no op begins again: a task may have lifted one that another task's plan names."""

    def plan(self, plan: Plan) -> None:
        """Ask for everything in `plan` that this party receives, ahead of the ops that use it."""
        for relation in plan.relations:
            # A program inside a planned one finds its own plan already asked for.
            key = relation.key
            if key not in self._asked and key not in self._lifted and self._receives(self._exchange.correction_tag(key)):
                self._planned[key] = relation
        self._ask_ahead()

    def _ask_ahead(self) -> None:
        """Keep some asks ahead of the ops, never more than the dealer queues and this party can hold. A larger correction is asked for
        by its op.
        """
        if not self._planned or not self._ahead.is_below(2, self._due) or self._ahead.dealt > AHEAD_DEALT // 2:
            return
        batch = _taken(self._planned, self._ahead, self._due, AHEAD_DEALT)
        self._asked.update(relation.key for relation in batch)
        self._exchange.ask(batch)

    def _ask_late(self) -> None:
        """Ask for corrections that ops await, no more at a time than the dealer queues."""
        if not self._exchange.over and (batch := _taken(self._late, self._due)):
            self._exchange.ask(batch)

    def _receives(self, tag: bytes) -> bool:
        return receiver(tag, len(self._exchange.names)) == self._exchange.index

    def begin(self, scope: Scope, relation: Relation) -> Coroutine[Any, Any, list[Words]]:
        """Expand this party's share of `relation`, or get it from the dealer if this party is the receiver.

        rounds 0 beside an opening or when planned, else one way to the dealer and back · dealer `relation.nbytes`, to one party
        """
        self._ledger.relations += 1
        tag = self._exchange.correction_tag(key := relation.key)
        if not self._receives(tag):
            return self._expanded(relation)
        if relation.kind == LIFT:
            self._lifted.add(key)
        self._streams.expect(relation.usage, relation.out)
        share = Awaited(count(relation.out.shape))
        arrivals = self._exchange.expect_correction(scope, tag, key, relation.nbytes, share)
        if key in self._asked:
            self._asked.remove(key)
            self._ahead.remove(relation)
            self._due.add(relation)
        else:
            self._planned.pop(key, None)
            if not self._late:
                # Sent with all asks that are begun until the task waits: many per message.
                asyncio.get_running_loop().call_soon(self._ask_late)
            self._late[key] = relation
        # Due until it arrives, whether or not its op takes it before: the op may wait for an opening whose correction is asked for next.
        arrivals.future.add_done_callback(partial(self._came, relation))
        self._ask_ahead()
        return self._corrected(scope, arrivals, relation, share)

    async def _expanded(self, relation: Relation) -> list[Words]:
        return relation.split(self._streams.share(relation.usage, relation.out))

    async def _corrected(self, scope: Scope, arrivals: Arrivals, relation: Relation, share: Awaited) -> list[Words]:
        await self._exchange.arrived(scope, arrivals, relation.nbytes)
        return relation.split(share.words)

    def _came(self, relation: Relation, arrival: asyncio.Future[None]) -> None:
        if arrival.cancelled() or arrival.exception() is not None:
            return
        self._due.remove(relation)
        if self._due.is_below(2):
            self._ask_late()
            if not self._exchange.over:
                self._ask_ahead()


def _taken(queue: dict[bytes, Relation], load: Load, other: Load | None = None, most: float = math.inf) -> list[Relation]:
    """Take the first relations of `queue`, as many as may be pending and bring at most `most` bytes."""
    # One pass for all: each search for a dictionary's first entry passes over all entries removed from its front.
    batch = []
    for relation in queue.values():
        if not load.is_below(1, other) or load.dealt + relation.nbytes > most:
            break
        load.add(relation)
        batch.append(relation)
    for relation in batch:
        del queue[relation.key]
    return batch
