"""Scopes: every call of an op or protocol has a path that all parties compute alike, in whatever order messages arrive.

*Calling* a protocol takes the next child number of the caller's scope at once; awaiting it runs the body in that child. Arguments are
evaluated in program order, so `gather`, `TaskGroup` and `create_task` over such calls are deterministic.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, cast

from mpc.errors import ProgramError
from mpc.naming.streams import Ranges

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

OFTEN = 256
"""Calls after which a program makes the values that it computed from unread words."""


MAX_ENDED = 64
"""Calls ended by a fault that a session remembers: the last ones."""


class Ended(NamedTuple):
    """A call that raised a `fault` of this type after it had made `calls` calls; `path` is its scope."""

    path: str
    calls: int
    label: str
    fault: str


class Deep(Protocol):
    """Something that is available after a `depth` of rounds and after `trips`; see Scope."""

    depth: int
    trips: int


class Unread(Protocol):
    """Values that a call has computed from words that nobody has read yet (`mpc.values.unmade`)."""

    async def make(self, scope: Scope) -> None:
        """Make the values that somebody still holds."""


class Scope:
    """One call: its path of child numbers, a readable label, its ranges, its number of messages, and its depth in rounds.

    A dry run also counts `trips`: how many messages, the dealer's included, had to travel one after the other until here.
    """

    __slots__ = (
        "_children",
        "_ranges",
        "closed",
        "depth",
        "faults",
        "known",
        "messages",
        "name",
        "parent",
        "path",
        "task",
        "trips",
        "waiting",
    )

    def __init__(self, path: tuple[int, ...], name: str, depth: int, trips: int = 0, parent: Scope | None = None) -> None:
        self.path = path
        self.depth = depth
        self.trips = trips
        self.task: asyncio.Task[Any] | None = None
        self.messages = 0
        self.name = name
        self.parent = parent
        self.known = ""
        """The label, once it was asked for."""
        self._ranges: Ranges | None = None
        self._children = 0
        self.closed: type[BaseException] | None = None
        self.waiting: Unread | None = None
        """The values that this call has computed from words that nobody has read yet."""
        self.faults: deque[Ended] | None = None
        """Only in the program's own scope: the session's calls that ended with a fault."""

    @property
    def label(self) -> str:
        """The calls that lead here."""
        # Made on first use, as `ranges` are: a call that sends nothing needs neither. A loop, since calls may be as deep as Python's stack.
        nameless, around = [self], self.parent
        while around is not None and not around.known:
            nameless.append(around)
            around = around.parent
        for scope in reversed(nameless):
            last = f"{scope.name}.{scope.path[-1]}" if scope.path else scope.name
            before = scope.parent.known if scope.parent is not None else ""
            scope.known = scope.known or (f"{before}/{last}" if before else last)
        return self.known

    @property
    def ranges(self) -> Ranges:
        """The ranges of this call in the streams."""
        if self._ranges is None:
            self._ranges = Ranges.of(self.path)
        return self._ranges

    async def relieve(self) -> None:
        """Make those unread values that are still needed: else a sum accumulated in a loop would keep every addend."""
        # A program that waits for nothing would let no other task run.
        await asyncio.sleep(0)
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            await waiting.make(self.aside())

    def child(self, name: str) -> Scope:
        """The scope of the next call made from this one; it starts at the depth reached so far."""
        if self.closed is not None:
            raise self.closed
        number = self._children
        self._children += 1
        return Scope((*self.path, number), name, self.depth, self.trips, self)

    def comes_after(self, path: tuple[int, ...]) -> bool:
        """Whether this call directly follows the call at `path` in the same scope."""
        return self.path[:-1] == path[:-1] and self.path[-1] == path[-1] + 1

    def close(self, fault: type[BaseException], root: Scope) -> None:
        """Forbid further calls from this scope and those around it, up to `root`: each raises `fault`."""
        scope: Scope | None = self
        while scope is not None:
            scope.closed = fault
            scope = scope.parent if scope is not root else None

    def raised(self, fault: Exception) -> None:
        """Note that this call ended with `fault`: it never makes the calls that it had not made by then."""
        root = self._root
        root.faults = root.faults or deque(maxlen=MAX_ENDED)
        root.faults.append(Ended(".".join(map(str, self.path)), self._children, self.label, type(fault).__name__))

    def ended(self, path: str) -> Ended | None:
        """The call of this session that ended with a fault before it came to the call at `path`, if there is one."""
        for ended in self._root.faults or ():
            before, _, rest = path.partition(f"{ended.path}.")
            number = rest.partition(".")[0]
            # At most 18 digits: a peer's number must not take time to parse.
            if not before and len(number) <= 18 and number.isascii() and number.isdecimal() and int(number) >= ended.calls:
                return ended
        return None

    @property
    def _root(self) -> Scope:
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def follow(self, other: Deep) -> None:
        """Become at least as deep as `other`: a scope whose calls have ended, or available words."""
        # Not max(...): these run twice for every op.
        if self.depth < other.depth:  # noqa: PLR1730
            self.depth = other.depth
        if self.trips < other.trips:  # noqa: PLR1730
            self.trips = other.trips

    def aside(self) -> Scope:
        """A scope for the part of this call that runs beside the program: it has the same names, and its rounds count for whoever waits
        for it.
        """
        aside = Scope(self.path, self.name, self.depth, self.trips, self.parent)
        aside._ranges = self.ranges
        return aside

    def twin(self) -> Scope:
        """A scope for a dry run that will give the same names as this one.

        It has no parent: a call that raises in a dry run has not raised in this session, where another call may have its name.
        """
        twin = Scope(self.path, self.name, self.depth, self.trips)
        twin.known = self.label
        twin._ranges = self.ranges.twin()
        twin._children = self._children
        return twin

    def skip(self, twin: Scope) -> None:
        """Skip every name that `twin` has given."""
        self.ranges.skip(twin.ranges)
        self._children = max(self._children, twin._children)

    @property
    def calls(self) -> int:
        """How many calls were made from this scope so far."""
        return self._children


class Scoped(Protocol):
    """Makes the calls of a session: the object that its ops hold as the session."""

    @property
    def root(self) -> Scope:
        """The scope of the program itself."""

    @property
    def unbegun(self) -> dict[Scope, Coroutine[Any, Any, Any]] | None:
        """In a dry run, the calls that were made and have not begun; None otherwise, when the program holds them."""

    def check_alive(self) -> None:
        """Raise the session's fault if it has one."""

    def cancelled(self, scope: Scope) -> None:
        """A call of `scope` was cancelled before it was done."""


