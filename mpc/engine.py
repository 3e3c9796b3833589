"""What a session computes with: messages, streams and correlations of one run, or shapes alone in a dry run."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpc.fixed_point import decode, encode
from mpc.kernels import THREAD_WORK, bits
from mpc.kernels.blank import Blank
from mpc.messaging.exchange import Exchange
from mpc.messaging.session_tasks import SessionTasks
from mpc.naming.streams import Streams
from mpc.preprocessing.dealt import Dealt
from mpc.preprocessing.plan import DryExchange, DryStreams, DryTasks, Plan
from mpc.ring import Words, count, fixed_zeros
from mpc.tabular import shape_of
from mpc.values.secret import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from mpc.ledger import Ledger
    from mpc.messaging.agreed import Agreed
    from mpc.messaging.visit import Visit
    from mpc.naming.scope import Scope
    from mpc.naming.streams import Expansion, StreamWatch
    from mpc.network.mesh import Mesh
    from mpc.preprocessing.plan import DrySource
    from mpc.preprocessing.source import Source
    from mpc.values.secret import ValueWatch

    Kernel = Callable[..., Words]
    Hearing = Callable[[Plan, Sequence[str], int], DryExchange]


class Watches(NamedTuple):
    """Observers of a simulation: of what its streams are spent on and, if bounds are checked, of every value."""

    streams: StreamWatch | None = None
    values: ValueWatch | None = None


UNWATCHED = Watches()
"""For every run outside the simulator."""


@dataclass(frozen=True, slots=True)
class Engine(ABC):
    """The services that a session and its ops use; nothing above it knows whether the run is a dry one."""

    home: Home
    exchange: Exchange | DryExchange
    streams: Expansion
    source: Source
    cost: Ledger
    tasks: SessionTasks | DryTasks

    @property
    @abstractmethod
    def takes(self) -> Home | None:
        """The home whose secrets its ops accept, or None for all."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...]) -> Words:
        """Read-only zero words; in a dry run a blank of this shape."""

    @abstractmethod
    def encode(self, values: ArrayLike, frac: int, bound: float) -> Words:
        """This party's own reals as words; see `fixed_point.encode`."""

    @abstractmethod
    async def compute(self, kernel: Kernel, shape: tuple[int, ...], arguments: Sequence[Any], work: int) -> Words:
        """`kernel(*arguments)`, words of `shape`, at a cost of `work` word operations; a dry run skips it."""

    def plain(self, shape: tuple[int, ...], frac: int | None, total: Any) -> Any:
        """The program's result for a share of `shape`, or for bits if `frac` is None; `total`, flat, is the sum or XOR of all shares.

        The caller gives up `total`, whose memory is reused.
        """
        if frac is None:
            return bits.unpack(total, count(shape)).view(np.bool_).reshape(shape)
        return decode(total.reshape(shape), frac)

    @abstractmethod
    async def ask(self, plan: Plan) -> None:
        """Ask for the relations of `plan`. The asks leave before the program begins, which may compute for long before it first waits."""

    @abstractmethod
    def cancelled(self, scope: Scope) -> None:
        """A call of `scope` was cancelled before it was done."""

    @abstractmethod
    async def finish(self) -> None:
        """The program is done: send what the others still need, then say so."""

    @abstractmethod
    def abort(self, fault: BaseException) -> BaseException:
        """The program raised `fault`: cancel pending work, tell every peer, and return the exception to raise."""


@dataclass(frozen=True, slots=True)
class Live(Engine):
    """The engine of a real run."""

    exchange: Exchange
    tasks: SessionTasks

    @classmethod
    def of(cls, agreed: Agreed, mesh: Mesh, cost: Ledger, watches: Watches, visit: Visit | None) -> Live:
        """The engine of an agreed session."""
        names, me = agreed.job.parties, mesh.identity.name
        index = names.index(me)
        pairs = {number: agreed.seeds[name] for number, name in enumerate(names) if name != me}
        streams = Streams(index, agreed.seeds[agreed.job.members[-1]], pairs, watches.streams)
        exchange = Exchange(agreed, mesh, cost, visit)
        home, source = Home(index, len(names), agreed.session, watches.values), Dealt(exchange, streams, cost)
        return cls(home, exchange, streams, source, cost, SessionTasks())

    @property
    def takes(self) -> Home:
        """See Engine."""
        return self.home

    def zeros(self, shape: tuple[int, ...]) -> Words:
        """See Engine."""
        return fixed_zeros(shape)

    def encode(self, values: ArrayLike, frac: int, bound: float) -> Words:
        """See Engine."""
        return encode(values, frac=frac, bound=bound)

    async def compute(self, kernel: Kernel, shape: tuple[int, ...], arguments: Sequence[Any], work: int) -> Words:  # noqa: ARG002
        """See Engine."""
        if work <= THREAD_WORK:
            return kernel(*arguments)
        return await asyncio.to_thread(kernel, *arguments)

    async def ask(self, plan: Plan) -> None:
        """See Engine."""
        self.source.plan(plan)
        await asyncio.sleep(0)

    def cancelled(self, scope: Scope) -> None:
        """See Engine."""
        self.exchange.cancelled(scope)

    async def finish(self) -> None:
        """See Engine."""
        await self.tasks.ended()
        await self.exchange.finish()

    def abort(self, fault: BaseException) -> BaseException:
        """See Engine. A task group wraps the session's one fault once per task; it is returned unwrapped."""
        self.tasks.cancel()
        self.exchange.leave_early(fault)
        known = self.exchange.fault
        if known is not None and isinstance(fault, BaseExceptionGroup) and fault.split(lambda leaf: leaf is known)[1] is None:
            return known
        return fault


@dataclass(frozen=True, slots=True)
class Dry(Engine):
    """The engine of a dry run, on shapes alone: it records and counts all requests in a plan, and its exchange answers reveals."""

    exchange: DryExchange

    @classmethod
    def of(cls, names: Sequence[str], index: int, hearing: Hearing, source: type[DrySource]) -> tuple[Dry, Plan]:
        """A dry engine and the plan it fills."""
        plan, home = Plan(len(names), source.blanks()), Home(index, len(names), b"dry run")
        return cls(home, hearing(plan, names, index), DryStreams(plan), source(plan), plan.ledger, DryTasks()), plan

    @property
    def takes(self) -> None:
        """See Engine: all, since its program may hold secrets of the real run."""
        return

    def zeros(self, shape: tuple[int, ...]) -> Words:
        """See Engine."""
        blank: Words = self.exchange.blank(shape)
        return blank

    def encode(self, values: ArrayLike, frac: int, bound: float) -> Words:  # noqa: ARG002  it has no contents
        """See Engine."""
        return self.zeros(shape_of(values))

    async def compute(self, kernel: Kernel, shape: tuple[int, ...], arguments: Sequence[Any], work: int) -> Words:  # noqa: ARG002
        """See Engine."""
        return self.zeros(shape)

    def plain(self, shape: tuple[int, ...], frac: int | None, total: Any) -> Any:
        """See Engine. A client has the words of what is revealed to it."""
        if isinstance(total, Blank):
            return self.exchange.revealed(shape, -1 if frac is None else abs(frac))
        return Engine.plain(self, shape, frac, total)

    async def ask(self, plan: Plan) -> None:
        """See Engine."""
        self.source.plan(plan)

    def cancelled(self, scope: Scope) -> None:
        """See Engine: nobody waits for the call."""

    async def finish(self) -> None:
        """See Engine: nobody needs anything."""

    def abort(self, fault: BaseException) -> BaseException:
        """See Engine: nobody is told."""
        return fault
