"""How a reading that nobody waits for any more is told to stop."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class HaltedError(Exception):
    """The reading was told to stop.  Nobody hears of this, since nobody waits for the reading."""


class Halt:
    """A request to stop, which another thread sends to the thread that reads."""

    def __init__(self) -> None:
        self._stopped = False
        self._lock = threading.Lock()
        self._interrupt: Callable[[], object] | None = None

    def stop(self) -> None:
        """Stop the reading, and interrupt what it waits for.  A query that begins at this very moment may miss it: call this again."""
        self._stopped = True
        # Held, so that nothing is interrupted that was closed meanwhile.
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()

    def check(self) -> None:
        """Raise HaltedError if the reading was told to stop."""
        if self._stopped:
            raise HaltedError

    @contextmanager
    def interrupting(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """While the body runs, `interrupt` ends whatever it waits for."""
        with self._lock:
            self._interrupt = interrupt
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._interrupt = None


__all__ = ["Halt", "HaltedError"]
