"""The files of one audit log: the closed ones, NAME.0001 and so on, and the one being written, NAME.

One chain runs through all files, so a missing, moved or shortened file is noticed as a missing line is.  Two renamings close a file; a
reader meanwhile sees the files of one moment.
"""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from typing import IO, TYPE_CHECKING, NamedTuple

from mpc.errors import ConfigError
from parties.auditing.head import known

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Line(NamedTuple):
    """A line without its line end, its place, and whether it is whole."""

    file: Path
    number: int
    data: bytes
    whole: bool

    @property
    def place(self) -> str:
        """The place of the line, for errors."""
        return f"{self.file}, line {self.number}"


def volume(log: Path, number: int) -> Path:
    """Return the path of the closed file of this number."""
    return log.with_name(f"{log.name}.{number:04}")


def closed(log: Path) -> dict[int, Path]:
    """Return the closed files by number, in order.  An empty file is not one: a closed file ends with the entry that closes it."""
    numbers = [int(path.name[len(log.name) + 1 :]) for path in log.parent.iterdir() if _numbered(log, path)]
    return {number: path for number in sorted(numbers) if (path := volume(log, number)).exists() and path.stat().st_size}


def _numbered(log: Path, path: Path) -> bool:
    return path.name.startswith(f"{log.name}.") and re.fullmatch("[0-9]{4,}", path.name[len(log.name) + 1 :]) is not None


def lines(path: Path, file: IO[bytes]) -> Iterator[Line]:
    """Yield every line of a file of a log."""
    for number, line in enumerate(file, 1):
        # A crash may leave blocks that were never written: no entry holds a zero byte.
        yield Line(path, number, line.removesuffix(b"\n"), line.endswith(b"\n") and b"\0" not in line)


def lines_of_closed(log: Path) -> Iterator[Line]:
    """Yield every line of the closed files, in order."""
    for path in closed(log).values():
        yield from _lines_at(path)


def last_of_closed(log: Path) -> Line | None:
    """Return the last line of the last closed file, or None."""
    last: deque[Line] = deque(maxlen=1)
    for path in list(closed(log).values())[-1:]:
        last.extend(_lines_at(path))
    return last[0] if last else None


def _lines_at(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        yield from lines(path, file)


def lines_of(log: Path) -> Iterator[Line]:
    """Yield every line of a log in order, whether a node is writing it or not.  Raises ConfigError if the log cannot be read."""
    try:
        before, last = _at_one_moment(log)
        try:
            for path in before:
                yield from _lines_at(path)
            if last is not None:
                yield from lines(log, last)
        finally:
            if last is not None:
                last.close()
    except OSError as fault:
        more = "correct the path, or this user's rights"
        if isinstance(fault, FileNotFoundError):
            more = "it was there before: restore it" if known(log) else "the node of a party makes it when it first starts"
        msg = f"{fault.filename or log}: no audit log can be read there ({fault.strerror}); {more}"
        raise ConfigError(msg) from None


def _at_one_moment(log: Path) -> tuple[list[Path], IO[bytes] | None]:
    """Return the closed files, and the file after them, open; None for it if a crash, or this very moment, is between two renamings."""
    while True:
        before = list(closed(log).values())
        try:
            last = log.open("rb")
        except FileNotFoundError:
            last = None
            # The only file there was may have been closed since, and so have another name.
            if not before and not closed(log):
                raise
        if list(closed(log).values()) == before:
            return before, last
        if last is not None:
            last.close()


def lock(handle: int, path: Path) -> None:
    """Lock the open file at `path` for this process alone.  Raises ConfigError if another process writes the log."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other process may have closed the file since it was opened here: then the locked file is no longer the last one of the log.
        taken = os.path.samestat(os.fstat(handle), path.stat())
    except BlockingIOError:
        taken = False
    if not taken:
        msg = f"{path}: another node writes this audit log; every node needs its own, set `audit` in the configuration"
        raise ConfigError(msg)


__all__ = ["Line", "closed", "last_of_closed", "lines", "lines_of", "lines_of_closed", "lock", "volume"]
