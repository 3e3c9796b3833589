"""Where the CPU time of each role goes: `python benchmarks/roles.py W4 [--size 1000000] [--parties 2] [--repeats 5]`.

Runs the workload between real processes as `beaver bench` does, each under Python's profiler, and adds up the CPU time inside functions by
their purpose.  The time of the interpreter's C functions counts for their callers.  The profiler makes calls of Python functions more
expensive than they are, so shares of work with many small calls come out too large.  Kernels run on the event loop here, since the profiler
sees only one thread.  *else* includes the start of the process, its data and its check.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mpc import ConfigError
from parties.bench.catalogue import chosen
from parties.bench.runner import measure
from parties.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

PURPOSES = {
    "kernels and numpy": ("mpc/kernels/", "mpc/ops/", "mpc/ring", "mpc/tabular", "mpc/fixed_point", "numpy/"),
    "streams (AES-CTR)": ("mpc/prg", "mpc/naming/streams"),
    "sealing (AES-GCM)": ("mpc/framing/records",),
    "messages": ("mpc/framing/", "mpc/channels/", "mpc/messaging/", "mpc/network/"),
    "sockets and event loop": ("mpc/transport/", "asyncio/", "uvloop", "runners", "selectors", "~"),
    "names and plans": ("mpc/naming/", "mpc/values/", "mpc/preprocessing/", "mpc/canonical", "mpc/session", "mpc/engine", "mpc/ledger"),
}
"""Parts of file names, by the purpose of the code; the first match counts."""


def purpose(file: str) -> str:
    """Return the purpose of a file's code."""
    short = "/".join(Path(file).with_suffix("").parts[-3:])
    return next((title for title, parts in PURPOSES.items() if any(part in short for part in parts)), "else")


def shares(profile: Path) -> dict[str, float]:
    """Return CPU seconds by purpose; the time of C functions counts for their callers."""
    seconds: dict[str, float] = defaultdict(float)
    statistics: Any = pstats.Stats(str(profile))
    for (file, _, _), (_, _, own, _, callers) in statistics.stats.items():
        if file == "~" and callers:
            for (caller, _, _), (_, _, part, _) in callers.items():
                seconds[purpose(caller)] += part
        else:
            seconds[purpose(file)] += own
    return seconds


def at_once(_: ThreadPoolExecutor, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
    """Run work at once instead of in a thread: the profiler sees only one thread."""
    done: Future[Any] = Future()
    done.set_result(work(*arguments, **named))
    return done


def member(folder: str, argv: list[str]) -> int:
    """Run one process of the workload, profiled into `folder`."""
    from parties.bench.member import main  # noqa: PLC0415  the child's own

    ThreadPoolExecutor.submit = at_once  # type: ignore[method-assign, assignment]
    profiler = cProfile.Profile(time.process_time)
    try:
        return profiler.runcall(main, argv)
    finally:
        profiler.dump_stats(Path(folder) / f"{Path(argv[1]).parent.name}-{Path(argv[1]).stem}.prof")


def main() -> None:
    """Run the workload, and print the shares of the first party and of the dealer."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("workload")
    options.add_argument("--size", type=int)
    options.add_argument("--parties", type=int, default=2)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--json", type=argparse.FileType("a"), metavar="FILE", help="add a line")
    asked = options.parse_args()
    try:
        workload = chosen([asked.workload], asked.parties, asked.size)[0]
    except ConfigError as fault:
        options.error(str(fault))
    with tempfile.TemporaryDirectory() as folder:
        figures = run(measure(workload, repeats=asked.repeats, member=(__file__, "--member", folder)))
        found = {("dealer" if "dealer" in file.name else "party"): shares(file) for file in sorted(Path(folder).iterdir(), reverse=True)}
    table = Table(
        title=f"{workload.key}, {workload.dimensions}, {workload.n} parties: {figures.rounds:,} rounds a run", title_justify="left"
    )
    for heading in ("share of CPU time", *found):
        table.add_column(heading, justify="left" if heading.startswith("share") else "right")
    for title in (*PURPOSES, "else"):
        table.add_row(title, *(f"{100 * each[title] / sum(each.values()):.0f} %" for each in found.values()))
    Console(width=120).print(table)
    if asked.json:
        parts = {role: {title: each[title] for title in (*PURPOSES, "else")} for role, each in found.items()}
        print(json.dumps({"workload": workload.key, "size": workload.size, "parties": workload.n, "roles": parts}), file=asked.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--member"]:
        sys.exit(member(sys.argv[2], sys.argv[3:]))
    main()
