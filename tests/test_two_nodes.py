"""Two nodes with one key, as after a restore beside the old machine: the others say so, and are not kept busy by them."""

from __future__ import annotations

import asyncio
import logging

from mpc.network.mesh import Mesh
from mpc.network.peer import IN_A_ROW, SOON, Peer
from mpc.testing.simulate import MemoryNetwork
from tests.test_channel import CLOCKS, connected, people, until


async def test_two_nodes_of_one_member_are_told_of_and_do_not_displace_each_other_for_ever(caplog):
    caplog.set_level(logging.INFO)
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with (
        Mesh(b, roster, network.of("b"), CLOCKS) as mesh_b,
        Mesh(a, roster, network.of("a"), CLOCKS) as one,
        Mesh(a, roster, network.of("a"), CLOCKS) as other,
    ):
        await until(lambda: f"peer=a phase=connect {IN_A_ROW} new connections, each within {SOON:g} s of the one before" in caplog.text)
        peers = [one._peers["b"], other._peers["b"]]
        await until(lambda: all(peer.in_a_row >= IN_A_ROW for peer in peers))
        before = mesh_b.traffic("a").connections
        await asyncio.sleep(1.0)
        # An attempt of each that was under way already, and no more: both wait for longer than this.
        assert mesh_b.traffic("a").connections <= before + 2
        assert "if a second node runs with the key of either" in caplog.text


async def test_a_peer_that_restarts_now_and_then_is_dialled_at_once(caplog):
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with Mesh(a, roster, network.of("a"), CLOCKS) as mesh:
        for _ in range(IN_A_ROW - 1):
            async with Mesh(b, roster, network.of("b"), CLOCKS) as other:
                await connected(mesh, "b")
                await connected(other, "a")
        assert "second node" not in caplog.text


def test_channels_count_that_come_soon_after_each_other_alone():
    peer = Peer(people("a", "b")[1]["a"])
    for number in range(IN_A_ROW):
        assert not peer.contested(number)
        peer.met_anew(float(number))
    assert peer.contested(IN_A_ROW)
    assert not peer.contested(IN_A_ROW + SOON), "the last one lasted"
    peer.met_anew(IN_A_ROW + 2 * SOON)
    assert (peer.in_a_row, peer.contested(IN_A_ROW + 2 * SOON)) == (1, False)
