"""`beaver check` beside real members that each fail in a different way: every row says what is wrong and what to do."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mpc import ConfigError, PeerLost, PeerMisbehaved
from mpc.framing.handshake import Hello
from mpc.membership.endpoints import parse_relay
from mpc.membership.identity import Identity
from mpc.membership.lock import IdentityLock
from mpc.membership.members import minute
from mpc.membership.roster import Member, Roster
from mpc.network.checks import Checks, own_version
from mpc.network.mesh import Clocks
from mpc.node import Node
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from mpc.transport.tcp import TcpNetwork
from parties.ask import request
from parties.check import MAX_AHEAD, Row, _reach, examine, first_fault, own_files, shadows
from parties.config import load_node_config
from tests.brokers import Mosquitto
from tests.error_rows import row_of
from tests.nodes import Nodes
from tests.ports import free_port
from tests.rosters import signed
from tests.test_errors_of_commands import answers, framed, keyless

PATIENCE = 30.0
CLOCKS = Clocks(PATIENCE, PATIENCE, PATIENCE)
DEALERS = ["is the dealer: it takes no jobs"]
"""A row of docs/errors.md that this file provokes."""
"""Guards: what is tested of clocks has its own."""


async def checked(nodes, name="a", *more):
    """The exit status, the findings as JSON, and standard error."""
    status, out, complaints = await nodes.beaver("check", "-c", f"{name}.toml", "--json", *more)
    assert "Traceback" not in complaints, complaints
    return status, json.loads(out), complaints


# -- peers that fail -----------------------------------------------------------------------------------------------

FAILURES = {
    "absent": ("PeerLost", "nothing listens at 127.0.0.1:", "start what should listen there"),
    "early": ("PeerLost", "nothing listens at 127.0.0.1:", "start what should listen there"),
    "junk": ("PeerMisbehaved", "did not greet as a Beaver party", "correct host and port"),
    "web": ("PeerMisbehaved", "announced a frame of", "correct host and port"),
    "keyless": ("AuthenticationFailed", "hung up during the handshake", "compare both members' keys"),
    "newkey": ("AuthenticationFailed", "uses another key than the roster gives it", "compare both members' keys"),
    "other": ("Disagreement", "has another roster", "give both the same file, and let both nodes take it"),
    "older": ("Disagreement", "speaks wire version 1, this party 16", "install the same release on both"),
    "nowhere": ("PeerLost", "no address is known for the host nowhere.invalid", "correct the host"),
    "silent": ("PeerLost", "did not finish the handshake within", "what its log says"),
    "wordless": ("PeerLost", "hung up without a word", "behind whatever forwards to it"),
    "caller": ("PeerLost", "dials this member at 127.0.0.1:", "start its node"),
}


CHECKED = (
    "no address is known for the host",
    "and did not within N s; start its node",
    "N s; see that its node runs",
    "took the connection and hung up",
    "left a question unanswered",
    "its clock is N s",
    "with an impossible version or time",
    "and it answers no",
    "hides this software's",
    "or the network's routes",
)
"""Rows of docs/errors.md that this file provokes."""


def shows(case, row):
    """Whether the row of the document is what the command ends with for this row of the table."""
    return row_of(case).shows(str(first_fault([], [row])))


class Crowd(Nodes):
    """b, c and the dealer in order, and one member for every failure; a has signed with all, since one of them is elsewhere."""

    def __init__(self, folder):
        super().__init__(folder, names=("a", "b", "c", *FAILURES), lost=20)
        (folder / "early.key").rename(folder / "0early.key")
        known = Roster.load(folder / "roster.toml")
        changes = {"nowhere": ("nowhere.invalid", 9), "caller": None}
        members = [
            Member(each.name, each.public, changes.get(each.name, each.endpoint), each.role)
            for each in known.members
            if each.name != "early"
        ]
        early = Identity.generate("0early")
        (folder / "0early.key").unlink()
        everyone = [early, *(Identity.load(folder / f"{each.name}.key") for each in members)]
        # The lowest name of all: it dials everybody, nobody dials it.
        self.known = signed(Roster([*members, Member("0early", early.public, known["early"].endpoint)]), *everyone)
        (folder / "roster.toml").write_text(self.known.dump())

    async def odd(self, stack):
        """The members that are there, in this process."""

        async def node(identity, listed):
            await stack.enter_async_context(Node(identity, listed, TcpNetwork(self.known[identity.name].endpoint), clocks=CLOCKS))

        stranger = Member("stranger", Identity.generate("stranger").public, None)
        await node(Identity.load(self.folder / "other.key"), Roster([*self.known.members, stranger]))
        await node(Identity.generate("newkey"), self.known)
        await node(keyless(self.known), self.known)
        older = Hello("older", "a", self.known.digest, 3, bytes(32), bytes(16), version=1)
        await answers(stack, self.known["older"].endpoint, framed(older.encode()[:-16]))
        await answers(stack, self.known["junk"].endpoint, framed(b"junk"))
        await answers(stack, self.known["web"].endpoint, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        stack.enter_context(socket.create_server(self.known["silent"].endpoint))
        forwarder = await asyncio.start_server(lambda _, writer: writer.close(), *self.known["wordless"].endpoint)
        stack.callback(forwarder.close)


async def test_every_failure_of_a_peer_has_its_row_and_its_remedy(tmp_path):
    crowd = Crowd(tmp_path)
    async with AsyncExitStack() as stack:
        await crowd.odd(stack)
        await crowd.start("b", "dealer")
        stack.push_async_exit(crowd.__aexit__)
        status, found, complaints = await checked(crowd, "a", "--wait", "5")
        assert status == 4, complaints
        rows = {row["peer"]: row for row in found["peers"]}
        wanted = {("0early" if name == "early" else name): said for name, said in FAILURES.items()}
        assert set(rows) == {*wanted, "b", "c", "dealer"}
        for name, (kind, problem, remedy) in wanted.items():
            row = rows[name]
            assert (row["kind"], problem in row["problem"], remedy in row["remedy"]) == (kind, True, True), row
        for case, name in zip(CHECKED, ("nowhere", "caller", "silent", "wordless"), strict=False):
            assert shows(case, Row(**rows[name])), rows[name]
        for name in ("b", "dealer"):
            row = rows[name]
            assert (row["resolved"], row["reached"], row["handshake"], row["roster"]) == ("127.0.0.1", "ok", "ok", "same"), row
            assert row["version"] == found["version"] == own_version()
            assert abs(row["ahead"]) < 1
            assert 0 < row["round_trip"] < 5
            assert row["throughput"] > 1e5
            assert row["problem"] == ""
        assert (found["ok"], found["node_runs"]) == (False, False)
        assert all(not each["remedy"] for each in found["own"]), found["own"]
        # The same for people.
        status, out, complaints = await crowd.beaver("check", "-c", "a.toml", "--wait", "0.5")
        assert (status, complaints.count("\n")) == (4, 1), complaints
        # And c, which is not there either.
        assert out.count("what to do: ") == len(FAILURES) + 1
        for row in rows.values():
            assert row["address"] in out


async def test_a_running_node_is_asked_and_a_job_does_not_mind(tmp_path):
    async with Nodes(tmp_path, names=("a", "b")) as nodes:
        mean, (status, found, _), (_, at_dealer, _) = await asyncio.gather(
            nodes.run("mean", "--columns", "age,bmi"), checked(nodes), checked(nodes, "dealer")
        )
        assert mean[0] == 0, mean
        assert (status, found["node_runs"], found["ok"], at_dealer["ok"], at_dealer["node_runs"]) == (0, True, True, True, True)
        assert [row["peer"] for row in found["peers"]] == ["b", "dealer"]
        await nodes.kill("b")
        status, found, _ = await checked(nodes, "a", "--wait", "1")
        assert status == 4
        (lost,) = (row for row in found["peers"] if row["problem"])
        assert (lost["peer"], "nothing listens" in lost["problem"]) == ("b", True)
        with pytest.raises(ConfigError) as caught:
            await request(load_node_config(tmp_path / "dealer.toml"), {"do": "jobs"})
        assert row_of(DEALERS[0]).shows(str(caught.value))


async def test_a_relay_is_checked_like_a_port(tmp_path):
    async with Mosquitto(tmp_path) as broker:
        nodes = Nodes(tmp_path, names=("a", "b"))
        known = Roster.load(tmp_path / "roster.toml")
        (tmp_path / "roster.toml").write_text(Roster(known.content.members, transport="mqtt", relay=broker.relay).dump())
        await nodes.start("b")
        try:
            status, found, _ = await checked(nodes, "a", "--wait", "3")
        finally:
            await nodes.kill("b")
        rows = {row["peer"]: row for row in found["peers"]}
        assert (status, rows["b"]["handshake"], rows["b"]["problem"]) == (4, "ok", "")
        assert rows["b"]["address"].endswith(f":{broker.relay.port}")
        assert (rows["dealer"]["reached"], rows["dealer"]["handshake"], rows["dealer"]["kind"]) == ("ok", "failed", "PeerLost")


# -- the own files -------------------------------------------------------------------------------------------------


def broken(file, old, new):
    def do(home):
        text = (home / file).read_text()
        assert old in text
        (home / file).write_text(text.replace(old, new))

    return do


def shadowed(home):
    (home / "protocols").mkdir()
    (home / "protocols" / "__init__.py").write_text("")


def open_policy(home):
    """A policy in a file of its own, which others may write."""
    before, allow, after = (home / "a.toml").read_text().partition("allow = [")
    (home / "a.toml").write_text(f'{before}policy = "a.policy.toml"\n# {after}')
    (home / "a.policy.toml").write_text(f"{allow}]")
    (home / "a.policy.toml").chmod(0o664)


HELD = []


def held(home):
    """Another process holds the identity."""
    HELD.append(lock := IdentityLock(home / "a.key"))
    lock.acquire()


OWN = {
    "configuration": (broken("a.toml", "roster = ", "rooster = "), "unknown key 'rooster'", "did you mean 'roster'"),
    "key mode": (lambda home: (home / "a.key").chmod(0o640), "others may read or write this key", "chmod 600"),
    "roster mode": (lambda home: (home / "roster.toml").chmod(0o666), "may be changed by others (mode 0666)", "chmod go-w"),
    "policy mode": (open_policy, "a.policy.toml may be changed by others (mode 0664)", "chmod go-w"),
    "policy": (broken("a.toml", 'allow = ["', 'allow = ["meen", "'), "unknown protocol 'meen'", "did you mean 'mean'"),
    "policy entry": (
        broken("a.toml", "allow = [", 'policy = { receivers = ["zed"] }\n# ['),
        "no party or client 'zed', so this allows nothing",
        "remove it here",
    ),
    "data": (broken("a.toml", "a.csv", "none.csv"), "none.csv cannot be read", "correct its path"),
    "shadow": (shadowed, "hides this software's protocols", "rename it"),
    "unsigned": (broken("roster.toml", "127.0.0.1", "10.99.0.1"), "is not signed by a, b, c, dealer", "beaver roster sign"),
    "held": (held, "and it answers no `beaver check`", "stop it first"),
    "port": (None, "cannot listen on", "free the port"),
}


async def test_every_fault_of_the_own_files_is_told(tmp_path):
    for what, (break_it, problem, remedy) in OWN.items():
        home = tmp_path / what
        home.mkdir()
        nodes = Nodes(home)
        if break_it is not None:
            break_it(home)
        with nullcontext() if break_it else socket.create_server(Roster.load(home / "roster.toml")["a"].endpoint):
            status, printed, complaint = await nodes.beaver("check", "-c", "a.toml", "--json", "--wait", "1")
        (wrong,) = (each for each in json.loads(printed)["own"] if each["remedy"])
        assert (status, problem in wrong["found"], remedy in wrong["remedy"]) == (1, True, True), (what, wrong)
        assert complaint.startswith("ConfigError: "), complaint
        if what in {"held", "shadow"}:
            assert row_of({"held": "and it answers no", "shadow": "hides this software's"}[what]).shows(
                complaint.strip().removeprefix("ConfigError: ")
            )
    HELD.pop().release()


def test_a_key_that_retires_is_told_and_a_certificate_that_cannot_be_read_is_wrong(tmp_path):
    Nodes(tmp_path)
    roster = Roster.load(tmp_path / "roster.toml")
    fresh, retires = Identity.generate("a"), datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    members = [
        replace(each, public=fresh.public, retiring=each.public, retires=retires) if each.name == "a" else each for each in roster.members
    ]
    changed = replace(roster.content, members=tuple(members), relay=parse_relay("mqtts://127.0.0.1:8883"))
    (tmp_path / "roster.toml").write_text(Roster.of(changed).dump())
    config = tmp_path / "a.toml"
    config.write_text(config.read_text() + '\n[relay]\nca = "none.pem"\n')
    found = {each.what: each for each in own_files(load_node_config(config), config)}
    assert found["rotation"].found == f"this key retires on {minute(retires)}; set `key` to the new one before"
    assert (found["rotation"].remedy, found["certificates"].remedy) == ("", "correct `ca` under [relay]")
    assert found["certificates"].found == f"{tmp_path / 'none.pem'} cannot be read"


def test_only_what_python_would_import_hides_our_packages(tmp_path):
    (tmp_path / "mpc").mkdir()
    (tmp_path / "protocols").mkdir()
    (tmp_path / "parties.py").write_text("")
    # A folder without __init__.py gives way.
    assert [each.what for each in shadows(tmp_path)] == ["import parties"]
    assert shadows(Path(__file__).parent.parent) == []


async def test_what_was_wrong_when_a_peer_dialled_counts_until_it_dials_again():
    people = [Identity.generate(name) for name in "ab"]
    a, b = (Member(each.name, each.public, ("127.0.0.1", free_port())) for each in people)
    roster, another = Roster([a, b]), Roster([a, b, Member("c", Identity.generate("c").public, None)])
    async with Node(people[1], roster, TcpNetwork(b.endpoint), clocks=CLOCKS) as node:
        async with Node(people[0], another, TcpNetwork(a.endpoint), clocks=CLOCKS), asyncio.timeout(PATIENCE):
            while node.mesh.fault("a") is None:
                await asyncio.sleep(0.01)
        with socket.create_server(a.endpoint):
            (row,) = await examine(node, 0.1)
    assert (row.kind, "has another roster" in row.problem) == ("Disagreement", True), row


# -- questions and answers -----------------------------------------------------------------------------------------


async def pair(stack, *, lies=None):
    """Two nodes in one process; the second may answer questions in a way of its own."""
    identities, roster = simulated_roster(2)
    network = MemoryNetwork()
    nodes = [await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=CLOCKS)) for who in identities]
    if lies is not None:
        nodes[1].mesh.unsubscribe(nodes[1].checks)
        nodes[1].mesh.subscribe(lies(nodes[1].mesh))
    return nodes


class Liar(Checks):
    """A member whose software answers as `answer` says."""

    def control(self, name, body):
        if body["kind"] == "check":
            answer = {"kind": "checked", "number": body["number"], "version": "1.0", "time": 1 << 50, **self.answer}
            self._mesh.channel(name).control(**answer)


def answering(**answer):
    return type("Answering", (Liar,), {"answer": answer})


async def test_a_wrong_clock_is_told():
    async with AsyncExitStack() as stack:
        ours, *_ = await pair(stack, lies=answering())
        rows = {row.peer: row for row in await examine(ours, PATIENCE)}
    assert rows["the-dealer"].problem == ""
    assert abs(rows["p1"].ahead) > MAX_AHEAD
    assert shows("its clock is N s", rows["p1"])
    assert (rows["p1"].kind, "its clock is" in rows["p1"].problem, "time server" in rows["p1"].remedy) == ("Disagreement", True, True)


@pytest.mark.parametrize("answer", [{"version": "\x1b[2J"}, {"version": ""}, {"version": "x" * 41}, {"time": 1 << 60}, {"time": -1}])
async def test_an_impossible_answer_ends_the_channel(answer):
    async with AsyncExitStack() as stack:
        ours, *_ = await pair(stack, lies=answering(**answer))
        (row,) = (row for row in await examine(ours, PATIENCE) if row.peer == "p1")
    assert shows("with an impossible version or time", row)
    assert (row.kind, "impossible version or time" in row.problem) == (PeerMisbehaved.__name__, True)


async def test_no_answer_is_told_and_a_late_or_unasked_one_is_ignored():
    async with AsyncExitStack() as stack:
        ours, theirs, _ = await pair(stack, lies=answering(number=0))
        (row,) = (row for row in await examine(ours, 0.5) if row.peer == "p1")
        assert shows("left a question unanswered", row)
        assert (row.kind, "left a question unanswered for 0.5 s" in row.problem) == (PeerLost.__name__, True)
        assert ours.checks._asked == {}
        assert theirs.mesh.channel("p0") is not None


async def test_nobody_can_make_a_member_keep_answers_or_send_more_than_it_was_sent():
    """p0 asks without reading: its answers stop once they would wait in p1's memory."""
    async with AsyncExitStack() as stack:
        ours, theirs, _ = await pair(stack)
        await examine(ours, PATIENCE)
        channel = theirs.mesh.channel("p0")
        sent = channel.wire_bytes
        full = type("Full", (), {"writable": False, "control": lambda self, **body: pytest.fail("answered")})()
        theirs.mesh._peers["p0"].channel = full
        theirs.checks.control("p0", {"kind": "check", "number": 1, "filler": b""})
        theirs.mesh._peers["p0"].channel = channel
        for number in range(100):
            ours.mesh.channel("p1").control(kind="check", number=number, filler=bytes(50_000))
        await ours.checks.measure("p1", PATIENCE)
        assert channel.wire_bytes - sent < 50_000


def test_a_row_keeps_the_remedy_of_a_message():
    row = Row("b", "h:1")
    row.fail(PeerLost("b", "is away; wait"))
    assert (row.problem, row.remedy) == ("is away", "wait")


async def test_an_address_that_no_way_leads_to():
    """One of everybody, which no connection can be made to."""
    row = Row("b", "255.255.255.255:9")
    await _reach(row, Member("b", Identity.generate("b").public, ("255.255.255.255", 9)), ("255.255.255.255", 9))
    assert shows("or the network's routes", row)


@pytest.mark.parametrize("host", ["255.255.255.255", "nowhere.invalid"])
async def test_no_way_is_needed_to_a_peer_that_dials_this_member(host):
    a, b = (Identity.generate(name) for name in "ab")
    roster = Roster([Member("a", a.public, (host, 9)), Member("b", b.public, at := ("127.0.0.1", free_port()))])
    async with Node(b, roster, TcpNetwork(at), clocks=CLOCKS) as node:
        (row,) = await examine(node, 0.1)
    assert shows("and did not within N s; start its node", row) and "not needed" in (row.resolved, row.reached), row
