"""Delayed links: every frame is late by the delay and no more; only benchmarks and tests can have such links."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from mpc.config import PartyConfig
from mpc.network import delayed
from mpc.network.delayed import DelayedLink, DelayedNetwork
from mpc.transport.tcp import TcpNetwork
from tests.test_layers import PRODUCT, imports, module_of
from tests.test_links import Inbox, tcp_links
from tests.waiting import until

DELAY = 0.1
MANY = 200


class Clocked(Inbox):
    """An inbox that also notes when each frame came."""

    def __init__(self, link):
        super().__init__(link)
        self.times = []

    def frame(self, data):
        self.times.append(delayed.time.monotonic())
        super().frame(data)


class Clock:
    """The time of delayed links, which stands still until it is set."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(delayed, "time", Clock())
    return delayed.time


@pytest.fixture(params=[None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def over_a_distance(request, tmp_path):
    def run(body):
        async def whole():
            async with tcp_links(tmp_path) as ends:
                near, far = (DelayedLink(end, DELAY) for end in ends)
                await body(near, far)
                for link in (near, far):
                    link.abort()
                    await asyncio.wait_for(link.wait_closed(), 5)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(whole())

    return run


def test_frames_travel_together(over_a_distance):
    async def body(near, far):
        there, _ = Clocked(far), Inbox(near)
        start = time.monotonic()
        for number in range(MANY):
            near.send(b"%d" % number)
        sent = time.monotonic()
        await there.until(lambda box: len(box.frames) == MANY)
        assert there.frames == [b"%d" % number for number in range(MANY)]
        assert min(there.times) >= start + DELAY
        # One after the other they would take MANY times as long.
        assert max(there.times) - sent < MANY * DELAY / 2
        assert far.heard >= near.heard

    over_a_distance(body)


def test_frames_overtake_nobody_who_left_later(over_a_distance, clock):
    async def body(near, far):
        there, _ = Clocked(far), Inbox(near)
        for number in range(5):
            clock.now = number * DELAY / 8
            near.send(b"%d" % number)
            await until(lambda number=number: len(far._coming) == number + 1)
        # All were on their way before the first had come.
        assert there.frames == []
        for number in range(5):
            clock.now = DELAY + number * DELAY / 8
            await there.until(lambda box, number=number: len(box.frames) > number)
        assert there.frames == [b"%d" % number for number in range(5)]
        assert there.times == [DELAY + number * DELAY / 8 for number in range(5)]

    over_a_distance(body)


def test_the_end_comes_behind_the_last_frame(over_a_distance):
    async def body(near, far):
        there, _ = Clocked(far), Inbox(near)
        start = time.monotonic()
        near.send(b"last words")
        near.close()
        await there.until(lambda box: box.closed)
        assert there.frames == [b"last words"]
        assert time.monotonic() >= start + DELAY

    over_a_distance(body)


def test_abort_loses_what_is_on_its_way_and_waits_for_nothing(over_a_distance, clock):
    async def body(near, far):
        there, _ = Clocked(far), Inbox(near)
        near.send(b"late")
        await until(lambda: far._coming)
        far.abort()
        # The clock stands still: nothing that is late would come.
        await there.until(lambda box: box.closed)
        clock.now = 2 * DELAY
        await until(lambda: far._timer is None)
        assert not far._coming
        assert (there.frames, there.closed) == ([], 1)

    over_a_distance(body)


async def test_a_frame_that_is_refused_holds_up_no_other(tmp_path):
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with tcp_links(tmp_path) as (near, end):
        far = DelayedLink(end, DELAY / 10)
        there = Clocked(far)
        take = there.frame

        def frame(data):
            if bytes(data) == b"bad":
                raise ValueError
            take(data)

        far._on_frame = frame
        near.send(b"bad")
        near.send(b"good")
        await there.until(lambda box: box.frames == [b"good"])
        near.abort()
        far.abort()


async def test_a_network_of_delayed_links():
    network = DelayedNetwork(TcpNetwork(("127.0.0.1", 0)), DELAY)
    accepted = asyncio.get_running_loop().create_future()
    await network.listen(accepted.set_result)
    address = network._network._listener.address
    near = await network.dial(type("Somebody", (), {"name": "b", "endpoint": address})())
    far = await accepted
    there, here = Clocked(far), Clocked(near)
    start = time.monotonic()
    near.send(b"there")
    await there.until(lambda box: box.frames)
    far.send(b"and back")
    await here.until(lambda box: box.frames)
    assert here.times[0] >= start + 2 * DELAY
    for link in (near, far):
        link.abort()
        await link.wait_closed()
    await network.close()


def test_no_configuration_enables_it():
    users = {module_of(path) for path in PRODUCT for wanted, _ in imports(path) if wanted == "mpc.network.delayed"}
    assert users == {"parties.bench.member"}
    assert not any("delay" in field or "rtt" in field for field in PartyConfig.model_fields)
