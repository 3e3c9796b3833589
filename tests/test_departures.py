"""Every member gives the same reason for the end of a session, whoever tells it first (invariants 25, 27)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest

from mpc import BeaverError, ConfigError, Disagreement, Node, PeerLost, PeerMisbehaved, PrecisionError, Refused
from mpc.messaging.agreement import GAVE_UP
from mpc.messaging.departure import NO_ROOM, Departure, dealer_full, no_memory, reported
from mpc.messaging.exchange import Exchange
from mpc.testing import simulate
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from parties.jobs.endings import DENIED, LOST, UNLIKE, UNWRITTEN, denied_by, given_up, unwritten, why
from parties.jobs.job import Task
from parties.jobs.visits import _ending, heard
from tests.test_agreement import CLOCKS, Played, meshes, run
from tests.waiting import turns, until

MEMBERS = ["p0", "p1", "p2", "the-dealer"]


@pytest.mark.parametrize(
    ("fault", "reason", "party"),
    [
        (PeerLost("p1", "x 4711"), "lost", "p1"),
        (Disagreement("p1", "x 4711"), "disagreement", "p1"),
        (PeerMisbehaved("p1", "x 4711"), "misbehaved", "p1"),
        (PrecisionError("x 4711"), "program", "p0"),
        (ValueError("x 4711"), "program", "p0"),
        # Nobody is lost to itself.
        (PeerLost("p0", "x 4711"), "program", "p0"),
    ],
)
def test_what_is_told_comes_from_fixed_lists(fault, reason, party):
    assert Departure.of(fault, "p0", "mean.0") == Departure(reason, party, "p0", "mean.0")
    assert Departure.of(fault, "p0", "deep/" * 10_000) == Departure(reason, party, "p0", "a place without a name")


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("program", "p1: left at x: its program ended there (its log says why)"),
        ("lost", "p1: was lost at x to p0"),
        ("misbehaved", "p1: sent p0 what the wire format does not allow, at x"),
        ("disagreement", "p1: disagrees with p0 at x: they run different programs, shapes, bounds or settings"),
        ("room", f"p1: {no_memory('x')}"),
    ],
)
def test_whoever_tells_it_it_is_of_the_same_two_and_says_whose_word_it_is(reason, text):
    told = Departure(reason, "p1", "p1" if reason == "program" else "p0", "x")
    assert str(reported("the-dealer", told, "p2", MEMBERS)) == f"{text}, says the-dealer"
    assert str(reported("p1", told, "p2", MEMBERS)) == text
    assert str(reported("p0", told, "p2", MEMBERS)) == f"{text.removesuffix(' to p0')}, says p0"
    # Of what this member is said to have found itself.
    other = told if reason in ("program", "room") else told._replace(by="p2")
    assert str(reported("the-dealer", other, "p2", MEMBERS)) == f"{text.replace('p0', 'p2')}, says the-dealer"


@pytest.mark.parametrize("reason", ["lost", "misbehaved", "disagreement", "program", "room", "\x1b[2Jforged\nline"])
def test_nothing_that_a_member_wrote_itself_is_shown_as_a_reason(reason):
    for party in ("p1", "p2"):
        told = str(reported("p0", Departure(reason, party, "p1", "x"), "p2", MEMBERS))
        assert told.isprintable()
        assert told.endswith(", says p0")


def test_an_unknown_culprit_is_the_teller():
    assert reported("p0", Departure("lost", "nobody", "p1", "x"), "p2", MEMBERS).party == "p0"
    assert str(reported("p0", Departure("lost", "p1", "nobody", "x"), "p2", MEMBERS)) == "p1: was lost at x, says p0"


@pytest.mark.parametrize("teller", ["p0", "p1", "the-dealer"])
@pytest.mark.parametrize("by", ["p1", "p2", "nobody"])
def test_who_is_named_is_told_who_found_it_so_and_not_who_passed_it_on(teller, by):
    fault = reported(teller, Departure("misbehaved", "p2", by, "x"), "p2", MEMBERS)
    assert fault.party == ("p1" if by == "p1" else teller)
    assert "found p2 misbehaved" in str(fault)


def test_who_is_said_to_have_no_memory_itself_is_told_who_says_so():
    fault = reported("p0", Departure("room", "p2", "p2", "x"), "p2", MEMBERS)
    assert (type(fault), fault.party) == (PeerLost, "p0")


def test_two_members_cut_off_from_each_other_are_both_named_by_everyone():
    told = Departure("lost", "p1", "p0", "x")
    texts = [str(reported(teller, told, "p2", MEMBERS)) for teller in ("p0", "p1", "the-dealer")]
    assert texts == ["p1: was lost at x, says p0", "p1: was lost at x to p0", "p1: was lost at x to p0, says the-dealer"]


@pytest.mark.parametrize("seed", range(6))
def test_what_a_member_was_told_it_passes_on_unchanged(monkeypatch, seed):
    told = []
    plain = Exchange._end

    def noted(self, what):
        told.append((self.me, what))
        plain(self, what)

    monkeypatch.setattr(Exchange, "_end", noted)

    async def program(s):
        if s.index == 1:
            raise KeyError("secret")
        await s.reveal(s.zero(1))

    with pytest.raises(KeyError):
        simulate(3, program, seed=seed)
    assert {what._replace(at="") for _, what in told} == {Departure("program", "p1", "p1", "")}
    assert len({what.at for _, what in told}) == 1


@pytest.mark.parametrize("party", ["p0", "p1", "lab"])
def test_a_client_is_shown_no_words_of_a_party(party):
    """A terminal would obey some control characters."""
    text = str(heard("p0", "\x1b[2Jmoved to evil.example", party, "lab"))
    assert "gone" in text
    assert "evil" not in text
    assert text.isprintable()


async def no_room():
    """What a client is told when the dealer has no room."""
    return [heard("a", "room", "dealer", "lab")]


async def test_a_client_hears_that_the_dealer_has_no_room_and_not_that_it_denied_the_job():
    assert _ending(Refused("dealer", "has no memory"), "a", ["a", "b"]) == ("room", "dealer")
    assert _ending(dealer_full("dealer", "b"), "a", ["a", "b"]) == ("room", "dealer")
    assert _ending(denied_by("b", "b"), "a", ["a", "b"]) == ("denied", "b")
    (fault,) = await no_room()
    assert (type(fault), fault.party) == (Refused, "dealer")
    assert str(heard("a", "room", "lab", "lab")).startswith("a: ended the job, since it found this client gone")


def own():
    """The fault that ends a job at `a` whose start cannot be written into a's audit log."""
    fault = ConfigError("a.audit.log: ...")
    fault.ending = UNWRITTEN
    return fault


