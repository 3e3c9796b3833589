"""One process at a time in a folder: what is read, changed and written again there must not be changed meanwhile."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def in_turn(folder: Path) -> Iterator[OSError | None]:
    """Wait until no other process is in its turn in `folder`, and let none begin before this one is done; gives why that cannot be, or None.

    The lock is one of the operating system, on the folder itself: what is in it may not be there yet, or is another file after every change.  The
    system drops it when the process ends, however it ends.  Ask for nothing and wait for nobody inside: all others wait.
    """
    with ExitStack() as held:
        yield _locked(folder, held)


def _locked(folder: Path, held: ExitStack) -> OSError | None:
    if sys.platform == "win32":
        return OSError(errno.ENOTSUP, "folders have no locks here")
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as fault:
        # As of a folder that is not there, or on some network file systems.
        return fault
    return None


__all__ = ["in_turn"]
