"""How a reading is told to stop that nobody waits for any more."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class HaltedError(Exception):
    """The reading was told to stop: nobody hears of this, since nobody waits for it."""


class Halt:
    """Heard by the thread that reads, told by another one."""

    def __init__(self) -> None:
        self._told = False
        self._lock = threading.Lock()
        self._interrupt: Callable[[], object] | None = None

    def tell(self) -> None:
        """Stop the reading, and interrupt what it waits for.  A query that begins at this very moment may miss it: tell it again."""
        self._told = True
        # Under the lock, so that nothing is interrupted that was closed meanwhile.
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()

    def hear(self) -> None:
        """Raise HaltedError if it shall stop."""
        if self._told:
            raise HaltedError

    @contextmanager
    def interrupting(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """While the body runs, `interrupt` ends whatever it waits for."""
        with self._lock:
            self._interrupt = interrupt
        try:
            self.hear()
            yield
        finally:
            with self._lock:
                self._interrupt = None


__all__ = ["Halt", "HaltedError"]
