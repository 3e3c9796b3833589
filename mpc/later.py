"""Words that take a relation or an opening of their own, computed beside the program once somebody has begun them (decision 0017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mpc.naming.scope import running
from mpc.ring import count, frozen
from mpc.values.unmade import Unmade, Waiting, make

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mpc.messaging.session_tasks import Work
    from mpc.naming.scope import Scope
    from mpc.op_session import OpSession
    from mpc.ring import Words
    from mpc.values.derived import Done
    from mpc.values.unmade import Held

    Begin = Callable[[Scope], tuple[Coroutine[None, None, Any], *tuple[Coroutine[Any, Any, Any], ...]]]

R = TypeVar("R")


FEW = 1 << 9
"""Words up to which a call does not wait for its opening."""


class Later(Unmade, Generic[R]):
    """Words of the call of `scope`. `start(scope)` returns the coroutine that computes the words, and the coroutines it awaits for
    corrections.
    """

    __slots__ = ("_making", "_outcome", "_scope", "_session", "_start")

    def __init__(self, s: OpSession, scope: Scope, shape: tuple[int, ...], start: Begin) -> None:
        super().__init__(shape)
        self._session = s
        self._scope = scope
        self._start: Begin | None = start
        self._making: tuple[Scope, Work[R] | Done[R]] | None = None
        """The words' own scope, as deep as what they wait for, not as the op that reads them; and the work in it."""

    def waiting(self) -> Waiting:
        """See Unmade."""
        scope = running(self._session)
        if not isinstance(scope.waiting, Waiting):
            scope.waiting = Waiting()
        return scope.waiting

    async def begin(self, scope: Scope) -> None:
        """See Unmade."""
        await self._session.tasks.room()
        if self._start is not None:
            own = self._scope.child("words")
            own.trips = max(own.trips, scope.trips)
            if self.opens:
                # The opening is sent now, not when the call was made.
                own.depth = max(own.depth, scope.depth)
            self._go(self._start, own)

    def _go(self, start: Begin, own: Scope) -> None:
        self._start = None
        self._making = own, self._session.tasks.start(*start(own))

    async def finish(self, scope: Scope) -> None:
        """See Unmade."""
        if self._making is not None:
            own, work = self._making
            self._outcome = await work.result(scope)
            self.words = frozen(self.words_of(self._outcome))
            # Release its operands.
            self.depth, self.trips, self._making = own.depth, own.trips, None

    def words_of(self, outcome: Any) -> Words:
        """The words in the outcome of the work: by default all of it."""
        words: Words = outcome
        return words

    async def result(self, scope: Scope) -> R:
        """The outcome of the work, which somebody has begun."""
        await self.finish(scope)
        scope.follow(self)
        return self._outcome


class Opens(Later[R]):
    """Words that need an opening, begun by their first reader or by the call itself."""

    __slots__ = ("_waits",)
    few = FEW

    def __init__(self, s: OpSession, scope: Scope, shape: tuple[int, ...], start: Begin) -> None:
        super().__init__(s, scope, shape, start)
        self._waits = True

    @property
    def opens(self) -> bool:
        """See Unmade. False once the call has begun the opening: every party that reaches anything computed from the words has begun
        it, too.
        """
        return self._waits

    async def at_once(self) -> Held:
        """Begin the words in the call itself, whoever reads them: beside the program, unless they are too many to keep pending
        (decision 0026).
        """
        scope = self._scope
        await self._session.tasks.room()
        self._waits = False
        if self._start is not None:
            self._go(self._start, scope.aside())
        await self._session.tasks.pace()
        if count(self.shape) <= self.few and not watched(self._session):
            return self
        await make(scope, [self])
        return self.there()


def watched(s: OpSession) -> bool:
    """Whether somebody observes every value: then even unread words are made."""
    return s.home.watch is not None