@pytest.mark.parametrize(("fault", "party"), [(unwritten("b", "b"), "b"), (own(), "a")])
def test_a_client_hears_whose_audit_log_cannot_be_written_from_every_party(fault, party):
    assert _ending(fault, "a", ["a", "b"]) == (UNWRITTEN, party)
    told = heard("a", UNWRITTEN, party, "lab")
    assert (type(told), told.party, "cannot write its audit log" in str(told)) == (Refused, party, True)
    # What nobody can say of the client itself is nothing.
    assert isinstance(heard("a", UNWRITTEN, "lab", "lab"), PeerLost)


@pytest.mark.parametrize("reason", [DENIED, UNLIKE, UNWRITTEN, NO_ROOM, LOST])
def test_why_a_job_ended_before_it_began_is_passed_on_unchanged(reason):
    task = Task("mean", "patients", ("age",), ("a", "b"))
    assert why(given_up("b", reason, task, "a")) == reason


@pytest.mark.parametrize("kind", ["leave", "withdraw"])
async def test_who_tells_of_nobody_is_named_itself(kind):
    """Without a client, no member has an empty name."""
    identities, roster = simulated_roster(2)
    network = MemoryNetwork()

    def ends(session):
        left = {"session": session, "reason": "lost", "party": "", "by": "", "at": "the start"}
        gave_up = {"job": "j", "reason": GAVE_UP, "party": "", "answers": b""}
        p1.mesh.channel("p0").control(kind=kind, **(left if kind == "leave" else gave_up))

    async with Node(identities[0], roster, network.of("p0"), clocks=CLOCKS) as node, AsyncExitStack() as stack:
        p1, _ = [Played(mesh, ends) for mesh in await meshes(stack, network, identities[1:], roster)]
        with pytest.raises(PeerLost) as caught:
            await run(node, all_present=True)
    assert caught.value.party == "p1"


