"""Flow control: no order of waits makes a cycle, memory is bounded, and a peer that overruns its credit is cut off (invariants 21, 27)."""

from __future__ import annotations

import asyncio
import itertools
import random
import tracemalloc

import numpy as np
import pytest

from mpc import Disagreement, PeerLost, PeerMisbehaved, protocol
from mpc.channels.flow import BLOCK, CREDITS, TURN, Arrivals, Flow
from mpc.framing import wire
from mpc.naming.scope import current
from mpc.network.mesh import Clocks
from mpc.ring import WORD
from mpc.testing import simulate
from tests.error_rows import row_of

FLOW = ["messages ahead of this party", "without taking what this party has"]
"""Rows of docs/errors.md that this file provokes."""

WINDOW = 1 << 16
CLOCKS = Clocks(join=80.0, lost=80.0, stall=80.0)
SESSION, DIGEST = b"sess" + bytes(28), b"digestdigest"


@protocol
async def opened(s, words, turns):
    """Open `words` as they are, after some turns of the loop, so that parties start in different orders."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return await s._engine.exchange.open(current(s._ops), "test", words, [0], [], np.add)


def run(size, orders, seed=None):
    async def program(s):
        inputs = [np.full(size // 8, s.index + number, WORD) for number in range(len(orders[0]))]
        totals = await asyncio.gather(*(opened(s, words, 3 * turns) for words, turns in zip(inputs, orders[s.index], strict=True)))
        for number, total in enumerate(totals):
            assert total[0] == total[-1] == sum(range(s.n)) + s.n * number
            assert np.all(total == total[0])
        return True

    assert simulate(len(orders), program, window=WINDOW, seed=seed, clocks=CLOCKS) == [True] * len(orders)


@pytest.mark.parametrize("seed", [None, 5])
def test_four_gathered_openings_finish_in_every_order(seed):
    for order in itertools.permutations(range(4)):
        run(1 << 19, [range(4), order], seed)


def test_three_parties_in_three_orders():
    run(3 << 18, [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], seed=1)


def test_four_openings_of_64_mib_stay_below_three_times_their_size():
    size = 64 << 20
    tracemalloc.start()
    try:
        run(size, [[0, 1, 2, 3], [3, 2, 1, 0]])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 4 * 2 * size, f"peak is {peak / (8 * size):.2f} times the openings of both parties"


# -- one flow against a peer that does not keep to the rules -----------------------------------------------------


class Wire:
    """Carries one flow's frames to another flow, or keeps them."""

    def __init__(self):
        self.sent = []
        self.far = None

    def send(self, *parts):
        self.sent.append(b"".join(parts))

    def wants_pump(self, flow):
        while flow.pump():
            pass

    def deliver(self, flow):
        while self.sent:
            push(flow, self.sent.pop(0))


def push(flow, *frames):
    for frame in wire.parse(wire.record_head(0, 0) + b"".join(frames), 0, "peer"):
        flow.on_frame(frame)


class Bytes:
    def __init__(self):
        self.data = bytearray()

    def write(self, offset, data):
        assert offset == len(self.data)
        self.data += data


def tag(number):
    return b"sess" + number.to_bytes(8, "little")


@pytest.fixture
async def ends():
    wires = Wire(), Wire()
    return [(Flow(SESSION, "peer", outlet, WINDOW), outlet) for outlet in wires]


async def post(flow, number, total, digest=DIGEST):
    sink, arrivals = Bytes(), Arrivals(1)
    flow.post(tag(number), digest, total, sink, arrivals, f"op.{number}")
    return sink, arrivals.future


