"""The head of an audit log: a small file beside the log that says how far it goes, so that a cut at the end of the log is noticed.

The head is on the disk before the first entry is, so no crash leaves entries without a head.
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
    """The number of the last entry that was written, and its digest, which stands for all entries."""

    number: int
    digest: str

    @property
    def line(self) -> str:
        """The text of the file, without its line end."""
        return f"{self.number:020} {self.digest}"


def path_of(log: Path) -> Path:
    """Return the path of the head of the log at `log`."""
    return log.with_name(f"{log.name}.head")


def known(log: Path) -> Head | None:
    """Return how far the node says that the log at `log` goes, None if no head says it.  Raises ConfigError if the head is not clear."""
    if not log.name:
        # "." or "/" is a folder; the error comes from whoever opens the log.
        return None
    path = path_of(log)
    try:
        # No symbolic link is followed, as when the head is written.
        with os.fdopen(descriptor(path, os.O_RDONLY | _NO_LINK), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise _unusable(path, fault.strerror) from None
    found = _FORM.fullmatch(data.decode("ascii", "replace"))
    if data and not found:
        raise _unusable(path, "it says something else")
    # An empty file: a crash came between making the file and writing its first text, when the log had no entry.
    return Head(int(found[1]), found[2]) if found else None


class HeadFile:
    """The head file while a node writes the log.  Raises ConfigError if it cannot be opened, OSError if it cannot be written."""

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
        """Write the head in place, always with the same size, so it needs no more room.  It lies within one sector, which disks write
        whole, so a crash leaves the old text or the new one.

        Not waited for: after a loss of power the head may be one entry behind, which is no fault of the log.
        """
        os.pwrite(self._handle, f"{head.line}\n".encode(), 0)

    def keep(self) -> None:
        """Wait until the file is on the disk, with its name."""
        os.fsync(self._handle)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def _unusable(path: Path, why: str | None) -> ConfigError:
    return ConfigError(
        f"{path}: does not say how far the audit log goes ({why}): restore it, as this user's file; or look with `beaver audit verify "
        "--head` for the last entry that you know of, and move this file away: the node then says what to write into a new one"
    )


__all__ = ["Head", "HeadFile", "known", "path_of"]
