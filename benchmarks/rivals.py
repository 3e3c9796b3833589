"""Times of other frameworks and Beaver in one run, by workload.

`python benchmarks/rivals.py SCRIPTS [--only W1,W3] [--parties 2,3] [--json FILE]`.

SCRIPTS is a folder with a launcher `run.sh`.  Called as `run.sh NAME run --parties N --workloads W ...`, it times one workload of the
framework NAME and prints `RESULT {...}` with `seconds_median`.  Frameworks are not part of Beaver; whoever runs this installs them.  All
frameworks time a workload one after the other before the next workload, so that a busy moment of the machine affects all alike.  A
framework that is not installed, or fails, is left out of the row, with the reason on standard error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from mpc.errors import BeaverError
from parties.bench.catalogue import chosen, listed
from parties.bench.machine import machine
from parties.bench.report import line, result, seconds
from parties.bench.runner import BenchmarkError, measure
from parties.run import run


class Framework(NamedTuple):
    """A framework's name for the launcher, and the numbers of parties that it can run."""

    title: str
    name: str
    options: tuple[str, ...]
    parties: tuple[int, ...]


FRAMEWORKS = (
    Framework("CrypTen (plaintext links, dealer process)", "crypten", ("--provider", "TTP"), (2, 3)),
    Framework("SPU SEMI2K (plaintext links, dealer inside a party)", "spu", ("--protocol", "SEMI2K"), (2, 3)),
    Framework("MPyC (plaintext links, honest majority)", "mpyc", (), (3,)),
)
THEIRS = {
    ("W1", 1_000_000): "W1",
    ("W2", 1_000_000): "W2",
    ("W3", 1_000_000): "W3",
    ("W4", 1_000_000): "W4b",
    ("W4", 100_000): "W4a",
    ("W5", 1024): "W5a",
    ("W5-vector", 1000): "W5b",
    ("W6-fixed", 1000): "W6",
    ("W7", 10_000): "W7",
    ("W9", 10_000): "W9",
}
"""The frameworks' name of a workload, by ours and its size."""
PATIENCE = 600.0
PORTS = (21000, 29000)


def timed(scripts: Path, framework: Framework, workload: str, parties: int) -> float | None:
    """Return the median of a framework's own runs in seconds, or None, with a line on standard error, if there is none."""
    first, last = PORTS
    port = str(first + int(time.monotonic() * 100) % (last - first))
    asked = [
        str(scripts / "run.sh"),
        framework.name,
        "run",
        "--parties",
        str(parties),
        "--workloads",
        workload,
        "--port",
        port,
        *framework.options,
    ]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603  the launcher that the caller named
    except (OSError, subprocess.TimeoutExpired) as fault:
        print(f"{framework.name} {workload}, {parties} parties: {fault}", file=sys.stderr)
        return None
    results = [row.removeprefix("RESULT ") for row in done.stdout.splitlines() if row.startswith("RESULT ")]
    if not results:
        print(f"{framework.name} {workload}, {parties} parties: no result; {done.stderr[-300:]}", file=sys.stderr)
        return None
    try:
        return float(json.loads(results[-1])["seconds_median"])
    except (ValueError, LookupError, TypeError, RecursionError):
        print(f"{framework.name} {workload}, {parties} parties: its RESULT is no JSON object with seconds_median", file=sys.stderr)
        return None


def numbers(text: str) -> list[int]:
    """Return the numbers in a comma-separated list."""
    return [int(number) for number in text.split(",")]


def main() -> None:
    """Time all, print the table, and write JSON lines if asked."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("scripts", type=Path)
    options.add_argument("--only", help="our names, with commas between; all by default")
    options.add_argument("--parties", type=numbers, default=[2, 3], help="how many, with commas between")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    if not asked.scripts.is_dir():
        options.error(f"{asked.scripts} is no folder: it has a script for each of {', '.join(each.name for each in FRAMEWORKS)}")
    try:
        every = chosen(listed(asked.only))
    except BeaverError as fault:
        options.error(str(fault))
    workloads = [each for each in every if (each.key, each.size) in THEIRS and each.n in asked.parties]
    table = Table(title="one run on one machine; medians", caption=line(machine()), title_justify="left", caption_justify="left")
    for heading in ("workload", "n", "Beaver", "result", *(framework.name for framework in FRAMEWORKS)):
        table.add_column(heading)
    rows = []
    for workload in workloads:
        try:
            ours = run(measure(workload, repeats=asked.repeats))
        except BenchmarkError as fault:
            print(f"{workload.key}, {workload.n} parties: {fault}", file=sys.stderr)
            continue
        theirs = {
            each.name: timed(asked.scripts, each, THEIRS[workload.key, workload.size], workload.n)
            for each in FRAMEWORKS
            if workload.n in each.parties
        }
        rows.append({"workload": workload.key, "size": workload.size, "parties": workload.n, "beaver": ours.median, **theirs})
        cells = (theirs.get(each.name) for each in FRAMEWORKS)
        table.add_row(
            f"{workload.key} {workload.dimensions}",
            str(workload.n),
            seconds(ours.median),
            result(ours),
            *("-" if cell is None else f"{seconds(cell)} ({cell / ours.median:.2f}x)" for cell in cells),
        )
        print(json.dumps(rows[-1]), file=sys.stderr)
    Console(width=150).print(table)
    for each in FRAMEWORKS:
        print(f"{each.name}: {each.title}")
    if asked.json:
        asked.json.write_text("".join(json.dumps({**row, "machine": machine()}) + "\n" for row in rows))


if __name__ == "__main__":
    main()
