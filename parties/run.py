"""How Beaver's own processes run: on uvloop where it exists, ended cleanly by SIGTERM and Ctrl-C, and without core dumps."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Self, TypeVar

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from mpc.ledger import Books

R = TypeVar("R")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_KEPT, _MOST_KEPT = 1 << 25, 1 << 28
_OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""Python's default of 700 is reached by a few calls of ops, whose results live on: scanning them took 6 % of a chain's CPU time."""
_FAULTS_LET_GO = 1.0
"""Seconds after a fault after which nobody reports it any more."""

STDERR = 2
INTERRUPTED = 130
"""Exit status after Ctrl-C or SIGTERM: 128 + SIGINT, as shells have it."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory, or None on Windows, where uvloop does not exist."""
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415  absent on Windows

    return uvloop.new_event_loop


def forbid_core_dumps() -> None:
    """Keep this process's memory, with its keys and data, out of core files.

    PR_SET_DUMPABLE would do more, but it also hides a node's open files from the user who operates it.
    """
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def collect_after_faults(books: Books) -> None:
    """Collect garbage soon after a session of this node has failed: its fault and the frames of the traceback keep each other and all
    arrays.

    Few objects keep them, so Python would not collect for long.  All faults within a second cause one collection.
    """
    loop, due = asyncio.get_running_loop(), False

    def failed() -> None:
        nonlocal due
        if not due:
            due = True
            loop.call_later(_FAULTS_LET_GO, collect)

    def collect() -> None:
        nonlocal due
        due = False
        gc.collect()

    books.on_fault = failed


def keep_memory() -> None:
    """Keep freed memory for the next array.

    glibc returns arrays of a few megabytes to the system at once, and fresh pages cost more than what is computed in them.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):  # glibc alone has it
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run `work` to its end.  SIGTERM and SIGINT cancel it, so that every `async with` closes; then this raises KeyboardInterrupt.

    A SIGINT after that ends the process at once, with status INTERRUPTED.  For the main thread only.
    """
    forbid_core_dumps()
    keep_memory()
    # What is imported by now stays: a full collection that scanned it would take longer than many a round.
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    with _Stop() as stop, asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            return runner.run(stop.guard(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            # `work` was interrupted before its first step.
            work.close()


def commanded(work: Coroutine[Any, Any, R], said: str = "stopped") -> R:
    """`run` for a command: if it is stopped, print `said` on standard error and end the process with status INTERRUPTED."""
    try:
        return run(work)
    except KeyboardInterrupt:
        print(said, file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def hangups() -> asyncio.Event:
    """Return the event that SIGHUP sets from now on, and has set already if it came while it was held.

    SIGHUP ends no work that runs without a terminal.  There it means no closed window, but that a supervisor or an administrator wants the
    node to read its files again.  With a terminal the event is never set.  Call this within `run`.
    """
    asked = asyncio.Event()
    if sys.platform == "win32":
        return asked
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and not _has_terminal():
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGHUP, lambda *_: loop.is_closed() or loop.call_soon_threadsafe(asked.set))
    # Held since `start.hold_hangups`.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
    return asked


def _has_terminal() -> bool:
    """Return whether there is a terminal whose end is this process's end."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Stop:
    """Signals: the first one cancels, a SIGINT after it quits."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # SIGINT explicitly: a process that a script started in the background would otherwise ignore it.
        numbers = [signal.SIGTERM, signal.SIGINT]
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            # A closed terminal too, unless nohup asked otherwise: temporary keys must not stay behind.
            numbers.append(signal.SIGHUP)
        # Not set with the loop: these handlers also run while a callback runs long.
        self._before = {number: signal.signal(number, self._heard) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    async def guard(self, work: Coroutine[Any, Any, R]) -> R:
        """Await `work`; a signal cancels it."""
        task = asyncio.create_task(work)
        self._task = task
        return await task

    def _heard(self, number: int, _: object) -> None:
        if self._asked and number == signal.SIGINT:
            if os.isatty(STDERR):
                # A progress bar may have hidden the cursor, and nothing else will show it again.
                os.write(STDERR, b"\x1b[?25h")
            os._exit(INTERRUPTED)
        if not self._asked and self._task is None:
            self._asked = True
            raise KeyboardInterrupt
        if not self._asked and self._task is not None and not self._task.done():
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        # Other signals may come in pairs, from a supervisor and its process group.
        self._asked = True
