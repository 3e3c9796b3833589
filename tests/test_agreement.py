"""Agreement on jobs, and nodes that run many (invariants 6, 8, 15, 19)."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

import protocols
from mpc import ConfigError, Disagreement, Node, PeerLost, ProgramError
from mpc.membership.roster import Member, Roster
from mpc.messaging.agreement import GAVE_UP
from mpc.messaging.differences import odd_one
from mpc.messaging.job import describe
from mpc.network.mesh import Clocks, Mesh
from mpc.preprocessing.dealer import FAILED
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from tests.waiting import until

CLOCKS = Clocks(join=30.0, lost=30.0, stall=30.0)
"""Guards: no test here waits for one of them."""


@asynccontextmanager
async def nodes(n, clocks=CLOCKS, rosters=None):
    identities, roster = simulated_roster(n)
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Node(identity, (rosters or {}).get(identity.name, roster), network.of(identity.name), clocks=clocks)
            )
            for identity in identities
        ]


async def run(node, job="j", **more):
    async with node.session(job, **more) as s:
        return (await protocols.secure_sum(s, [1.0]))[0], s._engine.exchange._agreed


async def test_failing_jobs_leave_no_task_behind():
    async def broken(node, number):
        async with node.session(f"broken-{number}") as s:
            if s.index == number % 3:
                raise KeyError("mine")
            while True:
                await protocols.secure_sum(s, [1.0])

    async with nodes(3) as (*parties, _):
        counts = []
        for number in range(6):
            outcomes = await asyncio.gather(*(broken(node, number) for node in parties), return_exceptions=True)
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["KeyError", "PeerLost", "PeerLost"]
            assert [value for value, _ in await asyncio.gather(*(run(node, f"right-{number}") for node in parties))] == [3.0] * 3
            async with asyncio.timeout(CLOCKS.join):
                # The dealer's session ends in its own time.
                while counts and len(asyncio.all_tasks()) > counts[0]:
                    await asyncio.sleep(0)
            counts.append(len(asyncio.all_tasks()))
        assert max(counts) == counts[0]


async def test_many_jobs_on_one_node_have_different_seeds():
    async with nodes(3) as (*parties, _):
        agreed = []
        for number in range(4):
            results = await asyncio.gather(*(run(node, f"job-{number % 2}") for node in parties))
            assert [value for value, _ in results] == [3.0] * 3
            agreed.append(results[0][1])
        seeds = [seed for entry in agreed for seed in entry.seeds.values()]
        assert len(set(seeds)) == len(seeds)
        assert len({entry.session for entry in agreed}) == 4


async def test_jobs_at_the_same_time():
    async with nodes(3) as (*parties, _):
        results = await asyncio.gather(*(run(node, job) for job in ("one", "two", "three") for node in parties))
        assert [value for value, _ in results] == [3.0] * 9


async def test_a_job_among_some_of_the_parties():
    async with nodes(4) as (*parties, _):
        chosen = [parties[3], parties[1]]
        results = await asyncio.gather(*(run(node, parties=["p3", "p1"]) for node in chosen))
        assert [value for value, _ in results] == [2.0] * 2


async def test_descriptions_that_differ():
    async with nodes(3) as (*parties, _):
        programs = ["mean/1", "mean/1", "mean/2"]
        results = await asyncio.gather(*(run(node, program=p) for node, p in zip(parties, programs, strict=True)), return_exceptions=True)
        assert all(isinstance(result, Disagreement | PeerLost) for result in results)
        assert "describes job 'j' differently: program" in " ".join(map(str, results))
        again = await asyncio.gather(*(run(node) for node in parties))
        assert [value for value, _ in again] == [3.0] * 3


async def test_nobody_makes_others_blame_each_other_for_a_description():
    """p2 refuses the job in p1's name, with a text of its own, and answers every attempt at once."""

    class Liar:
        def __init__(self, mesh):
            self.mesh = mesh

        def control(self, name, body):
            if body["kind"] == "join":
                channel = self.mesh.channel(name)
                channel.control(kind="withdraw", job="j", reason="\x1b[2J sold the data", party="p1", answers=body["nonce"])

        def peer_up(self, name):
            pass

        def peer_down(self, name, fault):
            pass

    async with nodes(3) as (*parties, _):
        parties[2].mesh.subscribe(Liar(parties[2].mesh))
        results = await asyncio.gather(*(run(node) for node in parties[:2]), return_exceptions=True)
        for result in results:
            assert isinstance(result, Disagreement) and result.party in ("p2", "the-dealer"), result
            assert "refuses job 'j', since it found that" in str(result) and "sold" not in str(result)


