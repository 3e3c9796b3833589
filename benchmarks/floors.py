"""How far each workload is from what this machine allows: `beaver bench --json rows.jsonl`, then `python benchmarks/floors.py rows.jsonl`.

Measures the bare round of one word, what an opening of 8 MiB moves each way through sealed loopback, and the matrix product of words.  A
row's floor is the largest of three times: its rounds times the bare round and half a round trip of `--rtt`; its bytes (a party's and
the dealer's, which all pass this machine's two cores) over the bandwidth; and its multiply-adds, all parties' and the dealer's, over the
product's rate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rounds import medians

from mpc.kernels.cross import PARTIES
from mpc.kernels.products import matmul
from mpc.ring import WORD
from parties.bench.report import seconds
from parties.run import run

SIDE = 1024


def products(workload: str, n: int) -> int:
    """Return how many products of square matrices n parties and the dealer compute, where these are most of the work.

    There is one for each party and n - 1 cross products, or two for each party and one.
    """
    if workload != "W5":
        return 0
    return 2 * n - 1 if n in PARTIES else 2 * n + 1


def product_rate() -> float:
    """Measure multiply-adds of words per second."""
    left, right = (np.random.default_rng(seed).integers(0, 1 << 64, (SIDE, SIDE), WORD) for seed in range(2))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        matmul(left, right)
        times.append(time.perf_counter() - start)
    return SIDE**3 / statistics.median(times)


def rows_of(path: str) -> list[dict[str, Any]]:
    """Return the rows that `beaver bench --json` wrote.  Raises ValueError for anything else."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in Path(path).read_text().splitlines()]
    if not rows or any(not isinstance(row, dict) or not {"bytes_per_party", "rtt_ms"} <= row.keys() for row in rows):
        raise ValueError(path)
    return rows


def main() -> None:
    """Print the rows with their floors."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("rows", help="what `beaver bench --json` wrote")
    options.add_argument("--json", type=Path, metavar="FILE", help="write a line for every row")
    asked = options.parse_args()
    try:
        rows = rows_of(asked.rows)
    except (OSError, ValueError, RecursionError):
        options.error(f"{asked.rows} has no rows of `beaver bench --json`")
    machine = run(medians())
    rate = product_rate()
    measured = (
        f"bare round {machine['small'] * 1e6:.0f} µs, opening {machine['large'] / 1e9:.2f} GB/s each way, matrix product "
        f"{rate / 1e9:.1f} G multiply-adds/s"
    )
    print(measured)
    table = Table()
    for heading in ("workload", "size", "n", "median", "rounds", "bytes", "multiply-adds", "over the floor"):
        table.add_column(heading, justify="left" if heading == "workload" else "right")
    lines = []
    for row in rows:
        floors = bounds(row, machine, rate)
        median = row["seconds"]["median"]
        lines.append(
            {**{name: row[name] for name in ("workload", "size", "parties")}, "median": median, "floors": floors, "measured": measured}
        )
        table.add_row(
            row["workload"],
            f"{row['size']:,}",
            str(row["parties"]),
            seconds(median),
            *(seconds(floor) if floor else "-" for floor in floors),
            f"{median / max(floors):.1f}x",
        )
    Console(width=120).print(table)
    if asked.json:
        asked.json.write_text("".join(json.dumps(line) + "\n" for line in lines))


def bounds(row: dict[str, Any], machine: dict[str, float], rate: float) -> tuple[float, float, float]:
    """Return the least times of rounds, bytes and multiply-adds, each alone."""
    moved = row["parties"] * row["bytes_per_party"]["wire"] + row["dealer_bytes"]
    return (
        row["rounds"] * (machine["small"] + row["rtt_ms"] / 2000),
        moved / (2 * machine["large"]),
        products(row["workload"], row["parties"]) * row["size"] ** 3 / rate,
    )


if __name__ == "__main__":
    main()
