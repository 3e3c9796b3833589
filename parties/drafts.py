"""A new file that has its name only when it is whole."""

from __future__ import annotations

import errno
import os
import secrets
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


class Draft:
    """A new file at `path` (0600), to use with `with`: nothing is there before `finish`, and nothing is ever overwritten.

    OSError where it cannot be made, which is tried at once, or written.
    """

    def __init__(self, path: Path) -> None:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._path = path
        self._draft = path.parent / f".beaver-{secrets.token_hex(8)}"
        self._handle = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)
        self._draft.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Add `data`."""
        while data:
            data = data[os.write(self._handle, data) :]

    def finish(self) -> None:
        """Nothing more comes: it is on the disk and has its name when this returns."""
        os.fsync(self._handle)
        # A second name and not a move: it fails where the name was taken meanwhile.
        os.link(self._draft, self._path)


__all__ = ["Draft"]