async def meshes(stack, network, identities, roster):
    """Members of which the test plays the programs."""
    return [await stack.enter_async_context(Mesh(each, roster, network.of(each.name), CLOCKS, None)) for each in identities]


class Played:
    """A member that joins job `j` when p0 does, and gives `ends` the session that `other` confirms."""

    def __init__(self, mesh, ends, other="p0"):
        self.mesh, self.ends, self.other = mesh, ends, other
        mesh.subscribe(self)

    def peer_up(self, name):
        pass

    def peer_down(self, name, fault):
        pass

    def control(self, name, body):
        if self.other == name == "p0" and body["kind"] == "join":
            self.mesh.channel("p0").control(**{**body, "nonce": bytes(32)})
        elif name == self.other and body["kind"] == "confirm":
            self.ends(body["session"])


async def test_who_left_a_session_says_why_and_not_who_gave_up_for_it():
    """One party's numbers do not fit; the dealer, which still waited for a confirmation, gives the job up a moment later."""
    identities, roster = simulated_roster(2)
    network, sessions = MemoryNetwork(), set()

    def ends(session):
        if session in sessions:
            said = {"session": session, "reason": "program", "party": "p1", "by": "p1", "at": "the start"}
            p1.mesh.channel("p0").control(kind="leave", **said)
            dealer.mesh.channel("p0").control(kind="withdraw", job="j", reason=GAVE_UP, party="p1", answers=b"")
        sessions.add(session)

    async with Node(identities[0], roster, network.of("p0"), clocks=CLOCKS) as node, AsyncExitStack() as stack:
        p1, dealer = [Played(mesh, ends) for mesh in await meshes(stack, network, identities[1:], roster)]
        with pytest.raises(PeerLost) as caught:
            await run(node, all_present=True)
    assert str(caught.value).startswith("p1: left at the start: its program ended there")


async def test_the_dealer_waits_for_nobody_once_a_member_has_left_the_session():
    """p1, which began the session and left it, withdraws nothing: its join is spent."""
    identities, roster = simulated_roster(2)
    network, confirmed = MemoryNetwork(), set()
    async with (
        Node(identities[2], roster, network.of("the-dealer"), clocks=CLOCKS) as node,
        AsyncExitStack() as stack,
        asyncio.timeout(CLOCKS.join),
    ):
        p0, p1 = await meshes(stack, network, identities[:2], roster)
        while node.mesh.missing(["p0", "p1"]) or p0.missing(["the-dealer"]) or p1.missing(["the-dealer"]):
            await asyncio.sleep(0)
        for mesh in (p0, p1):
            Played(mesh, confirmed.add, "the-dealer")
            job = describe("j", mesh, None, "")
            mesh.channel("the-dealer").control(
                kind="join", job="j", description=job.description, members=list(job.members), nonce=bytes(32)
            )
        while not confirmed:
            await asyncio.sleep(0)
        (session,) = confirmed
        p0.channel("the-dealer").control(kind="withdraw", job="j", reason=GAVE_UP, party="p0", answers=b"")
        while len(node._lobby.waiting("j")) > 1:
            await asyncio.sleep(0)
        p1.channel("the-dealer").control(kind="confirm", job="j", session=session, proof=bytes(32))
        p1.channel("the-dealer").control(kind="leave", session=session, reason="program", party="p1", by="p1", at="the start")
        while not node.dealer.outcomes[FAILED]:
            await asyncio.sleep(0)
        assert node._lobby.waiting("j") == []
        assert node.dealer._jobs == {}


