"""Words that are made when somebody reads them, and values computed from them until then (decision 0017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from weakref import ref

from mpc.errors import ProgramError
from mpc.ring import Words, frozen, outline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from mpc.naming.scope import Scope

    Held: TypeAlias = "Words | Unmade"


class Unmade:
    """A placeholder for words of `shape`, which are None until they are made. `depth` counts the rounds that they wait for, `trips` as
    in Scope.
    """

    __slots__ = ("__weakref__", "depth", "shape", "trips", "words")

    def __init__(self, shape: tuple[int, ...], words: Words | None = None, depth: int = 0, trips: int = 0) -> None:
        self.shape = shape
        self.depth = depth
        self.trips = trips
        self.words = words

    @property
    def opens(self) -> bool:
        """Whether making the words opens something, which all parties must do."""
        return False

    def is_there(self) -> bool:
        """Whether the words are made, or can be made from available words."""
        return self.words is not None

    def there(self) -> Words:
        """The words; ProgramError if nobody made them."""
        if self.words is None:
            msg = "nobody has read this value yet, so its words are not there: await s.made(x) first"
            raise ProgramError(msg)
        return self.words

    def waiting(self) -> Waiting:
        """The values that the running call has computed from unmade words."""
        raise NotImplementedError

    async def begin(self, scope: Scope) -> None:
        """Ask for the words' corrections, or open their values, unless somebody has; `scope` will wait for them."""

    async def finish(self, scope: Scope) -> None:
        """Wait for the words. All parts are available."""


class Applied(Unmade):
    """`apply` to the words of `parts`, some of which are unmade."""

    __slots__ = ("_apply", "_opens", "leaf", "parts")

    def __init__(self, apply: Callable[..., Any], parts: Sequence[Held], shape: tuple[int, ...] | None) -> None:
        super().__init__(apply(*(outline(part.shape) for part in parts)).shape if shape is None else shape)
        self._apply: Callable[..., Any] | None = apply
        self.parts = parts
        # As it is now: whether the parts are made by the time somebody asks may differ between parties.
        self._opens = False
        self.leaf: Unmade | None = None
        """A placeholder that it waits for and that has no parts: only such a placeholder knows the running call."""
        for part in parts:
            if isinstance(part, Unmade) and part.words is None:
                self._opens = self._opens or part.opens
                self.leaf = self.leaf or (part.leaf if isinstance(part, Applied) else part)

    @property
    def opens(self) -> bool:
        """See Unmade."""
        return self._opens

    def is_there(self) -> bool:
        """See Unmade."""
        if self.words is None and not any(isinstance(part, Unmade) and part.words is None for part in self.parts):
            self._compute()
        return self.words is not None

    async def finish(self, _: Scope) -> None:
        """See Unmade."""
        self._compute()

    def _compute(self) -> None:
        if self._apply is not None:
            self.words = frozen(self._apply(*map(_there, self.parts)))
            self.depth, self.trips = _latest([part for part in self.parts if isinstance(part, Unmade)])
            # A loop or a long chain of earlier values: none of it is kept.
            self._apply, self.parts, self.leaf = None, (), None


class Waiting:
    """The values that one call has computed from unmade words and that somebody still holds."""

    def __init__(self) -> None:
        self._parts: list[ref[Applied]] = []

    def __iter__(self) -> Iterator[Applied]:
        return (part for remembered in self._parts if (part := remembered()) is not None)

    def add(self, part: Applied) -> None:
        """Note that the call has computed `part`."""
        self._parts.append(ref(part))

    async def make(self, scope: Scope) -> None:
        """Make these values, for that call."""
        # Which values are still held differs between parties, so none of them is opened, and no round is counted before one is read.
        await make(scope, [part for part in self if not part.opens])


def _there(held: Held) -> Words:
    return held.there() if isinstance(held, Unmade) else held


def applied(apply: Callable[..., Any], *parts: Held) -> Held:
    """`apply` to all words: now if they are available; otherwise the running call makes it from time to time, if somebody still holds
    it.
    """
    outcome = combined(apply, *parts)
    if isinstance(outcome, Applied) and outcome.leaf is not None:
        outcome.leaf.waiting().add(outcome)
    return outcome


def combined(apply: Callable[..., Any], *parts: Held, shape: tuple[int, ...] | None = None) -> Held:
    """`apply` to all words, now if they are available; `shape` is the result's shape, if known."""
    unmade = [part for part in parts if isinstance(part, Unmade)]
    if not unmade:
        # The usual case.
        return apply(*parts)  # type: ignore[no-any-return]
    if any(part.words is None for part in unmade):
        return Applied(apply, parts, shape)
    words: Words = apply(*map(_there, parts))
    # A reader counts the rounds that the words waited for, whoever made them.
    return Unmade(words.shape, frozen(words), *_latest(unmade))


def _latest(parts: Sequence[Unmade]) -> tuple[int, int]:
    """The rounds and trips of the part that is available last."""
    return max(part.depth for part in parts), max(part.trips for part in parts)


async def begin(scope: Scope, held: Sequence[Held]) -> list[Unmade]:
    """Ask for everything that `held` lack, for an op of `scope`; return all unmade parts, each after its own parts."""
    order = _in_order(held)
    for each in order:
        await each.begin(scope)
    return order


async def make(scope: Scope, held: Sequence[Held]) -> None:
    """Make all of `held`: everything missing is asked for before any of it is awaited."""
    unmade = [each for each in held if isinstance(each, Unmade)]
    missing = [each for each in unmade if not each.is_there()]
    if missing:
        for each in await begin(scope, missing):
            await each.finish(scope)
    # Rounds and trips count for whoever reads the words, even if another call has made them.
    for read in unmade:
        scope.follow(read)


def _in_order(held: Sequence[Held]) -> list[Unmade]:
    """The unmade parts of `held`, each once and after its own parts."""
    # No recursion: a sum may have been accumulated in a loop of any length.
    order, seen, stack = [], set[int](), [(each, False) for each in reversed(held)]
    while stack:
        each, parts_done = stack.pop()
        if not isinstance(each, Unmade) or each.words is not None:
            continue
        if parts_done:
            order.append(each)
        elif id(each) not in seen:
            seen.add(id(each))
            stack.append((each, True))
            if isinstance(each, Applied):
                stack += [(part, False) for part in reversed(each.parts)]
    return order
