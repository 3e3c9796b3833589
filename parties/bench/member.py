"""One process of the benchmark: `python -m parties.bench.member FD CONFIG TASK`, a party or the dealer as its roster says.

FD is a bound socket from the parent, TASK the workload as JSON.  When standard input ends, the parent is gone, or needs the dealer no more.
Every member prints one JSON object at the end.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpc.config import load_config
from mpc.network.delayed import DelayedNetwork
from mpc.network.mesh import Clocks
from mpc.node import Node, network_of
from parties.bench.catalogue import WORKLOADS
from parties.bench.machine import Memory, cpu_seconds
from parties.child import attended, exit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import mpc
    from parties.bench.workload import Workload


SLACK = 0.01
"""Seconds that a barrier may take besides the distance."""


class Task(NamedTuple):
    """What all members are told.  `delay` is in seconds and one way; `dealer` is the dealer's process id (0 for itself)."""

    key: str
    parties: int
    size: int
    repeats: int
    delay: float
    dealer: int

    @property
    def workload(self) -> Workload:
        """The workload to run."""
        return WORKLOADS[self.key](self.parties, self.size)


class Counters(NamedTuple):
    """What one party had counted at one moment, or what it counted in one run."""

    seconds: float
    alone: float
    """`seconds` without the barrier at the end."""
    cpu: float
    dealer_cpu: float
    rounds: int
    payload: int
    wire: int
    corrections: int


def node_of(config: Path, listener: socket.socket, delay: float) -> Node:
    """Return the node that `config` describes, with every frame delayed if there is a `delay`."""
    settings = load_config(config)
    clocks = Clocks(**settings.clocks.model_dump())
    network = network_of(settings, clocks, listener)
    return Node(settings.identity(), settings.load_roster(), DelayedNetwork(network, delay) if delay else network, clocks=clocks)


async def party(node: Node, task: Task) -> dict[str, Any]:
    """Run the workload once to warm up and then `repeats` times.  Return what it took, and whether the result is right."""
    roster, me = node.mesh.roster, node.mesh.identity.name
    peers = [member.name for member in roster.members if member.name != me]
    index = [member.name for member in roster.parties].index(me)
    workload, memory = task.workload, Memory()
    own = workload.own(index)
    async with node, node.session("benchmark") as s:

        def read() -> Counters:
            channels = [channel for name in peers if (channel := node.mesh.channel(name)) is not None]
            return Counters(
                seconds=(now := time.perf_counter()),
                alone=now,
                cpu=time.process_time(),
                dealer_cpu=cpu_seconds(task.dealer),
                rounds=s.cost.rounds,
                payload=sum(s.cost.sent.values()),
                wire=sum(channel.wire_bytes for channel in channels),
                corrections=s.cost.corrections,
            )

        data = workload.load(s, own)
        del own
        memory.reset()
        runs: list[Counters] = []
        outcome = None
        for _ in range(1 + task.repeats):
            outcome = None  # Dropped before the next one is made.
            taken, outcome = await _timed(s, workload, data, read, task.delay)
            runs.append(taken)
        peak = memory.peak
        revealed = np.asarray(await workload.reveal(s, outcome))
    return {
        "runs": [one._asdict() for one in runs[1:]],
        "memory": {"start": memory.start, "peak": peak},
        # After the session: a long computation would keep the others waiting.  One party's check is enough, since the results are compared.
        "error": workload.error(revealed) if index == 0 else 0.0,
        "result": blake2b(np.ascontiguousarray(revealed).data, digest_size=16).hexdigest(),
    }


async def _timed(s: mpc.Session, workload: Workload, data: Any, read: Callable[[], Counters], delay: float) -> tuple[Counters, Any]:
    """Return what one run takes, from a barrier to a barrier; rounds and bytes are those of the run alone."""
    await _begin_together(s, delay)
    before = read()
    outcome = await workload.run(s, data)
    done = read()
    await s.reveal(s.zero(()))
    after = done._replace(**{name: value for name, value in read()._asdict().items() if name in {"seconds", "cpu", "dealer_cpu"}})
    return Counters._make(b - a for a, b in zip(before, after, strict=True)), outcome


async def _begin_together(s: mpc.Session, delay: float) -> None:
    """Wait at a barrier.  Over a distance, the party that reaches it first leaves it last, by up to `delay`.

    So there all parties leave at one time by this machine's clock.
    """
    clocks = float(await s.reveal(s.zero(()).add_own(s.encode(time.monotonic()))))
    if delay:
        # No party came later than `delay` after the mean of all, or left later than `delay` after that.
        begin = clocks / s.n + 2 * delay + SLACK
        await asyncio.sleep(max(begin - time.monotonic() - SLACK / 2, 0))
        while time.monotonic() < begin:  # noqa: ASYNC110  no event happens then, and timers are not that exact
            await asyncio.sleep(0)


async def dealer(node: Node, stop: asyncio.Event) -> dict[str, Any]:
    """Serve correlations until told to stop."""
    memory = Memory()
    async with node:
        await stop.wait()
    return {"memory": {"start": memory.start, "peak": memory.peak}}


async def member(config: Path, listener: socket.socket, task: Task) -> None:
    """Run this process's part and print what it took; stop when the parent is gone."""
    node, over = node_of(config, listener, task.delay), asyncio.Event()
    if node.mesh.roster[node.mesh.identity.name].role == "dealer":
        taken = await attended(dealer(node, over), over.set)
    else:
        taken = await attended(party(node, task))
    print(json.dumps(taken), flush=True)


def main(argv: list[str]) -> int:
    """Return exit status 0, 1 after a fault (printed on standard error), or 130 when stopped."""
    fd, config, task = argv
    listener = socket.socket(fileno=int(fd))
    return exit_of(member(Path(config), listener, Task(**json.loads(task))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
