"""The dry run: a program on shapes alone, which names every correlation that it will use and counts its cost.

Ops and protocols run as they are; openings give blanks, and the counting is that of the real exchange.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from mpc.errors import ProgramError
from mpc.kernels.blank import Meter, Uncounted
from mpc.ledger import Ledger
from mpc.messaging.stripes import scatters, stripes
from mpc.naming.streams import MASK, ZERO
from mpc.ring import MAX_NDIM
from mpc.values.derived import Done

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from mpc.naming.correlations import Relation
    from mpc.naming.expressions import Range
    from mpc.naming.scope import Scope
    from mpc.ring import Words

R = TypeVar("R")

NEARLY_ONE = 2.0**-16
"""How far the revealed reals of an estimate rise above 1."""
POWER = 24
"""Each element of the revealed integer arrays of an estimate."""
THERE_AND_BACK = 2
"""Trips between asking the dealer and having its answer."""
TURNS = 100
"""Turns of the event loop in which a program's other tasks may name what they need after the plan has ended in one of them."""
ENDING = 10.0
"""Seconds that a program has to end once its dry run is given up, such as in its `finally`."""


class PlanEnds(asyncio.CancelledError):
    """The program looked at a value that only the real run knows: its dry run is given up.

    A CancelledError, since it is nobody's fault: `except Exception` does not catch it, and a task that ends by it counts as cancelled. For
    another BaseException asyncio would log that nobody retrieved it, and a TaskGroup would wrap it in a group.
    """


@dataclass(slots=True, repr=False)
class Plan:
    """What a program will do: its correlations in order, its cost, and the bytes of all arrays alive at the worst moment.

    `trips` counts messages that travel one after the other: one per round, and the way to the dealer and back where an op waits for it.
    `complete` is False if the program looked at a revealed value: correlations after that are asked for when their ops start.
    """

    n: int
    blanks: Meter | Uncounted = field(default_factory=Meter)
    relations: list[Relation] = field(default_factory=list)
    """The correlations, in the order in which ops take them."""
    ledger: Ledger = field(default_factory=Ledger)
    trips: int = 0
    complete: bool = True
    closes: Callable[[type[PlanEnds]], None] | None = None
    """Makes later calls raise: in the real run, other calls have their names."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __repr__(self) -> str:
        figures = f"rounds={self.rounds}, payload={self.payload}, dealer={self.dealer}, relations={len(self.relations)}, peak={self.peak}"
        return f"Plan(n={self.n}, {figures}, trips={self.trips}, complete={self.complete})"

    def end(self) -> NoReturn:
        """End the plan: the program looks at a value that only the real run knows."""
        self.complete = False
        self.ended.set()
        if self.closes is not None:
            self.closes(PlanEnds)
        raise PlanEnds

    @property
    def rounds(self) -> int:
        """Depth in simultaneous exchanges."""
        return self.ledger.rounds

    @property
    def payload(self) -> int:
        """Bytes to the peer that gets most."""
        return self.ledger.payload

    @property
    def dealer(self) -> int:
        """Bytes that the dealer sends, to all parties together."""
        return sum(relation.nbytes for relation in self.relations)

    @property
    def peak(self) -> int:
        """Bytes of arrays alive at the worst moment, at one party, without the temporaries of a single kernel."""
        return self.blanks.peak


async def run_dry(program: Coroutine[Any, Any, object], plan: Plan) -> None:
    """Run a program on shapes until it ends, or until its plan has ended and its other tasks had TURNS to continue: some may wait for the
    value that was looked at.

    Also if this call is cancelled, the program has then ended, or had ENDING to do so.

    Raises what the program raises; ProgramError if it continues after being cancelled.
    """
    task, ended = asyncio.ensure_future(program), asyncio.ensure_future(plan.ended.wait())
    try:
        await asyncio.wait((task, ended), return_when=asyncio.FIRST_COMPLETED)
        for _ in range(TURNS):
            if task.done():
                break
            await asyncio.sleep(0)
    finally:
        ended.cancel()
        task.cancel()
        await asyncio.wait((task,), timeout=ENDING)
    if not task.done():
        msg = (
            f"the program has gone on for {ENDING:g} s after its dry run was cancelled; let asyncio.CancelledError end it wherever it waits"
        )
        raise ProgramError(msg)
    if task.cancelled():
        # Also if the value belonged to another plan, of a program that runs this one.
        plan.complete = False
    else:
        task.result()


def _ends(self: Unknown, *_: Any, **__: Any) -> NoReturn:
    self.end()


class Unknown:
    """A revealed value in a dry run: it can be returned, but any other use of it ends the plan."""

    __slots__ = ("end",)

    def __init__(self, end: Callable[[], NoReturn]) -> None:
        self.end = end

    __array_ufunc__ = __array_function__ = _ends
    __class__ = property(_ends)  # only the real run can say whether it is an array
    __array__ = __iter__ = __len__ = __bool__ = __float__ = __int__ = __index__ = __complex__ = __getitem__ = __getattr__ = _ends
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = _ends
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = __pow__ = __rpow__ = _ends
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _ends
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __hash__ = __contains__ = __reversed__ = __setitem__ = _ends
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = __trunc__ = __floor__ = __ceil__ = __format__ = __str__ = __bytes__ = _ends


class DryExchange:
    """Counts what `Exchange` would send; every opening is a blank of the right shape."""

    def __init__(self, plan: Plan, names: Sequence[str], index: int) -> None:
        self._plan = plan
        self.names = tuple(names)
        self.index = index
        self._peers = [name for name in names if name != self.names[index]]

    def check_alive(self) -> None:
        """A dry run does not fail."""

    def _sends(self, scope: Scope, sizes: dict[str, int]) -> None:
        for name, size in sizes.items():
            self._plan.ledger.sends(name, size)
        scope.depth += 1
        scope.trips += 1
        self._plan.ledger.rounds = max(self._plan.ledger.rounds, scope.depth)
        self._plan.trips = max(self._plan.trips, scope.trips)

    async def open(self, scope: Scope, _: str, words: Words, *__: Any) -> Any:
        """As Exchange.open."""
        if scatters(len(self.names), words.size):
            cuts = dict(zip(self.names, stripes(len(self.names), words.size), strict=True))
            bytes_of = {name: 8 * (stop - start) for name, (start, stop) in cuts.items()}
            self._sends(scope, {name: bytes_of[name] for name in self._peers})
            self._sends(scope, dict.fromkeys(self._peers, bytes_of[self.names[self.index]]))
        else:
            self._sends(scope, dict.fromkeys(self._peers, words.nbytes))
        return self.blank(words.shape)

    async def publish(self, scope: Scope, _: str, words: Words, owner: int, *__: Any) -> Any:
        """As Exchange.publish."""
        self._sends(scope, dict.fromkeys(self._peers, words.nbytes) if owner == self.index else {})
        return self.blank(words.shape)

    async def to_receivers(self, scope: Scope, words: Words, receivers: Sequence[int], *_: Any) -> Words | None:
        """As Exchange.to_receivers."""
        # Messages to a client are not messages between parties.
        self._sends(scope, {self.names[i]: words.nbytes for i in receivers if i != self.index and i < len(self.names)})
        return self.blank(words.shape) if self.index in receivers else None

    async def announce(self, scope: Scope, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """As Exchange.announce; only the real run knows the others' shapes."""
        self._sends(scope, dict.fromkeys(self._peers, 8 * (MAX_NDIM + 1)))
        return self.shapes(shape)

    def shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:  # noqa: ARG002  the estimate's answer has it
        """The shapes that all parties would announce."""
        self._plan.end()

    def blank(self, shape: tuple[int, ...]) -> Any:
        """An array without contents."""
        return self._plan.blanks.blank(shape)

    def revealed(self, shape: tuple[int, ...], frac: int) -> Any:  # noqa: ARG002  the estimate's answer has them
        """What the program gets for an output."""
        return Unknown(self._plan.end)


