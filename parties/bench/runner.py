"""The parent of the benchmark: it starts the processes of one workload, and collects their reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpc import BeaverError
from parties.bench.figures import Figures
from parties.bench.member import Task
from parties.demo.organisations import outcome, prepare, spawn, stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parties.bench.workload import Workload
    from parties.demo.organisations import Organisation

    Running = tuple[Organisation, asyncio.subprocess.Process]

REPEATS = 5
MEMBER = ("-m", "parties.bench.member")
"""What python runs as a member."""
LAST_WORDS = 2.0
"""Seconds for the other processes to report what they know of a failure, before they are stopped."""


class BenchmarkError(BeaverError):
    """A process of the benchmark failed, and the text holds what it printed; or a result is wrong."""


THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""The variables that tell numpy's matrix products how many threads to use."""


def environment(processes: int) -> dict[str, str]:
    """Return the environment with as many threads for each process as there are cores for it; more only wait for each other.

    What the user set stays.
    """
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    return {**dict.fromkeys(THREADS, threads), **os.environ}


async def start(organisation: Organisation, task: Task, member: Sequence[str] = MEMBER) -> asyncio.subprocess.Process:
    """Start the process of one member."""
    arguments = (str(organisation.config), json.dumps(task._asdict()))
    return await spawn(member, organisation.listener, *arguments, env=environment(task.parties + 1))


async def measure(workload: Workload, *, rtt: float = 0.0, repeats: int = REPEATS, member: Sequence[str] = MEMBER) -> Figures:
    """Run the workload between fresh processes of this machine; `rtt` is in milliseconds.  Raises BenchmarkError if a process fails.

    `member` is what python runs as each of them, with the arguments of `parties.bench.member` after it.
    """
    task = Task(workload.key, workload.n, workload.size, repeats, rtt / 2000, 0)
    with tempfile.TemporaryDirectory(prefix="beaver-bench-") as folder:
        *parties, dealing = prepare(Path(folder), [f"party{index:02}" for index in range(workload.n)])
        async with contextlib.AsyncExitStack() as stack:
            dealer = await start(dealing, task, member)
            stack.push_async_callback(stop, dealer)
            members = []
            for organisation in parties:
                process = await start(organisation, task._replace(dealer=dealer.pid), member)
                stack.push_async_callback(stop, process)
                members.append((organisation, process))
            return Figures.of(workload, rtt, *await _reports(members, (dealing, dealer)))


async def _reports(parties: Sequence[Running], dealing: Running) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the reports of the parties, and then of the dealer, which stops when its input ends.  The first failure ends all."""
    *computing, serving = tasks = [asyncio.create_task(outcome(*member)) for member in (*parties, dealing)]
    waiting = set(tasks)
    try:
        while waiting > {serving}:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if serving in done or any(task.exception() for task in done):
                await asyncio.wait(tasks, timeout=LAST_WORDS)
                raise BenchmarkError("\n".join(str(task.exception()) for task in tasks if task.done() and task.exception()))
        if dealing[1].stdin is not None:
            dealing[1].stdin.close()
        return [task.result() for task in computing], await serving
    finally:
        for task in tasks:
            task.cancel()
