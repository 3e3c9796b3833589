"""What the audit log says of earlier jobs: how many there were, and which columns they used."""

from __future__ import annotations

import time
from collections import Counter, deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from parties.entries import Entry

DAY = 86_400.0


class History:
    """Every job that was started, since results may have left from then on.  Small: counts, and for a day the time of each.

    `unended` are the entries of those that were read and whose end was not.

    `clock` is the date, which someone may set wrong for a moment; `elapsed` only goes on.  What starts here counts for a day of `elapsed`; what was
    read counts by its date, and is forgotten after a day of `elapsed` too.  So no date, whatever it is, makes anything forgotten.
    """

    def __init__(self, clock: Callable[[], float] = time.time, elapsed: Callable[[], float] = time.monotonic) -> None:
        self.unended: dict[str, Entry] = {}
        self._clock = clock
        self._elapsed = elapsed
        self._recent: deque[tuple[float, float | None, str]] = deque()
        self._ever: Counter[str] = Counter()
        self._columns: dict[tuple[str, str], tuple[int, str]] = {}

    def read(self, entry: Entry) -> None:
        """Count an entry of the log."""
        if entry["kind"] == "started":
            task = entry["task"]
            self.started(entry["job"], task["dataset"], entry["columns"], datetime.fromisoformat(entry["time"]).timestamp())
            self.unended[entry["job"]] = entry
        elif entry["kind"] == "ended":
            self.unended.pop(entry["job"], None)

    def started(self, job: str, dataset: str, columns: Iterable[str], when: float | None = None) -> None:
        """A job starts on `columns` of this organisation's `dataset`, or started on the date `when`."""
        self._recent.append((self._elapsed(), when, dataset))
        self._ever[dataset] += 1
        for column in columns:
            self._columns[dataset, column] = (self._columns.get((dataset, column), (0, ""))[0] + 1, job)

    def within_a_day(self, dataset: str | None = None) -> int:
        """How many jobs started within the last 24 hours, on all data or on one dataset."""
        while self._recent and self._recent[0][0] <= self._elapsed() - DAY:
            self._recent.popleft()
        yesterday = self._clock() - DAY
        return sum(dataset in (None, name) for _, when, name in self._recent if when is None or when > yesterday)

    def ever(self, dataset: str) -> int:
        """How many jobs ever started on `dataset`."""
        return self._ever[dataset]

    def overlaps(self, dataset: str, columns: Iterable[str]) -> dict[str, dict[str, Any]]:
        """For each of `columns` that earlier jobs used: how many, and the last of them."""
        found = {column: self._columns[dataset, column] for column in columns if (dataset, column) in self._columns}
        return {column: {"jobs": count, "last": last} for column, (count, last) in found.items()}


__all__ = ["History"]
