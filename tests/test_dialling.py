"""How soon a member that starts is reached by one that dials it, and how often that one tries."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter

from mpc.network.mesh import Clocks, Mesh
from mpc.testing.simulate import MemoryNetwork, simulated_roster

MINUTES = 600.0
CLOCKS = Clocks(lost=1e6)
"""No heartbeat comes between."""


class Leap(selectors.SelectSelector):
    """A selector that lets time leap where the loop would sleep."""

    now = 0.0

    def select(self, timeout=None):
        if timeout is None or (found := super().select(0)):
            return super().select(timeout)
        self.now += timeout
        return found


class Leaping(asyncio.SelectorEventLoop):
    """A loop whose hours pass in no time."""

    def __init__(self):
        self._leap = Leap()
        super().__init__(self._leap)

    def time(self):
        return self._leap.now


class Noted(MemoryNetwork):
    """Counts how often each member was dialled."""

    def __init__(self):
        super().__init__()
        self.dialled = Counter()

    def connect(self, caller, called):
        self.dialled[called] += 1
        return super().connect(caller, called)


def test_a_member_that_starts_is_met_within_a_second_and_was_dialled_once_a_second_before():
    async def met():
        (first, second, _), roster = simulated_roster(2)
        loop, network = asyncio.get_running_loop(), Noted()
        async with Mesh(first, roster, network.of("p0"), CLOCKS) as p0:
            await asyncio.sleep(MINUTES)
            assert p0.missing(["p1"])
            assert network.dialled["p1"] < MINUTES + 10
            async with Mesh(second, roster, network.of("p1"), CLOCKS):
                began = loop.time()
                while p0.missing(["p1"]):
                    await asyncio.sleep(0.01)
                assert loop.time() - began < 1.1

    with asyncio.Runner(loop_factory=Leaping) as runner:
        runner.run(met())