@pytest.mark.parametrize("strange", [{"x": 1}, {"terms": 5}, {"terms": {"\x1b[2J" * 99: "x"}}, {}])
def test_whatever_is_said_of_a_job_has_a_name(strange):
    """What differs has a name even where two members say the same strange thing."""
    job = {"job": "j", "terms": {"unit": "years"}}
    for said in ({"a": job, "b": strange, "c": job}, {"a": job, "b": strange, "c": strange}):
        for me in ("a", "dealer"):
            odd = odd_one(("a", "b", "c", "dealer"), me, {**said, "dealer": job})
            assert odd.differs and all(len(each) <= 200 and each.isprintable() for each in odd.differs)
            assert said[odd.name] != said[odd.usual]
    assert odd_one(("a", "b", "c", "dealer"), "a", dict.fromkeys(("a", "b", "c", "dealer"), strange)) is None


async def test_party_lists_that_differ():
    async with nodes(3) as (*parties, _):
        lists = [None, None, ["p1", "p2"]]
        results = await asyncio.gather(*(run(node, parties=p) for node, p in zip(parties, lists, strict=True)), return_exceptions=True)
        assert all(isinstance(result, Disagreement | PeerLost) for result in results)


async def test_rosters_that_differ_never_connect():
    identities, roster = simulated_roster(2)
    other = Roster([*roster.members, Member("zed", identities[0].public[:0] + _another_key(), None)])
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        both = [
            await stack.enter_async_context(Node(identity, which, network.of(identity.name), clocks=replace(CLOCKS, join=0.5)))
            for identity, which in zip(identities, (roster, other, roster), strict=True)
        ]
        results = await asyncio.gather(*(run(node, parties=["p0", "p1"]) for node in both[:2]), return_exceptions=True)
        assert all(isinstance(result, PeerLost) for result in results)
        # Both who dials and who is dialled learn both digests.
        for result in results:
            assert "has another roster" in str(result)
            assert all(each.digest.hex()[:16] in str(result) for each in (roster, other))


def _another_key():
    from mpc.membership.identity import Identity

    return Identity.generate("zed").public


async def test_a_late_party_is_waited_for_and_a_restarted_one_joins_anew():
    async with nodes(3) as (*parties, _):
        early = [asyncio.create_task(run(node)) for node in parties[:2]]
        doomed = asyncio.create_task(run(parties[2], "other"))
        await until(lambda: "p2" in parties[0]._lobby.attempt("other").joins)
        doomed.cancel()
        late = await run(parties[2])
        assert late[0] == 3.0
        assert [value for value, _ in await asyncio.gather(*early)] == [3.0] * 2


@pytest.mark.parametrize("late", [{"confirm"}, {"confirm", "leave"}])
async def test_a_dealer_that_missed_a_confirmation_serves_the_next_run(monkeypatch, late):
    """The last confirmation comes after another member has left: for the dealer that session never began."""
    identities, roster = simulated_roster(2)
    network = MemoryNetwork()
    held, left = [], asyncio.Event()

    def node(number):
        return Node(identities[number], roster, network.of(identities[number].name), clocks=CLOCKS)

    class Watching:
        def peer_up(self, name): ...

        def control(self, name, body): ...

        def peer_down(self, name, fault):
            left.set()

    async with node(2) as dealer, node(1) as stays:
        async with node(0) as leaves:
            while stays.mesh.missing(["p0", "the-dealer"]) or dealer.mesh.missing(["p0"]):
                await asyncio.sleep(0)
            channel, dealers = stays.mesh.channel("the-dealer"), dealer.mesh
            dealers.subscribe(Watching())
            through = channel.control
            monkeypatch.setattr(channel, "control", lambda **body: held.append(body) if body["kind"] in late else through(**body))
            assert [value for value, _ in await asyncio.gather(run(leaves), run(stays))] == [2.0] * 2
            monkeypatch.undo()
        await left.wait()
        for body in held:
            channel.control(**body)
        async with node(0) as again:
            assert [value for value, _ in await asyncio.gather(run(again), run(stays))] == [2.0] * 2


