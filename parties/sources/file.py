"""Opening the file of a dataset."""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parties.sources.sheet import Sheet


@contextmanager
def opened(path: Path, sheet: Sheet, mode: str, **how: Any) -> Iterator[IO[Any]]:
    """The open file; whatever fails while it is open and read is told without the system's own words about its contents."""
    try:
        # A pipe or a device would be waited for without end.
        if path.exists() and not path.is_file():
            sheet.refuse("cannot be read (not a file)")
        with path.open(mode, **how) as file:
            yield file
    except OSError as fault:
        sheet.refuse(f"cannot be read ({fault.strerror or 'its contents are damaged'})")
