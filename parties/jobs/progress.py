"""How far a job is: a bar on a terminal, lines elsewhere, always on standard error; and what there is still to do, from a dry run."""

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
"""What a node tells: see Record.progress."""


class Totals(NamedTuple):
    """Rounds of a job, and bytes to the peer that gets most."""

    rounds: int
    payload: int


class Foresight:
    """The plans of a job's parties, and so the totals of one, from a dry run in a thread of its own: of some programs it takes seconds, of others days.

    They are exact, but where the other parties' rows or columns count: then all are taken to have as many as this one.
    """

    def __init__(self, task: Task) -> None:
        self.plans: list[Plan] | None = None
        self._task = task
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def begin(self, progress: Progress) -> None:
        """Start, once it is known how many rows this party has."""
        if self._thread is None and progress["rows"] is not None:
            # A daemon: nobody waits for it after Ctrl-C.
            self._thread = threading.Thread(target=self._compute, args=(progress["rows"], progress["pool"]), daemon=True)
            self._thread.start()

    def totals(self, progress: Progress, party: str) -> Totals | None:
        """None while they are not known, and when the job of `party` has proved them too low."""
        if self.plans is None:
            return None
        plan = self.plans[self._task.parties.index(party)]
        return Totals(plan.rounds, plan.payload) if progress["rounds"] <= plan.rounds and progress["bytes"] <= plan.payload else None

    def wait(self, seconds: float) -> None:
        """Give it some time."""
        if self._thread is not None:
            self._thread.join(seconds)

    def stop(self) -> None:
        """The job is over: a process that ends must not wait for what is left of the dry run."""
        self._over.set()

    def _compute(self, rows: int, pool: int) -> None:
        task = replace(self._task, pool=pool)
        try:
            self.plans = program(task.protocol).plans(task, len(task.parties), rows, wanted=lambda: not self._over.is_set())
        except (BeaverError, UnwantedError):
            # The job itself tells what is wrong.
            return


def fraction(progress: Progress, totals: Totals | None) -> float | None:
    """How much of a job is done, by rounds or by bytes, whichever is less; None while nobody knows."""
    if progress["phase"] == Done.name:
        return 1.0
    if totals is None:
        return None
    parts: list[float] = [done / all_ for done, all_ in ((progress["rounds"], totals.rounds), (progress["bytes"], totals.payload)) if all_]
    return min([1.0, *parts])


def seconds_left(progress: Progress, done: float | None) -> float | None:
    """How long the rest will take if it goes on as it went."""
    return float(progress["seconds"]) * (1.0 - done) / done if done else None


def described(progress: Progress, totals: Totals | None) -> Progress:
    """What a node tells, with what is to come."""
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
    """The same for people."""
    rounds, size = f"{progress['rounds']:,}", decimal(progress["bytes"])
    if totals is not None:
        rounds, size = f"{rounds}/{totals.rounds:,}", f"{size}/{decimal(totals.payload)}"
    return [f"{rounds} rounds", size, *_left(progress, totals)]


def _left(progress: Progress, totals: Totals | None) -> list[str]:
    left = None if progress["phase"] == Done.name else seconds_left(progress, fraction(progress, totals))
    return [] if left is None else [f"{round(left) // 60}:{round(left) % 60:02} left"]


class Lines:
    """A line for every event and phase, and now and then one for how far a job is: after 1, 2, 4, ... seconds, later every minute."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seen = {Computing.phase}
        self._due = 1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def event(self, text: str) -> None:
        """Something happened."""
        print(f"{time.monotonic() - self._start:7.2f} s  {text}", file=sys.stderr, flush=True)

    def progress(self, progress: Progress, totals: Totals | None) -> None:
        """It is so far."""
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
        """Something happened."""
        self._bars.console.print(text, markup=False, highlight=False)

    def progress(self, progress: Progress, totals: Totals | None) -> None:
        """It is so far."""
        self._bars.start()
        done = fraction(progress, totals)
        figures = "" if progress["rows"] is None else ", ".join(_figures(progress, totals))
        total = None if done is None else 1.0
        self._bars.update(self._bar, description=progress["phase"], total=total, completed=done or 0.0, figures=figures)


def shown() -> Bar | Lines:
    """A bar if standard error is a terminal that can show one, else lines."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal and not console.is_dumb_terminal else Lines()
