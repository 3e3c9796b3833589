"""All links keep one contract: TCP, memory and MQTT brokers, on asyncio's loop and on uvloop (invariants 18, 21, 27)."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import asynccontextmanager

import pytest
import uvloop

from mpc import ConfigError, PeerMisbehaved
from mpc.membership.identity import Identity
from mpc.membership.members import Member
from mpc.network.delayed import DelayedLink
from mpc.network.ways import unreachable
from mpc.prg import Stream
from mpc.testing.schedule import Delays
from mpc.transport.link import HIGH_WATER, MAX_FRAME
from mpc.transport.memory import MemoryLink, memory_pair
from mpc.transport.relayed import RelayedLink, RelayedMessage
from mpc.transport.tcp import TcpListener, TcpNetwork, dial
from tests.brokers import BROKERS, meeting
from tests.error_rows import row_of

LINKS = ["its endpoint in the roster: REASON"]
"""Rows of docs/errors.md that this file provokes."""

DISTANCE = 0.02
"""Seconds one way."""


class Inbox:
    """Collects what one end of a link hears."""

    def __init__(self, link):
        self.link, self.frames, self.closed, self.reason, self.writable = link, [], 0, None, 0
        self.news = asyncio.Event()
        link.start(self.frame, self.end, self.room)

    def frame(self, data):
        assert not self.closed
        self.frames.append(bytes(data))
        self.news.set()

    def end(self, reason):
        self.closed += 1
        self.reason = reason
        self.news.set()

    def room(self):
        self.writable += 1
        self.news.set()

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition(self):
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def tcp_links(folder):
    accepted = asyncio.get_running_loop().create_future()
    listener = await TcpListener.listen(accepted.set_result, endpoint=("127.0.0.1", 0))
    near = await dial(*listener.address)
    far = await accepted
    await listener.close()
    yield near, far


@asynccontextmanager
async def memory_links(folder):
    yield memory_pair("near", "far")


@asynccontextmanager
async def delayed_links(folder):
    yield memory_pair("near", "far", schedule=Delays(7, "test"))


@asynccontextmanager
async def far_links(folder):
    async with tcp_links(folder) as (near, far):
        yield DelayedLink(near, DISTANCE), DelayedLink(far, DISTANCE)


def links_at(kind):
    @asynccontextmanager
    async def links(folder):
        async with BROKERS[kind](folder) as broker, meeting(broker.relay) as (near, far):
            yield near, far

    return links


KINDS = {
    "tcp": (tcp_links, None),
    "tcp on uvloop": (tcp_links, uvloop.new_event_loop),
    "tcp over a distance": (far_links, None),
    "tcp over a distance on uvloop": (far_links, uvloop.new_event_loop),
    "memory": (memory_links, None),
    "delayed memory": (delayed_links, None),
    "mqtt by amqtt": (links_at("amqtt"), None),
    "mqtt by mosquitto": (links_at("mosquitto"), None),
    "mqtt by mosquitto on uvloop": (links_at("mosquitto"), uvloop.new_event_loop),
}


@pytest.fixture(params=KINDS)
def on_links(request, tmp_path):
    connect, factory = KINDS[request.param]

    def run(body):
        async def whole():
            async with connect(tmp_path) as (near, far):
                await body(near, far)
                for link in (near, far):
                    link.abort()
                    await asyncio.wait_for(link.wait_closed(), 5)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(whole())
        # What was forgotten is told here, and in no other test.
        gc.collect()

    return run


def test_frames_arrive_whole_in_order_both_ways(on_links):
    stream = Stream(bytes(32), ("frames",))
    sizes = [1, 3, 65_530, 65_531, 65_532, 65_536, 200_000, MAX_FRAME, 5, 1_000_000]
    frames = [stream.words(0, (MAX_FRAME // 8 + 1,)).tobytes()[:size] for size in sizes]

    async def body(near, far):
        there, here = Inbox(far), Inbox(near)
        for frame in frames:
            near.send(frame[: len(frame) // 2], memoryview(frame)[len(frame) // 2 :])
            far.send(frame)
        await there.until(lambda box: len(box.frames) == len(frames))
        await here.until(lambda box: len(box.frames) == len(frames))
        assert there.frames == here.frames == frames

    on_links(body)


def test_a_frame_that_is_longer_than_may_come_now_ends_the_link(on_links):
    async def body(near, far):
        far.largest = 1000
        there = Inbox(far)
        for size in (1000, 1001):
            near.send(bytes(size))
        if isinstance(far, MemoryLink):
            # Nothing is announced, and no place made for it.
            await there.until(lambda box: len(box.frames) == 2)
            return
        await there.until(lambda box: box.closed)
        assert there.frames == [bytes(1000)]
        assert row_of("announced a frame").shows(str(there.reason))

    on_links(body)


def test_an_empty_part_keeps_no_link_from_closing(on_links):
    """A loop that sends parts as they are never sends an empty one."""

    async def body(near, far):
        here, there = Inbox(near), Inbox(far)
        near.send(b"whole", b"")
        near.close()
        await there.until(lambda box: box.closed)
        await here.until(lambda box: box.closed)
        assert there.frames == [b"whole"]

    on_links(body)


def test_frames_sent_before_start_are_kept(on_links):
    async def body(near, far):
        near.send(b"early")
        near.send(b"bird")
        for _ in range(20):
            await asyncio.sleep(0)
        box = Inbox(far)
        await box.until(lambda box: len(box.frames) == 2)
        assert box.frames == [b"early", b"bird"]

    on_links(body)


class Nobody:
    """A carrier that leaves it to the test to carry."""

    def wants(self, link):
        """See Carrier."""

    def finished(self, link, *, tell):
        """See Carrier."""


def carry(link, to):
    while (message := link.next_message()) is not None:
        to.receive(RelayedMessage(memoryview(message)))


async def test_what_comes_between_a_start_and_its_first_turn_comes_after_what_came_before():
    """A loop may read from a socket before it runs what `call_soon` has queued."""
    near, far = (RelayedLink(Nobody(), 1, label, chunk=1 << 16, flight=1 << 20) for label in ("near", "far"))
    near.send(b"early")
    carry(near, far)
    box = Inbox(far)
    near.send(b"bird")
    carry(near, far)
    await box.until(lambda box: len(box.frames) == 2 or box.closed)
    assert (box.frames, box.reason) == ([b"early", b"bird"], None)
    for link in (near, far):
        link.abort()


def test_what_was_sent_before_close_still_arrives_then_both_hear_the_end_once(on_links):
    async def body(near, far):
        there, here = Inbox(far), Inbox(near)
        for number in range(50):
            near.send(b"%d" % number * 1000)
        near.close()
        near.send(b"after the end")
        await there.until(lambda box: box.closed)
        await here.until(lambda box: box.closed)
        assert len(there.frames) == 50
        near.close()
        near.abort()
        far.close()
        for link in (near, far):
            await asyncio.wait_for(link.wait_closed(), 20)
        assert (there.closed, here.closed) == (1, 1)
        assert not near.writable
        assert not far.writable

    on_links(body)


class Aborting(Inbox):
    """Aborts its link at the first frame."""

    def frame(self, data):
        super().frame(data)
        self.link.abort()


@pytest.mark.parametrize("closing", [False, True])
def test_no_frame_comes_after_an_abort(on_links, closing):
    """Thus a session that goes on over another link need not ask which link a frame came from."""

    async def body(near, far):
        # All are here when the first is handed over.
        for number in range(5):
            near.send(bytes([number]))
        if closing:
            near.close()
        inbox, other = Aborting(far), Inbox(near)
        await inbox.until(lambda it: it.closed)
        await other.until(lambda it: it.closed)
        assert inbox.frames == [bytes(1)]

    on_links(body)


def test_abort_ends_both_sides(on_links):
    async def body(near, far):
        there, here = Inbox(far), Inbox(near)
        near.abort()
        await there.until(lambda box: box.closed)
        await here.until(lambda box: box.closed)

    on_links(body)


def test_writable_follows_the_high_water_mark(on_links):
    async def body(near, far):
        here = Inbox(near)
        sent = 0
        while near.writable:
            near.send(bytes(1 << 18))
            sent += 1
            assert sent < 1000
        assert sent * (1 << 18) >= HIGH_WATER
        there = Inbox(far)
        await there.until(lambda box: len(box.frames) == sent)
        await here.until(lambda box: box.writable)
        assert near.writable

    on_links(body)


def test_oversized_frames_end_the_link_with_a_reason(on_links):
    async def body(near, far):
        there = Inbox(far)
        near.send(bytes(MAX_FRAME + 1))
        await there.until(lambda box: box.closed)
        assert isinstance(there.reason, PeerMisbehaved)
        assert there.frames == []

    on_links(body)


async def test_a_header_that_claims_4_gib_allocates_nothing():
    accepted = asyncio.get_running_loop().create_future()
    listener = await TcpListener.listen(accepted.set_result, endpoint=("127.0.0.1", 0))
    reader, writer = await asyncio.open_connection(*listener.address)
    box = Inbox(await accepted)
    writer.write(b"\xff\xff\xff\xff" + b"x" * 100)
    await box.until(lambda box: box.closed)
    assert "4294967295 bytes" in str(box.reason)
    assert len(box.link._buffer) <= 1 << 16
    assert await reader.read() == b""
    writer.close()
    await listener.close()


async def test_a_taken_port_is_a_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot listen on 127.0.0.1:.*another `listen`"):
        await TcpListener.listen(lambda link: None, endpoint=taken.getsockname())


async def test_the_port_is_free_again_after_close():
    listener = await TcpListener.listen(lambda link: None, endpoint=("127.0.0.1", 0))
    address = listener.address
    await listener.close()
    again = await TcpListener.listen(lambda link: None, endpoint=address)
    await again.close()


async def test_an_address_that_swallows_everything_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        member = Member("b", Identity.generate("b").public, deaf.getsockname())
        network, links = TcpNetwork(None, patience=0.5), []
        # Nobody accepts: what the queue has no room for gets no answer at all.
        async with asyncio.timeout(20):
            with pytest.raises(TimeoutError) as caught:
                while len(links) < 64:
                    links.append(await network.dial(member))
        for link in links:
            link.abort()
    fault = unreachable(member, caught.value)
    told = fault.text
    assert row_of(LINKS[0]).shows(str(fault))
    assert told == f"cannot be reached at 127.0.0.1:{member.endpoint[1]}, its endpoint in the roster: no answer within 0.5 s"
