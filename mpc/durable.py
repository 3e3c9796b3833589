"""Files that are whole and on the disk, or not there, and that are read as they are found: keys, rosters, results, copies of the audit log, and what is remembered over restarts.

What is written goes into a hidden file beside (`.beaver-` and 16 digits), is flushed to the disk, and gets its name in one step; then the folder is flushed, since
a loss of power may take a name that is in no flushed folder.  So

- whoever reads, and whenever the writer was killed, finds the old file, the new one or none, and never a part;
- where OSError is raised, as on a full disk or in a folder that may not be written or read, the old file stays and the hidden one is removed.  If the
  folder alone could not be flushed, the new file is there all the same;
- a crash may leave the hidden file.  Nothing reads it, and no later writer is in its way: anyone may delete it;
- a link that has the name is never followed: it is in the way of a new file, and a replacement takes its place, with nothing of what it leads to.

Files are created with `mode`, reduced by the umask of the process.  All of this blocks.
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
"""For its owner only, which is how a file is unless another mode is given."""
OWNED = 0o644
"""For its owner only to write, and for whomever the umask lets read it."""
PUBLIC = 0o666
"""For whomever the umask lets read and write it."""


class _Draft:
    """The hidden file, between `with` and its end."""

    def __init__(self, path: Path, mode: int) -> None:
        self.hidden = path.parent / f".beaver-{secrets.token_hex(8)}"
        # Tried at once: what cannot be flushed in the end must not be found out in the end.
        sync_folder(path.parent)
        self._handle = os.open(self.hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            # What is dropped need not be whole: why it is dropped says more than that it cannot be closed either, as on a network's disk that is full.
            with contextlib.suppress(OSError):
                os.close(self._handle)
        self.drop()

    def write(self, data: bytes) -> None:
        """Add `data`."""
        while data:
            data = data[os.write(self._handle, data) :]

    def flush(self) -> None:
        """Nothing more comes, and all is on the disk."""
        os.fsync(self._handle)
        # Before it is named, since Windows moves no open file.
        handle, self._handle = self._handle, -1
        os.close(handle)

    def drop(self) -> None:
        """Take away the hidden name, if it is there still; where that cannot be, it is what a crash would leave."""
        with contextlib.suppress(OSError):
            self.hidden.unlink()


class NewFile(_Draft):
    """A new file at `path`, to use with `with`: nothing is there before `finish`, and nothing that has that name is ever overwritten.

    OSError where it cannot be made, which is tried at once, or written.
    """

    def __init__(self, path: Path, mode: int = PRIVATE) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        super().__init__(path, mode)
        self._path = path

    def finish(self) -> None:
        """Nothing more comes: it is on the disk and has its name when this returns."""
        self.flush()
        # A second name and not a move: it fails where the name was taken meanwhile.
        os.link(self.hidden, self._path)
        self.drop()
        sync_folder(self._path.parent)


def create(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """A new file that holds `data`; OSError if it cannot be written, FileExistsError if anything has its name."""
    with NewFile(path, mode) as file:
        file.write(data)
        file.finish()


def replace(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """A file that holds `data` in place of what has its name.  It keeps the permissions of a file, `mode` is for one that is new.  OSError if it cannot be written."""
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
    """Open the regular file at `path`; its descriptor.  OSError, also for what is no file: a pipe, in which nobody may ever write, holds nobody up."""
    # Without waiting: to open a pipe takes until somebody opens its other end.  Of a file it means nothing.
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
    """The text of a file, or of a pipe where `pipes` says that somebody may wait for it, and the mode of that very file.  OSError, UnicodeDecodeError."""
    with path.open(encoding=encoding) if pipes else os.fdopen(descriptor(path), encoding=encoding) as file:
        # Asked of what is open: by its name, another file could be asked for than is read.
        return file.read(), os.fstat(file.fileno()).st_mode


def unwritable(path: Path | str, fault: OSError) -> ConfigError:
    """What to say where a file that someone asked for cannot be made, because of `fault`."""
    return ConfigError(f"{path}: cannot be written ({fault.strerror}); make room, or choose another place")


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk; OSError if it cannot be read.  Windows has no such call."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as fault:
        # The word of a file system that has nothing to flush for a folder.
        if fault.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


__all__ = ["OWNED", "PRIVATE", "PUBLIC", "NewFile", "create", "descriptor", "read_text", "replace", "sync_folder", "unwritable"]
