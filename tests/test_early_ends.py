"""A party that is done leaves at once, with its node; the others still have all that it sent."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import protocols
from mpc import Node, PeerLost
from mpc.preprocessing.dealer import DONE, FAILED, JOINING
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from tests.test_agreement import CLOCKS, run
from tests.test_members_that_cheat import connected
from tests.waiting import until


def opened(n=3):
    """A node of each member, the dealer's last, none of them open yet, in one network."""
    identities, roster = simulated_roster(n)
    network = MemoryNetwork()
    return lambda number: Node(identities[number], roster, network.of(identities[number].name), clocks=CLOCKS)


async def gives(node, count=1, job="j"):
    """Reveal a value to p0 alone."""
    async with node.session(job) as s:
        return [await protocols.secure_sum(s, np.full(200, float(number)), to=["p0"]) for number in range(count)]


@pytest.mark.parametrize("count", [1, 3])
async def test_what_a_party_sent_that_has_left_since_is_there_when_it_is_asked_for(count):
    node = opened()

    async def gets(mine):
        async with mine.session("j") as s:
            await until(lambda: mine.mesh.channel("p2") is None)
            return [(await protocols.secure_sum(s, np.zeros(200), to=["p0"]))[0] for _ in range(count)]

    async def leaves():
        async with node(2) as mine:
            return await gives(mine, count)

    async with node(3), node(0) as first, node(1) as second:
        sums, *nothing = await asyncio.gather(gets(first), gives(second, count), leaves())
    assert sums == [2.0 * number for number in range(count)]
    assert nothing == [[None] * count] * 2


@pytest.mark.parametrize("slow", ["p0", "the-dealer"])
async def test_a_party_that_has_left_before_the_last_confirmation_came_took_part(monkeypatch, slow):
    """One member hears the confirmation of p1 only when p2 has begun, sent what it has, and left with its node."""
    node, held, heard = opened(), [], asyncio.Event()

    async def gets(mine):
        async with mine.session("j") as s:
            await heard.wait()
            return (await protocols.secure_sum(s, np.ones(200), to=["p0"]))[0]

    async with node(3) as dealer, node(0) as first, node(1) as second:
        waiting = {"p0": first, "the-dealer": dealer}[slow]
        async with node(2) as leaving:
            await until(lambda: not (first.mesh.missing(["p1", "p2", "the-dealer"]) or second.mesh.missing(["p0", "the-dealer"])))
            channel = second.mesh.channel(slow)
            through = channel.control
            monkeypatch.setattr(channel, "control", lambda **body: held.append(body) if body["kind"] == "confirm" else through(**body))
            tasks = [asyncio.create_task(gets(first)), asyncio.create_task(gives(second))]
            assert await gives(leaving) == [None]
        await until(lambda: waiting.mesh.channel("p2") is None)
        monkeypatch.undo()
        for body in held:
            channel.control(**body)
        if slow == "the-dealer":
            await until(lambda: dealer.dealer.served[0].state != JOINING)
        heard.set()
        assert await asyncio.gather(*tasks) == [1.0, [None]]
        await until(lambda: dealer.dealer.outcomes[DONE] == 1)
        # And the next run is as any other.
        async with node(2) as again:
            assert [value for value, _ in await asyncio.gather(*(run(each) for each in (first, second, again)))] == [3.0] * 3


@pytest.mark.parametrize("how", ["they die", "the link breaks"])
async def test_a_party_whose_others_were_done_before_it_began_is_not_left_waiting(monkeypatch, how):
    """p0 never hears the confirmation of p1, nor that p1 and p2 have ended the session; the dealer, which knows, says that they have."""
    node = opened()
    async with node(3) as dealer, node(0) as first:
        async with node(1) as second, node(2) as third:
            others = (second, third)
            await connected(dealer, first, *others)
            silent(monkeypatch, second.mesh.channel("p0"), {"confirm", "leave"})
            silent(monkeypatch, third.mesh.channel("p0"), {"leave"})
            waiting = asyncio.create_task(run(first))
            assert await asyncio.gather(*map(gives, others)) == [[None]] * 2
            if how == "the link breaks":
                first.mesh.channel("p1").end(PeerLost("p1", "the connection is cut"))
                await ended(waiting)
                assert [value for value, _ in await asyncio.gather(*map(run, (first, *others)))] == [3.0] * 3
        await ended(waiting)
        await until(lambda: dealer.dealer.outcomes[FAILED] == 1)
        async with node(1) as again, node(2) as too:
            assert [value for value, _ in await asyncio.gather(*map(run, (first, again, too)))] == [3.0] * 3


@pytest.mark.parametrize("last", [1, 2])
async def test_a_dealer_that_never_began_says_who_has_ended_what_it_gives_up(monkeypatch, last):
    """Neither p0 nor the dealer hears the confirmation of p1; of p2, the dealer alone hears that the session has ended."""
    node = opened()
    async with node(3) as dealer, node(0) as first:
        async with node(last) as one, node(3 - last) as other:
            second, third = (one, other) if last == 1 else (other, one)
            await connected(dealer, first, second, third)
            for waits in ("p0", "the-dealer"):
                silent(monkeypatch, second.mesh.channel(waits), {"confirm", "leave"})
            silent(monkeypatch, third.mesh.channel("p0"), {"leave"})
            waiting = asyncio.create_task(run(first))
            assert await asyncio.gather(gives(second), gives(third)) == [[None]] * 2
        await asyncio.wait_for(ended(waiting), CLOCKS.join / 2)
        assert dealer.dealer.outcomes[FAILED] == 1
        async with node(1) as again, node(2) as too:
            assert [value for value, _ in await asyncio.gather(*map(run, (first, again, too)))] == [3.0] * 3


async def ended(waiting):
    with pytest.raises(PeerLost, match=r"p[12]: was lost before all had confirmed the session, which others have ended"):
        await waiting


def silent(monkeypatch, channel, kinds):
    """Let this channel lose control messages of these kinds, as if its member died, or the link broke, before they left."""
    through = channel.control
    monkeypatch.setattr(channel, "control", lambda **body: None if body["kind"] in kinds else through(**body))