class Facade(Protocol):
    """A session as programs hold it, without the parts that its ops need."""

    @property
    def _ops(self) -> Scoped:
        """The object that makes the session's calls."""


_current: ContextVar[tuple[Scoped, Scope] | None] = ContextVar("beaver_scope", default=None)

S = TypeVar("S", bound=Scoped | Facade)
P = ParamSpec("P")
R = TypeVar("R")


def within(s: object) -> Any:
    """For a session that a program holds, the object that makes its calls; anything else, including that object, unchanged."""
    return getattr(s, "_ops", s)


def running(s: Scoped) -> Scope:
    """The scope of the running op, for the body that `protocol` runs; the root outside of all protocols."""
    entry = _current.get()
    return entry[1] if entry is not None and entry[0] is s else s.root


def close_innermost(s: Scoped, fault: type[BaseException]) -> None:
    """Close the scope that is running in this task, if it is one of `s`."""
    entry = _current.get()
    if entry is None or entry[0] is s:
        running(s).close(fault, s.root)


def close_unbegun(s: Scoped) -> None:
    """Close the calls that a dry run has made and will not await, since it ended early: Python would report each as never awaited."""
    calls = s.unbegun or {}
    # Calls held by a task begin by themselves, if not begun yet.
    begin = {task.get_coro() for task in asyncio.all_tasks()} if calls else ()
    for call in calls.values():
        if call not in begin:
            call.close()
    calls.clear()