class Estimate(DryExchange):
    """A dry run to the end, with data of the same shape at every party, and answers such as a healthy pool gives."""

    def shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The same shape for every party."""
        return [shape] * len(self.names)

    def revealed(self, shape: tuple[int, ...], frac: int) -> Any:
        """Fixed values in place of revealed ones, chosen so that no built-in check fails, as from a pool without constant or huge columns.

        Reals rise slowly from 1, so that a mean square exceeds the square of the mean. Integers are 1, which suits an index; in arrays
        POWER, which suits a count and a power of two. Bits are 0: none says that something is wrong.
        """
        if frac < 0:
            return np.zeros(shape, np.bool_)
        if frac == 0:
            return np.full(shape, POWER if shape else 1, np.int64)
        size = int(np.prod(shape))
        return 1.0 + NEARLY_ONE * np.reshape(np.arange(size) / max(size, 1) ** 2, shape)


class DryTasks:
    """Work that is done when it begins, since it waits for nothing: no work is ever pending, and no messages leave."""

    async def room(self) -> None:
        """See SessionTasks."""

    pace = sent = room

    def start(self, work: Coroutine[None, None, R], *_: Coroutine[Any, Any, Any]) -> Done[R]:
        """See SessionTasks."""
        try:
            work.send(None)
        except StopIteration as end:
            return Done(end.value)
        msg = "work of a dry run waits for something"
        raise RuntimeError(msg)


class DryStreams:
    """Blanks in place of every stream."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def mask(self, where: Range, usage: str = MASK) -> Any:  # noqa: ARG002
        """See Expansion."""
        return self._plan.blanks.blank(where.shape)

    def hide(self, where: Range, words: Words) -> Any:  # noqa: ARG002
        """See Expansion."""
        return self._plan.blanks.blank(where.shape)

    def share(self, usage: str, out: Range) -> Any:  # noqa: ARG002
        """See Expansion."""
        return self._plan.blanks.blank(out.shape)

    def expect(self, usage: str, out: Range) -> None:
        """See Expansion."""

    def zero(self, where: Range, usage: str = ZERO) -> Any:  # noqa: ARG002
        """See Expansion."""
        return self._plan.blanks.blank(where.shape)


class DrySource:
    """Records the relations that are begun, and when their corrections would arrive."""

    blanks: type[Meter | Uncounted] = Meter

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ahead: dict[bytes, int] = {}

    def plan(self, plan: Plan) -> None:
        """Ask for the relations now, before the ops that use them."""
        self._ahead.update(dict.fromkeys((relation.key for relation in plan.relations), self._plan.trips + THERE_AND_BACK))

    def begin(self, scope: Scope, relation: Relation) -> Coroutine[Any, Any, list[Words]]:
        """See Source."""
        self._plan.relations.append(relation)
        return self._shares(scope, relation, self._ahead.get(relation.key, scope.trips + THERE_AND_BACK))

    async def _shares(self, scope: Scope, relation: Relation, arrival: int) -> list[Any]:
        scope.trips = max(scope.trips, arrival)
        self._plan.trips = max(self._plan.trips, arrival)
        return [self._plan.blanks.blank((words,)) for words in relation.layout.apart]


class Planning(DrySource):
    """As DrySource, for the dry run before a real one, whose memory nobody asks for."""

    blanks = Uncounted
