"""A connection that breaks is made again under a running session and passes each byte exactly once, or the session ends everywhere."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

import mpc
import protocols
from mpc import PeerLost
from mpc.framing.unacknowledged import Unacknowledged
from tests.proxies import CLOCKS, proxied
from tests.waiting import until

NUMBERS = np.arange(8.0)


async def many_rounds(s, rounds=60, *, after=None):
    """Compute products and sums whose result any lost, repeated or reordered byte would change; `after(round)` disturbs the network."""
    x = s.input(NUMBERS if s.index == 0 else None, 0, NUMBERS.shape, bound=16.0)
    total = s.zero(NUMBERS.shape)
    for number in range(rounds):
        if after is not None and s.index == 0:
            after(number)
        total = total + (await mpc.mul_trunc(s, x, x, 20)).assume_bound(64.0, "squares of numbers below 8")
    return (await s.reveal(total)).tolist()


def right(outcomes, rounds=60):
    for outcome in outcomes:
        assert isinstance(outcome, list), repr(outcome)
        assert np.allclose(outcome, rounds * NUMBERS**2, atol=1e-3)


@pytest.mark.parametrize("cut", ["p1", "the-dealer"])
async def test_a_connection_that_is_cut_is_made_again_under_a_running_session(cut):
    async with proxied(2) as network:
        proxy = network.proxies[cut]

        def disturb(number):
            if number % 10 == 5:
                proxy.cut()

        right(await network.each(lambda s: many_rounds(s, after=disturb)))
        assert proxy.connections > 3


@pytest.mark.parametrize("seed", range(6))
async def test_cut_at_any_byte(seed):
    rng = np.random.default_rng(seed)
    async with proxied(3) as network:

        def disturb(_):
            for proxy in network.proxies.values():
                if proxy.cut_after is None and rng.random() < 0.2:
                    proxy.cut_after = int(rng.integers(1, 4000))

        right(await network.each(lambda s: many_rounds(s, 40, after=disturb)), 40)
        for proxy in network.proxies.values():
            # Whoever closes says so, and is waited for no longer.
            proxy.cut_after = None
        assert sum(proxy.connections for proxy in network.proxies.values()) > 8
        traffic = network.nodes[0].mesh.traffic("p1")
        assert (traffic.connections, traffic.repairs > 0, traffic.sent > 0, traffic.received > 0) == (1, True, True, True)


async def test_a_connection_is_made_again_however_many_new_ones_there_were_before():
    """Somebody who changes bytes on the way again and again must not use up the time in which a channel can go on."""
    async with proxied(2, replace(CLOCKS, repair=4.0)) as network:
        peer = network.nodes[0].mesh._peers["p1"]
        await until(lambda: peer.connected)
        while not peer.contested(peer.born):
            peer.met_anew(peer.born)

        def disturb(number):
            if number == 5:
                network.proxies["p1"].cut()

        right(await network.each(lambda s: many_rounds(s, 10, after=disturb)), 10)
        assert peer.traffic.repairs == 1


async def test_who_fell_silent_is_dialled_at_once_however_many_new_ones_there_were_before():
    """The silent side may have lost the connection, and have waited since then.

    A second node with the same key would have said something.
    """
    async with proxied(2, replace(CLOCKS, repair=4.0)) as network:
        mesh = network.nodes[0].mesh
        peer = mesh._peers["p1"]
        await until(lambda: peer.connected)
        while not peer.contested(peer.born):
            peer.met_anew(peer.born)
        peer.last.interrupt(PeerLost("p1", "a test"))
        assert mesh._dialler.pause(peer, 0) == 1.0
        # As if it had been so long: nothing else runs meanwhile.
        clocks, mesh.clocks = mesh.clocks, replace(mesh.clocks, lost=-1.0)
        assert mesh._dialler.pause(peer, 0) <= 0.2
        mesh.clocks = clocks
        await until(lambda: peer.traffic.repairs == 1)


async def test_large_messages_survive_cuts():
    async with proxied(2) as network:
        values = np.arange(1 << 20, dtype=np.float64)

        async def program(s):
            return await protocols.secure_sum(s, values)

        proxy = network.proxies["p1"]

        async def cutting():
            for _ in range(6):
                proxy.cut_after = 700_000
                while proxy.cut_after is not None:
                    await asyncio.sleep(0)

        cutter = asyncio.create_task(cutting())
        outcomes = await network.each(program)
        cutter.cancel()
        for outcome in outcomes:
            assert np.array_equal(outcome, 2 * values)
        assert proxy.connections >= 6


async def test_a_cut_that_lasts_too_long_ends_the_session_everywhere():
    async with proxied(3, replace(CLOCKS, repair=0.4)) as network:

        def disturb(number):
            if number == 20:
                network.proxies["p1"].open = False
                network.proxies["p1"].cut()

        outcomes = await network.each(lambda s: many_rounds(s, after=disturb))
        assert all(isinstance(outcome, mpc.PeerLost) for outcome in outcomes)
        assert any("was lost, and not repaired within 0.4 s" in str(outcome) for outcome in outcomes)
        # What comes afterwards is a new session.
        network.proxies["p1"].open = True
        right(await network.each(lambda s: many_rounds(s, 5), job="again"), 5)


async def test_whoever_waits_for_a_member_that_is_lost_gets_the_one_fault_of_the_session():
    """Thus a task group ends with this fault, which says where this party was, and not with a nested group."""
    async with proxied(2, replace(CLOCKS, repair=0.2)) as network:
        both = asyncio.Barrier(2)

        @mpc.protocol
        async def goes_on(s):
            while True:
                await s.reveal(s.zero(1))

        async def program(s):
            await s.reveal(s.zero(1))
            await both.wait()
            network.proxies["p1"].open = False
            network.proxies["p1"].cut()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(2):
                    tasks.create_task(goes_on(s))

        for outcome in await network.each(program):
            assert isinstance(outcome, mpc.PeerLost), repr(outcome)
            # Its own place, or, where the dealer was faster than its own clock, the other's.
            assert "at goes_on." in str(outcome)


async def test_silence_is_an_interruption_too():
    async with proxied(2, replace(CLOCKS, lost=0.5)) as network:
        proxy = network.proxies["p1"]

        def disturb(number):
            if number == 20:
                # The connections of now never pass another byte; new ones do.
                proxy.passing.clear()
                proxy.passing = asyncio.Event()
                asyncio.get_running_loop().call_later(1.0, proxy.passing.set)

        right(await network.each(lambda s: many_rounds(s, after=disturb)))


async def test_a_restarted_peer_is_not_the_one_that_was_lost():
    async with proxied(2) as network:
        node = network.nodes[1]

        async def program(s):
            if s.index == 1:
                # As after a crash: what this side knew of the channel is gone.
                channel = node.mesh.channel("p0")
                channel.transcript = bytes(64)
                channel._line.link.abort()
            return await many_rounds(s, 5)

        outcomes = await network.each(program)
        assert all(isinstance(outcome, mpc.PeerLost) for outcome in outcomes), outcomes


def test_acknowledgements_that_cannot_be():
    records = Unacknowledged()
    for number in range(5):
        records.keep([bytes([number])], 1)
    records.acknowledged(3, "peer")
    assert [number for number, _ in records.again()] == [3, 4]
    assert records.size == 2
    assert records.overdue(0)
    assert not records.overdue(60)
    records.acknowledged(3, "peer")
    for wrong in (2, 6, 1 << 31):
        with pytest.raises(mpc.PeerMisbehaved):
            records.acknowledged(wrong, "peer")
    records.acknowledged(5, "peer")
    assert not list(records.again())
    assert not records.overdue(0)