@pytest.mark.parametrize("posted_first", [True, False])
@pytest.mark.parametrize("size", [0, 8, WINDOW - 8, WINDOW, WINDOW + 8, 3 * BLOCK + 24])
async def test_messages_arrive_whole(ends, size, posted_first):
    (near, out), (far, back) = ends
    data = bytes(range(256)) * (size // 256 + 1)
    if posted_first:
        sink, done = await post(far, 1, size)
    near.send(tag(1), DIGEST, memoryview(data)[:size])
    out.deliver(far)
    if not posted_first:
        sink, done = await post(far, 1, size)
    back.deliver(near)
    out.deliver(far)
    await asyncio.wait_for(done, 1)
    assert sink.data == data[:size]
    await asyncio.wait_for(near.drained(), 1)


async def test_credit_comes_back_for_ever(ends):
    (near, out), (far, back) = ends
    for number in range(200):
        near.send(tag(number), DIGEST, memoryview(bytes(WINDOW // 4)))
        out.deliver(far)
        _, done = await post(far, number, WINDOW // 4)
        back.deliver(near)
        out.deliver(far)
        assert done.done()


async def test_what_was_consumed_comes_back_by_parts_of_the_window(ends):
    """Thus no more than a part of the window is ever idle."""
    (near, out), (far, back) = ends
    part = WINDOW // CREDITS
    for number in range(5 * CREDITS):
        near.send(tag(number), DIGEST, memoryview(bytes(part)))
        assert not near._unsent, "it did not fit into the window"
        out.deliver(far)
        await post(far, number, part)
        assert len(back.sent) == 1
        back.deliver(near)


async def test_a_full_window_never_blocks_a_posted_receive(ends):
    (near, out), (far, back) = ends
    for number in range(8):
        near.send(tag(number), DIGEST, memoryview(bytes(WINDOW)))
    out.deliver(far)
    for number in reversed(range(8)):
        _, done = await post(far, number, WINDOW)
        back.deliver(near)
        out.deliver(far)
        assert done.done()


@pytest.mark.parametrize("seed", range(40))
async def test_messages_of_many_frames_in_any_order_of_sends_posts_and_arrivals(seed):
    """Every message arrives whole, and all eager room comes back: at the end a whole window goes without any grant."""
    window, die = 3 * BLOCK, random.Random(seed)
    wires = Wire(), Wire()
    near, far = (Flow(SESSION, "peer", outlet, window) for outlet in wires)
    sizes = [die.choice([0, 8, BLOCK, BLOCK + 8, 2 * BLOCK, 5 * BLOCK + 3]) for _ in range(12)]
    data = [die.randbytes(size) for size in sizes]
    steps = [("send", number) for number in range(12)] + [("post", number) for number in range(12)]
    die.shuffle(steps)
    posted = {}

    def arrive(count):
        for _ in range(count):
            for outlet, to in zip(wires, (far, near), strict=True):
                if outlet.sent:
                    push(to, outlet.sent.pop(0))

    for what, number in steps:
        if what == "send":
            near.send(tag(number), DIGEST, memoryview(data[number]))
        else:
            posted[number] = await post(far, number, sizes[number])
        arrive(die.randrange(3))
    arrive(200)
    for number, (sink, done) in posted.items():
        assert done.done()
        assert sink.data == data[number]
    await near.drained()
    # Credit is returned by halves of the window; the rest is due with the next bytes.
    near.send(tag(99), DIGEST, memoryview(bytes(window)))
    wires[0].deliver(far)
    await post(far, 99, window)
    arrive(200)
    near.send(tag(100), DIGEST, memoryview(bytes(window // 2 + 8)))
    assert near._unsent == 0


async def test_messages_take_turns_of_many_blocks():
    """The first chunk of an op arrives while its others travel.

    A message that is larger than a turn does not make others wait until all of it is sent.
    """
    near_wire, far_wire = Wire(), Wire()
    near, far = Flow(SESSION, "peer", near_wire), Flow(SESSION, "peer", far_wire)
    near_wire.wants_pump = lambda flow: None
    for number in (1, 2):
        await post(far, number, 2 * TURN)
        near.send(tag(number), DIGEST, memoryview(bytes(2 * TURN)))
    while near.pump():
        pass
    blocks = TURN // BLOCK
    order = [1 if tag(1) in frame[:64] else 2 for frame in near_wire.sent]
    assert order == [1, 2, *[1] * (blocks - 1), *[2] * (blocks - 1), *[1] * blocks, *[2] * blocks]
    near_wire.deliver(far)
    assert far.waiting() is None


async def test_who_waits_until_little_is_left_waits_for_the_end_of_a_message():
    """Until its end all of a message stays in memory, however much of it has left."""
    wire = Wire()
    flow = Flow(SESSION, "peer", wire)
    wire.wants_pump = lambda flow: None
    for number, size in ((1, 3), (2, 4)):
        flow.send(tag(number), DIGEST, memoryview(bytes(size * BLOCK)))
    waits = asyncio.create_task(flow.drained(4 * BLOCK))
    for left in (4, 3):
        await asyncio.sleep(0)
        assert not waits.done()
        flow.pump()
        assert flow._unsent == left * BLOCK
    await waits
    await flow.drained(3 * BLOCK)


OVERRUN = {
    "more than the window": [wire.first(tag(1), DIGEST, WINDOW, WINDOW) + bytes(WINDOW), wire.first(tag(2), DIGEST, 8, 8) + bytes(8)],
    "the same tag twice": [wire.first(tag(1), DIGEST, 8, 8) + bytes(8)] * 2,
    "more than the window in several frames": [
        wire.first(tag(1), DIGEST, 2 * WINDOW, WINDOW) + bytes(WINDOW),
        wire.ahead(tag(1), 1) + bytes(1),
    ],
    "more than the message ahead": [wire.first(tag(1), DIGEST, 16, 8) + bytes(8), wire.ahead(tag(1), 16) + bytes(16)],
    "bytes ahead of a message that did not begin": [wire.ahead(tag(1), 8) + bytes(8)],
    "bytes ahead before the first": [wire.ahead(tag(7), 8) + bytes(8)],
    "bytes without grant": [wire.more(tag(1), 8) + bytes(8)],
    "a grant for nothing": [wire.grant(tag(1))],
    "credit for nothing": [wire.credit(b"sess", 1)],
    "too much": [wire.first(tag(7), DIGEST, 16, 8) + bytes(8), wire.more(tag(7), 16) + bytes(16)],
    "half a word": [wire.first(tag(7), DIGEST, 16, 4) + bytes(4)],
    "begun twice": [wire.first(tag(7), DIGEST, 16, 8) + bytes(8), wire.first(tag(7), DIGEST, 16, 8) + bytes(8)],
}


@pytest.mark.parametrize("what", OVERRUN)
async def test_overruns_are_misbehaviour(ends, what):
    (near, _), _ = ends
    await post(near, 7, 16)
    with pytest.raises(PeerMisbehaved):
        for frame in OVERRUN[what]:
            push(near, frame)


async def test_a_million_early_messages_are_bounded(ends):
    (near, _), _ = ends
    # A program that calls too many ops at once is no attack: only its session ends.
    with pytest.raises(Disagreement, match="is 65536 messages ahead of this party") as caught:
        for number in range(1 << 20):
            push(near, wire.first(tag(number), DIGEST, 0, 0))
    assert row_of(FLOW[0]).shows(str(caught.value))


async def test_early_bytes_in_tiny_frames_take_the_window_and_no_more(ends):
    (near, _), _ = ends
    push(near, wire.first(tag(1), DIGEST, WINDOW, 0))
    tracemalloc.start()
    try:
        for _ in range(WINDOW // 2):
            push(near, wire.ahead(tag(1), 1) + bytes(1))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < WINDOW
    with pytest.raises(PeerMisbehaved):
        push(near, wire.ahead(tag(1), WINDOW) + bytes(WINDOW))


@pytest.mark.parametrize(("digest", "total"), [(b"otherdigest!", 16), (DIGEST, 24)])
@pytest.mark.parametrize("posted_first", [True, False])
async def test_another_digest_or_size_is_a_disagreement_and_nothing_is_taken(ends, digest, total, posted_first):
    (near, _), _ = ends
    frame = wire.first(tag(1), digest, total, 16) + bytes(16)
    if posted_first:
        sink, done = await post(near, 1, 16)
        with pytest.raises(Disagreement, match=r"different program at op.1"):
            push(near, frame)
        assert sink.data == b""
        near.fail(Disagreement("peer", "x"))
        assert isinstance(done.exception(), Disagreement)
    else:
        push(near, frame)
        with pytest.raises(Disagreement, match=r"different program at op.1"):
            await post(near, 1, 16)


async def test_the_end_of_the_peer_while_something_is_due(ends):
    (near, _), _ = ends
    await post(near, 1, 16)
    with pytest.raises(Disagreement, match="still waits for it at op.1"):
        near.peer_finished()
    with pytest.raises(Disagreement, match="still waits for it at op.2"):
        await post(near, 2, 8)


@pytest.mark.parametrize("granted", [False, True])
async def test_the_end_of_the_peer_while_something_is_not_taken(ends, granted):
    """The end counts even for bytes that the peer has granted and for which the link has no room yet."""
    (near, out), _ = ends
    near.send(tag(1), DIGEST, memoryview(bytes(2 * WINDOW)))
    if granted:
        out.wants_pump = lambda flow: None
        push(near, wire.grant(tag(1)))
    with pytest.raises(Disagreement, match="without taking") as caught:
        near.peer_finished()
    assert row_of(FLOW[1]).shows(str(caught.value))


@pytest.mark.parametrize("taken", [True, False])
async def test_a_peer_that_took_all_may_go_before_we_notice(ends, taken):
    """All of a message left and the peer said goodbye before the task that waits for the message to leave runs again."""
    (near, out), (far, back) = ends
    near.send(tag(1), DIGEST, memoryview(bytes(2 * WINDOW)))
    waits = asyncio.create_task(near.drained())
    await asyncio.sleep(0)
    if taken:
        out.deliver(far)
        await post(far, 1, 2 * WINDOW)
        back.deliver(near)
        near.peer_finished()
    near.fail(PeerLost("peer", "closed the connection"))
    if taken:
        await waits
    else:
        with pytest.raises(PeerLost, match="closed the connection"):
            await waits
