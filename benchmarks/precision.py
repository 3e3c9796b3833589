"""Error of `LinearRegression` against numpy on the pooled rows, over condition and number of rows: `python benchmarks/precision.py`.

Prints the tables of docs/precision.md; `--json` prints every run instead, `--plot FILE` also draws them (extra `bench`), `--quick` measures
a corner of the grid.  There are three parties and eight columns with standard deviations from 0.1 to 1000 and offsets within 1000.  Two
columns are correlated so that the correlation matrix has the condition.  y is a random combination with as much noise as signal.  The error
is max_j |Δw_j| sd_j / max_j |w_j| sd_j, the largest over the seeds; "refused" is a ConfigError that calls the columns collinear.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpc import ConfigError, Session
from mpc.testing import simulate
from parties.bench import picture
from protocols import LinearRegression

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpc import Floats

PARTIES, COLUMNS = 3, 8
SEEDS = range(3)
WAYS: dict[str, dict[str, Any]] = {"rows": {}, "rows, secret": {"moments": "secret"}, "columns": {"split": "columns"}}
CONDITIONS = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6]
ROWS = [100, 1000, 10_000, 100_000, 1_000_000]
MOST_ROWS = {"columns": 100_000}
LIMIT = 1e-3


class Run(NamedTuple):
    """One fit; the error is None if the fit was refused."""

    way: str
    condition: float
    rows: int
    seed: int
    error: float | None


def generate(condition: float, rows: int, seed: int) -> tuple[Floats, Floats]:
    """Return columns that have this condition once standardised, and y."""
    rng = np.random.default_rng(seed)
    r = (condition - 1) / (condition + 1)
    z = rng.normal(size=(rows, COLUMNS))
    z[:, 1] = r * z[:, 0] + np.sqrt(1 - r * r) * z[:, 1]
    signal = z @ rng.normal(size=COLUMNS)
    scale = rng.permutation(np.geomspace(0.1, 1000.0, COLUMNS))
    x = z * scale + rng.uniform(-1000.0, 1000.0, COLUMNS)
    return x, signal + signal.std() * rng.normal(size=rows)


def measure(way: str, x: Floats, y: Floats) -> float | None:
    """Return the error of one fit."""
    by_columns = "split" in WAYS[way]
    parts = np.array_split(np.arange(x.shape[1] if by_columns else len(x)), PARTIES)

    async def program(s: Session) -> Floats:
        mine = parts[s.index]
        own = (x[:, mine], y if s.index == 0 else None) if by_columns else (x[mine], y[mine])
        return np.asarray((await LinearRegression(**WAYS[way]).fit(s, *own)).coef_)

    try:
        found = simulate(PARTIES, program)[0]
    except ConfigError as fault:
        if "collinear" not in str(fault):
            raise
        return None
    spread = x.std(axis=0)
    wanted = np.linalg.lstsq((x - x.mean(axis=0)) / spread, y - y.mean(), rcond=None)[0]
    return float(np.abs(found * spread - wanted).max() / np.abs(wanted).max())


def runs(conditions: Iterable[float], rows: Iterable[int], seeds: Iterable[int]) -> Iterable[Run]:
    """Yield every fit of a grid."""
    for condition, count, seed in product(conditions, rows, seeds):
        x, y = generate(condition, count, seed)
        for way in WAYS:
            if count <= MOST_ROWS.get(way, count):
                yield Run(way, condition, count, seed, measure(way, x, y))


def worst(found: list[Run], way: str, condition: float, rows: int) -> float | None:
    """Return the largest error over the seeds, infinite if a fit was refused, None if none was measured."""
    errors = [run.error for run in found if run[:3] == (way, condition, rows)]
    return None if not errors else max(np.inf if error is None else error for error in errors)


def table(found: list[Run]) -> str:
    """Return a Markdown table for every way."""
    rows = sorted({run.rows for run in found})
    lines = []
    for way in WAYS:
        lines += [f"| {way}: condition | " + " | ".join(f"n = {count:,}" for count in rows) + " |", "|" + "---|" * (len(rows) + 1)]
        for condition in sorted({run.condition for run in found}):
            cells = [worst(found, way, condition, count) for count in rows]
            shown = ["" if cell is None else "refused" if np.isinf(cell) else f"{cell:.0e}" for cell in cells]
            lines.append(f"| {condition:.0e} | " + " | ".join(shown) + " |")
        lines.append("")
    return "\n".join(lines)


def plot(found: list[Run], path: Path) -> None:
    """Draw the error over condition and over rows, one line for each way."""
    plt = picture.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for number, way in enumerate(WAYS):
        style: Any = {"color": f"C{number}", "marker": "o", "markersize": 3}
        over = [(c, worst(found, way, c, 10_000)) for c in CONDITIONS]
        left.loglog(*zip(*((c, e) for c, e in over if e is not None and np.isfinite(e)), strict=True), label=way, **style)
        for condition, line in ((1e2, "--"), (1e4, "-")):
            along = [(n, worst(found, way, condition, n)) for n in ROWS]
            points = [(n, e) for n, e in along if e is not None and np.isfinite(e)]
            right.loglog(*zip(*points, strict=True), line, label=f"{way}, condition {condition:.0e}", **style)
    for axes, label in ((left, "condition, n = 10,000"), (right, "rows n")):
        axes.axhline(LIMIT, color="0.5", linewidth=0.8)
        axes.set_xlabel(label)
        axes.grid(visible=True, linewidth=0.3)
        axes.legend(fontsize=6)
    left.set_ylabel("largest error of three seeds")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Measure and print; draw if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print every run as one JSON list")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figure, e.g. docs/precision.svg")
    parser.add_argument("--quick", action="store_true", help="two conditions, one size, one seed")
    options = parser.parse_args()
    if options.plot:
        picture.check(options.plot)
    grid = ([1e2, 1e4], [1000], [0]) if options.quick else (CONDITIONS, ROWS, SEEDS)
    found = list(runs(*grid))
    if options.plot:
        plot(found, options.plot)
    print(json.dumps([run._asdict() for run in found]) if options.json else table(found))


if __name__ == "__main__":
    main()
