"""Correlations from a dealer, receiving side: one party gets a correction, all others expand their stream (paper: beaver91)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.correlations import receiver
from mpc.preprocessing.deferral import UNREAD, Deferrals
from mpc.ring import WORD

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mpc.correlations import Relation
    from mpc.derived import Deferred
    from mpc.exchange import Exchange
    from mpc.flow import Arrivals
    from mpc.ledger import Ledger
    from mpc.preprocessing.plan import Plan
    from mpc.ring import Words
    from mpc.scope import Scope
    from mpc.streams import Streams

AHEAD_ASKS = 1 << 14
"""Asks of a plan that may be under way before their ops begin."""


class Dealt:
    """Source of one party in one session."""

    def __init__(self, exchange: Exchange, streams: Streams, ledger: Ledger) -> None:
        self._exchange = exchange
        self._streams = streams
        self._ledger = ledger
        self._planned: dict[bytes, Relation] = {}
        self._asked: set[bytes] = set()
        self._due = 0
        """Corrections that were asked for, and that ops wait for."""
        self._late: dict[bytes, Relation] = {}
        """Those that ops wait for too, and that are asked for when fewer are due."""
        self._deferrals = Deferrals()

    def plan(self, plan: Plan) -> None:
        """Ask for everything in `plan` that this party receives, ahead of the ops that use it."""
        self._deferrals.learn(plan)
        for relation in plan.relations:
            # A program within a planned one finds that its own plan was asked for already.
            if (key := relation.key) not in self._asked and self._receives(self._exchange.correction_tag(key)):
                self._planned[key] = relation
        self._ask_ahead()

    def _ask_ahead(self) -> None:
        """Keep some asks ahead of the ops, never more than the dealer queues and this party holds."""
        room = AHEAD_ASKS - len(self._asked) - self._due
        if not self._planned or room < AHEAD_ASKS // 2:
            return
        batch = _taken(self._planned, room)
        self._asked.update(batch)
        self._exchange.ask(batch.values())

    def _ask_late(self) -> None:
        """Ask for what ops wait for, no more at a time than the dealer queues."""
        if self._late and self._due < AHEAD_ASKS:
            batch = _taken(self._late, AHEAD_ASKS - self._due)
            self._due += len(batch)
            self._exchange.ask(batch.values())

    def _receives(self, tag: bytes) -> bool:
        return receiver(tag, len(self._exchange.names)) == self._exchange.index

    def deferred(self, scope: Scope, *_: Any) -> Deferred | None:
        """See Source."""
        return UNREAD if self._deferrals.take(scope.path) else None

    def forget(self, plan: Plan) -> None:
        """See Source."""
        self._deferrals.forget(plan)

    def begin(self, scope: Scope, relation: Relation) -> Coroutine[Any, Any, list[Words]]:
        """Expand this party's share of `relation`, or get it from the dealer if this party is the receiver.

        rounds 0 beside an opening or when planned, else one way to the dealer and back · dealer `relation.nbytes`, to one party
        """
        self._ledger.relations += 1
        tag = self._exchange.correction_tag(key := relation.key)
        if not self._receives(tag):
            return self._expanded(relation, key)
        self._streams.expect(relation.usage, relation.out, key)
        target = np.empty(relation.out.shape, WORD)
        wanted = target.view(np.uint8)[: relation.nbytes]
        arrivals = self._exchange.expect_correction(scope, tag, key, wanted)
        if key in self._asked:
            self._asked.remove(key)
            self._due += 1
        else:
            self._planned.pop(key, None)
            self._late[key] = relation
            self._ask_late()
        self._ask_ahead()
        return self._corrected(scope, arrivals, relation, target)

    async def _expanded(self, relation: Relation, key: bytes) -> list[Words]:
        return relation.split(self._streams.share(relation.usage, relation.out, key))

    async def _corrected(self, scope: Scope, arrivals: Arrivals, relation: Relation, target: Words) -> list[Words]:
        await self._exchange.arrived(scope, arrivals, relation.nbytes)
        self._due -= 1
        if self._due <= AHEAD_ASKS // 2:
            self._ask_late()
            self._ask_ahead()
        return relation.split(target)


def _taken(queue: dict[bytes, Relation], most: int) -> dict[bytes, Relation]:
    """The first of `queue`, which has them no more."""
    batch = dict(islice(queue.items(), most))
    for key in batch:
        del queue[key]
    return batch
