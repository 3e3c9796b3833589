"""Pairs of jobs in an audit log whose rows of this party differ by few: whoever learned of both can subtract, and learns about these few."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from parties.auditing.audit import changed
from parties.auditing.entries import Chain
from parties.auditing.history import History
from parties.auditing.volumes import lines_of
from parties.logs import printable
from parties.tables import grid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rich.table import Table as Grid

    from parties.auditing.history import Use

    Pair = tuple[Use, Use]


def pairs(log: Path, least: int) -> Iterator[Pair]:
    """Each job with those before it whose rows differ by fewer than `least`, and not by none; of those with equal numbers the last.

    ConfigError if the log cannot be read, or is not in order: what it lacks may be in such a pair.
    """
    chain, history = Chain(), History()
    for line in lines_of(log):
        if not line.whole:
            continue
        try:
            use = history.read(chain.take(line.data))
        except ValueError as fault:
            raise changed(line, str(fault)) from None
        if use is not None:
            yield from ((earlier, use) for earlier in history.near(use, least))


def as_object(pair: Pair) -> dict[str, Any]:
    """A pair as JSON has it."""
    earlier, later = pair
    return {
        "dataset": later.dataset,
        "columns": sorted(earlier.columns & later.columns),
        "learned_by": sorted(earlier.learners & later.learners),
        "difference": later.rows - earlier.rows,
        "jobs": [_described(use) for use in pair],
    }


def _described(use: Use) -> dict[str, Any]:
    time = datetime.fromtimestamp(use.when, UTC).isoformat(timespec="seconds")
    return {"id": use.job, "time": time, "asker": use.asker, "protocol": use.protocol, "rows": use.rows}


def table(found: Iterable[Pair]) -> Grid:
    """Pairs for people: one row for each, with a line for each of its jobs."""
    listed = grid("jobs", "started (UTC)", "asked by", "protocol", "rows", "difference", "dataset: columns", "learned by", ids="jobs")
    for pair in map(as_object, found):
        jobs = ("\n".join(printable(str(job[key])) for job in pair["jobs"]) for key in ("id", "time", "asker", "protocol", "rows"))
        about = printable(f"{pair['dataset']}: {', '.join(pair['columns'])}")
        listed.add_row(*map(escape, (*jobs, f"{pair['difference']:+}", about, printable(", ".join(pair["learned_by"])))))
    return listed


__all__ = ["as_object", "pairs", "table"]
