"""Sets of parties that use one name for their jobs do not affect each other at the dealer (invariants 15, 21)."""

from __future__ import annotations

import asyncio
import logging

import pytest

import protocols
from mpc.messaging.agreement import GAVE_UP
from mpc.network.mesh import Clocks
from mpc.preprocessing.dealer import DONE, JOINING, RUNNING
from tests.test_agreement import nodes, run
from tests.test_members_that_cheat import connected, join
from tests.waiting import turns, until

CLOCKS = Clocks(join=20.0, lost=20.0, stall=20.0)
"""Guards: no test here waits for one of them."""


def states(dealer):
    return [(each.job, each.parties, each.state) for each in dealer.dealer.served]


async def both_run(*pair, job="j"):
    """The parties of `pair` agree on a job among themselves, and compute."""
    names = [node.mesh.identity.name for node in pair]
    results = await asyncio.gather(*(run(node, job, parties=names) for node in pair))
    assert [value for value, _ in results] == [2.0, 2.0]


async def nothing_is_kept(*opened):
    """Wait until no node keeps anything of jobs that are over."""
    await until(lambda: not any(node._lobby._jobs or node._lobby._last or node._lobby._news for node in opened))
    await until(lambda: not opened[-1].dealer._jobs)


async def test_two_pairs_run_jobs_of_one_name_at_once():
    over = asyncio.Event()
    async with nodes(4, CLOCKS) as opened:

        async def held(node):
            async with node.session("j", parties=["p0", "p1"]) as s:
                await over.wait()
                return (await protocols.secure_sum(s, [1.0]))[0]

        running = [asyncio.create_task(held(node)) for node in opened[:2]]
        await until(lambda: states(opened[-1]) == [("j", ("p0", "p1"), RUNNING)])
        await both_run(*opened[2:4])
        await until(lambda: states(opened[-1]) == [("j", ("p0", "p1"), RUNNING), ("j", ("p2", "p3"), DONE)])
        over.set()
        assert await asyncio.gather(*running) == [2.0, 2.0]
        await nothing_is_kept(*opened)


async def test_who_waits_for_somebody_blocks_a_name_for_nobody_else():
    async with nodes(4, CLOCKS) as opened:
        waits = asyncio.create_task(run(opened[2], parties=["p2", "p3"]))
        await until(lambda: states(opened[-1]) == [("j", ("p2", "p3"), JOINING)])
        await both_run(*opened[:2])
        assert not waits.done()
        assert (await run(opened[3], parties=["p2", "p3"]))[0] == (await waits)[0] == 2.0
        await nothing_is_kept(*opened)


@pytest.mark.parametrize("first", [True, False])
async def test_who_names_others_in_a_job_disturbs_none_that_these_have_without_it(first):
    """p0 tells all that they have a job of this name together, and later takes that back.

    It does so before the others begin their own job, or while they wait for each other.
    """
    async with nodes(3, CLOCKS) as opened:
        await connected(*opened)
        dealer, everyone = opened[-1], ("p0", "p1", "p2")

        async def names_all():
            join(opened[0], "j", everyone)
            await until(lambda: ("j", everyone, JOINING) in states(dealer))
            await turns()

        if first:
            await names_all()
            await until(lambda: all("the-dealer" in node._lobby.attempt("j").joins for node in opened[1:3]))
        early = asyncio.create_task(run(opened[1], parties=["p1", "p2"]))
        await until(lambda: ("j", ("p1", "p2"), JOINING) in states(dealer))
        if not first:
            await names_all()
        assert (await run(opened[2], parties=["p1", "p2"]))[0] == (await early)[0] == 2.0
        await both_run(*opened[1:3])
        opened[0].mesh.channel("the-dealer").control(kind="withdraw", job="j", reason=GAVE_UP, party="p0", answers=b"")
        await nothing_is_kept(*opened)


async def test_who_is_in_another_job_of_this_name_is_waited_for():
    async with nodes(3, CLOCKS) as opened:
        waits = asyncio.create_task(run(opened[0], parties=["p0", "p1"]))
        await until(lambda: "the-dealer" in opened[1]._lobby.attempt("j").joins)
        await both_run(*opened[1:3])
        assert not waits.done()
        assert (await run(opened[1], parties=["p0", "p1"]))[0] == (await waits)[0] == 2.0
        await nothing_is_kept(*opened)


async def test_members_out_of_order_are_no_members(caplog):
    caplog.set_level(logging.INFO)
    async with nodes(2, CLOCKS) as opened:
        await connected(*opened)
        channel = opened[0].mesh.channel("the-dealer")
        plain = channel.control
        channel.control = lambda **body: plain(**(body | {"members": ["p1", "p0", "the-dealer"]}))
        join(opened[0], "j", ("p0", "p1"))
        await until(lambda: "proposed a job with members in another order than all have" in caplog.text)
        assert states(opened[-1]) == []