async def test_what_differs_is_said_rather_than_that_its_member_gave_up():
    """The dealer takes up another roster last, and gives the job up since another party withdrew.

    Word of that may come before this party compares the rosters.
    """
    identities, roster = simulated_roster(2)
    network = MemoryNetwork()

    class Late(Played):
        def control(self, name, body):
            if name == "p0" and body["kind"] == "join":
                other = body["description"] | {"roster": bytes(32)}
                self.mesh.channel("p0").control(**{**body, "description": other, "nonce": bytes(32)})
                self.mesh.channel("p0").control(kind="withdraw", job="j", reason=GAVE_UP, party="the-dealer", answers=b"")

    async with Node(identities[0], roster, network.of("p0"), clocks=CLOCKS) as node, AsyncExitStack() as stack:
        for mesh, role in zip(await meshes(stack, network, identities[1:], roster), (Played, Late), strict=True):
            role(mesh, lambda _: None)
        with pytest.raises(Disagreement) as caught:
            await run(node, all_present=True)
    assert str(caught.value) == "the-dealer: describes job 'j' differently: roster. Start it with the same settings everywhere."


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_fault_that_all_programs_have_is_found_by_each(n):
    """The first party to fail ends the session while messages of others are still on their way."""
    found = []

    async def program(s):
        total = await s.reveal(s.zero(1))
        found.append(s.index)
        msg = f"the total is {total[0]:g}"
        raise ConfigError(msg)

    for seed in range(12):
        found.clear()
        with pytest.raises(ConfigError, match="the total is 0"):
            simulate(n, program, seed=seed)
        assert len(found) == n


@pytest.mark.parametrize("seed", range(6))
def test_whoever_needs_more_of_one_that_left_hears_that_its_program_ended(seed):
    told = {}

    async def program(s):
        # All have begun.
        await s.reveal(s.zero(1))
        if s.index == 0:
            msg = "only here"
            raise KeyError(msg)
        try:
            await s.reveal(s.zero(1), to=[1, 2])
        except PeerLost as fault:
            told[s.index] = str(fault)
            raise

    with pytest.raises(KeyError):
        simulate(3, program, seed=seed)
    assert told.keys() == {1, 2}
    assert all(text.startswith("p0: left at ") and "its program ended there" in text for text in told.values()), told


@pytest.mark.parametrize("reason", ["done", "misbehaved", "program"])
async def test_who_is_no_member_of_a_job_ends_nothing_of_it(reason):
    """p2 was told the session of p0 and p1, which p0 still agrees on."""
    identities, roster = simulated_roster(3)
    network = MemoryNetwork()
    async with Node(identities[0], roster, network.of("p0"), clocks=CLOCKS) as node, AsyncExitStack() as stack:
        others = await meshes(stack, network, identities[1:], roster)
        heard = []

        def ends(session):
            channel = others[1].channel("p0")
            channel.control(kind="leave", session=session, reason=reason, party="p1", by="p1", at="x")
            channel.control(kind="ask", session=session, relations=[])
            heard.append(session)

        for mesh in (others[0], others[2]):
            Played(mesh, ends)
        joined = asyncio.create_task(run(node, parties=["p0", "p1"]))
        await until(lambda: heard)
        await turns()
        assert not joined.done()
        assert node.mesh.channel("p2") is not None
        joined.cancel()


def test_what_another_party_did_is_told_although_one_has_left():
    """p1 runs another program, which p2 finds while it may still wait for what others than p0 have sent."""
    found = []

    async def program(s):
        await s.reveal(s.zero(1))
        if s.index == 0:
            msg = "only here"
            raise KeyError(msg)
        if s.index == 2:
            await until(lambda: s._engine.exchange._gone is not None)
        try:
            await s.made(await s.mask(s.input(np.zeros(2) if s.index == 1 else None, 1, 2 if s.index == 1 else 3)))
        except BeaverError:
            # As the others are told.
            found.append((s.index, s._engine.exchange.fault))
            raise

    with pytest.raises(KeyError):
        simulate(3, program)
    (fault,) = [fault for index, fault in found if index == 2]
    assert isinstance(fault, Disagreement) and str(fault).startswith("p1: runs a different program"), fault