def current(s: Scoped) -> Scope:
    """The scope whose body is running in this task, for calls that anyone may make; the root outside of all protocols."""
    scope = running(s)
    try:
        task = asyncio.current_task()
    except RecursionError:
        # This is a RuntimeError, too, but not the one that says that no loop is running here.
        raise
    except RuntimeError:
        msg = (
            "an op was called in another thread than the one of its session's event loop. Call it there, or use mpc.connect_sync in scripts"
        )
        raise ProgramError(msg) from None
    if scope.task is not task:
        if scope is s.root and scope.task is None:
            scope.task = task
        else:
            # A call from a foreign task would take its number in arrival order, which differs between parties.
            msg = (
                f"an op was called from another task than the one that runs {scope.label or 'the program, which is that of its first op'}. "
                "create_task and gather, and before Python 3.12 wait_for, run code in a task of its own: wrap that code in a function "
                "`async def part(s, ...)` with @mpc.protocol and pass part(s, ...) to them."
            )
            raise ProgramError(msg)
    return scope


def check_session(s: object, name: str) -> None:
    """Raise ProgramError if `s` is not a session."""
    if not hasattr(within(s), "check_alive"):
        msg = (
            f"{name} takes the session first, not {type(s).__name__}: in a program `await {name}(s, ...)`, "
            f"of a session from mpc.connect_sync `s.run({name}, ...)`"
        )
        raise ProgramError(msg)


def check_awaited(body: object) -> None:
    """Raise ProgramError if `body` is no `async def`; a decorated one counts as what it wraps."""
    inner = inspect.unwrap(body) if callable(body) else body
    if not inspect.iscoroutinefunction(inner):
        name = getattr(body, "__name__", type(body).__name__)
        wrong = "it is an async generator: let it return what it yields"
        if not inspect.isasyncgenfunction(inner):
            wrong = "write `async` before its `def`, or decorate what wraps an `async def` with functools.wraps"
        msg = f"a protocol is an `async def {name}(s, ...)`, and {name} is no `async def`: {wrong}"
        raise ProgramError(msg)


def protocol(body: Callable[Concatenate[S, P], Awaitable[R]]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make `async def body(s, ...)` an op or protocol: calling it numbers the call, awaiting it runs it in its own scope.

    Rounds are counted exactly if calls are awaited in place, or gathered; see `Ledger`. Cancelling a call that has begun ends the session
    everywhere at once. Cancelling one that has not begun is not reported: the peers find out when the program ends here, or after the clock
    `stall`. Raises ProgramError if `body` is no `async def`.
    """
    check_awaited(body)

    @functools.wraps(body)
    def call(s: S, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        check_session(s, body.__name__)
        calls: Scoped = within(s)
        calls.check_alive()
        parent = current(calls)
        scope = parent.child(body.__name__)
        coroutine = _run(calls, parent, scope, body, (s, *args), kwargs)
        # The name that Python reports for a coroutine that was never awaited.
        coroutine.__qualname__ = body.__qualname__  # type: ignore[attr-defined]  # the abstract type does not promise it
        if (unbegun := calls.unbegun) is not None:
            unbegun[scope] = coroutine
        return coroutine

    return cast("Callable[Concatenate[S, P], Coroutine[Any, Any, R]]", call)


async def _run(
    s: Scoped, parent: Scope, scope: Scope, body: Callable[..., Awaitable[R]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> R:
    scope.task = task = asyncio.current_task()
    if (unbegun := s.unbegun) is not None:
        unbegun.pop(scope, None)
    try:
        if scope.path[-1] % OFTEN == OFTEN - 1:
            await parent.relieve()
        if task is parent.task:
            # Awaited in place, not gathered: it begins when the calls before it have ended.
            scope.follow(parent)
        token = _current.set((s, scope))
        try:
            body_call = body(*args, **kwargs)
            # Objects made for this call alone are freed as soon as the body no longer needs them.
            del args, kwargs
            return await body_call
        finally:
            _current.reset(token)
            parent.follow(scope)
            # A task keeps its outcome, whose words remember this call.
            scope.task = None
    except asyncio.CancelledError:
        # The call has its number, and its peers would wait for it.
        s.cancelled(scope)
        raise
    except Exception as fault:
        scope.raised(fault)
        raise
