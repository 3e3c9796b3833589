"""The end of a channel: what was sent before a goodbye arrives, both sides know it, and nobody waits without end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import numpy as np
import pytest

from mpc.channels.channel import Channel
from mpc.framing import wire
from mpc.framing.handshake import KK
from mpc.framing.records import Sealer
from mpc.network.mesh import Mesh
from mpc.testing.simulate import MemoryNetwork
from mpc.transport.memory import memory_pair
from mpc.transport.tcp import TcpNetwork, dial
from tests.channels import CLOCKS as PATIENT
from tests.channels import Owner, Raw, connected, greet, hello, people
from tests.error_rows import logged
from tests.proxies import CLOCKS, proxied
from tests.waiting import turns, until

CLOSING = ("comes as 'NAME' while this party is closing",)
"""Rows of docs/errors.md that this file provokes."""
GOODBYE = 4 + 8 + 4 + 16
"""Bytes of a record with CLOSE alone, with its length before it."""
MAY_BE_LOST = "the last bytes for it may be lost"


async def met(network):
    one, other = (node.mesh for node in network.parties)
    await connected(one, "p1")
    await connected(other, "p0")
    return {"p0": one, "p1": other}


async def cut_off(network, *leaving):
    """These leave; the connection of p0 and p1 is cut before a word of that has passed, and can be made again."""
    meshes, proxy = await met(network), network.proxies["p1"]
    proxy.passing.clear()
    closing = [asyncio.create_task(meshes[name].__aexit__()) for name in leaving]
    await until(lambda: all(mesh.channel("p1" if name == "p0" else "p0") is None for name, mesh in meshes.items() if name in leaving))
    proxy.cut()
    proxy.passing.set()
    return closing


@pytest.mark.parametrize("leaving", [("p0",), ("p1",), ("p0", "p1")])
async def test_a_goodbye_that_was_cut_off_is_said_again(leaving, caplog):
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(CLOCKS.repair / 2):
        async with proxied(2) as network:
            await asyncio.gather(*await cut_off(network, *leaving))
        # Both nodes are closed by now: neither waited for the other longer than a handshake takes.
    assert "connected again; what it had not received was sent again" in caplog.text
    assert MAY_BE_LOST not in caplog.text


async def test_what_was_sent_before_a_goodbye_is_not_lost_with_the_connection():
    async with proxied(2) as network:
        meshes, proxy = await met(network), network.proxies["p1"]
        together = asyncio.Barrier(2)

        async def program(s):
            x = s.input(np.arange(8.0) if s.index == 0 else None, 0, 8, bound=8.0)
            await s.reveal(x)
            await together.wait()
            proxy.passing.clear()
            return await s.reveal(x, to=["p0"])

        first, second = network.parties
        async with asyncio.timeout(CLOCKS.repair / 2):

            async def stays():
                async with first.session("j") as s:
                    return await program(s)

            staying = asyncio.create_task(stays())
            async with second.session("j") as s:
                await program(s)
            # It is done, and leaves; its share of the result has not passed.
            closing = asyncio.create_task(meshes["p1"].__aexit__())
            await until(lambda: meshes["p1"].channel("p0") is None)
            assert not staying.done()
            proxy.cut()
            proxy.passing.set()
            await closing
            assert (await staying).tolist() == list(range(8))


@pytest.mark.parametrize("leaving", ["p0", "p1"])
async def test_an_answer_that_was_cut_off_is_not_waited_for(leaving, caplog):
    caplog.set_level(logging.INFO)
    async with proxied(2) as network:
        meshes = await met(network)
        await turns(100)
        network.proxies["p1"].cut_after = GOODBYE
        async with asyncio.timeout(CLOCKS.repair / 2):
            await meshes[leaving].__aexit__()
        staying = "p1" if leaving == "p0" else "p0"
        told = [record.getMessage() for record in caplog.records if record.name == f"beaver.{staying}"]
        assert f"peer={leaving} disconnected: {leaving}: closed the connection" in told
        assert network.proxies["p1"].cut_after is None


async def test_a_connection_that_is_not_made_again_is_waited_for_as_long_as_the_clock_says(caplog):
    async with proxied(2, replace(CLOCKS, repair=0.3)) as network:
        await met(network)
        network.proxies["p1"].open = False
        await asyncio.gather(*await cut_off(network, "p0"))
        assert f"{MAY_BE_LOST}: p1: the connection was lost, and not repaired within 0.3 s" in caplog.text


@pytest.mark.parametrize("worked", [False, True])
async def test_who_is_idle_waits_for_no_repair_of_a_connection_that_is_cut_off(caplog, worked):
    """A supervisor kills a node that takes half a minute to stop, and `repair` may be an hour.  In a session, the peer may lack its end."""
    async with proxied(2, replace(CLOCKS, lost=0.4, repair=2.0 if worked else 3600.0)) as network:
        meshes = await met(network)
        ended = asyncio.Barrier(2)

        async def job(node):
            async with node.session("j") as s:
                await s.reveal(s.zero(1))
                await ended.wait()
                if worked:
                    network.proxies["p1"].passing.clear()

        await asyncio.gather(*map(job, network.parties))
        if not worked:
            # All that was said of it is acknowledged.
            await until(lambda: not meshes["p0"].channel("p1").unacknowledged.of_sessions)
            network.proxies["p1"].passing.clear()
        network.proxies["p1"].open = False
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(mesh.__aexit__() for mesh in meshes.values()))
        took = asyncio.get_running_loop().time() - begun
        network.proxies["p1"].passing.set()
        assert (took > 2.0) if worked else (took < 60.0), took
        assert f"{MAY_BE_LOST}: p1: {'no bytes for 0.4 s' if worked else 'did not say goodbye within 1 s'}" in caplog.text


async def keyed(raw, me, other, roster, transcript=wire.NEW):
    """Through the handshake with `other`; what seals the records of `me`, of which the first says READY, to go on with `transcript`."""
    mine = hello(me.name, other.name, roster)
    theirs = await greet(raw, mine)
    kk = KK(True, "AESGCM", mine.encode() + theirs.encode(), me.curve_secret, other.curve_public, peer=other.name)
    raw.link.send(kk.write_message())
    kk.read_message(await raw.next())
    sealer = Sealer(kk.split().send, "AESGCM")
    raw.link.send(sealer.seal(wire.record_head(0, 0) + wire.ready(transcript, 0)))
    return sealer


class Remembering(Owner):
    """Offers the last channel to whoever comes again, whatever became of it."""

    def __init__(self):
        super().__init__()
        self.last = None

    def previous(self, name):
        return self.last

    def resumed(self, channel, through):
        self.note("resumed", channel.name)


async def test_who_said_goodbye_cannot_go_on():
    """The peer had this side's goodbye, too, so nothing is kept for it any more."""
    (a, b), roster = people("a", "b")
    owner, channels = Remembering(), []
    for digest in (lambda: wire.NEW, lambda: channels[0].transcript):
        near, far = memory_pair("near", "far")
        channels.append(Channel(far, a, roster, owner))
        sealer = await keyed(Raw(near), b, a, roster, digest())
        await until(lambda: channels[-1].ready)
        owner.last = channels[-1]
        near.send(sealer.seal(wire.record_head(1, 0) + wire.bare(wire.Kind.CLOSE)))
        await until(lambda: not channels[-1].alive)
    assert [event[0] for event in owner.events] == ["opened", "closed", "parted", "opened", "closed", "parted"]


