"""A process that another one of ours started: how long it runs, and how it ends."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from mpc.errors import BeaverError
from parties.run import INTERRUPTED, run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

R = TypeVar("R")


async def attended(work: Coroutine[Any, Any, R], abandoned: Callable[[], object] | None = None) -> R:
    """Run `work`.  The end of standard input (the parent is gone, or needs no more) cancels it, or calls `abandoned` if that is given."""
    part = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), abandoned or part.cancel)
    try:
        return await part
    finally:
        loop.remove_reader(sys.stdin.fileno())


def exit_of(work: Coroutine[Any, Any, None]) -> int:
    """Run `work`.  Return exit status 0, 1 after a fault (printed on standard error), or 130 when stopped."""
    try:
        run(work)
    except BeaverError as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
