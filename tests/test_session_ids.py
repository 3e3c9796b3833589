"""Frames name a session by a short id; two sessions with equal short ids never share a channel."""

from __future__ import annotations

import asyncio

import protocols
from mpc.messaging import agreement
from mpc.messaging.job import session_id
from tests.test_agreement import nodes, run
from tests.waiting import until


async def test_a_session_whose_id_begins_as_that_of_another_gets_another_id(monkeypatch):
    """Frames name a session by 4 bytes, so a running session would lose its messages to a new one with the same 4."""
    first = {}

    def alike(job, nonces):
        session = session_id(job, nonces)
        before = first.setdefault(job.name, (nonces, session))
        return first["one"][1][:4] + session[4:] if before[0] == nonces else session

    monkeypatch.setattr(agreement, "session_id", alike)
    over = asyncio.Event()

    async def lasting(node):
        async with node.session("one") as s:
            await protocols.secure_sum(s, [1.0])
            await over.wait()
            return (await protocols.secure_sum(s, [2.0]))[0]

    async with nodes(3) as (*parties, _):
        running = [asyncio.create_task(lasting(node)) for node in parties]
        await until(lambda: "one" in first)
        results = await asyncio.gather(*(run(node, "two") for node in parties))
        assert [value for value, _ in results] == [3.0] * 3
        assert results[0][1].session[:4] != first["one"][1][:4]
        over.set()
        assert await asyncio.gather(*running) == [6.0] * 3
