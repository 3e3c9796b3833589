"""Nodes in trouble: the next run of a job, slow links, stuck peers, forks, odd names (invariants 6, 8, 17, 20, 27)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mpc
import protocols
from mpc import ConfigError, Disagreement, Node, PeerLost
from mpc.channels.flow import WINDOW
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from mpc.naming.expressions import Range
from mpc.network.mesh import Clocks
from mpc.testing import simulate
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from mpc.transport.memory import memory_pair
from mpc.transport.tcp import TcpNetwork
from tests.test_agreement import nodes
from tests.test_command_line import BEAVER, members_of
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
CLOCKS = Clocks(join=40.0, lost=40.0, stall=40.0)
"""No busy machine runs into them."""
PATIENCE = CLOCKS.stall / 2
"""What ends within it did so by none of them."""


async def total(node, job, **more):
    async with node.session(job, **more) as s:
        return float((await protocols.secure_sum(s, [1.0]))[0])


# -- a job name again ----------------------------------------------------------------------------------------------


async def test_two_groups_may_use_one_job_name_at_one_dealer_at_the_same_time():
    async with nodes(4, CLOCKS) as (*parties, _):
        results = await asyncio.gather(
            *(
                total(node, "j", parties=pair)
                for pair in (["p0", "p1"], ["p2", "p3"])
                for node in parties
                if node.mesh.identity.name in pair
            )
        )
        assert results == [2.0] * 4


class Distant(MemoryNetwork):
    """A network on which one pair of members is far apart."""

    def __init__(self, pair, seconds):
        super().__init__()
        self._pair, self._seconds = pair, seconds

    def connect(self, caller, called):
        accept = self._accepts.get(called)
        if accept is None:
            raise ConnectionRefusedError(called)
        loop = asyncio.get_running_loop()
        far_apart = (lambda deliver: loop.call_later(self._seconds, deliver)) if {caller, called} == self._pair else None
        near, far = memory_pair(f"memory {called}", f"memory {caller}", schedule=far_apart)
        accept(far)
        return near


@pytest.mark.parametrize("products", [True, False])
@pytest.mark.parametrize("pair", [("p1", "the-dealer"), ("p0", "p1"), ("p1", "p2")], ids="-".join)
async def test_a_party_that_is_done_early_may_run_the_job_again_while_others_still_agree(pair, products):
    """Only p1 gets the output, so p0 and p2 are done as soon as they have sent, and begin the next run at once."""
    identities, roster = simulated_roster(3)
    network = Distant(set(pair), 0.05)

    async def program(node):
        outputs = []
        for number in range(4):
            async with node.session("nightly") as s:
                x = s.input([number + 1.0] if s.index == 0 else None, 0, 1, bound=100.0)
                y = s.input([2.0] if s.index == 1 else None, 1, 1, bound=100.0)
                z = await s.reveal(await mpc.mul(s, x, y) if products else x + y, to=1)
                outputs.append(None if z is None else round(float(z[0]), 3))
        return outputs

    async with AsyncExitStack() as stack:
        parties = [
            await stack.enter_async_context(Node(identity, roster, network.of(identity.name), clocks=CLOCKS)) for identity in identities
        ]
        results = await asyncio.gather(*(program(node) for node in parties[:3]))
    assert results[1] == ([2.0, 4.0, 6.0, 8.0] if products else [3.0, 4.0, 5.0, 6.0])
    assert results[0] == results[2] == [None] * 4


async def test_a_party_that_gives_up_while_it_agrees_ends_the_session_of_those_that_began():
    identities, roster = simulated_roster(3)
    network = Distant({"p1", "p2"}, 0.3)
    began = asyncio.Event()

    async def program(node):
        async with node.session("j") as s:
            began.set()
            await s.reveal(s.zero(1))

    async with AsyncExitStack() as stack:
        parties = [
            await stack.enter_async_context(Node(identity, roster, network.of(identity.name), clocks=CLOCKS)) for identity in identities
        ]
        first, second, third = (asyncio.create_task(program(node)) for node in parties[:3])
        await began.wait()
        # p0 has the confirmations of both, while theirs to each other are still on the way.
        second.cancel()
        third.cancel()
        with pytest.raises(PeerLost, match="left at (the start|reveal.0): its program ended there"):
            await asyncio.wait_for(first, PATIENCE)
        await asyncio.gather(second, third, return_exceptions=True)


async def test_a_node_runs_more_jobs_than_it_may_have_at_once():
    async with nodes(2, CLOCKS) as (*parties, dealer):
        for number in range(270):
            assert await asyncio.gather(*(total(node, f"job-{number}") for node in parties)) == [2.0, 2.0]
        await until(lambda: not dealer._lobby._jobs)
        assert all(not node._lobby._jobs for node in parties)


@pytest.mark.parametrize("job", [7, None, "x" * 70_000, b"j"])
async def test_an_impossible_job_name_is_this_partys_own_fault_and_no_channel_suffers(job):
    async with nodes(2, CLOCKS) as (*parties, _):
        await asyncio.gather(*(total(node, "before") for node in parties))
        channel = parties[0].mesh.channel("p1")
        with pytest.raises(ConfigError, match="name of a job"):
            await total(parties[0], job)
        assert parties[0].mesh.channel("p1") is channel
        assert channel.alive


async def test_a_description_with_other_keys_is_a_disagreement():
    async with nodes(2, CLOCKS) as (*parties, _):
        waiting = asyncio.create_task(total(parties[0], "j"))
        await until(lambda: parties[1].mesh.channel("p0") is not None)
        parties[1].mesh.channel("p0").control(kind="join", job="j", description={b"x": 1}, members=["p0"], nonce=bytes(32))
        with pytest.raises(Disagreement, match="differently"):
            await waiting


# -- one clear error -----------------------------------------------------------------------------------------------


async def test_a_task_group_does_not_wrap_the_fault_of_the_session():
    async with nodes(3, CLOCKS) as (*parties, _):

        async def program(node):
            async with node.session("j") as s:
                if s.index == 1:
                    raise KeyError("mine")
                async with asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(protocols.secure_sum(s, [1.0]))

        faults = await asyncio.gather(*(program(node) for node in parties), return_exceptions=True)
        assert [type(fault) for fault in faults] == [PeerLost, KeyError, PeerLost]


async def test_a_programs_own_group_passes_unchanged():
    async with nodes(2, CLOCKS) as (*parties, _):

        async def program(node):
            async with node.session("j") as s:
                await protocols.secure_sum(s, [1.0])
                if s.index == 0:
                    raise ExceptionGroup("mine", [KeyError("a"), ValueError("b")])
                await protocols.secure_sum(s, [1.0])

        faults = await asyncio.gather(*(program(node) for node in parties), return_exceptions=True)
        assert [type(fault) for fault in faults] == [ExceptionGroup, PeerLost]


async def test_a_peer_that_takes_nothing_ends_the_session_within_the_stall_clock():
    async with nodes(2, replace(CLOCKS, stall=1.0)) as (*parties, _):
        release = asyncio.Event()

        async def program(node):
            async with node.session("j") as s:
                output = s.reveal(s.zero(WINDOW // 8 + 1), to=1)
                if s.index == 1:
                    await release.wait()
                await output

        stuck = asyncio.create_task(program(parties[1]))
        with pytest.raises(PeerLost, match="p1: is alive, but did not take"):
            await asyncio.wait_for(program(parties[0]), PATIENCE)
        release.set()
        with pytest.raises(PeerLost):
            await stuck


class SlowPath:
    """A TCP relay in front of `target` that passes `rate` bytes a second each way."""

    def __init__(self, target, rate):
        self._target, self._chunk, self._pause = target, rate // 50, 1 / 50
        self._front = socket.create_server(("127.0.0.1", 0))
        self.address = self._front.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                near, _ = self._front.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one, other):
        with one, other:
            try:
                while data := one.recv(self._chunk):
                    other.sendall(data)
                    time.sleep(self._pause * len(data) / self._chunk)
                other.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self._front.shutdown(socket.SHUT_RDWR)
        self._front.close()


async def test_a_slow_link_is_not_a_lost_peer():
    """A record takes longer than the clock `lost`, but bytes come all the time; also the last ones, while the nodes close."""
    names = ["a", "b", "d"]
    identities = {name: Identity.generate(name) for name in names}
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    path = SlowPath(sockets["b"].getsockname(), 200_000)
    addresses = {name: path.address if name == "b" else sock.getsockname() for name, sock in sockets.items()}
    roster = Roster(Member(name, identities[name].public, addresses[name], "dealer" if name == "d" else "party") for name in names)
    clocks = replace(CLOCKS, lost=1.2)

    async def party(name):
        async with Node(identities[name], roster, TcpNetwork(None, sockets[name]), clocks=clocks) as node, node.session("j") as s:
            return float((await protocols.secure_sum(s, np.ones(1 << 16)))[-1])

    async with Node(identities["d"], roster, TcpNetwork(None, sockets["d"]), clocks=clocks):
        results = await asyncio.gather(party("a"), party("b"), return_exceptions=True)
    path.close()
    assert results == [2.0, 2.0]


# -- what is left behind -------------------------------------------------------------------------------------------


async def test_a_node_that_closes_during_a_handshake_leaves_no_connection_open():
    identities, _ = simulated_roster(2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        roster = Roster(Member(i.name, i.public, silent.getsockname(), "dealer" if i.name == "the-dealer" else "party") for i in identities)
        loop = asyncio.get_running_loop()
        async with Node(identities[0], roster, TcpNetwork(None), clocks=CLOCKS):
            connections = [(await loop.sock_accept(silent))[0] for _ in range(2)]
            for connection in connections:
                connection.setblocking(False)
                assert await asyncio.wait_for(loop.sock_recv(connection, 4), PATIENCE)
        for connection in connections:
            with connection:
                while await asyncio.wait_for(loop.sock_recv(connection, 1000), PATIENCE):
                    pass


async def test_a_host_name_that_cannot_be_one_is_told():
    identities, _ = simulated_roster(2)
    roster = Roster(Member(i.name, i.public, ("a..b", 1), "dealer" if i.name == "the-dealer" else "party") for i in identities)
    async with Node(identities[0], roster, TcpNetwork(None), clocks=replace(CLOCKS, join=0.5)) as node:
        await until(lambda: node.mesh.fault("p1") is not None)
        with pytest.raises(PeerLost, match="cannot be reached"):
            await total(node, "j")
        assert not any(task.done() for task in node.mesh._tasks.values())


async def test_a_forked_child_can_neither_use_the_streams_nor_seal_a_record():
    async with nodes(2, CLOCKS) as (*parties, _):

        async def program(node):
            async with node.session("j") as s:
                if s.index == 0:
                    streams, here = s._engine.streams, Range("9", 0, (2,))
                    said = in_a_child(
                        lambda: streams.mask(here),
                        lambda: streams.share("share", here),
                        lambda: streams.zero(here),
                        lambda: s._engine.exchange._agreed.channels["p1"]._line._sealer.seal(b"x"),
                    )
                    assert said == " ".join(["ProgramError"] * 4)
                return float((await protocols.secure_sum(s, [1.0]))[0])

        assert await asyncio.gather(*(program(node) for node in parties)) == [2.0, 2.0]


def in_a_child(*calls):
    """The names of the errors that `calls` raise in a forked child, each in a thread of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        names = []

        def tried(call):
            try:
                call()
                names.append("nothing")
            except BaseException as fault:
                names.append(type(fault).__name__)

        for call in calls:
            thread = threading.Thread(target=tried, args=(call,))
            thread.start()
            thread.join()
        os.write(write, " ".join(names).encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 1000).decode()
    os.close(read)
    os.close(write)
    return said


async def test_a_closed_terminal_stops_the_demo_and_leaves_no_key_behind(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *BEAVER, "demo", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    async with asyncio.timeout(PATIENCE):
        while len(members_of(tmp_path)) < 4:
            assert process.returncode is None
            await asyncio.sleep(0.002)
    process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(PATIENCE):
        await process.communicate()
        while members_of(tmp_path):
            await asyncio.sleep(0.01)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


# -- agreement on what is used -------------------------------------------------------------------------------------


async def other_rows(s, x):
    return await s.reveal(x[0:2, 1 + s.index])


async def other_step(s, x):
    return await s.reveal(x[0 : 2 + s.index : 1 + s.index, 0])


@pytest.mark.parametrize("program", [other_rows, other_step])
def test_other_elements_of_equal_shape_are_a_disagreement(program):
    async def whole(s):
        return await program(s, s.zero((4, 4)) + 1.0)

    with pytest.raises(Disagreement):
        simulate(2, whole)