async def test_one_name_one_session_at_a_time():
    async with nodes(2) as (*parties, _):
        waiting = asyncio.create_task(run(parties[0]))
        await until(lambda: "j" in parties[0]._lobby._news)
        with pytest.raises(ConfigError, match="already being agreed on"):
            await run(parties[0])
        await asyncio.gather(waiting, run(parties[1]))


BAD_JOBS = {
    "nobody": (["p9", "p0"], "'p9' is not in the roster"),
    "alone": (["p0"], "at least two"),
    "twice": (["p0", "p0"], "at least two"),
    "dealer": (["p0", "the-dealer"], "never a computing party"),
    "others": (["p1", "p2"], "p0 is not among the parties"),
}


@pytest.mark.parametrize("what", BAD_JOBS)
async def test_impossible_jobs(what):
    parties, message = BAD_JOBS[what]
    async with nodes(3) as all_:
        with pytest.raises(ConfigError, match=message):
            await run(all_[0], parties=parties)


async def test_the_dealer_never_computes():
    async with nodes(2) as all_:
        with pytest.raises(ConfigError, match="never a computing party"):
            await run(all_[-1])


def test_a_roster_without_dealer_or_endpoints():
    identities, _ = simulated_roster(2)
    network = MemoryNetwork()
    members = [Member(identity.name, identity.public, None) for identity in identities[:2]]
    with pytest.raises(ConfigError, match="has an endpoint in the roster; one of them needs one"):
        Node(identities[0], Roster(members), network.of("p0"))

    async def lone():
        roster = Roster([Member(identity.name, identity.public, ("h", 1)) for identity in identities[:2]])
        async with Node(identities[0], roster, network.of("p0"), clocks=CLOCKS) as node:
            await run(node)

    with pytest.raises(ConfigError, match="names no dealer"):
        asyncio.run(lone())


async def test_a_forked_child_refuses_to_run():
    async with nodes(2) as all_:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                coroutine = all_[0].session("j").__aenter__()
                coroutine.send(None)
            except ProgramError as fault:
                os.write(write, str(fault).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert b"was forked" in os.read(read, 1000)
        os.close(read)
        os.close(write)


async def test_a_session_after_its_end_and_after_a_fault():
    async with nodes(2) as (*parties, _):
        kept = []

        async def program(node):
            async with node.session("j") as s:
                kept.append(s)
                await protocols.secure_sum(s, [1.0])

        await asyncio.gather(*(program(node) for node in parties))
        for s in kept:
            with pytest.raises(ProgramError, match="has ended"):
                await protocols.secure_sum(s, [1.0])


async def test_a_cancelled_op_ends_the_session_everywhere():
    async with nodes(3) as (*parties, _):

        async def program(node):
            async with node.session("j") as s:
                if s.index == 0:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await protocols.secure_sum(s, [1.0])
                    await protocols.secure_sum(s, [1.0])
                elif s.index == 1:
                    await protocols.secure_sum(s, [1.0])
                else:
                    # Never in the op before p0 has left it.
                    await until(s._ops.check_alive)

        results = await asyncio.gather(*(program(node) for node in parties), return_exceptions=True)
        assert isinstance(results[0], ProgramError)
        assert "was cancelled at secure_sum.0" in str(results[0])
        assert [type(result) for result in results[1:]] == [PeerLost, PeerLost]
        assert all(str(result).startswith("p0: left at secure_sum.0") for result in results[1:])
        again = await asyncio.gather(*(run(node) for node in parties))
        assert [value for value, _ in again] == [3.0] * 3
