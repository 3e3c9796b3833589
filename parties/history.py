"""What the audit log says of earlier jobs: how many there were, and which columns they used."""

from __future__ import annotations

import time
from collections import Counter, deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parties.entries import Entry

DAY = 86_400.0


class History:
    """Every job that was started, since results may have left from then on.  Small: counts, and the last day's times.

    `unended` are the entries of those that were read and whose end was not.
    """

    def __init__(self) -> None:
        self.unended: dict[str, Entry] = {}
        self._recent: deque[tuple[float, str]] = deque()
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
        """A job starts on `columns` of this organisation's `dataset`."""
        self._recent.append((time.time() if when is None else when, dataset))
        self._ever[dataset] += 1
        for column in columns:
            self._columns[dataset, column] = (self._columns.get((dataset, column), (0, ""))[0] + 1, job)

    def within_a_day(self, dataset: str | None = None) -> int:
        """How many jobs started within the last 24 hours, on all data or on one dataset."""
        while self._recent and self._recent[0][0] < time.time() - DAY:
            self._recent.popleft()
        return sum(dataset in (None, name) for _, name in self._recent)

    def ever(self, dataset: str) -> int:
        """How many jobs ever started on `dataset`."""
        return self._ever[dataset]

    def overlaps(self, dataset: str, columns: Iterable[str]) -> dict[str, dict[str, Any]]:
        """For each of `columns` that earlier jobs used: how many, and the last of them."""
        found = {column: self._columns[dataset, column] for column in columns if (dataset, column) in self._columns}
        return {column: {"jobs": count, "last": last} for column, (count, last) in found.items()}


__all__ = ["History"]
