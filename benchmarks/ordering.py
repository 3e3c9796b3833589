"""CPU time of ordering in all roles together: `python benchmarks/ordering.py`.

Two parties and the dealer share one process.  Each of m elements meets each other one in `ranks` and `sort`, whose work grows with m².
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import protocols
from mpc.testing import simulate
from parties.run import keep_memory

if TYPE_CHECKING:
    from mpc import Session

SIZES = {"ranks": (100, 1000, 2000, 4000), "sort": (100, 500, 1000)}
REPEATS = 3


async def ordered(name: str, values: np.ndarray[tuple[int], np.dtype[np.float64]], s: Session) -> None:
    """`name` of the values, which party 0 has."""
    x = s.input(values if s.index == 0 else None, 0, values.shape)
    await s.made(await getattr(protocols, name)(s, x))


def main() -> None:
    """Print each size with its time, and that time for each pair of elements."""
    keep_memory()
    for name, sizes in SIZES.items():
        for size in sizes:
            program = partial(ordered, name, np.random.default_rng(size).normal(size=size))
            times = []
            for _ in range(REPEATS):
                before = time.process_time()
                simulate(2, program)
                times.append(time.process_time() - before)
            print(f"{name} of {size:5,}: {min(times):6.3f} s, {min(times) / (size * (size - 1) / 2) * 1e9:5.0f} ns for each pair")


if __name__ == "__main__":
    main()
