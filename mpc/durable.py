"""Files that are complete and on the disk, or absent: keys, rosters, results, copies of the audit log, and what is remembered over
restarts.

Data goes into a hidden file in the same folder (`.beaver-` and 16 digits), is flushed to the disk, and gets its name in one step. Then the
folder is flushed, since a power loss may undo a name in an unflushed folder. So

- a reader finds the old file, the new one or none, never a part, whenever the writer was killed;
- if OSError is raised, as on a full disk or without permission, the old file stays and the hidden one is removed. If only the folder could
  not be flushed, the new file is there all the same;
- a crash may leave the hidden file. Nothing reads it and no later writer needs its name: anyone may delete it;
- a link with the name is never followed: a new file fails on it, and a replacement takes its place without touching its target.

Files are created with `mode`, reduced by the umask of the process. All functions block.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from typing import TYPE_CHECKING, Self

from mpc.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o600
"""Readable and writable only by its owner: the default."""
OWNED = 0o644
"""Writable only by its owner; readable by everyone whom the umask allows."""
PUBLIC = 0o666
"""Readable and writable by everyone whom the umask allows."""


class _Draft:
    """The hidden file, from `with` to its end."""

    def __init__(self, path: Path, mode: int) -> None:
        self.hidden = path.parent / f".beaver-{secrets.token_hex(8)}"
        # Flush at once: a folder that cannot be flushed must not be found out only at the end.
        sync_folder(path.parent)
        self._handle = os.open(self.hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            # A dropped file need not be complete: the reason for dropping it says more than an error on closing it, as on a full network
            # disk.
            with contextlib.suppress(OSError):
                os.close(self._handle)
        self.drop()

    def write(self, data: bytes) -> None:
        """Add `data`."""
        while data:
            data = data[os.write(self._handle, data) :]

    def flush(self) -> None:
        """Flush all data to the disk; nothing more is written."""
        os.fsync(self._handle)
        # Closed before it gets its name, since Windows moves no open file.
        handle, self._handle = self._handle, -1
        os.close(handle)

    def drop(self) -> None:
        """Remove the hidden name, if it still exists; if that fails, it remains as after a crash."""
        with contextlib.suppress(OSError):
            self.hidden.unlink()


class NewFile(_Draft):
    """A new file at `path`, for use with `with`: it does not exist before `finish`, and never overwrites anything of that name.

    OSError if it cannot be made, which is tried at once, or written.
    """

    def __init__(self, path: Path, mode: int = PRIVATE) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        super().__init__(path, mode)
        self._path = path

    def finish(self) -> None:
        """End the file: when this returns, it is on the disk and has its name."""
        self.flush()
        # A second name, not a move: this fails if the name was taken meanwhile.
        os.link(self.hidden, self._path)
        self.drop()
        sync_folder(self._path.parent)


def create(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Create a file that holds `data`; OSError if it cannot be written, FileExistsError if its name is taken."""
    with NewFile(path, mode) as file:
        file.write(data)
        file.finish()


def replace(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Put a file that holds `data` in place of whatever has its name. It keeps the permissions of an old file; `mode` is for a new one.
    OSError if it cannot be written.
    """
    with _Draft(path, mode) as draft:
        with contextlib.suppress(FileNotFoundError):
            # Not `stat`: a link's target may be open to everybody, and a link itself always is.
            before = path.lstat().st_mode
            if stat.S_ISREG(before):
                draft.hidden.chmod(before & 0o777)
        draft.write(data)
        draft.flush()
        draft.hidden.replace(path)
        sync_folder(path.parent)


def descriptor(path: Path, flags: int = os.O_RDONLY, mode: int = PRIVATE) -> int:
    """Open the regular file at `path` and return its descriptor. OSError also if it is no regular file: a pipe without a writer blocks
    nobody.
    """
    # Non-blocking: opening a pipe waits until somebody opens its other end. For a file the flag has no effect.
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0), mode)
    try:
        found = os.fstat(handle).st_mode
        if not stat.S_ISREG(found):
            number = errno.EISDIR if stat.S_ISDIR(found) else errno.EINVAL
            raise OSError(number, os.strerror(number) if stat.S_ISDIR(found) else "not a file", str(path))
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_text(path: Path, encoding: str = "utf-8", *, pipes: bool = False) -> tuple[str, int]:
    """The text of a file, or of a pipe if `pipes` says that waiting for one is acceptable, and the mode of that very file. OSError,
    UnicodeDecodeError.
    """
    with path.open(encoding=encoding) if pipes else os.fdopen(descriptor(path), encoding=encoding) as file:
        # The mode of the open file: by its name, another file could be examined than the one read.
        return file.read(), os.fstat(file.fileno()).st_mode


def unwritable(path: Path | str, fault: OSError) -> ConfigError:
    """The error for a requested file that cannot be made because of `fault`."""
    return ConfigError(f"{path}: cannot be written ({fault.strerror}); make room, or choose another place")


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk; OSError if it cannot be read. Windows has no such call."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as fault:
        # The error of a file system that has nothing to flush for a folder.
        if fault.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


__all__ = ["OWNED", "PRIVATE", "PUBLIC", "NewFile", "create", "descriptor", "read_text", "replace", "sync_folder", "unwritable"]
