"""Cancelling an op at any point ends its session at every party at once (see also test_agreement, test_ops_groups)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
from mpc import engine
from mpc.errors import ProgramError
from mpc.messaging import exchange
from mpc.network.mesh import Clocks
from mpc.testing import simulate
from tests.waiting import turns

CLOCKS = Clocks(join=30.0, lost=30.0, stall=30.0)


def cancelling(monkeypatch, module, name, at):
    """The `at`-th call of asyncio's function `name` in this module finds its task cancelled."""
    plain, calls = getattr(asyncio, name), []

    class Asyncio:
        def __getattr__(self, other):
            return getattr(asyncio, other)

    async def cancelled(*arguments):
        calls.append(arguments)
        if len(calls) == at:
            asyncio.current_task().cancel()
        return await plain(*arguments)

    stand_in = Asyncio()
    setattr(stand_in, name, cancelled)
    monkeypatch.setattr(module, "asyncio", stand_in)


async def program(s):
    x = s.zero((8, 8)).add_own(s.encode(np.eye(8))).assume_bound(8.0, "units")
    try:
        product = await asyncio.create_task(product_of(s, x))
    except asyncio.CancelledError:
        product = x
    return await s.reveal(product)


@mpc.protocol
async def product_of(s, x):
    if s.index == 0:
        # What its peer sends for the product is here when it begins.
        await turns()
    return await mpc.matmul(s, x, x)


def test_an_op_whose_kernel_is_in_a_thread(monkeypatch):
    monkeypatch.setattr(engine, "THREAD_WORK", 0)
    cancelling(monkeypatch, engine, "to_thread", 1)
    with pytest.raises(ProgramError, match=r"an op was cancelled at product_of.0/matmul.0, so this session ended at every party"):
        simulate(2, program, clocks=CLOCKS)


def test_an_op_that_has_all_messages_and_lets_others_have_a_turn(monkeypatch):
    cancelling(monkeypatch, exchange, "sleep", 1)
    with pytest.raises(ProgramError, match=r"an op was cancelled at product_of.0/matmul.0, so this session ended at every party"):
        simulate(2, program, clocks=CLOCKS)


async def halfway(s):
    part = asyncio.create_task(alone(s))
    await turns()
    if s.index == 0:
        part.cancel()
    await asyncio.gather(part, return_exceptions=True)
    return await s.reveal(s.zero(2))


@mpc.protocol
async def alone(s):
    if s.index == 0:
        # Of the program's own, and not an op.
        await asyncio.Event().wait()
    return await s.reveal(s.zero(1))


async def reads_words_on_their_way(s):
    x = s.zero(4).add_own(s.encode(np.ones(4))).assume_bound(8.0, "units")
    product = await mpc.mul(s, x, x)
    reading = asyncio.create_task(s.made(product))
    await asyncio.sleep(0)
    if s.index == 0:
        reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return await s.reveal(product)


@pytest.mark.parametrize(("cancels", "where"), [(halfway, "alone.0"), (reads_words_on_their_way, "the program")])
def test_a_call_that_is_cancelled_as_it_waits_for_something_else(cancels, where):
    with pytest.raises(ProgramError, match=f"an op was cancelled at {where}, so this session ended at every party"):
        simulate(2, cancels, clocks=CLOCKS)


@mpc.protocol
async def local_work_first(s, x, is_done):
    await is_done.wait()
    return await mpc.square(s, x)


@mpc.protocol
async def several(s, x, is_done):
    is_done.set()
    return sum(await asyncio.gather(*(mpc.square(s, x) for _ in range(3))))


@pytest.mark.parametrize("call", [local_work_first, several], ids=lambda call: call.__name__)
def test_a_call_that_waits_for_no_message(call):
    """The call waits for work of its own, or for calls that have not begun; its peers wait for what it does no more."""

    async def cancels(s):
        x, is_done = s.zero(3).assume_bound(1.0, "zeros"), asyncio.Event()
        task = asyncio.create_task(call(s, x, is_done))
        if s.index == 0:
            await (is_done.wait() if call is several else turns())
            task.cancel()
        else:
            is_done.set()
        await asyncio.gather(task, return_exceptions=True)
        return await s.reveal(x)

    with pytest.raises(ProgramError, match=rf"an op was cancelled at {call.__name__}.0, so this session ended at every party"):
        simulate(2, cancels, clocks=CLOCKS)


@pytest.mark.parametrize(
    ("more", "text"), [(0, "finished its program while this party still waits for it at reveal.0"), (1, "their programs went apart")]
)
def test_a_call_that_had_not_begun_is_missed_at_the_end_or_after_the_clock_stall(more, text):
    """Python throws into it before a line of it has run, so that nobody can be told."""

    async def cancels(s):
        x = s.zero(1)
        task = asyncio.create_task(s.reveal(x))
        if s.index == 0:
            task.cancel()
        await asyncio.wait([task])
        for _ in range(more):
            await s.reveal(x)

    with pytest.raises(mpc.Disagreement, match=text):
        simulate(2, cancels, clocks=Clocks(join=30.0, lost=30.0, stall=0.5 if more else 30.0))
