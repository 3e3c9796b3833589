"""Jobs side by side, restarts, impostors and memory, on real nodes (invariants 6, 8, 15, 16, 21, 25, 27)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest

import protocols
from mpc import Node, PeerLost
from mpc.channels.flow import CREDITS, WINDOW
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from mpc.naming.expressions import Range
from mpc.network.mesh import Clocks, Mesh
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from mpc.transport.tcp import TcpNetwork
from tests.test_agreement import nodes
from tests.waiting import until

CLOCKS = Clocks(join=10.0, lost=5.0, stall=10.0)


class Tcp:
    """Members on loopback TCP, each with a bound socket."""

    def __init__(self, n):
        names = [*(f"p{index}" for index in range(n)), "the-dealer"]
        self.identities = {name: Identity.generate(name) for name in names}
        self.sockets = {name: socket.create_server(("127.0.0.1", 0), backlog=1024) for name in names}
        self.addresses = {name: sock.getsockname() for name, sock in self.sockets.items()}
        self.roster = Roster(
            Member(name, self.identities[name].public, self.addresses[name], "dealer" if name == "the-dealer" else "party")
            for name in names
        )

    def node(self, name, identity=None, clocks=CLOCKS):
        sock = self.sockets.pop(name, None) or socket.create_server(self.addresses[name])
        return Node(identity or self.identities[name], self.roster, TcpNetwork(None, sock), clocks=clocks)

    @asynccontextmanager
    async def nodes(self, clocks=CLOCKS):
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.node(name, clocks=clocks)) for name in self.identities]


async def total(node, job, value=1.0, rounds=1):
    async with node.session(job) as s:
        for _ in range(rounds):
            result = await protocols.secure_sum(s, [value])
            await asyncio.sleep(0)
        return float(result[0]), s.id


@pytest.mark.parametrize("n", [2, 5])
async def test_a_job_that_fails_leaves_the_job_beside_it_alone(n):
    async with Tcp(n).nodes() as (*parties, _):

        async def broken(node):
            async with node.session("broken") as s:
                await protocols.secure_sum(s, [1.0])
                if s.index == 1:
                    raise KeyError("mine")
                while True:
                    await protocols.secure_sum(s, [1.0])

        good = [asyncio.create_task(total(node, "good", rounds=60)) for node in parties]
        bad = await asyncio.gather(*(broken(node) for node in parties), return_exceptions=True)
        assert [type(fault) for fault in bad] == [PeerLost, KeyError, *[PeerLost] * (n - 2)]
        assert not any(task.done() and task.exception() for task in good)
        assert [value for value, _ in await asyncio.gather(*good)] == [float(n)] * n


async def test_a_wide_and_a_small_job_share_the_channels():
    """A small session runs while another moves 32 MiB over the same channels."""
    async with Tcp(2).nodes() as (*parties, _):

        async def wide(node):
            async with node.session("wide") as s:
                return float((await protocols.secure_sum(s, np.ones(1 << 22)))[-1])

        big = [asyncio.create_task(wide(node)) for node in parties]
        small = await asyncio.gather(*(total(node, "small", rounds=5) for node in parties))
        assert [value for value, _ in small] == [2.0, 2.0]
        assert await asyncio.gather(*big) == [2.0, 2.0]


async def test_a_restart_with_the_same_keys_has_other_keys_seeds_and_sessions():
    tcp = Tcp(2)
    seen = []
    for _ in range(3):
        async with tcp.nodes() as (*parties, _):

            async def program(node):
                async with node.session("j") as s:
                    channels = [channel.exporter for channel in s._engine.exchange._agreed.channels.values()]
                    return [s.id, *channels, *s._engine.exchange._agreed.seeds.values()], s._engine.streams.zero(
                        Range("9", 0, (4,))
                    ).tobytes()

            for secrets, words in await asyncio.gather(*(program(node) for node in parties)):
                seen.append((set(secrets), words))
    for number, (secrets, words) in enumerate(seen):
        for others, other_words in seen[2 * (number // 2 + 1) :]:
            assert not secrets & others
            assert words != other_words


async def test_a_party_that_restarts_while_the_others_wait_is_taken_with_its_new_nonce():
    tcp = Tcp(3)
    async with tcp.node("p0") as p0, tcp.node("p1") as p1, tcp.node("the-dealer"):
        waiting = [asyncio.create_task(total(node, "j")) for node in (p0, p1)]
        async with tcp.node("p2") as early:
            doomed = asyncio.create_task(total(early, "another"))
            await until(lambda: early.mesh.channel("p0") is not None and early.mesh.channel("p1") is not None)
            doomed.cancel()
        async with tcp.node("p2") as late:
            results = await asyncio.gather(*waiting, total(late, "j"))
    assert [value for value, _ in results] == [3.0] * 3
    assert len({session for _, session in results}) == 1


async def test_an_impostor_with_another_key_is_refused_by_name_and_the_real_party_still_gets_in(caplog):
    caplog.set_level(logging.INFO)
    tcp = Tcp(2)
    clocks = Clocks(join=1.0, lost=2.0, stall=2.0)
    address = tcp.addresses["p0"]
    async with tcp.node("p1", clocks=clocks) as p1, tcp.node("the-dealer", clocks=clocks):
        async with tcp.node("p0", Identity.generate("p0"), clocks=clocks) as impostor:
            results = await asyncio.gather(total(p1, "j"), total(impostor, "j"), return_exceptions=True)
        assert [type(result) for result in results] == [PeerLost] * 2
        assert "p0: did not come" in str(results[0])
        assert "p0: uses another key than the roster gives it" in caplog.text
        assert "it rejects ours" in str(results[1])
        assert "peer=p0 connected" not in caplog.text
        async with tcp.node("p0", clocks=Clocks(10, 5, 5)) as real:
            assert real.mesh.roster["p0"].endpoint == address
            await until(lambda: not real.mesh.missing(["p1", "the-dealer"]))
            results = await asyncio.gather(total(p1, "k"), total(real, "k"))
        assert [value for value, _ in results] == [2.0] * 2


async def test_a_stranger_that_drips_byte_by_byte_is_dropped_by_the_clock_and_disturbs_nobody():
    tcp = Tcp(2)
    # All bytes take eight times as long as the clock, however fast the machine is, and the pauses are far below it.
    clocks = Clocks(join=30.0, lost=2.0, stall=30.0)
    async with tcp.nodes(clocks) as (*parties, _):
        reader, writer = await asyncio.open_connection(*tcp.addresses["p1"])

        async def drip():
            for byte in (156).to_bytes(4, "little") + b"BEAVER\r\n" + bytes(148):
                writer.write(bytes([byte]))
                await asyncio.sleep(clocks.lost / 20)

        dripping = asyncio.create_task(drip())
        jobs = await asyncio.gather(*(total(node, "j", rounds=20) for node in parties))
        assert [value for value, _ in jobs] == [2.0] * 2
        # A byte that was still on its way makes a reset of the end.
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        assert not dripping.done()
        dripping.cancel()
        writer.close()


async def test_a_peer_that_dies_in_a_large_opening_frees_its_memory_at_the_others():
    size = 1 << 22

    async def doomed(node):
        async with node.session("j") as s:
            mine = np.ones(size)
            if s.index == 2:
                await protocols.secure_sum(s, [1.0])
                # The others are in their large sums, and have sent of them what this party holds without taking it.
                flows = s._engine.exchange._agreed.flows
                await until(lambda: all(flows[name]._early_bytes >= WINDOW - WINDOW // CREDITS for name in ("p0", "p1")), within=60.0)
                for channel in s._engine.exchange._agreed.channels.values():
                    channel._line.link.abort()
                await asyncio.sleep(0)
            else:
                await protocols.secure_sum(s, [1.0])
                await asyncio.gather(*(protocols.secure_sum(s, mine) for _ in range(3)))
            await protocols.secure_sum(s, [1.0])

    # Each says that it lives, and so acknowledges what the others hold for it till then, a few times a second.
    async with nodes(3, Clocks(join=60.0, lost=2.0, stall=60.0, repair=0.0)) as (*parties, _):
        await asyncio.gather(*(total(node, "warm") for node in parties))
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            faults = await asyncio.gather(*(doomed(node) for node in parties), return_exceptions=True)
            assert [type(fault) for fault in faults] == [PeerLost] * 3
            assert all(str(fault).startswith("p2: ") for fault in faults[:2])
            assert tracemalloc.get_traced_memory()[1] - before > 8 * size
            faults.clear()
            await until(lambda: all(node.mesh.channel("p2") is not None for node in parties[:2]))

            def freed():
                gc.collect()
                return tracemalloc.get_traced_memory()[0] - before < 8 * size // 8

            await until(freed)
        finally:
            tracemalloc.stop()
        assert [value for value, _ in await asyncio.gather(*(total(node, "next") for node in parties))] == [3.0] * 3


async def test_any_message_of_a_member_is_harmless_to_the_other_jobs():
    """A member sends 300 control messages of right shape and wrong contents, and job after job still runs among the rest."""
    identities, roster = simulated_roster(3)
    network = MemoryNetwork()
    texts, blobs = ["", "j", "p0", "the-dealer", "x" * 300], [b"", bytes(12), bytes(32)]
    bodies = [
        *(
            {"kind": "join", "job": job, "description": d, "members": m, "nonce": nonce}
            for job in texts
            for nonce in blobs
            for d in ({}, {"program": 7})
            for m in ([], ["p2"], [7, [], {}], ["p2", "p0", "the-dealer"], ["p0", "the-dealer", "p2"])
        ),
        *({"kind": "confirm", "job": job, "session": blob, "proof": blob} for job in texts for blob in blobs),
        *(
            {"kind": "withdraw", "job": job, "reason": reason, "party": reason, "answers": blob}
            for job in texts
            for reason in texts
            for blob in blobs
        ),
        *({"kind": "leave", "session": blob, "reason": text, "party": text, "by": text, "at": text} for blob in blobs for text in texts),
        *({"kind": "ask", "session": blob, "relations": r} for blob in blobs for r in ([], ["value"], [["value", 1, 2, 3]], [[[]]])),
    ]
    assert len(bodies) > 250
    async with AsyncExitStack() as stack:
        parties = [
            await stack.enter_async_context(Node(identity, roster, network.of(identity.name), clocks=CLOCKS))
            for identity in (identities[0], identities[1], identities[3])
        ]
        mesh = await stack.enter_async_context(Mesh(identities[2], roster, network.of("p2"), CLOCKS))
        for number, body in enumerate(bodies):
            for name in ("p0", "the-dealer"):
                await until(lambda name=name: mesh.channel(name) is not None)
                mesh.channel(name).control(**body)
            if number % 25 == 0:
                jobs = await asyncio.gather(*(pair(node, f"pair-{number}") for node in parties[:2]))
                assert jobs == [2.0, 2.0]


async def pair(node, job):
    async with node.session(job, parties=["p0", "p1"]) as s:
        return float((await protocols.secure_sum(s, [1.0]))[0])


@pytest.mark.parametrize("role", ["p0", "the-dealer"])
async def test_a_node_whose_task_is_cancelled_as_it_closes_leaves_nothing_behind(role):
    there = Tcp(2)
    others = [there.node(name) for name in there.identities if name != role]
    before = asyncio.all_tasks()

    async def body():
        async with there.node(role) as node:
            if node.dealer is None:
                await until(lambda: node.mesh.channel("p1") is not None)
            asyncio.current_task().cancel()

    async with AsyncExitStack() as stack:
        for node in others:
            await stack.enter_async_context(node)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(body())
        # Nobody listens there any more.
        socket.create_server(there.addresses[role]).close()
    await until(lambda: asyncio.all_tasks() == before)
