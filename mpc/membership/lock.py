"""One node per identity: an operating-system lock, held while the node is open."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from mpc.errors import ConfigError

if sys.platform != "win32":
    import fcntl

_held: set[IdentityLock] = set()


class IdentityLock:
    """An exclusive lock on the key file itself, from `acquire` to `release`; no lock on Windows.

    It locks the key file because that exists already: no second file is left behind, read-only folders of keys work, and every link to the
    key is the same lock. The system drops the lock however the process ends. A copy of the key is another file.
    """

    def __init__(self, key: Path) -> None:
        self.key = key
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock; ConfigError if another node, or a client, holds it."""
        if sys.platform == "win32":
            return
        handle = _open(self.key)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = (
                f"{self.key}: a node or a client with this identity is already running{_holder(handle)}. `beaver run` hands a node a job, "
                "a client ends with its own; or give this program another identity (`beaver keygen`)"
            )
            os.close(handle)
            raise ConfigError(msg) from None
        except OSError as fault:
            os.close(handle)
            logging.getLogger("beaver").warning(
                "%s cannot be locked (%s): nothing here prevents a second node with this identity", self.key, fault.strerror
            )
            return
        self._handle = handle
        _held.add(self)

    def release(self) -> None:
        """Release the lock, if it is held."""
        if sys.platform == "win32" or self._handle is None:
            return
        # Unlock first: a child between fork and exec shares the open file for a moment.
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        self.abandon()
        _held.discard(self)

    def abandon(self) -> None:
        """Close the file in this process only; other processes that share it keep the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _open(key: Path) -> int:
    """Open for writing where possible, since network file systems need that for an exclusive lock; nothing is written."""
    try:
        try:
            return os.open(key, os.O_RDWR)
        except OSError:
            return os.open(key, os.O_RDONLY)
    except OSError as fault:
        msg = f"{key}: cannot be opened ({fault.strerror}); restore this key, or let this user read it"
        raise ConfigError(msg) from None


def _holder(handle: int) -> str:
    """The process that holds the lock, if the system tells."""
    about = os.fstat(handle)
    wanted = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    try:
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    # Number, FLOCK, ADVISORY, WRITE, process, device and inode.
    found = [words[4] for words in map(str.split, lines) if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted]
    if not found or int(found[0]) <= 0:
        return ""
    return " in this process" if int(found[0]) == os.getpid() else f" (process {found[0]})"


def _in_a_forked_child() -> None:
    """Let go of the lock, which is the parent's: a child that lives on must not keep it."""
    for lock in _held:
        lock.abandon()
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_in_a_forked_child)
