"""A node that closes, whatever it and its peers are doing, leaves nothing running."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

import mpc
from mpc import Node, PeerLost
from mpc.preprocessing.dealer import RUNNING
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from tests.test_agreement import CLOCKS, run
from tests.test_early_ends import opened
from tests.waiting import turns, until


async def test_a_dealer_that_closes_begins_no_session_for_a_party_that_still_waits():
    node, before = opened(2), asyncio.all_tasks()
    async with node(0) as first:
        async with node(2) as dealer:
            waiting = asyncio.create_task(run(first))
            await until(lambda: dealer.dealer.served)
            await turns()
            during = asyncio.all_tasks()
        assert asyncio.all_tasks() < during
        assert [served.state for served in dealer.dealer.served] == ["abandoned"]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert asyncio.all_tasks() == before


async def test_a_dealer_that_closes_in_a_session_has_left_it():
    node = opened(2)
    async with node(0) as first, node(1) as second:
        async with node(2) as dealer:
            working = [asyncio.create_task(stays(each)) for each in (first, second)]
            await until(lambda: any(served.state == RUNNING for served in dealer.dealer.served))
        for said in await asyncio.gather(*working, return_exceptions=True):
            assert str(said).startswith("the-dealer: left at the dealer: its program ended there"), said


async def stays(node):
    """Keep one session open until somebody ends it."""
    async with node.session("j") as s:
        x = s.input([1.0] * 4 if s.index == 0 else None, 0, 4, bound=4.0)
        while True:
            await s.reveal(await mpc.mul(s, x, x))


async def works(node):
    """Run one session after the other, each with its dealer."""
    while True:
        async with node.session("j") as s:
            x = s.input([1.0] * 4 if s.index == 0 else None, 0, 4, bound=4.0)
            for _ in range(3):
                await s.reveal(await mpc.mul(s, x, x))


async def cycle(rng):
    """All members come, and leave in the midst of their work, each in good order or after it was cut off."""
    identities, roster = simulated_roster(2)
    network, clocks = MemoryNetwork(), replace(CLOCKS, repair=rng.choice([0.0, 0.05]))
    nodes = [Node(who, roster, network.of(who.name), clocks=clocks) for who in identities]
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node)
        working = [asyncio.create_task(works(node)) for node in nodes[: rng.choice([1, 2, 2])]]
        await turns(rng.randrange(400))
        for node in rng.sample(nodes, len(nodes)):
            others = [who.name for who in identities if who is not node.mesh.identity] if rng.random() < 0.7 else []
            for channel in filter(None, map(node.mesh.channel, others)):
                channel.end(PeerLost(channel.name, "this machine is switched off"))
            await turns(rng.randrange(30))
            await node.__aexit__()
        stack.pop_all()
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)


@pytest.mark.parametrize("cycles", [20, pytest.param(200, marks=pytest.mark.slow)])
async def test_members_that_come_and_vanish_leave_no_task(cycles):
    rng, before = random.Random(1), asyncio.all_tasks()
    for number in range(cycles):
        await cycle(rng)
        assert asyncio.all_tasks() == before, number
