"""One process at a time in a folder: nothing that a process reads, changes and writes there may change meanwhile."""

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
    """Wait until no other process is in its turn in `folder`, and let none begin before this turn ends.

    Yields None, or why that is not possible.  The operating system holds the lock, on the folder itself, since a file in it may not exist
    yet and is another file after every change.  The system drops the lock when the process ends, however it ends.  Inside, ask for nothing
    and wait for nobody: all others wait.
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
        # For instance the folder is not there, or is on a network file system without locks.
        return fault
    return None


__all__ = ["in_turn"]
