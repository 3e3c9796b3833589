"""The states of a channel: which may follow which, and which ones the real ends of a link pass through."""

from __future__ import annotations

import asyncio

import pytest

from mpc import PeerLost
from mpc.channels.channel import Channel
from mpc.channels.states import FOLLOWING, GREETING, HANDED_OVER, LEAVING, OPEN, OVER, PARTING, REFUSED, follow
from mpc.transport.memory import memory_pair
from tests.channels import Owner, people
from tests.proxies import proxied
from tests.waiting import until

GONE = PeerLost("b", "is gone")


@pytest.fixture
def passed(monkeypatch):
    """The states of every channel, in order."""
    passed, plain = {}, Channel._becomes

    def noted(self, after):
        passed.setdefault(self, [self.state]).append(after)
        plain(self, after)

    monkeypatch.setattr(Channel, "_becomes", noted)
    return passed


async def two():
    (a, b), roster = people("a", "b")
    near, far = memory_pair("a to b", "b to a")
    owners = Owner(), Owner()
    one, other = Channel(near, a, roster, owners[0], dialled=roster["b"]), Channel(far, b, roster, owners[1])
    await asyncio.gather(*(owner.until("opened") for owner in owners))
    return one, other


async def test_a_goodbye_is_answered(passed):
    one, other = await two()
    one.close()
    assert one.state is PARTING
    await until(lambda: one.state.over and other.state.over)
    assert passed == {one: [GREETING, OPEN, PARTING, LEAVING, OVER], other: [GREETING, OPEN, LEAVING, OVER]}


async def test_whoever_ends_it_has_nothing_left_of_it(passed):
    one, other = await two()
    one.end(GONE)
    await until(lambda: other.state.over)
    assert passed == {one: [GREETING, OPEN, OVER], other: [GREETING, OPEN, OVER]}


async def test_a_goodbye_is_given_up(passed):
    one, _ = await two()
    one.close()
    one.end(GONE)
    assert passed[one] == [GREETING, OPEN, PARTING, OVER]


async def test_one_that_is_refused_never_comes_to_be(passed):
    (a, _), roster = people("a", "b")
    near, _ = memory_pair("a to b", "b to a")
    channel = Channel(near, a, roster, Owner(), dialled=roster["b"])
    channel.end(GONE)
    assert passed[channel] == [GREETING, REFUSED]
    assert not channel.served


async def test_a_line_is_handed_over_to_the_channel_that_goes_on(passed):
    async with proxied(2) as network:
        meshes = [node.mesh for node in network.parties]
        await until(lambda: all(mesh.channel(name) is not None for mesh, name in zip(meshes, ("p1", "p0"), strict=True)))
        before = meshes[0].channel("p1")
        network.proxies["p1"].cut()
        await until(lambda: any(states == [GREETING, HANDED_OVER] for states in passed.values()))
        assert meshes[0].channel("p1") is before
        assert before.state is OPEN


def test_whatever_is_over_stays_so():
    for before, after in FOLLOWING.items():
        assert before.over == (not after)
        for state in FOLLOWING:
            if state in after:
                assert follow(before, state) is state
            else:
                with pytest.raises(RuntimeError, match=f"a channel that is {before.name} does not become {state.name}"):
                    follow(before, state)
