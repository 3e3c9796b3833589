"""Sessions in this process whose links break, fall silent, or carry what no link should carry."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AsyncExitStack
from dataclasses import replace
from types import SimpleNamespace

from mpc import Node
from mpc.framing import wire
from mpc.network.mesh import Clocks
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from mpc.transport.memory import memory_pair
from tests.waiting import until

PATIENT = Clocks(30.0, 30.0, 30.0)
"""Guards: no test waits for one of them, however busy the machine is."""


async def each(program, n=2, clocks=PATIENT, network=None):
    """Every party's outcome of `program`."""
    identities, roster = simulated_roster(n)
    network = network or MemoryNetwork()

    async def party(node):
        async with node.session("j") as s:
            value = program(s)
            return await value if inspect.isawaitable(value) else value

    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=clocks)) for who in identities]
        return await asyncio.gather(*(party(node) for node in opened[:n]), return_exceptions=True)


class Faulty(MemoryNetwork):
    """Links between p0 and p1 can be cut, or swallow everything."""

    def __init__(self):
        super().__init__()
        self.silent, self.unplugged, self.links = False, False, []

    def connect(self, caller, called):
        if self.unplugged:
            raise ConnectionRefusedError(called)
        if {caller, called} != {"p0", "p1"}:
            return super().connect(caller, called)
        near, far = memory_pair(called, caller, schedule=lambda deliver: self.silent or asyncio.get_running_loop().call_soon(deliver))
        self.links.append(near)
        self._accepts[called](far)
        return near


async def broken(how, lost=PATIENT.lost, repair=0.0, stall=PATIENT.stall):
    """What three parties see when the link between the first two breaks."""
    network = Faulty()

    async def program(s):
        await s.reveal(s.zero(1))
        how(network, s)
        for _ in range(10_000):
            await s.reveal(s.zero(1))

    return await each(program, 3, Clocks(PATIENT.join, lost, stall, repair), network)


async def one_is_lost_early():
    """What two parties and a third see when the link between the first two breaks while all three wait for the dealer."""
    identities, roster = simulated_roster(3)
    network = Faulty()

    async def early(node):
        async with node.session("j", all_present=True):
            pass

    async with AsyncExitStack() as stack:
        parties = [
            await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=replace(PATIENT, repair=0.0)))
            for who in identities[:3]
        ]
        waiting = [asyncio.create_task(early(node)) for node in parties]
        await until(lambda: all(len(node._lobby.attempt("j").joins) == 2 for node in parties))
        network.links[0].abort()
        return await asyncio.gather(*waiting, return_exceptions=True)


def cut(network, s):
    if s.index == 0:
        network.links[0].abort()


def unplug(network, s):
    network.unplugged = True
    cut(network, s)


def deafen(network, s):
    """Let nothing reach p1 any more, while p1 goes on saying that it lives."""
    if s.index == 1:
        line = s._engine.exchange._agreed.channels["p0"]._line
        line.owner = SimpleNamespace(on_frame=lambda *_: None, on_closed=line.owner.on_closed, on_writable=line.owner.on_writable)


def swallow(network, s):
    network.silent = True


def misbehave(network, s):
    """p0 repeats a message to p1 under a tag that was used."""
    if s.index == 0:
        flow = s._engine.exchange._agreed.flows["p1"]
        flow._outlet.send(wire.more(bytes(flow._session[: wire.SESSION_PREFIX]).ljust(wire.TAG_BYTES, b"x"), 8), bytes(8))