async def test_a_peer_that_never_answers_is_not_waited_for_without_end(caplog):
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with Mesh(b, roster, network.of("b"), replace(PATIENT, stall=0.3)) as mesh:
        raw = Raw(network.connect("a", "b"))
        await keyed(raw, a, b, roster)
        await connected(mesh, "a")
    assert f"{MAY_BE_LOST}: a: did not say goodbye within 0.3 s" in caplog.text
    await until(lambda: raw.closed)


async def test_a_peer_that_falls_silent_is_not_waited_for_without_end(caplog):
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with Mesh(b, roster, network.of("b"), replace(PATIENT, lost=0.2, repair=0.2)) as mesh:
        await keyed(Raw(network.connect("a", "b")), a, b, roster)
        await connected(mesh, "a")
    assert f"{MAY_BE_LOST}: a: no bytes for 0.2 s" in caplog.text


async def test_who_says_goodbye_and_takes_nothing_more_is_let_go():
    """Nothing that this side has for the peer can leave, not even its own goodbye."""
    (a, b), roster = people("a", "b")
    async with Mesh(b, roster, network := TcpNetwork(("127.0.0.1", 0)), replace(PATIENT, lost=0.2)) as mesh:
        raw = Raw(await dial(*network._listener.address))
        sealer = await keyed(raw, a, b, roster)
        await connected(mesh, "a")
        raw.link._transport.pause_reading()
        channel = mesh.channel("a")
        for number in range(400):
            channel.control(kind="check", number=number, filler=bytes(60_000))
        await until(lambda: not channel.writable)
        raw.link.send(sealer.seal(wire.record_head(1, 0) + wire.bare(wire.Kind.CLOSE)))
        await until(lambda: not channel.alive)
        await until(lambda: mesh._peers["a"].last is None)
        await channel._line.link.wait_closed()
        assert not channel.unacknowledged.size
        raw.link.abort()
        await raw.link.wait_closed()


async def test_who_closes_takes_no_new_links_but_of_whom_it_has_not_parted_with(caplog):
    (a, b, c), roster = people("a", "b", "c")
    network = MemoryNetwork()
    mesh = Mesh(c, roster, network.of("c"), PATIENT)
    async with mesh:
        raw = Raw(network.connect("a", "c"))
        sealer = await keyed(raw, a, c, roster)
        await connected(mesh, "a")
        closing = asyncio.create_task(mesh.__aexit__())
        await until(lambda: mesh.channel("a") is None)
        stranger = Raw(network.connect("b", "c"))
        stranger.link.send(hello("b", "c", roster).encode())
        assert await stranger.next() is None
        assert logged(CLOSING[0], caplog.text)
        again = Raw(network.connect("a", "c"))
        assert (await greet(again, hello("a", "c", roster))).sender == "c"
        raw.link.send(sealer.seal(wire.record_head(1, 0) + wire.bare(wire.Kind.CLOSE)))
        await closing
