"""How a long kernel ends early: it looks between its steps whether anybody still waits for what its thread computes."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class HaltedError(Exception):
    """Nobody hears of this, since nobody waits."""


_over: ContextVar[Callable[[], bool]] = ContextVar("over", default=lambda: False)


def halt_when(over: Callable[[], bool]) -> None:
    """Kernels of this context, such as those of one thread, halt from the moment that `over()` is true; else none ever does."""
    _over.set(over)


def hear() -> None:
    """Raise HaltedError if nobody waits any more."""
    if _over.get()():
        raise HaltedError
