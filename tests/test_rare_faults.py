"""Faults that members rarely meet: each is told by who finds it, ends what it must, and the next job works (invariants 12, 21, 27)."""

from __future__ import annotations

import asyncio
import logging
import resource
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mpc import Node, PeerLost, Refused
from mpc.channels.channel import Channel
from mpc.channels.flow import WINDOW
from mpc.framing import wire
from mpc.framing.handshake import KK, Hello
from mpc.framing.records import Sealer
from mpc.membership.identity import Identity
from mpc.membership.members import Member
from mpc.membership.roster import Roster
from mpc.messaging import agreed
from mpc.messaging.job import describe
from mpc.messaging.visit import Visit
from mpc.naming.correlations import Relation, receiver
from mpc.naming.expressions import Range, mask
from mpc.network.mesh import Clocks, Mesh
from mpc.preprocessing.dealer import DONE, FAILED, RUNNING
from mpc.testing import simulate
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from mpc.transport.memory import memory_pair
from tests.channels import Owner, Raw, hello, people
from tests.test_agreement import nodes, run
from tests.test_members_that_cheat import connected
from tests.waiting import turns, until

CLOCKS = Clocks(join=30.0, lost=20.0, stall=20.0)


async def next_job_works(opened):
    await connected(*opened)
    assert [value for value, _ in await asyncio.gather(*(run(node, "next") for node in opened[:2]))] == [2.0] * 2


# -- before a session is confirmed ---------------------------------------------------------------------------------


def unconfirmed(monkeypatch, node, to):
    """Hold back for ever the confirmations that `node` sends to `to`; return the sessions that it confirmed."""
    channel, sessions = node.mesh.channel(to), []
    plain = channel.control

    def held_back(**body):
        if body["kind"] == "confirm":
            sessions.append(body["session"])
        else:
            plain(**body)

    monkeypatch.setattr(channel, "control", held_back)
    return sessions


EARLY = {
    "too many": ([[]] * 4, "sent more than 3 messages, or 400 bytes in them, before the session was confirmed"),
    "too long": ([[bytes(200)], [bytes(200)]], "sent more than 3 messages, or 400 bytes in them, before the session was confirmed"),
    "too many names": ([[b""] * 7], "sent more than 3 messages, or 400 bytes in them, before the session was confirmed"),
    "no names": ([[[[]]]], "asked for a relation that is not defined"),
}


@pytest.mark.parametrize("what", EARLY)
async def test_a_member_that_says_too_much_before_the_last_confirmation_is_cut_off(monkeypatch, caplog, what):
    asks, message = EARLY[what]
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(agreed, "MAX_EARLY_CONTROLS", 3)
    monkeypatch.setattr(agreed, "MAX_EARLY_CONTROL_BYTES", 400)
    async with nodes(2, CLOCKS) as opened:
        await connected(*opened)
        sessions = unconfirmed(monkeypatch, opened[2], "p1")
        first, second = (asyncio.create_task(run(node)) for node in opened[:2])
        await until(lambda: sessions)
        channel = opened[0].mesh.channel("p1")
        for relations in asks:
            channel.control(kind="ask", session=sessions[-1], relations=relations)
        await until(lambda: f"p0: {message}" in caplog.text)
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], PeerLost)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        monkeypatch.undo()
        await next_job_works(opened)


async def nothing(node):
    async with node.session("j"):
        pass


async def test_a_session_that_one_has_ended_and_the_other_left_waits_for_no_confirmation(monkeypatch):
    async with nodes(2, CLOCKS) as (*parties, dealer):
        await connected(*parties, dealer)
        unconfirmed(monkeypatch, dealer, "p1")
        waiting = asyncio.create_task(nothing(parties[1]))
        await nothing(parties[0])
        for channel in (dealer.mesh.channel("p1"), dealer.mesh.channel("p0")):
            channel.end(PeerLost(channel.name, "the dealer is switched off"))
        with pytest.raises(PeerLost, match="the-dealer: was lost before all had confirmed the session, which others have ended"):
            await asyncio.wait_for(waiting, 20)


@pytest.mark.parametrize("first", ["p1", "p2"])
async def test_a_session_that_one_has_ended_waits_for_nobody_who_is_lost(monkeypatch, first):
    """The dealer has every confirmation, and goes on; p0 never gets that of p1, which is done and gone, and so is p2."""
    identities, roster = simulated_roster(3)
    network = MemoryNetwork()

    def node(number):
        return Node(identities[number], roster, network.of(identities[number].name), clocks=CLOCKS)

    async with node(3) as dealer, node(0) as stays:
        async with AsyncExitStack() as stack:
            # Those that are opened first are closed last.
            p2, p1 = [await stack.enter_async_context(node(number)) for number in ((2, 1) if first == "p1" else (1, 2))][
                :: 1 if first == "p1" else -1
            ]
            await connected(stays, p1, p2, dealer)
            channel = p1.mesh.channel("p0")
            plain = channel.control
            monkeypatch.setattr(channel, "control", lambda **body: None if body["kind"] in {"confirm", "leave"} else plain(**body))
            waiting = asyncio.create_task(nothing(stays))
            await asyncio.gather(nothing(p1), nothing(p2))
            await until(lambda: dealer.dealer.served[0].state == RUNNING)
        with pytest.raises(PeerLost, match="p1: was lost before all had confirmed the session, which others have ended"):
            await asyncio.wait_for(waiting, 20)
        await until(lambda: dealer.dealer.outcomes[FAILED])
        async with node(1) as p1, node(2) as p2:
            assert [value for value, _ in await asyncio.gather(*(run(each) for each in (stays, p1, p2)))] == [3.0] * 3


