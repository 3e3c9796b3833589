"""What an op begins beside the program is sent before the op returns, whatever the program does next (decisions 0027, 0028)."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop

import mpc
from mpc.network.mesh import Clocks
from tests.test_node_jobs import Tcp
from tests.waiting import until

CLOCKS = Clocks(join=60.0, lost=60.0, stall=60.0)
"""No busy machine runs into them."""
LENGTH = 500


async def masks(s, shape=(3,)):
    """A masked value that is on its way."""
    return await s.mask(s.zero(shape, frac=0).assume_bound(1.0, "it is 0"))


async def multiplies(s):
    """A chain so long that groups of its factors are opened on the way, in some sixty relations, of which each party gets about half."""
    factors = await masks(s, (LENGTH, 8))
    value = factors[0]
    for number in range(1, LENGTH):
        value = await mpc.mul(s, value, factors[number])
    return value


async def its_peer_has_it(s, dealer, came):  # noqa: ARG001  another case asks the dealer
    """The peer has the opening; otherwise this would wait."""
    await s.made(await masks(s))
    came.set()


async def the_dealer_has_it(s, dealer, came):
    """The dealer has the ask of the other party; this one has asked for nothing yet."""
    await until(lambda: (cost := dealer.dealer.served[0].cost) is not None and cost.relations > 0)
    came.set()
    await s.made(await multiplies(s))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(("begins", "follows"), [(masks, its_peer_has_it), (multiplies, the_dealer_has_it)])
def test_what_an_op_has_begun_is_with_others_while_the_program_stands_still(begins, follows, loop):
    members, came = Tcp(2), threading.Event()

    async def stands_still():
        async with members.node("p0", clocks=CLOCKS) as node, node.session("j") as s:
            value = await begins(s)
            # Its loop gets no turn.
            assert came.wait(CLOCKS.stall / 2)
            await s.made(value)

    async def others():
        async with members.node("the-dealer", clocks=CLOCKS) as dealer:
            async with members.node("p1", clocks=CLOCKS) as node, node.session("j") as s:
                await follows(s, dealer, came)
            # A dealer that closes ends the session of a party that is not done.
            await asyncio.wrap_future(standing)

    def run():
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(stands_still())

    with ThreadPoolExecutor(1) as thread:
        standing = thread.submit(run)
        try:
            asyncio.run(others())
        finally:
            came.set()
        standing.result()
