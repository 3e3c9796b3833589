"""One command at a time changes the rosters of a folder: what is read, changed and written again must not be changed meanwhile."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def in_turn(roster: Path) -> Iterator[None]:
    """Wait until no other command changes a roster beside `roster`, and let none begin before this one is done; nothing on Windows.

    The lock is one of the operating system, on the folder: the roster may not be there yet, and is another file after every change.  The
    system drops it when the process ends, however it ends.  Ask for nothing and wait for nobody inside: all others wait.
    """
    if sys.platform == "win32" or not roster.parent.is_dir():
        yield
        return
    handle = os.open(roster.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as fault:
            # As of some network file systems, which lock only what is open for writing.
            print(
                f"Beware: {roster.parent} cannot be locked ({fault.strerror}); let no other command change {roster} now.", file=sys.stderr
            )
        yield
    finally:
        os.close(handle)


__all__ = ["in_turn"]