async def test_a_session_that_one_member_never_began_does_not_keep_the_dealer_from_the_next(monkeypatch):
    """p0 does not hear in time, from p1, p2 or the dealer, that the session ended, and agrees on the next run with them.

    The dealer still waits for p0 in the session before.
    """
    identities, roster = simulated_roster(3)
    network, late = MemoryNetwork(), []

    def node(number):
        return Node(identities[number], roster, network.of(identities[number].name), clocks=CLOCKS)

    async with node(3) as dealer, node(0) as stays:
        async with node(1) as p1, node(2) as p2:
            await connected(stays, p1, p2, dealer)
            for channel in (p1.mesh.channel("p0"), p2.mesh.channel("p0")):
                plain = channel.control
                monkeypatch.setattr(
                    channel, "control", lambda plain=plain, **body: None if body["kind"] in {"confirm", "leave"} else plain(**body)
                )
            slow = dealer.mesh.channel("p0")
            at_once = slow.control
            monkeypatch.setattr(slow, "control", lambda **body: late.append(body) if body["kind"] == "over" else at_once(**body))
            waiting = asyncio.create_task(run(stays))
            await asyncio.gather(nothing(p1), nothing(p2))
            await until(lambda: [served.state for served in dealer.dealer.served] == [RUNNING])
        async with node(1) as p1, node(2) as p2:
            again = asyncio.gather(waiting, run(p1), run(p2))
            assert [value for value, _ in await asyncio.wait_for(again, 20)] == [3.0] * 3
            assert {body["party"] for body in late} >= {"p1", "p2"}
            for body in late:
                at_once(**body)
        await until(lambda: dealer.dealer.outcomes == {FAILED: 1, DONE: 1})


async def test_what_a_member_sent_before_two_others_met_anew_counts(monkeypatch):
    """p0 and p1 lose their connection, and their confirmations with it.

    Over another connection they agree on the same session, which the others have begun.
    """
    async with nodes(3, replace(CLOCKS, repair=0.0)) as opened:
        await connected(*opened)
        unconfirmed(monkeypatch, opened[0], "p1")
        unconfirmed(monkeypatch, opened[1], "p0")
        tasks = [asyncio.create_task(run(node)) for node in opened[:3]]
        await until(lambda: [served.state for served in opened[3].dealer.served] == [RUNNING])
        # p2 has sent what the two wait for.
        await turns()
        opened[0].mesh.channel("p1").end(PeerLost("p1", "the connection is cut"))
        assert [value for value, _ in await asyncio.gather(*tasks)] == [3.0] * 3


