"""Pairs of jobs in an audit log that used nearly the same rows of this party.

Whoever learned both results can subtract them, and learns something about the few rows by which the jobs differ.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from parties.auditing.audit import changed
from parties.auditing.entries import Chain
from parties.auditing.history import History
from parties.auditing.volumes import lines_of
from parties.logs import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parties.auditing.history import Use

    Pair = tuple[Use, Use]

HEADINGS = ("jobs", "started (UTC)", "asked by", "protocol", "rows", "difference", "dataset: columns", "learned by")


def pairs(log: Path, least: int) -> Iterator[Pair]:
    """Yield each job with every earlier one whose number of rows differs by fewer than `least` but not by 0.
    Of earlier jobs with equal numbers, only the last is paired.

    Raises ConfigError if the log cannot be read or is not in order: a missing entry may belong to such a pair.
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
    """Return a pair in its JSON form."""
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


def cells(pair: Pair) -> tuple[str, ...]:
    """Return a pair as text for a table under HEADINGS: one row, with a line for each of its jobs."""
    told = as_object(pair)
    jobs = ("\n".join(printable(str(job[key])) for job in told["jobs"]) for key in ("id", "time", "asker", "protocol", "rows"))
    about = printable(f"{told['dataset']}: {', '.join(told['columns'])}")
    return (*jobs, f"{told['difference']:+}", about, printable(", ".join(told["learned_by"])))


__all__ = ["HEADINGS", "as_object", "cells", "pairs"]
