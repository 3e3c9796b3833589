"""Rounds per second and opening throughput between two real processes and a dealer: `python benchmarks/rounds.py`.

Prints medians of several repetitions, as the first party measures them.  These are figures of one machine at one moment: compare ratios,
not absolutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mpc
import protocols
from parties.demo.organisations import DEALER, outcome, prepare, spawn, stop
from parties.run import INTERRUPTED, run

REPEATS = 7
ROUNDS = 300
WORDS = 1 << 20


async def small(s: mpc.Session) -> float:
    """Measure seconds per bare round of one word."""
    start = time.perf_counter()
    for _ in range(ROUNDS):
        await protocols.secure_sum(s, [1.0])
    return (time.perf_counter() - start) / ROUNDS


async def large(s: mpc.Session) -> float:
    """Measure bytes per second and direction of one opening of 8 MiB."""
    x = s.zero(WORDS)
    start = time.perf_counter()
    await s.mask(x)
    return 8 * WORDS / (time.perf_counter() - start)


async def products(s: mpc.Session) -> float:
    """Measure products per second, 2^20 at a time."""
    x, y = await s.inputs(np.ones(WORDS), bound=4.0)
    start = time.perf_counter()
    await mpc.mul(s, x, y)
    return WORDS / (time.perf_counter() - start)


async def party(listener: socket.socket, config: str) -> None:
    """Run one party: all measurements, `REPEATS` times."""
    async with mpc.connect(config, job="benchmark", listener=listener) as s:
        figures = {program.__name__: [await program(s) for _ in range(REPEATS)] for program in (small, large, products)}
    print(json.dumps(figures))


async def dealer(listener: socket.socket, config: str) -> None:
    """Serve until stopped."""
    async with mpc.open_node(config, listener=listener):
        await asyncio.Event().wait()


async def medians() -> dict[str, float]:
    """Start two parties and a dealer.  Return the median of every measurement of the first party.  Raises DemoError if a party fails."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        parties = []
        for each in prepare(Path(folder), "ab"):
            role = "dealer" if each.name == DEALER else "party"
            process = await spawn((__file__, role), each.listener, str(each.config))
            stack.push_async_callback(stop, process)
            parties += [outcome(each, process)] if role == "party" else []
        printed, _ = await asyncio.gather(*parties)
    return {name: statistics.median(values) for name, values in printed.items()}


def main() -> None:
    """Print the medians."""
    found = run(medians())
    print(f"bare round of one word      {found['small'] * 1e6:9.0f} µs")
    print(f"opening of 8 MiB, each way  {found['large'] / 1e9:9.2f} GB/s")
    print(f"products, 2^20 at a time    {found['products'] / 1e6:9.1f} million/s")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        role, descriptor, config = sys.argv[1:]
        try:
            run({"party": party, "dealer": dealer}[role](socket.socket(fileno=int(descriptor)), config))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
