"""Blocking versions of the asynchronous API, for scripts and notebooks; they also work inside a running loop."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, Self, TypeVar, overload

from mpc.errors import ProgramError
from mpc.membership.toml_text import did_you_mean
from mpc.node import open_node
from mpc.program import called
from mpc.session import Session

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from pathlib import Path
    from types import TracebackType

    from mpc.ledger import Ledger
    from mpc.node import Node

P = ParamSpec("P")
R = TypeVar("R")

# Windows does not interrupt a waiting thread, so it wakes up from time to time.
_POLL = 0.2 if os.name == "nt" else None


class _LoopThread:
    """One coroutine on its own loop and thread; `ended` has its outcome once everything is cleaned up."""

    def __init__(self, work: Coroutine[Any, Any, Any], factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self.ended: Future[Any] = Future()
        self.cancellable = True
        self._loop = (factory or asyncio.new_event_loop)()
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        # A daemon: a second Ctrl-C ends the process whatever still runs here.
        self.thread = threading.Thread(target=self._run, name="beaver", daemon=True)

    def start(self) -> None:
        """Start the thread; RuntimeError if the system has no more threads."""
        try:
            self.thread.start()
        except RuntimeError as fault:
            self._work.close()
            self._loop.close()
            self.ended.set_exception(fault)
            raise

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                result = runner.run(self._main())
        except BaseException as fault:  # noqa: BLE001  carried over to the caller's thread
            self.ended.set_exception(fault)
        else:
            self.ended.set_result(result)

    async def _main(self) -> Any:
        self._task = asyncio.current_task()
        return await self._work

    def tell(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call `call` on the loop soon; do nothing if the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return

    def cancel(self) -> None:
        """Cancel the coroutine; to be passed to `tell`."""
        if self._task is None:
            # The coroutine is about to take its first step.
            self._loop.call_soon(self.cancel)
        elif self.cancellable:
            self._task.cancel()

    def join(self, *, ending: bool = False) -> None:
        """Wait until the thread is gone, whatever the outcome.

        The first interrupt cancels the coroutine, a second one stops waiting; if it is already `ending`, the first one does.
        """
        try:
            _until(self.ended)
        except BaseException:
            if ending:
                raise
            self.tell(self.cancel)
            _until(self.ended)
            raise
        finally:
            if self.ended.done() and self.thread.ident is not None:
                self.thread.join()


def _until(*futures: Future[Any]) -> None:
    """Return when one of the futures is done; Ctrl-C interrupts."""
    while not wait(futures, _POLL, FIRST_COMPLETED).done:
        pass


def blocking(work: Coroutine[Any, Any, R], factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> R:
    """Run `work` to its end on a loop of its own and return its result."""
    if not _inside_a_loop():
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)
    background = _LoopThread(work, factory)
    try:
        background.start()
    except KeyboardInterrupt:
        background.tell(background.cancel)
        background.join(ending=True)
        raise
    background.join()
    result: R = background.ended.result()
    return result


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class BlockingSession:
    """A session for code that does not await: `index`, `n`, `names`, `cost`, and `run`. Use it with `with`."""

    def __init__(self, opened: Callable[[], Node], options: dict[str, Any]) -> None:
        self._opened = opened
        self._options = options
        self._pid = os.getpid()
        self._session: Session | None = None
        self._background: _LoopThread | None = None
        self._interrupt: BaseException | None = None
        self._busy = threading.Lock()
        self._ready: Future[Session] = Future()
        # Used only on the loop's thread from here on.
        self._wake = asyncio.Event()
        self._next: tuple[Callable[[], Awaitable[Any]], Future[Any]] | None = None
        self._node: Node | None = None
        self._leaving = False
        self._fault: BaseException | None = None

    if not TYPE_CHECKING:
        # Type checkers know its attributes.
        def __getattr__(self, name: str) -> NoReturn:
            if hasattr(Session, name) or hasattr(vars(self).get("_session"), name):
                hint = f"call s.{name} in an `async def program(s)`, and run that by s.run(program)"
            else:
                hint = did_you_mean(name, sorted(each for each in {*vars(Session), *vars(type(self))} if not each.startswith("_")))
            msg = f"a session of mpc.connect_sync has no {name!r}: {hint}"
            raise AttributeError(msg)

        async def __aenter__(self) -> NoReturn:
            msg = "mpc.connect_sync is for `with mpc.connect_sync(...) as s:`; in an `async def`, `async with mpc.connect(...) as s:`"
            raise ProgramError(msg)

        __aexit__ = __aenter__

    def __repr__(self) -> str:
        return f"BlockingSession({self._session!r})"

    @property
    def _s(self) -> Session:
        if self._session is None:
            msg = "this session is not open; use `with mpc.connect_sync(...) as s:`"
            raise ProgramError(msg)
        return self._session

    @property
    def index(self) -> int:
        """This party's number among the parties of the job."""
        return self._s.index

    @property
    def n(self) -> int:
        """How many parties the job has."""
        return self._s.n

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parties, in order."""
        return self._s.names

    @property
    def cost(self) -> Ledger:
        """What the session cost so far."""
        return self._s.cost

    @overload
    def run(self, program: Callable[Concatenate[Session, P], Awaitable[R]], /, *arguments: P.args, **parameters: P.kwargs) -> R: ...
    @overload
    def run(self, program: Callable[..., Awaitable[R]], /, *arguments: Any, plan: bool, **parameters: Any) -> R: ...
    def run(  # type: ignore[misc]  # a program's own parameter `plan` would not reach it
        self, program: Callable[..., Awaitable[R]], /, *arguments: Any, plan: bool = False, **parameters: Any
    ) -> R:
        """Return the result of `await program(s, *arguments, **parameters)`; re-raise its exception as itself.

        The program runs once, and its correlations are asked for when its calls need them. With `plan=True` they are asked for ahead, as
        `Session.run` does: then it runs twice, first on shapes alone, and must have no side effects. One program at a time, and only from
        outside of programs. Ctrl-C meanwhile ends the session at every party.
        """
        s, background = self._s, self._background
        if background is None or os.getpid() != self._pid:
            msg = "this process was forked from the one that opened the session; open one of its own"
            raise ProgramError(msg)
        if threading.current_thread() is background.thread or not self._busy.acquire(blocking=False):
            msg = "a program of this session is running; inside a program use `await`, outside wait for its end"
            raise ProgramError(msg)
        try:
            pending: Future[R] = Future()
            call = partial(program, **parameters)
            work = partial(s.run, program, *arguments, **parameters) if plan else partial(called, call, s, *arguments)
            try:
                # The program may run from here on, and an observer of that may interrupt before this thread continues.
                background.tell(self._start, work, pending)
                _until(pending, background.ended)
            except BaseException as fault:
                self._interrupt = fault
                background.tell(self._end, fault)
                raise
            if not pending.done():
                raise _over()
            return pending.result()
        finally:
            self._busy.release()

    # -- in the calling thread ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._background is not None:
            msg = "this session was opened before; call mpc.connect_sync again for a new one"
            raise ProgramError(msg)
        self._background = _LoopThread(self._live())
        try:
            self._background.start()
            _until(self._ready)
            self._session = self._ready.result()
        except BaseException as fault:
            self._leave(self._background, fault)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        background = self._background
        if background is None or os.getpid() != self._pid:
            return
        if self._interrupt is not None and isinstance(fault, KeyboardInterrupt) and fault is not self._interrupt:
            # The second Ctrl-C arrived on the way here.
            return
        self._leave(background, fault)
        if fault is not None:
            # Without the frames of the other thread.
            fault.with_traceback(trace)
        outcome = background.ended.exception()
        if outcome is not None and outcome is not fault and not isinstance(outcome, asyncio.CancelledError):
            raise outcome

    def _leave(self, background: _LoopThread, fault: BaseException | None) -> None:
        background.tell(self._end, fault)
        background.join(ending=fault is not None or self._interrupt is not None)

    # -- in the loop's thread ----------------------------------------------------------------------------------

    def _start(self, work: Callable[[], Awaitable[Any]], pending: Future[Any]) -> None:
        if self._leaving:
            pending.set_exception(_over())
            return
        self._next = work, pending
        self._wake.set()

    def _end(self, fault: BaseException | None) -> None:
        if self._leaving:
            return
        self._leaving, self._fault = True, fault
        self._wake.set()
        if fault is not None and self._node is not None:
            # At once, even if the program resists cancellation.
            self._node.abort(self._options["job"], fault)
        if self._background is not None and (self._next is not None or not self._ready.done()):
            self._background.cancel()

    async def _live(self) -> None:
        try:
            async with self._opened() as node:
                self._node = node
                try:
                    async with node.session(**self._options) as s:
                        self._ready.set_result(s)
                        await self._programs()
                finally:
                    # Nothing interrupts sending the last bytes any more: the clocks limit that.
                    if self._background is not None:
                        self._background.cancellable = False
        except BaseException as fault:
            if not self._ready.done():
                self._ready.set_exception(fault)
            raise

    async def _programs(self) -> None:
        """Run the programs of `run`, all in this one task, until the end; then raise the reason for it, so that the peers are told."""
        while not self._leaving:
            await self._wake.wait()
            self._wake.clear()
            if self._next is not None:
                work, pending = self._next
                try:
                    pending.set_result(await work())
                except BaseException as fault:  # noqa: BLE001  carried over to the caller's thread
                    pending.set_exception(fault)
                self._next = None
        if isinstance(self._fault, Exception) and not isinstance(self._fault, StopIteration):
            raise self._fault
        if self._fault is not None:
            # Ctrl-C and its kind would end the loop before the peers know.
            raise asyncio.CancelledError


def _over() -> ProgramError:
    return ProgramError("this session has ended; open a new one")


def connect_sync(
    config: str | Path,
    *,
    job: str,
    parties: Iterable[str] | None = None,
    program: str = "",
    listener: socket.socket | None = None,
) -> BlockingSession:
    """`connect` for scripts and notebooks: `with mpc.connect_sync(...) as s: s.run(program, data)`.

    Takes and raises what `connect` does. The session has its own loop and thread; leaving the `with` ends it, and an exception or Ctrl-C
    ends it at every party.
    """
    # The session itself refuses a text in place of a list.
    options = {"job": job, "parties": parties if parties is None or isinstance(parties, str) else tuple(parties), "program": program}
    return BlockingSession(partial(open_node, config, listener=listener), options)


__all__ = ["blocking", "connect_sync"]
