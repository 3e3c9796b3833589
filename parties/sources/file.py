"""Opening the file of a dataset."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parties.sources.sheet import Sheet


@contextmanager
def opened(path: Path, sheet: Sheet, mode: str, **how: Any) -> Iterator[IO[Any]]:
    """Open the file; an error while it is open is reported without the system's own words about its contents.

    A file that changes meanwhile is refused after reading: what was read is neither its old contents nor its new ones.
    """
    try:
        # A pipe or a device would be waited for without end.
        if path.exists() and not path.is_file():
            sheet.refuse("cannot be read (not a file); correct its path")
        with path.open(mode, **how) as file:
            before = _written(file)
            yield file
            if _written(file) != before:
                sheet.refuse("was changed while it was read; write a new file beside it and give that its name, then run the job again")
    except OSError as fault:
        sheet.refuse(f"cannot be read ({fault.strerror or 'its contents are damaged'}); correct its path, or let this user read it")


def _written(file: IO[Any]) -> tuple[int, int]:
    """Return what differs once somebody has written into the file."""
    about = os.fstat(file.fileno())
    return about.st_size, about.st_mtime_ns
