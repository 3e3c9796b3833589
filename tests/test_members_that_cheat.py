"""A member that proves another seed, or announces too much or what does not exist, is named; the next job works (invariants 15, 21)."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

import mpc
from mpc.messaging import lobby
from mpc.messaging.departure import NO_ROOM
from mpc.messaging.job import describe
from mpc.naming.expressions import Range
from mpc.network.mesh import Clocks
from mpc.preprocessing import dealer as dealing
from mpc.ring import zeros
from mpc.testing import simulate
from tests.test_agreement import nodes, run
from tests.waiting import turns, until

CLOCKS = Clocks(join=3.0, lost=5.0, stall=5.0)


def changed(monkeypatch, node, to, kind, **changes):
    """`node` says so to `to` in every control message of this kind."""
    channel = node.mesh.channel(to)
    plain = channel.control
    monkeypatch.setattr(channel, "control", lambda **body: plain(**(body | changes if body["kind"] == kind else body)))


async def connected(*opened):
    names = {node.mesh.identity.name for node in opened}
    await until(lambda: not any(node.mesh.missing(list(names - {node.mesh.identity.name})) for node in opened))


async def test_a_confirmation_with_another_seed_is_no_session(monkeypatch):
    """Equal session ids are public; that both ends derived one seed is what the proof is for."""
    async with nodes(2, CLOCKS) as opened:
        await connected(*opened)
        changed(monkeypatch, opened[0], "p1", "confirm", proof=bytes(32))
        results = await asyncio.gather(*(run(node) for node in opened[:2]), return_exceptions=True)
        assert isinstance(results[1], mpc.PeerMisbehaved)
        assert str(results[1]) == "p0: confirmed the session with another seed"
        assert isinstance(results[0], mpc.BeaverError)
        monkeypatch.undo()
        await connected(*opened)
        assert [value for value, _ in await asyncio.gather(*(run(node, "next") for node in opened[:2]))] == [2.0] * 2


BODIES = {
    "a nonce of another size": ("join", {"nonce": bytes(31)}, "joined with a nonce of the wrong size"),
    "many empty lists": ("join", {"members": [[]] * (1 << 13)}, "joined with more than 8192 values"),
    "many keys": ("join", {"description": {str(number): {} for number in range(1 << 12)}}, "joined with more than 8192 values"),
    "too many jobs": ("join", {}, "announced more than 2 jobs at once"),
}


@pytest.mark.parametrize("what", BODIES)
async def test_a_join_that_is_none_ends_the_channel_and_not_the_node(monkeypatch, caplog, what):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(lobby, "MAX_JOBS", 2)
    kind, changes, message = BODIES[what]
    async with nodes(2, CLOCKS) as opened:
        await connected(*opened)
        channel = opened[0].mesh.channel("p1")
        for number in range(3):
            job = describe(f"j{number}", opened[0].mesh, None, "")
            body = {"kind": kind, "job": job.name, "description": job.description, "members": list(job.members), "nonce": bytes(32)}
            channel.control(**(body | changes))
        await until(lambda: message in caplog.text)
        await until(lambda: opened[0].mesh.channel("p1") is not channel)
        await connected(*opened)
        assert [value for value, _ in await asyncio.gather(*(run(node) for node in opened[:2]))] == [2.0] * 2


def join(node, name, parties):
    """Let `node` announce to the dealer a job that it may never run."""
    job = describe(name, node.mesh, parties, "")
    body = {"description": job.description, "members": list(job.members), "nonce": bytes(32)}
    node.mesh.channel("the-dealer").control(kind="join", job=job.name, **body)


async def test_who_never_confirms_what_others_gave_up_takes_none_of_their_room_at_the_dealer(monkeypatch):
    monkeypatch.setattr(dealing, "MAX_JOINING", 2)
    async with nodes(3, CLOCKS) as opened:
        await connected(*opened)

        def waiting(job, name):
            lobby = opened[-1].dealer._lobby
            return [each for each, _ in lobby.waiting(lobby.key(job, ["p0", name, "the-dealer"]))]

        for number, node in enumerate((opened[1], opened[1], opened[2], opened[2])):
            job, name = f"j{number}", node.mesh.identity.name
            left = asyncio.create_task(run(node, job, parties=["p0", name]))
            await until(lambda job=job, name=name: waiting(job, name) == [name])
            join(opened[0], job, ("p0", name))
            await until(lambda job=job, name=name: waiting(job, name) == [name, "p0"])
            left.cancel()
            await asyncio.wait([left])
            await until(lambda job=job, name=name: waiting(job, name) == ["p0"])
        both = await asyncio.gather(*(run(node, "theirs", parties=["p1", "p2"]) for node in opened[1:3]))
        assert [value for value, _ in both] == [2.0] * 2


async def test_who_announces_many_jobs_at_once_takes_no_more_room_at_the_dealer(monkeypatch, caplog):
    monkeypatch.setattr(dealing, "MAX_JOINING", 2)
    async with nodes(3, CLOCKS) as opened:
        await connected(*opened)
        for number in range(4):
            join(opened[0], f"j{number}", ("p0", "p1"))
        await until(lambda: caplog.text.count("for 2 that wait for others it has waited longest") == 2)
        assert [each.job for each in opened[-1].dealer.served] == ["j0", "j1"]


FULL = "the-dealer: serves as many jobs at once as it can, or as this party may have; run it again when some are over"


async def holds_places(monkeypatch, most, count):
    """What p0 and p1 hear when they hold `count` sessions of a dealer that has room for `most`, and ask for one more.

    p2 and p3 get one meanwhile.
    """
    monkeypatch.setattr(dealing, "MAX_SESSIONS", most)
    over = asyncio.Event()
    async with nodes(4, CLOCKS) as opened:

        async def held(node, job):
            async with node.session(job, parties=["p0", "p1"]):
                await over.wait()

        holding = asyncio.gather(*(held(node, f"j{number}") for number in range(count) for node in opened[:2]))
        await until(lambda: [each.state for each in opened[-1].dealer.served] == [dealing.RUNNING] * count)
        more = await asyncio.gather(*(run(node, "more", parties=["p0", "p1"]) for node in opened[:2]), return_exceptions=True)
        both = await asyncio.gather(*(run(node, "theirs", parties=["p2", "p3"]) for node in opened[2:4]))
        assert [value for value, _ in both] == [2.0] * 2
        over.set()
        await holding
        await until(lambda: not opened[-1].dealer._jobs)
        both = await asyncio.gather(*(run(node, "more", parties=["p0", "p1"]) for node in opened[:2]))
        assert [value for value, _ in both] == [2.0] * 2
        return more


async def full():
    with pytest.MonkeyPatch.context() as patch:
        return await holds_places(patch, 4, 2)


async def test_who_has_as_many_places_of_the_dealer_as_are_left_gets_no_more_and_hears_so(monkeypatch):
    """They are refused at once, while others get their places."""
    refused = await holds_places(monkeypatch, 4, 2)
    assert [(type(fault), str(fault)) for fault in refused] == [(mpc.Refused, FULL)] * 2
    assert [value for value, _ in await holds_places(monkeypatch, 5, 2)] == [2.0] * 2


async def test_only_the_dealer_says_that_it_has_no_place():
    async with nodes(2, CLOCKS) as opened:
        await connected(*opened)
        early = asyncio.create_task(run(opened[0]))
        await until(lambda: opened[1]._lobby.waiting("j"))
        nonce = opened[1]._lobby.attempt("j").joins["p0"]["nonce"]
        opened[1].mesh.channel("p0").control(kind="withdraw", job="j", reason=NO_ROOM, party="the-dealer", answers=nonce)
        await turns()
        assert (await run(opened[1]))[0] == (await early)[0] == 2.0


@pytest.mark.parametrize("table", [[33, *[1] * 32], [1, 3, 3, *[0] * 30], [1, 1 << 60, *[0] * 31]])
def test_an_announced_shape_that_is_none_is_refused(monkeypatch, table):
    async def program(s):
        if s.index == 1:
            exchange = s._engine.exchange
            plain = exchange._round

            async def lies(scope, about, transfers):
                return await plain(scope, about, [each._replace(words=np.array(table, np.uint64)) for each in transfers])

            monkeypatch.setattr(exchange, "_round", lies)
        await s.inputs(np.ones(3))

    with pytest.raises(mpc.PeerMisbehaved, match="p1: announced an impossible shape"):
        simulate(2, program)


def test_a_mask_of_another_shape_hides_nothing():
    async def program(s):
        with pytest.raises(mpc.ProgramError, match=r"a mask of shape \(2,\) cannot hide words of shape \(3,\)"):
            s._engine.streams.hide(Range("9", 0, (2,)), zeros((3,)))

    simulate(2, program)
