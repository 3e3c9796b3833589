"""Rounds per second and opening throughput between two real processes and a dealer: `python benchmarks/rounds.py`.

Prints medians of several repetitions.  These are figures of one machine at one moment: compare ratios, not absolutes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mpc
import protocols
from parties.demo.organisations import Organisation, prepare, stop
from parties.run import run

REPEATS = 7
ROUNDS = 300
WORDS = 1 << 20


async def small(s: mpc.Session) -> float:
    """Seconds per bare round of one word."""
    start = time.perf_counter()
    for _ in range(ROUNDS):
        await protocols.secure_sum(s, [1.0])
    return (time.perf_counter() - start) / ROUNDS


async def large(s: mpc.Session) -> float:
    """Bytes per second and direction of one opening of 8 MiB."""
    x = s.zero(WORDS)
    start = time.perf_counter()
    await s.mask(x)
    return 8 * WORDS / (time.perf_counter() - start)


async def products(s: mpc.Session) -> float:
    """Products per second, 2^20 at a time."""
    x, y = await s.inputs(np.ones(WORDS), bound=4.0)
    start = time.perf_counter()
    await mpc.mul(s, x, y)
    return WORDS / (time.perf_counter() - start)


async def party(config: str, listener: int) -> None:
    """One party: all measurements, `REPEATS` times."""
    import socket  # noqa: PLC0415  the child's own

    async with mpc.connect(config, job="benchmark", listener=socket.socket(fileno=listener)) as s:
        figures = {program.__name__: [await program(s) for _ in range(REPEATS)] for program in (small, large, products)}
    print(json.dumps(figures))


async def dealer(config: str, listener: int) -> None:
    """Serve until stopped."""
    import socket  # noqa: PLC0415  the child's own

    async with mpc.open_node(config, listener=socket.socket(fileno=listener)):
        await asyncio.Event().wait()


async def spawn(organisation: Organisation) -> asyncio.subprocess.Process:
    """This file again, as one member."""
    role = "party" if organisation.data is not None else "dealer"
    fd = organisation.listener.fileno()
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, role, str(organisation.config), str(fd), stdout=asyncio.subprocess.PIPE, pass_fds=[fd]
    )


async def medians() -> dict[str, float]:
    """Start two parties and a dealer; the median of every measurement."""
    from parties.data import Table  # noqa: PLC0415  parent only
    from parties.demo.study import Holding  # noqa: PLC0415  parent only

    empty = Holding(*[Table(["x"], np.zeros((0, 1)))] * 2)
    with tempfile.TemporaryDirectory() as folder:
        *parties, helper = [await spawn(one) for one in prepare(Path(folder), {"a": empty, "b": empty})]
        (printed, _), _ = await asyncio.gather(*(process.communicate() for process in parties))
        await stop(helper)
    return {name: statistics.median(values) for name, values in json.loads(printed).items()}


def main() -> None:
    """Print them."""
    found = run(medians())
    print(f"bare round of one word      {found['small'] * 1e6:9.0f} µs")
    print(f"opening of 8 MiB, each way  {found['large'] / 1e9:9.2f} GB/s")
    print(f"products, 2^20 at a time    {found['products'] / 1e6:9.1f} million/s")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        role, config, descriptor = sys.argv[1:]
        try:
            run({"party": party, "dealer": dealer}[role](config, int(descriptor)))
        except KeyboardInterrupt:
            sys.exit(130)
