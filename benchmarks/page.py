"""Writes measurements into the tables of docs/performance.md: `python benchmarks/page.py FOLDER [--page FILE]`.

What FOLDER has of these is written, each under its heading, and the rest of the page stays:

    rows.jsonl    beaver bench --json              Times
    rivals.jsonl  benchmarks/rivals.py --json      Beside others in one run
    floors.jsonl  benchmarks/floors.py --json      How far from the floor
    roles.jsonl   benchmarks/roles.py --json       Where the time goes, a line for each workload
    scale.jsonl   benchmarks/scale.py --json       Sizes and parties
    rtt.jsonl     beaver bench --rtt 40 --json     Over a distance, beside rows.jsonl
    ops.txt       benchmarks/ops.py                Ops beside numpy
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parties.bench.report import line, seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Rows = list[dict[str, Any]]
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
RIVALS = ("crypten", "spu", "mpyc")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    first, *others = [f"| {' | '.join(line)} |" for line in (headings, *rows)]
    return "\n".join([first, f"|{'---|' * len(headings)}", *others])


def head(row: dict[str, Any]) -> list[str]:
    """Return workload, size and n."""
    return [row["workload"], row["dimensions"], str(row["parties"])]


def times(rows: Rows) -> list[str]:
    """Return the table of what each workload took and cost."""
    headings = "workload", "size", "n", "median", "min .. max", "rounds", "sent by a party", "dealer sends", "CPU party", "CPU dealer"

    def cells(row: dict[str, Any]) -> list[str]:
        took, cpu, rival = row["seconds"], row["cpu_seconds"], row["rival"]
        return [
            *head(row),
            *(seconds(took["median"]), f"{seconds(took['min'])} .. {seconds(took['max'])}", f"{row['rounds']:,}"),
            *(size(row["bytes_per_party"]["wire"]), size(row["dealer_bytes"]), seconds(cpu["party"]), seconds(cpu["dealer"])),
            f"{rival['name']} {seconds(rival['seconds'])}" if rival else "-",
        ]

    return [table([*headings, "best recorded rival"], map(cells, rows))]


def beside(rows: Rows) -> list[str]:
    """Return the table of our times beside those of others."""
    headings = (
        *("workload", "size", "n", "Beaver", "CrypTen 0.4.1 (plaintext links, a dealer process)"),
        *("SPU 0.9.5 SEMI2K (plaintext links, dealing inside a party)", "MPyC 0.11 (plaintext links, honest majority)"),
    )

    def cells(row: dict[str, Any]) -> list[str]:
        # A framework that took much longer than the rest was timed in another run, beside Beaver's time in that run.
        others = [(row.get(name), row.get(f"beaver beside {name}", row["beaver"])) for name in RIVALS]
        compared = ("-" if other is None else f"{seconds(other)} ({other / ours:.2f}x)" for other, ours in others)
        return [row["workload"], f"{row['size']:,}", str(row["parties"]), seconds(row["beaver"]), *compared]

    return [table(headings, map(cells, rows))]


def floors(rows: Rows) -> list[str]:
    """Return the table of each row's floors."""
    headings = "workload", "size", "n", "median", "rounds", "bytes", "multiply-adds", "over the floor"

    def cells(row: dict[str, Any]) -> list[str]:
        bounds = row["floors"]
        parts = (seconds(each) if each else "-" for each in bounds)
        return [
            row["workload"],
            f"{row['size']:,}",
            str(row["parties"]),
            seconds(row["median"]),
            *parts,
            f"{row['median'] / max(bounds):.1f}x",
        ]

    return [table(headings, map(cells, rows))]


def roles(rows: Rows) -> list[str]:
    """Return the shares of CPU time, a table for each workload."""

    def of_one(row: dict[str, Any]) -> str:
        found = row["roles"]
        totals = {role: sum(parts.values()) for role, parts in found.items()}
        cells = ([what, *(f"{100 * found[role][what] / totals[role]:.0f} %" for role in found)] for what in next(iter(found.values())))
        return table(["share of CPU time", *found], cells)

    return [of_one(row) for row in rows]


def scale(rows: Rows) -> list[str]:
    """Return tables over sizes, and over numbers of parties: the sizes of a workload come first."""
    headings = "workload", "elements", "n", "median", "per element", "result", "sent by a party", "dealer sends", "peak party", "over data"

    def cells(row: dict[str, Any]) -> list[str]:
        median, check, memory = row["seconds"]["median"], row["check"], row["memory_bytes"]
        right = "exact" if not check["allowed"] else f"within {check['error']:.0f} ulp"
        over = (memory["party"]["peak"] - memory["party"]["start"]) / memory["inputs_and_outputs"]
        return [
            *(row["workload"], f"{row['size']:,}", str(row["parties"]), seconds(median), f"{median / row['size'] * 1e9:.1f} ns", right),
            *(size(row["bytes_per_party"]["payload"]), size(row["dealer_bytes"]), size(memory["party"]["peak"]), f"{over:.1f}x"),
        ]

    at = next(number for number in range(1, len(rows)) if rows[number]["workload"] < rows[number - 1]["workload"])
    return [table(headings, map(cells, part)) for part in (rows[:at], rows[at:])]


