"""Whatever a broker or its other clients do, frames come exactly once and in order, or the link ends (invariants 13, 14, 18)."""

from __future__ import annotations

import asyncio
import itertools
import re
from contextlib import asynccontextmanager

import aiomqtt
import numpy as np
import pytest

from mpc.errors import ProgramError
from mpc.membership.identity import Identity
from mpc.membership.members import Member
from mpc.prg import Stream
from mpc.transport import envelopes
from mpc.transport.associations import MAX_ASSOCIATIONS, MAX_RESETS
from mpc.transport.envelopes import Pair, sender
from mpc.transport.link import HIGH_WATER
from mpc.transport.multiplexer import Multiplexer
from mpc.transport.outgoing import OutgoingStream
from mpc.transport.relayed import _MESSAGE, MessageKind
from tests.brokers import Mosquitto, meeting
from tests.test_links import Inbox
from tests.waiting import until

FRAMES = [Stream(bytes(32), ("hostile", number)).words(0, (size,)).tobytes() for number, size in enumerate([1, 300, 20_000, 5, 70_000] * 4)]


class Postman:
    """Carries the messages of two multiplexers; `treat` turns each (number, topic, payload) into what arrives."""

    def __init__(self, multiplexers, treat):
        self.multiplexers, self.treat, self.seen, self.tasks = multiplexers, treat, [], []
        self.numbers = itertools.count()

    async def carry(self, multiplexer):
        while True:
            multiplexer.work.clear()
            multiplexer.subscriptions.clear()
            while (message := multiplexer.next_message()) is not None:
                self.seen.append(message)
                for topic, payload in self.treat(next(self.numbers), *message):
                    for each in self.multiplexers:
                        each.arrived(topic, payload)
                await asyncio.sleep(0)
            await multiplexer.work.wait()

    async def tick(self):
        while True:
            await asyncio.sleep(0.02)
            for multiplexer in self.multiplexers:
                multiplexer.tick()


@asynccontextmanager
async def delivered(treat, *, patience=10.0):
    identities = {name: Identity.generate(name) for name in "ab"}
    members = {name: Member(name, identities[name].public, None) for name in "ab"}
    multiplexers = [Multiplexer("the relay", identities[me], [members[other]], patience, 1 << 14) for me, other in ("ab", "ba")]
    postman = Postman(multiplexers, treat)
    accepted = asyncio.get_running_loop().create_future()
    multiplexers[1].on_link = accepted.set_result
    for multiplexer, other in zip(multiplexers, reversed(multiplexers), strict=True):
        for topic, payload in multiplexer.announcements(bytes(16)):
            other.arrived(topic, payload)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in (*map(postman.carry, multiplexers), postman.tick())]
        near = await multiplexers[0].dial(members["b"])
        yield postman, near, await asyncio.wait_for(accepted, 10)
        for task in tasks:
            task.cancel()


async def exactly_once(near, far):
    here, there = Inbox(near), Inbox(far)
    for frame in FRAMES:
        near.send(frame)
        far.send(frame[::-1])
    await there.until(lambda box: len(box.frames) >= len(FRAMES) or box.closed)
    await here.until(lambda box: len(box.frames) >= len(FRAMES) or box.closed)
    assert there.frames == FRAMES
    assert here.frames == [frame[::-1] for frame in FRAMES]
    near.close()
    await there.until(lambda box: box.closed)
    await here.until(lambda box: box.closed)
    assert (here.closed, there.closed, here.reason, there.reason) == (1, 1, None, None)


def dropped(rng):
    return lambda number, topic, payload: [] if number and rng.random() < 0.05 else [(topic, payload)]


def doubled(rng):
    return lambda number, topic, payload: [(topic, payload)] * 3


def overtaken(rng):
    held = []

    def treat(number, topic, payload):
        if not held and rng.random() < 0.2:
            held.append((topic, payload))
            return []
        out = [(topic, payload), *held]
        held.clear()
        return out

    return treat


def replayed(rng):
    old = []

    def treat(number, topic, payload):
        old.append((topic, payload))
        return [(topic, payload), *(old[index] for index in rng.integers(0, len(old), 3))]

    return treat


def forged(rng):
    def treat(number, topic, payload):
        flipped = bytearray(payload)
        flipped[rng.integers(len(flipped))] ^= 1
        cut = payload[: rng.integers(len(payload))]
        return [(topic, bytes(flipped)), (topic, cut), (topic, rng.bytes(80)), (topic, b""), (topic, payload)]

    return treat


