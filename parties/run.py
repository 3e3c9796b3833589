"""How Beaver's own processes run: on uvloop where it exists, ended cleanly by SIGTERM and Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

R = TypeVar("R")

INTERRUPTED = 130
"""Exit status after Ctrl-C or SIGTERM: 128 + SIGINT, as shells have it."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, except on Windows, where it does not exist."""
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415  absent on Windows

    return uvloop.new_event_loop


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run `work` to its end.  SIGTERM and SIGINT cancel it, so that every `async with` closes; then KeyboardInterrupt is raised."""

    async def guarded() -> R:
        task = asyncio.ensure_future(work)
        if sys.platform != "win32":
            # Both, explicitly: a process that a script started in the background would otherwise ignore SIGINT.
            # A closed terminal too, unless nohup asked otherwise: temporary keys must not stay behind.
            hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
            for number in (signal.SIGTERM, signal.SIGINT, *hangup):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            return runner.run(guarded())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