def distance(rows: Rows, near: Rows) -> list[str]:
    """Return a table of times over a distance beside the rounds alone, the time on loopback, and the aim.

    The aim is 1.15 times the rounds alone, plus the time on loopback.
    """
    headings = "workload", "size", "n", "rounds", "median", "rounds alone", "on loopback", "over both", "over the aim"
    local = {(row["workload"], row["size"], row["parties"]): row["seconds"]["median"] for row in near}

    def cells(row: dict[str, Any]) -> list[str]:
        reached, travel = statistics.median(row["seconds"]["without_barrier"]), row["rounds"] * row["rtt_ms"] / 2000
        here = local[row["workload"], row["size"], row["parties"]]
        ratios = (reached / (share * travel + here) for share in (1, 1.15))
        return [*head(row), f"{row['rounds']:,}", *map(seconds, (reached, travel, here)), *(f"{ratio:.2f}x" for ratio in ratios)]

    return [table(headings, map(cells, rows))]


TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
BLOCK = re.compile(r"^```\n.*?^```\n", re.MULTILINE | re.DOTALL)


def put(page: str, heading: str, parts: Sequence[str], shape: re.Pattern[str] = TABLE) -> str:
    """Return the page with `parts` in place of the first tables under a heading.  Raises ValueError if it has too few tables."""
    start = page.find(f"\n## {heading}\n")
    end = page.find("\n## ", start + 1) % (len(page) + 1)
    section, news = page[start:end], iter(parts)
    if start < 0 or len(shape.findall(section)) < len(parts):
        msg = f"the page has no heading {heading!r} with {len(parts)} table(s) or block(s) to replace"
        raise ValueError(msg)
    return page[:start] + shape.sub(lambda _: next(news) + "\n", section, count=len(parts)) + page[end:]


def told(page: str, before: str, what: str, after: str) -> str:
    """Return the page with a measured phrase in place of the one between `before` and `after`."""
    if before not in page:
        msg = f"the page does not say {before!r}"
        raise ValueError(msg)
    start = page.index(before) + len(before)
    return page[:start] + what + page[page.index(after, start) :]


def rows_in(file: Path) -> Rows:
    """Return the rows of a file with one JSON object per line.  Raises ValueError, which names the line, for any other line."""
    rows: Rows = []
    for number, text in enumerate(file.read_bytes().splitlines(), 1):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            msg = f"{file}, line {number}: is no JSON object; measure again, or take the file out of the folder"
            raise ValueError(msg)  # noqa: TRY004  the file is wrong, not the call
        rows.append(row)
    if not rows:
        msg = f"{file}: has no line; measure again, or take the file out of the folder"
        raise ValueError(msg)
    return rows


def made(file: Path, make: Callable[..., list[str]], *more: Rows) -> list[str]:
    """Return the tables made of a file's rows.  Raises ValueError, which names the file, if its rows are of another measurement."""
    rows = rows_in(file)
    try:
        return make(rows, *more)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration) as fault:
        msg = f"{file}: has rows that the command of this file does not write ({fault!r}); measure again, or take it out of the folder"
        raise ValueError(msg) from None


WRITTEN: dict[str, tuple[str, Callable[[Rows], list[str]]]] = {
    "rows.jsonl": ("Times", times),
    "rivals.jsonl": ("Beside others in one run", beside),
    "floors.jsonl": ("How far from the floor", floors),
    "roles.jsonl": ("Where the time goes", roles),
    "scale.jsonl": ("Sizes and parties", scale),
}


def filled(page: str, folder: Path) -> tuple[str, list[str]]:
    """Return the page with the measurements in `folder`, and the headings of what was replaced.  Raises ValueError for a wrong file."""
    done: list[str] = []
    for name, (heading, make) in WRITTEN.items():
        if (file := folder / name).exists():
            page, done = put(page, heading, made(file, make)), [*done, heading]
    far, near, ops = (folder / name for name in ("rtt.jsonl", "rows.jsonl", "ops.txt"))
    if far.exists() and near.exists():
        page, done = put(page, "Over a distance", made(far, distance, rows_in(near))), [*done, "Over a distance"]
    if ops.exists():
        page, done = put(page, "Ops beside numpy", [f"```\n{ops.read_text().rstrip()}\n```"], BLOCK), [*done, "Ops beside numpy"]
    if near.exists():
        (machine,) = made(near, lambda rows: [line(rows[0]["machine"])])
        page = told(page, "run on one machine: ", machine, ". Machines differ")
    if (file := folder / "floors.jsonl").exists():
        (measured,) = made(file, lambda rows: [rows[0]["measured"]])
        page = told(page, "Measured: ", measured, ".\n")
    return page, done


def main() -> None:
    """Write the measurements into the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--page", type=Path, default=PAGE)
    asked = options.parse_args()
    try:
        page, done = filled(asked.page.read_text(), asked.folder)
    except (OSError, ValueError) as fault:
        options.error(str(fault))
    if not done:
        options.error(f"{asked.folder} has none of {', '.join(WRITTEN)}, ops.txt and rtt.jsonl")
    asked.page.write_text(page)
    print(f"{asked.page}: {', '.join(done)}")


if __name__ == "__main__":
    main()
