"""A running mesh takes up another roster: who is cut off, who stays, who comes, and what becomes of jobs under way (invariants 16, 19).

`beaver check` names the process and the policy that count.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
from datetime import UTC, date, datetime, timedelta

import pytest

import protocols
from mpc import AuthenticationFailed, ConfigError, Disagreement, Node, PeerLost
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Revoked, Roster
from mpc.messaging.job import describe
from mpc.network.mesh import Clocks, Mesh
from mpc.preprocessing.dealer import RUNNING
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from parties.config import load_node_config
from tests.channels import CLOCKS as LONG
from tests.channels import Raw, connected, greet, hello, people
from tests.error_rows import row_of
from tests.jobs import mean_is_right
from tests.test_renewal import Renewed
from tests.waiting import until

CLOCKS = dataclasses.replace(LONG, repair=0.2)
"""Who was cut off and closes waits so long for whom it cannot hear any more."""

FOLLOWED = ["of the roster any more", "before this member took another roster"]
"""Rows of docs/errors.md that this file provokes."""


def after(roster, *members, revoked=(), leaves=()):
    """The next version: with `members` in place of those of the same names or beside them, and without `leaves`."""
    said = roster.content
    kept = {each.name: each for each in (*said.members, *members) if each.name not in leaves}
    more = [Revoked(name, key, "laptop stolen", date(2026, 5, 1)) for name, key in revoked]
    return Roster(kept.values(), version=said.version + 1, previous=roster.digest, revoked=[*said.revoked, *more])


def told(fault, case, kind):
    assert isinstance(fault, kind), fault
    assert row_of(case).shows(str(fault)), fault


async def test_whose_key_was_revoked_is_cut_off_and_comes_back_with_its_new_one_only():
    (a, b, c), roster = people("a", "b", "c")
    network, fresh = MemoryNetwork(), Identity.generate("b")
    second = after(roster, dataclasses.replace(roster["b"], public=fresh.public), revoked=[("b", b.public)])
    async with Mesh(a, roster, network.of("a"), CLOCKS) as mesh_a, Mesh(c, roster, network.of("c"), CLOCKS) as mesh_c:
        async with Mesh(b, roster, network.of("b"), CLOCKS):
            await until(lambda: not mesh_a.missing("bc") and not mesh_c.missing("ab"))
            kept = mesh_a.channel("c")
            for mesh in (mesh_a, mesh_c):
                mesh.follow(second)
                told(mesh.fault("b"), "uses a key that was revoked on", AuthenticationFailed)
            assert mesh_a.channel("b") is mesh_c.channel("b") is None
            # The old key comes no more, with whatever roster.
            await until(lambda: isinstance(mesh_a.fault("b"), Disagreement))
        async with Mesh(fresh, second, network.of("b"), CLOCKS) as mesh_b:
            await until(lambda: not mesh_b.missing("ac") and not mesh_a.missing("b") and not mesh_c.missing("b"))
        assert mesh_a.channel("c") is kept


async def test_who_leaves_is_cut_off_and_who_joins_is_met_on_the_fly():
    (a, b, c, d), everyone = people("a", "b", "c", "d")
    network = MemoryNetwork()
    first = Roster([everyone[name] for name in "abc"])
    second = after(first, everyone["d"], leaves="b")
    async with Mesh(a, first, network.of("a"), CLOCKS) as mesh_a, Mesh(b, first, network.of("b"), CLOCKS):
        await connected(mesh_a, "b")
        mesh_a.follow(second)
        told(mesh_a.fault("b"), "of the roster any more", AuthenticationFailed)
        assert (mesh_a.meets("b"), mesh_a.meets("d"), mesh_a.missing("bcd")) == (False, True, ["b", "c", "d"])
        async with Mesh(d, second, network.of("d"), CLOCKS), Mesh(c, second, network.of("c"), CLOCKS):
            await until(lambda: mesh_a.missing("bcd") == ["b"])
        # Who left may come back in a later version.
        mesh_a.follow(third := after(second, everyone["b"]))
        async with Mesh(b, third, network.of("b2"), CLOCKS):
            pass
        assert mesh_a.meets("b")


async def test_another_role_is_another_member_and_a_key_counts_as_long_as_the_newest_roster_says():
    (a, b, c), roster = people("a", "b", "c")
    network, fresh, now = MemoryNetwork(), Identity.generate("b"), datetime.now(UTC)
    async with (
        Mesh(a, roster, network.of("a"), CLOCKS) as mesh,
        Mesh(b, roster, network.of("b"), CLOCKS),
        Mesh(c, roster, network.of("c"), CLOCKS),
    ):
        await until(lambda: not mesh.missing("bc"))
        soon = dataclasses.replace(roster["b"], public=fresh.public, retiring=b.public, retires=now + timedelta(days=1))
        mesh.follow(
            second := after(roster, soon, dataclasses.replace(roster["c"], role="dealer"), Member("d", Identity.generate("d").public, None))
        )
        assert mesh.missing("bc") == ["c"]
        told(mesh.fault("c"), "of the roster any more", AuthenticationFailed)
        assert mesh.channel("b").peer.retires == soon.retires
        mesh.follow(after(second, dataclasses.replace(soon, retires=now - timedelta(seconds=1))))
        told(mesh.fault("b"), "still uses the key that retired on", AuthenticationFailed)


async def test_a_roster_with_no_way_to_a_member_changes_nothing():
    (a, _), roster = people("a", "b")
    mesh = Mesh(a, Roster([Member("a", a.public, None), roster["b"]]), MemoryNetwork().of("a"), CLOCKS)
    before = mesh.roster
    with pytest.raises(ConfigError, match="neither a nor b has an endpoint"):
        mesh.follow(after(before, dataclasses.replace(roster["b"], endpoint=None)))
    assert mesh.roster is before


async def test_a_handshake_of_the_roster_before_does_not_end_under_the_new_one(caplog):
    (a, b), roster = people("a", "b")
    network = MemoryNetwork()
    async with Mesh(b, roster, network.of("b"), CLOCKS) as mesh:
        raw = Raw(network.connect("x", "b"))
        await greet(raw, hello("a", "b", roster))
        mesh.follow(Roster.of(roster.content))
        assert mesh._unproven._channels
        mesh.follow(after(roster, revoked=[("a", Identity.generate("a").public)]))
        await until(lambda: raw.closed)
    (line,) = [each.getMessage() for each in caplog.records if "link refused" in each.getMessage()]
    assert row_of("before this member took another roster").shows(line.partition("link refused: ")[2])


async def test_a_job_under_way_goes_on_without_the_revoked_and_ends_with_them():
    identities, roster = simulated_roster(3)
    network, go = MemoryNetwork(), asyncio.Event()
    second = after(roster, dataclasses.replace(roster["p2"], public=Identity.generate("p2").public), revoked=[("p2", identities[2].public)])

    async def party(node, job, parties):
        async with node.session(job, parties=parties) as s:
            await protocols.secure_sum(s, [1.0])
            begun.release()
            await go.wait()
            return (await protocols.secure_sum(s, [2.0])).tolist()

    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=Clocks(5.0, 5.0, 5.0, repair=0.2)))
            for who in identities
        ]
        begun = asyncio.Semaphore(0)
        two = [asyncio.create_task(party(node, "two", ["p0", "p1"])) for node in nodes[:2]]
        three = [asyncio.create_task(party(node, "three", None)) for node in nodes[:3]]
        for _ in range(5):
            await begun.acquire()
        for node in (nodes[0], nodes[1], nodes[3]):
            node.mesh.follow(second)
        go.set()
        assert await asyncio.gather(*two) == [[4.0], [4.0]]
        faults = await asyncio.gather(*three, return_exceptions=True)
        assert all(isinstance(fault, AuthenticationFailed | PeerLost) for fault in faults), faults
        assert str(faults[0]).startswith("p2: uses a key that was revoked on 2026-05-01 (laptop stolen)")


async def total(node, job, **more):
    async with node.session(job, **{"parties": ["p0", "p1"], **more}) as s:
        return (await protocols.secure_sum(s, [1.0])).tolist()


async def test_what_was_agreed_under_the_roster_before_runs_and_two_rosters_in_one_job_do_not(caplog):
    identities, roster = simulated_roster(3)
    network = MemoryNetwork()
    second = after(roster, leaves=["p2"])
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=Clocks(5.0, 5.0, 5.0, repair=0.2)))
            for who in identities
        ]
        first, other, _, dealer = nodes
        await until(lambda: all(not node.mesh.missing({"p0", "p1", "the-dealer"} - {node.mesh.identity.name}) for node in nodes))
        dealer.mesh.follow(second)
        # Parties that have not taken it yet lose nothing by a dealer that has.
        assert await asyncio.gather(total(first, "before"), total(other, "before")) == [[2.0], [2.0]]
        # Nor by a job that has somebody who left: it does not begin, and nobody is cut off for it.
        channel = first.mesh.channel("the-dealer")
        joining = asyncio.create_task(total(first, "with p2", parties=["p0", "p1", "p2"]))
        await until(lambda: "with p2" in [each.job for each in dealer.dealer.served])
        joining.cancel()
        await asyncio.wait([joining])
        assert first.mesh.channel("the-dealer") is channel
        first.mesh.follow(second)
        assert await asyncio.gather(total(first, "agreed", roster=roster), total(other, "agreed")) == [[2.0], [2.0]]
        faults = await asyncio.gather(total(first, "mixed"), total(other, "mixed"), return_exceptions=True)
        assert all(isinstance(fault, Disagreement) for fault in faults), faults
        assert any("roster" in str(fault) for fault in faults), faults
        other.mesh.follow(second)
        assert await asyncio.gather(total(first, "after"), total(other, "after")) == [[2.0], [2.0]]
        # Nor where the dealer is two versions ahead, and does not know the roster any more.
        first.mesh.follow(roster)
        dealer.mesh.follow(after(second))
        joining = asyncio.create_task(total(first, "long ago", parties=["p0", "p1", "p2"]))
        await until(lambda: "a job of another roster" in caplog.text)
        joining.cancel()
        await asyncio.wait([joining])
        assert first.mesh.channel("the-dealer") is channel


async def test_a_check_names_the_process_and_the_policy_that_counts(tmp_path):
    async with Renewed(tmp_path, names=("a", "b")) as nodes:

        async def own():
            status, printed, complaint = await nodes.beaver("check", "-c", "a.toml", "--json", "--wait", "5")
            assert status == 0, complaint
            found = json.loads(printed)
            assert found["process"] == nodes.processes["a"].pid
            return [each["found"] for each in found["own"] if each["what"] == "policy in use"]

        assert await own() == []
        digest = load_node_config(tmp_path / "a.toml").rules.digest.hex()
        nodes.policy("a", 'allow = ["mean"]\nversion = "2"')
        assert await own() == [f"version '', digest {digest[:16]}: the node takes the file's on SIGHUP, or when it starts again"]
        await nodes.hangup("a")
        assert await own() == []


async def test_a_revoked_key_is_cut_off_whatever_the_policy_says_of_its_owner(tmp_path):
    """This also holds where a node starts with that roster."""
    async with Renewed(tmp_path) as nodes:
        for name in "ab":
            nodes.policy(name, 'allow = ["mean"]\naskers = ["a", "b", "c"]\nreceivers = ["a", "b", "c"]\n[clients.c]\ngets = ["mean"]\n')
            await nodes.hangup(name)
        nodes.publish(after(nodes.roster, revoked=[("c", nodes.keys["c"].public)], leaves="c"))
        for name in ("a", "b", "dealer"):
            await nodes.hangup(name)
            assert "peer=c disconnected: c: uses a key that was revoked on" in nodes.log(name)
        await nodes.kill("a")
        await nodes.start("a")
        warned = re.findall("WARNING.* phase=policy (.*)", nodes.log("a"))
        # Nothing is said before c left, and then once by the running node and once by the one that starts.
        assert len(warned) == 7
        for rule, said in zip(("receivers", "askers", "clients"), warned[-3:], strict=True):
            assert f"a.policy.toml, line {('askers', 'receivers', 'clients').index(rule) + 2}: key '{rule}'" in said
            assert "'c', so this allows nothing; remove it here" in said
            assert said.endswith("a key of that name was revoked")
        await until(lambda: nodes.log("a").count("peer=b connected") == 2 and nodes.log("a").count("peer=dealer connected") == 2)
        status, _, complaints = await nodes.run("mean", "--columns", "age")
        assert status == 0, complaints


async def test_a_member_that_moved_is_met_at_its_new_address(tmp_path):
    """Nodes that took the roster while they ran find the new address."""
    async with Renewed(tmp_path, names=("a", "b")) as nodes:
        moved = dataclasses.replace(nodes.roster["b"], endpoint=("127.0.0.1", nodes.spare_ports["b"]))
        nodes.publish(nodes.next(moved))
        for name in ("a", "dealer"):
            await nodes.hangup(name)
        await nodes.kill("b")
        await nodes.start("b")
        await mean_is_right(nodes)


@pytest.mark.parametrize(
    ("ahead", "refused"), [(False, "a job of another roster than counts here"), (True, "proposed a job whose terms are not text")]
)
async def test_a_join_that_the_roster_of_now_does_not_allow_is_left_aside_and_the_next_one_is_served(caplog, ahead, refused):
    """The join was allowed when it came, or named a roster that the dealer lacked; other joins of that job are not lost for it."""
    identities, roster = simulated_roster(3)
    network, waits = MemoryNetwork(), asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=Clocks(5.0, 5.0, 5.0, repair=0.2)))
            for who in identities
        ]
        first, other, _, dealer = nodes
        both, named = ("p0", "p1"), ("p0", "p1") if ahead else ("p0", "p1", "p2")

        async def held(node):
            async with node.session("j", parties=named):
                await waits.wait()

        running = asyncio.gather(*map(held, nodes[: len(named)]), return_exceptions=True)
        await until(lambda: [each.state for each in dealer.dealer.served] == [RUNNING])
        channels = [dealer.mesh.channel(name) for name in ("p0", "p1")]
        second = after(roster, dataclasses.replace(roster["p2"], role="client"))
        said = {"roster": after(second).digest, "terms": {"a": 7}} if ahead else {"roster": roster.digest}
        for node, parties, changes in ((first, named, said), (other, both, {})):
            job = describe("j", node.mesh, parties, "")
            description = job.description | changes
            join = {"description": description, "members": list(job.members), "nonce": bytes(32)}
            node.mesh.channel("the-dealer").control(kind="join", job="j", **join)
        lobby = dealer.dealer._lobby
        joined = [lobby.key("j", [*parties, "the-dealer"]) for parties in {named, both}]
        await until(lambda: {name for key in joined for name, _ in lobby.waiting(key)} == {"p0", "p1"})
        dealer.mesh.follow(second)
        dealer.mesh.follow(after(second))
        waits.set()
        await running
        await until(lambda: [each.job for each in dealer.dealer.served] == ["j", "j"])
        await until(lambda: f"peer=p0 phase=refused {refused}" in caplog.text)
        assert dealer.dealer.served[1].parties == both
        assert [dealer.mesh.channel(name) for name in ("p0", "p1")] == channels