def reflected(rng):
    topics = set()

    def treat(number, topic, payload):
        topics.add(topic)
        return [(each, payload) for each in sorted(topics)]

    return treat


@pytest.mark.parametrize("attack", [dropped, doubled, overtaken, replayed, forged, reflected])
@pytest.mark.parametrize("seed", [1, 2])
async def test_frames_come_exactly_once_under(attack, seed):
    async with asyncio.timeout(40), delivered(attack(np.random.default_rng(seed))) as (_, near, far):
        await exactly_once(near, far)


async def test_a_broker_that_silently_drops_large_messages_gets_smaller_ones():
    def treat(number, topic, payload):
        return [(topic, payload)] if len(payload) < 9000 else []

    async with asyncio.timeout(40), delivered(treat) as (postman, near, far):
        here, there = Inbox(near), Inbox(far)
        near.send(bytes(100_000))
        await there.until(lambda box: box.frames)
        assert here.closed == 0
        assert max(len(payload) for _, payload in postman.seen[-5:]) < 5000


async def test_a_link_whose_peer_falls_silent_for_good_ends_with_a_reason_when_the_relay_is_gone():
    async with delivered(lambda number, topic, payload: [(topic, payload)]) as (postman, near, far):
        boxes = Inbox(near), Inbox(far)
        await until(lambda: near.answered and far.answered)
        for multiplexer in postman.multiplexers:
            multiplexer._patience = 0.3
        postman.treat = lambda number, topic, payload: []
        for multiplexer in postman.multiplexers:
            multiplexer.down()
        for box, other in zip(boxes, "ba", strict=True):
            await box.until(lambda box: box.closed)
            text = "is cut off: the relay was out of reach for 0.3 s; start the broker again, or mend the way to it"
            assert str(box.reason) == f"{other}: {text}"
            assert box.closed == 1


