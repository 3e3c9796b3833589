"""How time, memory and bytes grow with the number of elements and of parties: `python benchmarks/scale.py`, or `make scale`.

W1 and W3 to 10^8 elements and W4 to 10^7, between two parties; then W1, W3 and W4 with 10^6 elements among two to ten.
`--max 1e6` stays smaller.  Prints the tables; `--json FILE` writes a line for every measurement, `--plot FILE` draws them (extra `bench`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Grid

from parties.bench import picture
from parties.bench.catalogue import WORKLOADS
from parties.bench.machine import machine
from parties.bench.report import line, multiple, result, seconds, size
from parties.bench.runner import measure
from parties.run import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parties.bench.figures import Figures

LARGEST = {"W1": 10**8, "W3": 10**8, "W4": 10**7}
SMALLEST = 10**4
CROWDS = (2, 3, 4, 5, 6, 8, 10)
CROWD_SIZE = 10**6


async def study(largest: int, repeats: int, file: Any) -> tuple[list[Figures], list[Figures]]:
    """Measure over sizes, and over numbers of parties."""

    async def one(key: str, n: int, elements: int) -> Figures:
        figures = await measure(WORKLOADS[key](n, elements), repeats=repeats)
        if file is not None:
            print(json.dumps(figures.as_json()), file=file, flush=True)
        return figures

    sizes = [10**power for power in range(4, 9)]
    by_size = [await one(key, 2, each) for key, limit in LARGEST.items() for each in sizes if each <= min(limit, largest)]
    by_parties = [await one(key, n, min(CROWD_SIZE, largest)) for key in LARGEST for n in CROWDS]
    return by_size, by_parties


def table(title: str, measured: Sequence[Figures]) -> Grid:
    """Return a table with one line for each measurement."""
    grid = Grid(title=title, title_justify="left")
    for heading in (
        "workload",
        "elements",
        "n",
        "median",
        "per element",
        "result",
        "sent by a party",
        "dealer sends",
        "peak party",
        "over data",
    ):
        grid.add_column(heading, justify="left" if heading in {"workload", "result"} else "right")
    for each in measured:
        per = f"{each.median / each.size * 1e9:.1f} ns"
        grid.add_row(
            *(each.key, f"{each.size:,}", str(each.parties), seconds(each.median), per, result(each)),
            *(size(each.payload), size(each.dealt), size(each.party_memory["peak"]), f"{multiple(each):.1f}x"),
        )
    return grid


def draw(path: Path, by_size: Sequence[Figures], by_parties: Sequence[Figures]) -> None:
    """Draw time and memory over elements, and time and bytes over parties."""
    plt = picture.pyplot()
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    for number, key in enumerate(LARGEST):
        style: Any = {"color": f"C{number}", "marker": "o", "markersize": 3, "label": key}
        along, among = ([each for each in measured if each.key == key] for measured in (by_size, by_parties))
        elements, crowd = [each.size for each in along], [each.parties for each in among]
        above = [each.party_memory["peak"] - each.party_memory["start"] for each in along]
        axes[0].loglog(elements, [each.median for each in along], **style)
        axes[1].loglog(elements, above, **style)
        axes[1].loglog(elements, [3 * each.moved for each in along], "--", color=f"C{number}", linewidth=0.8)
        axes[2].plot(crowd, [each.median for each in among], **style)
        axes[3].plot(crowd, [each.payload / 1e6 for each in among], **style)
    axes[0].set(xlabel="elements", title="seconds, 2 parties")
    axes[1].set(xlabel="elements", title="bytes of memory for the data; dashed: 3x")
    axes[2].set(xlabel="parties", title=f"seconds, {by_parties[0].size:,} elements", ylim=(0, None))
    axes[3].set(xlabel="parties", title="MB that a party sends", ylim=(0, None))
    for each in axes:
        each.grid(visible=True, linewidth=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max", type=float, default=1e8, metavar="N", help="the most elements (1e8)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (3)")
    parser.add_argument("--json", type=argparse.FileType("w"), metavar="FILE", help="write a line for every measurement")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figure, e.g. scale.svg")
    options = parser.parse_args()
    if options.plot:
        picture.check(options.plot)
    if options.max < SMALLEST or options.repeats < 1:
        parser.error(f"--max is at least {SMALLEST} and --repeats at least 1")
    by_size, by_parties = run(study(int(options.max), options.repeats, options.json))
    console = Console(width=150)
    console.print(line(machine()))
    console.print(table("over elements", by_size))
    console.print(table("over parties", by_parties))
    if options.plot:
        draw(options.plot, by_size, by_parties)
    if not all(each.right for each in (*by_size, *by_parties)):
        parser.exit(1, "a result differs from that of the plaintext\n")


if __name__ == "__main__":
    main()
