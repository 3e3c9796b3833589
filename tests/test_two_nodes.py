"""Two nodes with one key, as after a restore beside the old machine: the others say so, and the two do not keep them busy."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from mpc import Node
from mpc.network.dialler import CONTESTED
from mpc.network.mesh import Mesh
from mpc.network.peer import IN_A_ROW, SOON, Peer
from mpc.testing.simulate import MemoryNetwork
from parties.check import examine, first_fault
from tests.error_rows import row_of
from tests.test_channel import CLOCKS, connected, people, until

LONG = replace(CLOCKS, repair=60.0)
"""So that a fourth of `repair` is no shorter than the pause of two nodes that cut each other off."""
TWINS = ("two nodes seem to run with one key",)
"""Rows of docs/errors.md that this file provokes."""


async def test_two_nodes_of_one_member_are_told_of_and_do_not_displace_each_other_for_ever(caplog):
    caplog.set_level(logging.INFO)
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with (
        Mesh(b, roster, network.of("b"), LONG) as mesh_b,
        Mesh(a, roster, network.of("a"), LONG) as one,
        Mesh(a, roster, network.of("a"), LONG) as other,
    ):
        await until(lambda: f"peer=a phase=connect {IN_A_ROW} new connections, each within {SOON:g} s of the one before" in caplog.text)
        peers = [one._peers["b"], other._peers["b"]]
        await until(lambda: all(peer.in_a_row >= IN_A_ROW for peer in peers))
        before, began = mesh_b.traffic("a").connections, time.monotonic()
        await asyncio.sleep(1.0)
        # An attempt of each that was under way already, and no more unless this took longer than both wait.
        assert mesh_b.traffic("a").connections <= before + 2 * (1 + (time.monotonic() - began) // CONTESTED)
        assert "if a second node runs with the key of either" in caplog.text


async def test_a_check_tells_of_two_nodes_with_one_key_at_every_member():
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with (
        Node(b, roster, network.of("b"), clocks=CLOCKS) as node,
        Node(a, roster, network.of("a"), clocks=CLOCKS) as one,
        Node(a, roster, network.of("a"), clocks=CLOCKS) as other,
    ):
        await until(lambda: node.mesh.contested("a") and one.mesh.contested("b") and other.mesh.contested("b"))
        for asked in (node, one, other):
            (row,) = await examine(asked, 0.1)
            assert row.kind == "PeerLost"
            assert row_of(TWINS[0]).shows(str(first_fault([], [row])))


async def test_a_check_of_a_peer_that_was_started_twice_is_as_before():
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with Node(b, roster, network.of("b"), clocks=CLOCKS) as node:
        for _ in range(2):
            async with Node(a, roster, network.of("a"), clocks=CLOCKS) as other:
                await connected(node.mesh, "a")
                await connected(other.mesh, "b")
                (row,) = await examine(node, CLOCKS.lost)
                assert row.problem == ""


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