async def test_what_comes_before_a_link_is_started_is_kept_up_to_a_limit_and_then_sent_again():
    async with asyncio.timeout(60), delivered(lambda number, topic, payload: [(topic, payload)]) as (_, near, far):
        frames, beyond = [bytes([number]) * 30_000 for number in range(HIGH_WATER // 30_000 + 5)], []
        plain = far.receive

        def watched(message):
            before = far._incoming.expected
            plain(message)
            if message.kind is MessageKind.DATA and message.offset == before == far._incoming.expected:
                beyond.append(message.offset)

        far.receive = watched
        here = Inbox(near)
        for frame in frames:
            near.send(frame)
        await until(lambda: beyond)
        assert len(far._early) <= HIGH_WATER
        there = Inbox(far)
        await there.until(lambda box: len(box.frames) == len(frames))
        assert there.frames == frames
        assert not here.closed


async def test_an_opening_is_taken_once_however_often_it_is_repeated():
    async with delivered(lambda number, topic, payload: [(topic, payload)]) as (postman, near, far):
        here, there = Inbox(near), Inbox(far)
        near.abort()
        await there.until(lambda box: box.closed)
        links = []
        postman.multiplexers[1].on_link = links.append
        for message in tuple(postman.seen):
            postman.multiplexers[1].arrived(*message)
        assert links == []
        assert here.closed


async def test_a_repeated_old_presence_costs_no_link_but_a_peer_that_started_again_ends_it(monkeypatch):
    # Longer than this test may take: an answer alone ends the doubt.
    monkeypatch.setattr("mpc.transport.multiplexer._NEWCOMER", 600.0)
    async with delivered(lambda number, topic, payload: [(topic, payload)]) as (postman, near, far):
        box, _ = Inbox(near), Inbox(far)
        peer = postman.multiplexers[0]._peers[0]
        old = peer.pair.presence_inbound
        theirs = postman.multiplexers[1]._peers[0].pair
        another = Pair.__new__(Pair)
        another.__dict__.update(theirs.__dict__, process=b"x" * 16)
        postman.multiplexers[0].arrived(old, another.announce(bytes(16), bytes(16)))
        assert near._doubt is not None
        await until(lambda: near._doubt is None)
        assert box.closed == 0
        postman.treat = lambda number, topic, payload: []
        monkeypatch.setattr("mpc.transport.multiplexer._NEWCOMER", 0.1)
        postman.multiplexers[0].arrived(old, another.announce(bytes(16), b"t" * 16))
        await box.until(lambda box: box.closed)
        assert str(box.reason) == "b: was started again"


def ask_after(multiplexer, pair, envelopes, link):
    """The answer of `multiplexer` to a process of its peer that asks about a link which it never opened."""
    multiplexer.arrived(pair.outbound, envelopes.seal(_MESSAGE.pack(MessageKind.PROBE, link, 0, 0)))
    _, answer = multiplexer.next_message()
    return answer


async def test_a_member_that_says_that_it_was_started_again_and_again_is_not_remembered_without_end():
    a, b = Identity.generate("a"), Identity.generate("b")
    multiplexer = Multiplexer("the relay", a, [Member("b", b.public, None)], 10.0, 1 << 14)
    multiplexer.on_link = lambda link: None
    (peer,) = multiplexer._peers
    topics = len(multiplexer.topics)
    asked = []
    for number in range(4 * MAX_ASSOCIATIONS):
        pair = Pair(b, "a", a.curve_public, number.to_bytes(16, "big"))
        asked.append((pair, pair.envelopes(peer.pair.process)))
        assert sender(ask_after(multiplexer, *asked[-1], 4)) == peer.pair.process
        multiplexer.arrived(pair.presence_outbound, pair.announce(number.to_bytes(16, "little"), b"t" * 16))
    assert len(peer.associations) == MAX_ASSOCIATIONS
    assert len(multiplexer.topics) == topics + 1
    assert len(multiplexer.subscriptions) == 1
    # The very first one, forgotten by now, has the same keys as ever: nothing may be sealed with a number that was used.
    numbers = [int.from_bytes(ask_after(multiplexer, *asked[0], 4)[16:24], "big") for _ in range(2)]
    assert numbers == [4 * MAX_ASSOCIATIONS + 1, 4 * MAX_ASSOCIATIONS + 2]


async def test_a_process_with_a_link_is_remembered_whatever_others_of_its_member_say():
    async with delivered(lambda number, topic, payload: [(topic, payload)]) as (postman, near, far):
        here, there = Inbox(near), Inbox(far)
        (peer,) = postman.multiplexers[1]._peers
        ours = postman.multiplexers[0]._peers[0].pair
        for number in range(2 * MAX_ASSOCIATIONS):
            other = Pair.__new__(Pair)
            other.__dict__.update(ours.__dict__, process=number.to_bytes(16, "big"))
            ask_after(postman.multiplexers[1], other, other.envelopes(peer.pair.process), 5)
        assert len(peer.associations) == MAX_ASSOCIATIONS
        assert ours.process in peer.associations
        near.send(b"still here")
        await there.until(lambda box: box.frames)
        assert there.frames == [b"still here"]
        assert here.closed == there.closed == 0


async def test_a_member_with_many_farewells_is_listened_to_at_the_last_one():
    a, b = Identity.generate("a"), Identity.generate("b")
    multiplexer = Multiplexer("the relay", a, [Member("b", b.public, None)], 10.0, 1 << 14)
    there = Pair(b, "a", a.curve_public, bytes(16))
    before, (peer,) = len(multiplexer.topics), multiplexer._peers
    for number in range(50):
        farewell = number.to_bytes(16, "big")
        multiplexer.arrived(there.presence_outbound, there.announce(farewell, b"gone"))
    assert multiplexer.subscriptions == [envelopes.topic(farewell)]
    assert len(multiplexer.topics) == before + 1
    assert peer.here
    multiplexer.arrived(envelopes.topic(bytes(16)), b"gone")
    assert peer.here
    multiplexer.arrived(envelopes.topic(farewell), b"gone")
    assert not peer.here


async def test_a_member_that_names_the_farewell_of_another_makes_nobody_deaf_to_it():
    a, b, m = (Identity.generate(name) for name in "abm")
    multiplexer = Multiplexer("the relay", a, [Member("m", m.public, None), Member("b", b.public, None)], 10.0, 1 << 14)
    cheat, honest = (Pair(who, "a", a.curve_public, bytes(16)) for who in (m, b))
    topic = envelopes.farewell_topic(b)
    for number in range(50):
        for named in (envelopes.named(topic), number.to_bytes(16, "big")):
            multiplexer.arrived(cheat.presence_outbound, cheat.announce(named, b"gone"))
            multiplexer.arrived(honest.presence_outbound, honest.announce(envelopes.named(topic), b"the token"))
    assert multiplexer.subscriptions.count(topic) == 1
    assert len(multiplexer.subscriptions) <= 2
    assert all(peer.here for peer in multiplexer._peers)
    multiplexer.arrived(topic, b"the token")
    assert [peer.here for peer in multiplexer._peers] == [True, False]


async def test_a_member_that_asks_after_links_without_end_fills_no_memory_while_nothing_leaves():
    a, b = Identity.generate("a"), Identity.generate("b")
    multiplexer = Multiplexer("the relay", a, [Member("b", b.public, None)], 10.0, 1 << 14)
    (peer,) = multiplexer._peers
    pair = Pair(b, "a", a.curve_public, bytes(16))
    sealed = pair.envelopes(peer.pair.process)
    for link in range(0, 20 * MAX_RESETS, 2):
        multiplexer.arrived(pair.outbound, sealed.seal(_MESSAGE.pack(MessageKind.PROBE, link, 0, 0)))
    answers = []
    while (message := multiplexer.next_message()) is not None:
        answers.append(message)
    assert len(answers) == MAX_RESETS


def test_envelopes_open_once_in_order_at_the_right_process_only():
    a, b = Identity.generate("a"), Identity.generate("b")
    here, there = Pair(a, "b", b.curve_public, b"A" * 16), Pair(b, "a", a.curve_public, b"B" * 16)
    assert (here.outbound, here.presence_outbound) == (there.inbound, there.presence_inbound)
    assert len({here.outbound, here.inbound, here.presence_outbound, here.presence_inbound}) == 4
    mine, theirs = here.envelopes(b"B" * 16), there.envelopes(b"A" * 16)
    first, second = mine.seal(b"one"), mine.seal(b"two")
    assert sender(first) == b"A" * 16
    assert bytes(theirs.open(second)) == b"two"
    assert theirs.open(first) is None
    assert theirs.open(second) is None
    assert mine.open(mine.seal(b"back")) is None
    assert Pair(b, "a", a.curve_public, b"C" * 16).envelopes(b"A" * 16).open(mine.seal(b"x")) is None
    mine._pid += 1
    with pytest.raises(ProgramError, match="forked"):
        mine.seal(b"x")


def test_what_was_never_sent_cannot_be_acknowledged():
    out = OutgoingStream(1024, 4)
    out.write(bytes(5000))
    assert [len(out.take(0.0).data) for _ in range(4)] == [1024] * 4
    assert out.take(0.0) is None
    out.acknowledge(1 << 60, 0.0)
    out.acknowledge(5000, 0.0)
    assert out.take(0.0) is None
    out.acknowledge(1024, 0.0)
    assert out.take(0.0).offset == 4096
    assert not out.done


async def test_what_a_broker_takes_counts_for_one_connection_and_never_keeps_all_back():
    async with delivered(lambda number, topic, payload: [(topic, payload)]) as (postman, _, _):
        multiplexer = postman.multiplexers[0]
        chunk = multiplexer.chunk
        for largest in (100, 5000, float("inf")):
            multiplexer.up(largest)
            out = OutgoingStream(multiplexer.chunk, 4)
            out.write(bytes(1 << 15))
            assert len(out.take(0.0).data) == max(multiplexer.chunk, 1024)
            multiplexer.down()
        assert multiplexer.chunk == chunk


async def test_a_client_of_the_broker_that_hears_everything_can_neither_read_nor_harm(tmp_path):
    """The client repeats, alters and invents messages on every topic that it sees."""
    async with Mosquitto(tmp_path) as broker, aiomqtt.Client(broker.relay.host, broker.relay.port) as spy:
        await spy.subscribe("#")
        heard = []

        async def meddle():
            async for message in spy.messages:
                heard.append((message.topic.value, message.payload))
                if len(heard) < 400 and message.payload and not over.is_set():
                    altered = bytes([message.payload[0] ^ 1]) + message.payload[1:]
                    for payload in (message.payload, altered, b"rubbish"):
                        await spy.publish(message.topic.value, payload)

        over = asyncio.Event()
        meddler = asyncio.create_task(meddle())
        async with asyncio.timeout(40), meeting(broker.relay, names=("alice", "bob")) as (near, far):
            await exactly_once(near, far)
            over.set()
        meddler.cancel()
        await asyncio.gather(meddler, return_exceptions=True)
        assert all(re.fullmatch("b/[0-9a-f]{32}", topic) for topic, _ in heard)
        everything = b"".join(payload for _, payload in heard)
        assert b"alice" not in everything and FRAMES[2][:100] not in everything
