"""The progress of a job, always on standard error: a bar on a terminal, lines elsewhere.  A dry run tells what is still to do."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from mpc.errors import BeaverError
from parties.jobs.states import REVEALING, Computing, Done
from parties.programs import program
from parties.programs.dry import UnwantedError

if TYPE_CHECKING:
    from mpc import Plan
    from parties.jobs.job import Task

Progress = dict[str, Any]
"""What a node reports: see Record.progress."""


class Totals(NamedTuple):
    """All rounds of a job, and all bytes to the peer that gets most."""

    rounds: int
    payload: int


class Foresight:
    """The plans of a job's parties and the totals of each, from a dry run in a thread of its own: a dry run takes seconds for some
    programs, days for others.

    The totals are exact unless the other parties' rows or columns count.  Then every party is taken to have as many as this one.
    """

    def __init__(self, task: Task) -> None:
        self.plans: list[Plan] | None = None
        self._task = task
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def begin(self, progress: Progress) -> None:
        """Start the dry run once it is known how many rows this party has."""
        if self._thread is None and progress["rows"] is not None:
            # A daemon thread: nobody waits for it after Ctrl-C.
            self._thread = threading.Thread(target=self._compute, args=(progress["rows"], progress["pool"]), daemon=True)
            self._thread.start()

    def totals(self, progress: Progress, party: str) -> Totals | None:
        """Return the totals of `party`, or None while they are unknown, and once its job has exceeded them."""
        if self.plans is None:
            return None
        plan = self.plans[self._task.parties.index(party)]
        return Totals(plan.rounds, plan.payload) if progress["rounds"] <= plan.rounds and progress["bytes"] <= plan.payload else None

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for the dry run."""
        if self._thread is not None:
            self._thread.join(seconds)

    def stop(self) -> None:
        """End the dry run because the job is over: a process that ends must not wait for the rest of it."""
        self._over.set()

    def _compute(self, rows: int, pool: int) -> None:
        task = replace(self._task, pool=pool)
        try:
            self.plans = program(task.protocol).plans(task, len(task.parties), rows, wanted=lambda: not self._over.is_set())
        except (BeaverError, UnwantedError):
            # The job itself reports what is wrong.
            return


def fraction(progress: Progress, totals: Totals | None) -> float | None:
    """Return how much of a job is done, by rounds or by bytes, whichever is less; None while the totals are unknown."""
    if progress["phase"] == Done.name:
        return 1.0
    if totals is None:
        return None
    parts: list[float] = [done / all_ for done, all_ in ((progress["rounds"], totals.rounds), (progress["bytes"], totals.payload)) if all_]
    return min([1.0, *parts])


def seconds_left(progress: Progress, done: float | None) -> float | None:
    """Return how long the rest will take at the pace so far, or None while the pace is unknown."""
    return float(progress["seconds"]) * (1.0 - done) / done if done else None


def described(progress: Progress, totals: Totals | None) -> Progress:
    """Return what a node reports, with what is still to do."""
    done = fraction(progress, totals)
    left = seconds_left(progress, done)
    return {
        **progress,
        "planned_rounds": None if totals is None else totals.rounds,
        "planned_bytes": None if totals is None else totals.payload,
        "done": None if done is None else round(done, 4),
        "seconds_left": None if left is None else round(left, 1),
    }


def _figures(progress: Progress, totals: Totals | None) -> list[str]:
    """Return rounds, bytes and time left as text."""
    rounds, size = f"{progress['rounds']:,}", decimal(progress["bytes"])
    if totals is not None:
        rounds, size = f"{rounds}/{totals.rounds:,}", f"{size}/{decimal(totals.payload)}"
    return [f"{rounds} rounds", size, *_left(progress, totals)]


def _left(progress: Progress, totals: Totals | None) -> list[str]:
    left = None if progress["phase"] == Done.name else seconds_left(progress, fraction(progress, totals))
    return [] if left is None else [f"{round(left) // 60}:{round(left) % 60:02} left"]


class Lines:
    """A line for every event and phase, and lines for the progress within a phase: after 1, 2, 4, ... seconds, later every minute."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seen = {Computing.phase}
        self._due = 1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: nothing is open."""

    def event(self, text: str) -> None:
        """Print a line for an event."""
        print(f"{time.monotonic() - self._start:7.2f} s  {text}", file=sys.stderr, flush=True)

    def progress(self, progress: Progress, totals: Totals | None) -> None:
        """Print a line for the progress if one is due."""
        phase, seconds = progress["phase"], progress["seconds"]
        if phase not in (Computing.phase, REVEALING, Done.name) or (phase in self._seen and seconds < self._due):
            return
        self._seen.add(phase)
        if seconds >= self._due:
            self._due += min(self._due, 60.0)
        figures = f"{progress['rounds']} rounds, {progress['bytes']} bytes to each peer"
        if phase == Done.name:
            self.event(f"done: {figures}")
        else:
            done = fraction(progress, totals)
            parts = [phase, *([] if done is None else [f"{done:.0%}"]), *_left(progress, totals)]
            self.event(f"running: {figures} ({', '.join(parts)})")


class Bar:
    """Lines for events, and below them a bar that moves."""

    def __init__(self, console: Console) -> None:
        figures = TextColumn("{task.fields[figures]}", markup=False)
        self._bars = Bars(TextColumn("{task.description}", markup=False), BarColumn(None), figures, console=console, expand=True)
        self._bar = self._bars.add_task("", total=None, figures="")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def event(self, text: str) -> None:
        """Print a line for an event."""
        self._bars.console.print(text, markup=False, highlight=False)

    def progress(self, progress: Progress, totals: Totals | None) -> None:
        """Move the bar."""
        self._bars.start()
        done = fraction(progress, totals)
        figures = "" if progress["rows"] is None else ", ".join(_figures(progress, totals))
        total = None if done is None else 1.0
        self._bars.update(self._bar, description=progress["phase"], total=total, completed=done or 0.0, figures=figures)


def shown() -> Bar | Lines:
    """Return a bar if standard error is a terminal that can show one, else lines."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal and not console.is_dumb_terminal else Lines()
