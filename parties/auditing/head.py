"""How far an audit log goes, in a small file beside it: so that entries which somebody cuts off at its end are missed.

It is on the disk before the first entry is, so no crash leaves entries without it.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from mpc.durable import descriptor, sync_folder
from mpc.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_NO_LINK = os.O_NOFOLLOW if sys.platform != "win32" else 0
_FORM = re.compile(r"([0-9]{20}) ([0-9a-f]{64})\n")


class Head(NamedTuple):
    """The number of the last entry that was written, and its digest, which stands for all."""

    number: int
    digest: str

    @property
    def line(self) -> str:
        """What the file says, without its line end."""
        return f"{self.number:020} {self.digest}"


def path_of(log: Path) -> Path:
    """Where the head of the log at `log` is."""
    return log.with_name(f"{log.name}.head")


def known(log: Path) -> Head | None:
    """How far the node says that the log at `log` goes, None if nothing says it; ConfigError if the file says nothing clear."""
    if not log.name:
        # "." or "/": a folder, as whoever opens the log says.
        return None
    path = path_of(log)
    try:
        # No link, as for who writes it.
        with os.fdopen(descriptor(path, os.O_RDONLY | _NO_LINK), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise _unusable(path, fault.strerror) from None
    found = _FORM.fullmatch(data.decode("ascii", "replace"))
    if data and not found:
        raise _unusable(path, "it says something else")
    # Empty: a crash came between the file and its first text, when the log had no entry.
    return Head(int(found[1]), found[2]) if found else None


class HeadFile:
    """The file while a node writes the log.  ConfigError if it cannot be opened; OSError if it cannot be written."""

    def __init__(self, log: Path) -> None:
        self._path = path = path_of(log)
        try:
            self._handle = descriptor(path, os.O_WRONLY | os.O_CREAT | _NO_LINK, 0o600)
        except OSError as fault:
            raise _unusable(path, fault.strerror) from None
        try:
            os.fchmod(self._handle, 0o600)
        except OSError as fault:
            self.close()
            raise _unusable(path, fault.strerror) from None

    def write(self, head: Head) -> None:
        """In place and always of one size: it needs no more room, and as it lies within one sector, which disks write whole, a crash leaves the old text or the new one.

        Not waited for: what a loss of power leaves out makes it an entry older, which is no fault of the log.
        """
        os.pwrite(self._handle, f"{head.line}\n".encode(), 0)

    def keep(self) -> None:
        """Wait until it is on the disk, with its name."""
        os.fsync(self._handle)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Give it back."""
        os.close(self._handle)


def _unusable(path: Path, why: str | None) -> ConfigError:
    return ConfigError(
        f"{path}: does not say how far the audit log goes ({why}): restore it, as this user's file; or look with `beaver audit verify --head` for the last entry "
        "that you know of, and move this file away: the node then says what to write into a new one"
    )


__all__ = ["Head", "HeadFile", "known", "path_of"]
