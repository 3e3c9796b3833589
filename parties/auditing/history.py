"""What the audit log says about earlier jobs: how many there were, which columns they used, and how many rows."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from parties.auditing.entries import ALTERED, ENDED, NOT_WRITTEN, STARTED
from parties.programs import tells_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from parties.auditing.entries import Entry

DAY = 86_400.0
AHEAD = 60.0
"""Seconds by which a clock may have been set back since an entry got its time, without a warning."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a job used of this party: `rows` rows of the declared `columns`.

    `learners` are the other members that learn something about them.
    """

    job: str
    asker: str
    when: float
    protocol: str
    dataset: str
    columns: frozenset[str]
    learners: frozenset[str]
    rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """All texts of the use."""
        return (self.job, self.asker, self.protocol, self.dataset, *self.columns, *self.learners)

    def near(self, other: Use, least: int) -> bool:
        """Return whether someone learns about common columns from both, and the numbers of rows differ by 1 to `least` - 1."""
        alike = self.dataset == other.dataset and not self.columns.isdisjoint(other.columns)
        return alike and not self.learners.isdisjoint(other.learners) and 0 < abs(self.rows - other.rows) < least


def used(about: Entry, rows: int, when: float) -> Use:
    """Return what a job used, from `about`, which has the fields of the entry of its start."""
    task = about["task"]
    given = task["client"]["rows"] if "client" in task else 0
    learners = {*(task["to"] or task["parties"]), *(task["parties"] if tells_all(task["protocol"], given) else ())} - {about["member"]}
    columns = frozenset(about["columns"])
    return Use(about["job"], about["asker"], when, task["protocol"], task["dataset"], columns, frozenset(learners), rows)


def _seconds(time: str) -> float:
    """Return the time of an entry in seconds since 1970.  Raises OverflowError if it has no time in UTC."""
    return datetime.fromisoformat(time).astimezone(UTC).timestamp()


class History:
    """Every job that was started, since results may have left from then on.  It stays small: counts, and for a day the time of each job.

    `unended` has the start entries that were read and whose end was not.

    `clock` gives the date, which someone may set wrong for a moment; `elapsed` only goes forward.  A job that starts here counts for a day
    of `elapsed`.  A job that was read counts by its date, and is also forgotten after a day of `elapsed`.  So no date, whatever it is,
    makes a job forgotten.
    """

    def __init__(self, clock: Callable[[], float] = time.time, elapsed: Callable[[], float] = time.monotonic) -> None:
        self.unended: dict[str, Entry] = {}
        self._clock = clock
        self._elapsed = elapsed
        self._recent: deque[tuple[float, float | None, str]] = deque()
        self._ever: Counter[str] = Counter()
        self._columns: dict[tuple[str, str], tuple[int, str]] = {}
        self._starting: dict[str, tuple[str, frozenset[str]]] = {}
        self._running: dict[str, Use] = {}
        self._uses: dict[tuple[str, int], dict[tuple[object, ...], tuple[int, Use]]] = {}
        self._numbers = count()

    def read(self, entry: Entry) -> Use | None:
        """Count an entry of the log.  If it ends a job from which something may have left, return what that job used, else None.

        Raises ValueError if no node writes such an entry.
        """
        try:
            return self._read(entry)
        except NOT_WRITTEN:
            raise ValueError(ALTERED) from None

    def _read(self, entry: Entry) -> Use | None:
        if entry["kind"] == STARTED:
            task = entry["task"]
            self.started(entry["job"], task["dataset"], entry["columns"], _seconds(entry["time"]))
            self.unended[entry["job"]] = entry
        elif entry["kind"] == ENDED:
            start = self.unended.pop(entry["job"], None)
            if start is not None and entry.get("rows") is not None:
                use = used(start, entry["rows"], _seconds(start["time"]))
                if type(use.rows) is not int or not all(isinstance(name, str) for name in use.names):
                    raise TypeError(use)
                self.begins(use)
                return self.ends(use.job, left=bool(entry["released"]))
        return None

    def starting(self, job: str, dataset: str, columns: Iterable[str]) -> None:
        """Count a job whose start is being written, so that two of them do not both pass for the last one allowed.

        `started` or `unstarted` follows.
        """
        self._starting[job] = dataset, frozenset(columns)

    def unstarted(self, job: str) -> None:
        """Take back the count of a job whose start could not be written."""
        del self._starting[job]

    def started(self, job: str, dataset: str, columns: Iterable[str], when: float | None = None) -> None:
        """Count a job on `columns` of this organisation's `dataset` that starts now, or started on the date `when`."""
        self._starting.pop(job, None)
        self._recent.append((self._elapsed(), when, dataset))
        self._ever[dataset] += 1
        for column in columns:
            self._columns[dataset, column] = (self._columns.get((dataset, column), (0, ""))[0] + 1, job)

    def within_a_day(self, dataset: str | None = None) -> int:
        """Return how many jobs started within the last 24 hours, on all data or on one dataset."""
        while self._recent and self._recent[0][0] <= self._elapsed() - DAY:
            self._recent.popleft()
        yesterday = self._clock() - DAY
        recent = (name for _, when, name in self._recent if when is None or when > yesterday)
        return sum(dataset in (None, name) for name in chain(recent, self._datasets))

    @property
    def warning(self) -> str:
        """What the log should say about jobs with dates in the future; empty if there are none.

        Such jobs count, since no date makes a job forgotten.  They count again after each start of a node until their dates have passed.
        """
        dates = [when for _, when, _ in self._recent if when is not None and when > self._clock() + AHEAD]
        if not dates:
            return ""
        return (
            f"the audit log has {len(dates)} job(s) that started on dates to come, the last "
            f"{datetime.fromtimestamp(max(dates), UTC):%Y-%m-%d %H:%M} UTC: the clock was wrong then, or is now. Limits of jobs in a day "
            "count them until this node has run for 24 hours"
        )

    @property
    def _datasets(self) -> list[str]:
        """The datasets of the jobs whose start is being written."""
        return [dataset for dataset, _ in self._starting.values()]

    def ever(self, dataset: str) -> int:
        """Return how many jobs ever started on `dataset`."""
        return self._ever[dataset] + self._datasets.count(dataset)

    def overlaps(self, dataset: str, columns: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return, for each of `columns` that earlier jobs used, how many there were and the last of them."""
        found = {}
        for column in columns:
            jobs, last = self._columns.get((dataset, column), (0, ""))
            beside = [job for job, (name, used) in self._starting.items() if name == dataset and column in used]
            if jobs or beside:
                found[column] = {"jobs": jobs + len(beside), "last": [last, *beside][-1]}
        return found

    def begins(self, use: Use) -> None:
        """Count a job that is about to share rows of this party.  Of two jobs that run side by side, each sees the other."""
        self._running[use.job] = use

    def ends(self, job: str, *, left: bool) -> Use | None:
        """End a job.  If something may have left, the job still counts and is returned.  A job that did not begin is not counted."""
        use = self._running.pop(job, None)
        if use is None or not left:
            return None
        # Only the last use is kept for each number of rows, columns and learners: few, however many jobs there were.
        self._uses.setdefault((use.dataset, use.rows), {})[use.columns, use.learners] = next(self._numbers), use
        return use

    def near(self, use: Use, least: int) -> list[Use]:
        """Return the jobs whose number of rows differs from that of `use` by fewer than `least` but not by 0; for each number, the last."""
        numbers: Iterable[int] = range(use.rows - least + 1, use.rows + least)
        if len(self._uses) < 2 * least:
            numbers = {rows for _, rows in self._uses}
        found = [each for rows in numbers for each in self._uses.get((use.dataset, rows), {}).values()]
        ended = [earlier for _, earlier in sorted(found, key=itemgetter(0))]
        return [earlier for earlier in (*ended, *self._running.values()) if earlier.near(use, least)]


__all__ = ["DAY", "History", "Use", "used"]
