"""How a long kernel ends early: between its steps it checks whether anybody still waits for its thread's result."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class HaltedError(Exception):
    """Raised in a kernel that is halted; nobody sees it, since nobody waits."""


_over: ContextVar[Callable[[], bool]] = ContextVar("over", default=lambda: False)


def halt_when(over: Callable[[], bool]) -> None:
    """Halt kernels of this context, such as those of one thread, once `over()` is true; by default none halts."""
    _over.set(over)


def check_halted() -> None:
    """Raise HaltedError if nobody waits any more."""
    if _over.get()():
        raise HaltedError
