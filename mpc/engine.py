"""What a session computes with: messages, streams and correlations of one run, or shapes alone in a dry run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mpc.messaging.beside import Beside
from mpc.messaging.exchange import Exchange
from mpc.naming.streams import Streams
from mpc.preprocessing.dealt import Dealt
from mpc.preprocessing.plan import DryExchange, DrySource, DryStreams, Plan
from mpc.ring import Words, zeros
from mpc.values.derived import Done
from mpc.values.secret import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from mpc.ledger import Ledger
    from mpc.messaging.agreement import Agreed
    from mpc.messaging.beside import Work
    from mpc.messaging.visit import Visit
    from mpc.naming.scope import Scope
    from mpc.naming.streams import Expansion, Watch
    from mpc.network.mesh import Mesh
    from mpc.preprocessing.source import Source

    Dry = Callable[[Plan, Sequence[str], int], DryExchange]

R = TypeVar("R")


@dataclass(slots=True)
class Engine:
    """The real thing, or a dry run of it."""

    home: Home
    exchange: Exchange | DryExchange
    streams: Expansion
    source: Source
    cost: Ledger
    work: Beside | None = None

    @classmethod
    def of(cls, agreed: Agreed, mesh: Mesh, cost: Ledger, watch: Watch | None, visit: Visit | None) -> Engine:
        """That of the session which all members agreed on."""
        names, me = agreed.job.parties, mesh.identity.name
        index = names.index(me)
        pairs = {number: agreed.seeds[name] for number, name in enumerate(names) if name != me}
        streams = Streams(index, agreed.seeds[agreed.job.members[-1]], pairs, watch)
        exchange = Exchange(agreed, mesh, cost, visit)
        home, source = Home(index, len(names), agreed.session, watch), Dealt(exchange, streams, cost)
        return cls(home, exchange, streams, source, cost, Beside(exchange.cancelled))

    @classmethod
    def dry(cls, names: Sequence[str], index: int, exchange: Dry, source: type[DrySource]) -> tuple[Engine, Plan]:
        """One on shapes alone, and the plan that it writes down."""
        plan, home = Plan(len(names), source.blanks()), Home(index, len(names), b"dry run")
        return cls(home, exchange(plan, names, index), DryStreams(plan), source(plan), plan.ledger), plan

    def zeros(self, shape: tuple[int, ...]) -> Words:
        """Zero words; in a dry run any of this shape."""
        exchange = self.exchange
        return exchange.blank(shape) if isinstance(exchange, DryExchange) else zeros(shape)

    async def ask(self, plan: Plan) -> None:
        """Ask for what `plan` names, so that the asks leave before its program begins, which may do much before it waits for anything."""
        self.source.plan(plan)
        if isinstance(self.exchange, Exchange):
            await asyncio.sleep(0)

    def cancelled(self, scope: Scope) -> None:
        """A call of `scope` was cancelled while it waited."""
        if isinstance(self.exchange, Exchange):
            self.exchange.cancelled(scope)

    async def room(self, scope: Scope) -> None:
        """Wait until `beside` may begin more; in a dry run, where nothing waits, it always may."""
        if self.work is not None:
            await self.work.room(scope)

    def beside(self, work: Coroutine[None, None, R], *awaited: Coroutine[Any, Any, Any]) -> Work[R] | Done[R]:
        """`work`, begun, with what is awaited in it; in a dry run it is done at once."""
        return Done(_completed(work)) if self.work is None else self.work.start(work, *awaited)

    async def finish(self) -> None:
        """The program is done: hand over what the others still need, then say so."""
        if self.work is not None:
            await self.work.ended()
        if isinstance(self.exchange, Exchange):
            await self.exchange.finish()

    def cancel(self) -> None:
        """The program has failed: nobody needs what is under way."""
        if self.work is not None:
            self.work.cancel()


def _completed(work: Coroutine[None, None, R]) -> R:
    """What `work` gives, which waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        outcome: R = end.value
        return outcome
    msg = "work of a dry run waits for something"
    raise RuntimeError(msg)