async def test_a_client_that_is_lost_before_the_session_begins_ends_it():
    identities, plain = simulated_roster(2)
    lab = Identity.generate("lab")
    roster, network = Roster([*plain.members, Member("lab", lab.public, None, "client")]), MemoryNetwork()
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=CLOCKS)) for who in identities]
        async with Node(lab, roster, network.of("lab"), clocks=CLOCKS):
            await until(lambda: not any(node.mesh.missing(["lab"]) for node in opened[:2]))
            visits = [Visit(node.mesh.channel("lab"), b"a job", "lab", WINDOW) for node in opened[:2]]
        await until(lambda: all(node.mesh.missing(["lab"]) for node in opened[:2]))

        async def program(node, visit):
            async with node.session("j", visit=visit) as s:
                await s.reveal(s.zero(1))

        outcomes = await asyncio.gather(*map(program, opened, visits), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["lab: was lost while the session began"] * 2
        await next_job_works(opened)


@pytest.mark.parametrize("closing", range(12))
async def test_a_node_that_closes_at_any_turn_of_a_handshake_leaves_no_connection(closing):
    """Otherwise the other node believes that the connection lives, until a clock runs out.

    A node that is cut off before it can say goodbye may come back.
    """
    identities, roster = simulated_roster(2)
    network = MemoryNetwork()
    a, b = (Node(who, roster, network.of(who.name), clocks=replace(CLOCKS, repair=0.2)) for who in identities[:2])
    async with b:
        async with a:
            await turns(closing)
        await turns()
        assert b.mesh.missing(["p0"]) == ["p0"]


# -- a connection that is made again -------------------------------------------------------------------------------


class Forgetful(Owner):
    """Has a connection to go on with until it has said so."""

    def __init__(self, older):
        super().__init__()
        self.older = older

    def previous(self, name):
        return self.older


async def test_who_goes_on_with_a_connection_that_has_ended_here_is_told_so():
    (a, b), roster = people("a", "b")
    older = Channel(memory_pair("x", "y")[0], a, roster, Owner(), dialled=roster["b"])
    near, far = memory_pair("near", "far")
    raw, owner = Raw(far), Forgetful(older)
    Channel(near, a, roster, owner, dialled=roster["b"])
    theirs, mine = Hello.decode(await raw.next(), "a"), hello("b", "a", roster)
    raw.link.send(mine.encode())
    kk = KK(False, "AESGCM", theirs.encode() + mine.encode(), b.curve_secret, a.curve_public, peer="a")
    kk.read_message(await raw.next())
    raw.link.send(kk.write_message())
    assert await raw.next() is not None
    older.end(PeerLost("b", "was not repaired in time"))
    raw.link.send(Sealer(kk.split().send, "AESGCM").seal(wire.record_head(0, 0) + wire.ready(b"o" * len(wire.NEW), 0)))
    assert (await owner.until("closed"))[1:] == ("PeerLost", "b: went on with a connection that has ended here")


class Order:
    """Records the order of what a mesh tells about `name`."""

    def __init__(self, mesh, name):
        self.name, self.heard = name, []
        mesh.subscribe(self)

    def peer_up(self, name):
        self.heard += ["up"] if name == self.name else []

    def peer_down(self, name, fault):
        self.heard += [str(fault)] if name == self.name else []

    def control(self, name, body):
        pass


async def test_who_connects_anew_has_lost_its_older_connection_before():
    """Thus a session, at a party or at the dealer, hears of the loss before it hears of another connection."""
    identities, roster = simulated_roster(2)
    network, clocks = MemoryNetwork(), replace(CLOCKS, repair=0.0)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=clocks)) for who in identities]
        await connected(*opened)
        began = asyncio.Event()

        async def program(node):
            async with node.session("j") as s:
                began.set()
                while True:
                    await s.reveal(s.zero(1))

        first, second = (asyncio.create_task(program(node)) for node in opened[:2])
        await began.wait()
        await until(lambda: [served.state for served in opened[2].dealer.served] == [RUNNING])
        orders = [Order(node.mesh, "p0") for node in opened[1:]]
        async with Mesh(identities[0], roster, network.of("p0"), clocks):
            with pytest.raises(PeerLost) as caught:
                await second
            await until(lambda: opened[2].dealer.outcomes[FAILED])
        lost = "p0: connected again, and the older connection was dropped"
        assert str(caught.value).startswith(lost)
        assert [order.heard[:2] for order in orders] == [[lost, "up"]] * 2
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


# -- what a dealer is asked for ------------------------------------------------------------------------------------


def asks_of_the_dealer(key_of, caplog):
    """p0 asks for a relation that `key_of` names, and the session ends; what the dealer says of it."""

    async def program(s):
        if s.index == 0:
            s._engine.exchange._ask([key_of(lambda key: receiver(s._engine.exchange.correction_tag(key), s.n))])
        while True:
            await s.reveal(s.zero(1))

    with pytest.raises((PeerLost, Refused)):
        simulate(2, program, clocks=CLOCKS)
    return [record.getMessage() for record in caplog.records if record.name == "beaver.the-dealer"]


def value(size, number):
    where = Range(f"7.{number}", 0, (size,))
    return Relation("value", (), (mask(where),), (), where).key


def test_who_asks_for_a_correction_of_another_party_ends_its_session(caplog):
    said = asks_of_the_dealer(lambda to: next(key for key in (value(4, number) for number in range(100)) if to(key) == 1), caplog)
    assert any(line.endswith("p0: asked for a correction that another party receives") for line in said), said


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is limited where it can be read")
def test_who_asks_for_more_than_there_is_memory_ends_its_session_and_not_the_dealer(caplog):
    size, before = 1 << 26, resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 4 * size, before[1]))
    try:
        said = asks_of_the_dealer(lambda to: next(key for key in (value(size, number) for number in range(100)) if to(key) == 0), caplog)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert any("the-dealer: has no memory for what the program needs of it at scope 7." in line for line in said), said


JOBS = {
    "members that are not in the roster": ({"members": ["p1", "p2", "the-dealer"]}, {}),
    "terms that are no text": ({}, {"terms": {"a": 7}}),
    "a party alone": ({"members": ["p0", "the-dealer"]}, {}),
}
SAID = {
    "members that are not in the roster": "proposed a job with members that are not in the roster",
    "terms that are no text": "proposed a job whose terms are not text",
    "a party alone": "proposed a job that cannot run (a job needs at least two different parties",
}


@pytest.mark.parametrize("what", JOBS)
async def test_a_job_that_is_none_ends_the_channel_to_the_dealer_and_not_the_dealer(what, caplog):
    caplog.set_level(logging.INFO)
    body, description = JOBS[what]
    async with nodes(2, CLOCKS) as opened:
        await connected(*opened)
        job = describe("j", opened[0].mesh, None, "")
        whole = {"kind": "join", "job": "j", "description": job.description | description, "members": list(job.members), "nonce": bytes(32)}
        opened[0].mesh.channel("the-dealer").control(**(whole | body))
        await until(lambda: SAID[what] in caplog.text)
        await next_job_works(opened)
