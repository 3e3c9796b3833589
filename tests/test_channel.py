"""Live channels under attack: who may speak, who may displace whom, and what each side reports (invariants 13-18, 23)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mpc.channels.channel import Channel
from mpc.framing import handshake, wire
from mpc.framing.greeting import MAX_GREETING
from mpc.framing.handshake import KK
from mpc.framing.records import Sealer
from mpc.membership.identity import Identity
from mpc.network.mesh import Clocks, Mesh
from mpc.testing.simulate import MemoryNetwork
from mpc.transport.memory import memory_pair
from mpc.transport.tcp import TcpListener, dial
from tests.attackers import KeyThief, flipped
from tests.channels import CLOCKS, Owner, Raw, connected, greet, hello, live, people, responder
from tests.error_rows import row_of
from tests.waiting import until


async def test_two_channels_find_each_other():
    (a, b), roster = people("a", "b")
    near, far = memory_pair("near", "far")
    owner_a, owner_b = Owner(), Owner()
    one = Channel(near, a, roster, owner_a, dialled=roster["b"])
    other = Channel(far, b, roster, owner_b)
    await owner_b.until("opened")
    assert (one.exporter, one.transcript) == (other.exporter, other.transcript)
    assert len(one.exporter) == 64
    one.control(kind="withdraw", job="j", reason="r", party="", answers=b"")
    assert await owner_b.until("control") == ("control", "withdraw")
    one.close()
    assert "closed the connection" in (await owner_b.until("closed"))[2]
    assert (await owner_a.until("parted"), await owner_b.until("parted")) == (("parted", "b", None), ("parted", "a", None))
    assert one.exporter == b""


REJECTED = {
    "unknown name": (lambda r: hello("mallory", "a", r), "not in the roster"),
    "other receiver": (lambda r: hello("b", "c", r), "expects 'c' at this address"),
    "other roster": (lambda r: hello("b", "a", r, roster_digest=bytes(32)), "has another roster"),
    "other version": (lambda r: hello("b", "a", r, version=99), "speaks wire version 99"),
    "no common suite": (lambda r: hello("b", "a", r, suites=8), "no cipher suite"),
    "other key": (lambda r: hello("b", "a", r, key=bytes(16)), "uses another key than the roster gives it"),
}


@pytest.mark.parametrize("what", REJECTED)
async def test_every_rejection_has_its_own_message_at_both_ends(what):
    (a, _), roster = people("a", "b")
    raw, owner, channel = responder(a, roster)
    make, message = REJECTED[what]
    assert (await greet(raw, make(roster))).sender == "a"
    assert message in (await owner.until("closed"))[2]
    assert not channel.ready


async def test_garbage_instead_of_a_hello():
    (a, _), roster = people("a", "b")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0", bytes(handshake.HELLO_SIZE), b"\xff" * 100_000):
        raw, owner, _ = responder(a, roster)
        raw.link.send(garbage)
        assert "something else uses this port" in (await owner.until("closed"))[2]


async def test_a_stranger_can_make_a_listener_hold_no_more_than_a_greeting():
    (a, b), roster = people("a", "b")
    owner, near = Owner(), Owner()
    listener = await TcpListener.listen(lambda link: Channel(link, a, roster, owner), endpoint=("127.0.0.1", 0))
    _, writer = await asyncio.open_connection(*listener.address)
    writer.write((MAX_GREETING + 1).to_bytes(4, "little"))
    assert row_of("announced a frame").shows(": ".join((await owner.until("closed"))[1:]).partition(": ")[2])
    writer.close()
    # Whoever has keys may send whole records.
    channel = Channel(await dial(*listener.address), b, roster, near, dialled=roster["a"])
    await near.until("opened")
    channel.send(bytes([0, 0, 8, wire.Kind.MORE]), bytes(1 << 19))
    channel.control(kind="withdraw", job="j", reason="r", party="", answers=b"")
    assert await owner.until("control") == ("control", "withdraw")
    channel.close()
    await near.until("parted")
    await listener.close()


async def test_the_wrong_key_is_refused_and_says_so():
    (a, _), roster = people("a", "b")
    raw, owner, _ = responder(a, roster)
    mine = hello("b", "a", roster)
    theirs = await greet(raw, mine)
    kk = KK(True, "AESGCM", mine.encode() + theirs.encode(), Identity.generate("b").curve_secret, a.curve_public, peer="a")
    raw.link.send(kk.write_message())
    assert "does not hold the key" in (await owner.until("closed"))[2]


async def test_the_thief_of_as_key_gets_an_answer_and_nothing_more():
    (a, b), roster = people("a", "b")
    raw, owner, channel = responder(a, roster)
    mine = hello("b", "a", roster)
    theirs = await greet(raw, mine)
    thief = KeyThief(a, b.curve_public, mine.encode() + theirs.encode())
    raw.link.send(thief.write_message())
    assert await raw.next() is not None
    raw.link.send(Sealer(thief.split().send, "AESGCM").seal(wire.record_head(0, 0) + wire.ready(wire.NEW, 0)))
    assert (await owner.until("closed"))[1] == "PeerMisbehaved"
    assert owner.events[0][0] == "closed"
    assert not channel.ready


async def recorded_session(a, b, roster):
    """What an eavesdropper saw b send to a, message by message."""
    near, far = memory_pair("near", "far", tap=None)
    sent = []
    plain = near.send
    near.send = lambda *parts: (sent.append(b"".join(parts)), plain(*parts))[1]
    owner = Owner()
    Channel(far, a, roster, owner)
    Channel(near, b, roster, Owner(), dialled=roster["a"])
    await owner.until("opened")
    return sent


async def test_a_replayed_session_changes_nothing():
    (a, b), roster = people("a", "b")
    sent = await recorded_session(a, b, roster)
    assert len(sent) == 3
    raw, owner, channel = responder(a, roster)
    for message in sent:
        raw.link.send(message)
    await owner.until("closed")
    assert [event[0] for event in owner.events] == ["closed"]
    assert not channel.ready


async def test_the_first_record_must_be_ready():
    (a, b), roster = people("a", "b")
    raw, owner, channel, sealer = await live(roster, a, b)
    assert not channel.ready
    assert owner.events == []
    raw.link.send(sealer.seal(wire.record_head(0, 0) + wire.bare(wire.Kind.PING)))
    assert "before it was ready" in (await owner.until("closed"))[2]


BAD_RECORDS = {
    "wrong number": lambda seal: seal(wire.record_head(9, 0)),
    "garbage inside": lambda seal: seal(wire.record_head(1, 0) + b"\xff\xff\xff\xff"),
    "unknown control": lambda seal: seal(wire.record_head(1, 0) + wire.control({"kind": "nonsense"})),
    "not sealed": lambda seal: b"x" * 100,
    "flipped": lambda seal: flipped(seal(wire.record_head(1, 0)), 0),
}


@pytest.mark.parametrize("what", BAD_RECORDS)
async def test_a_bad_record_ends_the_channel(what):
    (a, b), roster = people("a", "b")
    raw, owner, channel, sealer = await live(roster, a, b)
    raw.link.send(sealer.seal(wire.record_head(0, 0) + wire.ready(wire.NEW, 0)))
    await owner.until("opened")
    raw.link.send(BAD_RECORDS[what](sealer.seal))
    assert (await owner.until("closed"))[1] == "PeerMisbehaved"
    assert not channel.alive


async def test_reflected_records_end_the_channel():
    (a, b), roster = people("a", "b")
    raw, owner, channel, sealer = await live(roster, a, b)
    raw.link.send(sealer.seal(wire.record_head(0, 0) + wire.ready(wire.NEW, 0)))
    await owner.until("opened")
    channel.control(kind="withdraw", job="j", reason="r", party="", answers=b"")
    raw.link.send(await raw.next())
    assert (await owner.until("closed"))[1] == "PeerMisbehaved"


# -- the mesh --------------------------------------------------------------------------------------------------


async def test_an_unproven_link_displaces_nothing_and_a_proven_one_does(caplog):
    caplog.set_level(logging.INFO)
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with Mesh(b, roster, network.of("b"), CLOCKS) as mesh_b, Mesh(a, roster, network.of("a"), CLOCKS) as mesh_a:
        await connected(mesh_a, "b")
        await connected(mesh_b, "a")
        first = mesh_b.channel("a")
        stranger = Raw(network.connect("x", "b"))
        mine = hello("a", "b", roster)
        theirs = await greet(stranger, mine)
        thief = KeyThief(b, a.curve_public, mine.encode() + theirs.encode())
        stranger.link.send(thief.write_message())
        assert await stranger.next() is not None
        assert mesh_b.channel("a") is first
        assert first.alive
        assert caplog.text.count("peer=a connected") == 1
        raw = Raw(network.connect("a2", "b"))
        mine = hello("a", "b", roster)
        theirs = await greet(raw, mine)
        kk = KK(True, "AESGCM", mine.encode() + theirs.encode(), a.curve_secret, b.curve_public, peer="b")
        raw.link.send(kk.write_message())
        kk.read_message(await raw.next())
        raw.link.send(Sealer(kk.split().send, "AESGCM").seal(wire.record_head(0, 0) + wire.ready(wire.NEW, 0)))
        await until(lambda: mesh_b.channel("a") is not first)
        assert not first.alive
        # Who never confirms would be waited for at the end.
        raw.link.abort()


async def test_a_flood_of_strangers_leaves_the_ready_channel_alone():
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with Mesh(b, roster, network.of("b"), CLOCKS) as mesh_b, Mesh(a, roster, network.of("a"), CLOCKS) as mesh_a:
        await connected(mesh_a, "b")
        await connected(mesh_b, "a")
        first = mesh_b.channel("a")
        crowd = [Raw(network.connect(f"x{number}", "b")) for number in range(500)]
        await until(lambda: sum(raw.closed for raw in crowd) >= 500 - 128)
        assert mesh_b.channel("a") is first
        assert first.alive


async def test_a_silent_stranger_is_dropped_by_the_clock():
    (_, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with Mesh(b, roster, network.of("b"), Clocks(join=5, lost=0.2, stall=5)):
        raw = Raw(network.connect("x", "b"))
        await until(lambda: raw.closed)


class Broken(MemoryNetwork):
    """A link that fails by itself."""

    def connect(self, caller, called):
        raise ZeroDivisionError(called)


async def test_a_fault_of_the_node_itself_is_told_when_it_ends_what_should_go_on(caplog):
    (a, _), roster = people("a", "b")
    async with Mesh(a, roster, Broken().of("a"), CLOCKS):
        await until(lambda: "ended by a fault of this node itself" in caplog.text)
    (record,) = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert record.name == "beaver.a"
    assert isinstance(record.exc_info[1], ZeroDivisionError)
