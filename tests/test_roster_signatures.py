"""Signed, versioned rosters replace keys: which signatures count, until when, and what can never come back (invariants 23, 37)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

import mpc
import protocols
from mpc import AuthenticationFailed, ConfigError, PeerLost
from mpc.channels.channel import Channel
from mpc.config import load_config
from mpc.framing.handshake import Hello, static_key
from mpc.membership.endpoints import Relay
from mpc.membership.identity import Identity, fingerprint, verify
from mpc.membership.roster import Member, Revoked, Roster, transport_between
from mpc.network.mesh import Clocks
from mpc.node import Node
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from mpc.transport.memory import memory_pair
from tests.channels import Owner
from tests.rosters import documented_content, documented_digest, documented_fingerprint, signed

A, B, C, OLD = (Identity.generate(name) for name in ("a", "b", "c", "b"))
SOON, PAST = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9), datetime(2020, 1, 31, tzinfo=UTC)
FAR = [Member("a", A.public, ("hospital-a.example", 1)), Member("b", B.public, None)]


def rotating(retires, **more):
    """b replaces its key OLD."""
    return Roster([FAR[0], Member("b", B.public, None, retiring=OLD.public, retires=retires)], **more)


# -- content and digest --------------------------------------------------------------------------------------------


def everything():
    members = [
        FAR[0],
        dataclasses.replace(FAR[1], transport="mqtt", retiring=OLD.public, retires=SOON),
        Member("d", C.public, ("h", 2), "dealer"),
    ]
    gone = [Revoked("c", Identity.generate("c").public, 'a "stolen" key', date(2026, 5, 1)) for _ in range(2)]
    return Roster(members, transport="tcp", relay=Relay("::1", 8883, tls=True), version=7, previous=bytes(range(32)), revoked=gone)


def test_the_digest_covers_all_content_and_no_signature():
    roster = everything()
    assert Roster.parse(roster.dump(), "text").content == roster.content
    assert signed(everything(), A).digest != bytes(32)
    said, others = roster.content, set()
    changes = [
        {"transport": "mqtt"},
        {"relay": Relay("h", 8883, tls=True)},
        {"relay": Relay("::1", 8883, tls=False)},
        {"version": 8},
        {"previous": bytes(32)},
        {"revoked": said.revoked[1:]},
        {"revoked": (dataclasses.replace(said.revoked[0], reason="x"), said.revoked[1])},
        {"members": said.members[:2]},
        *({"members": (said.members[0], dataclasses.replace(said.members[1], **change), said.members[2])} for change in MEMBER),
    ]
    for change in changes:
        others.add(Roster.of(dataclasses.replace(said, **change)).digest)
    assert len(others | {roster.digest}) == len(changes) + 1
    before = roster.digest
    roster.accept("a", roster.sign(A))
    assert roster.digest == before == Roster.parse(roster.dump(), "text").digest


MEMBER = [
    {"transport": None},
    {"endpoint": ("h", 1)},
    {"retires": SOON + timedelta(seconds=1)},
    {"retiring": Identity.generate("b").public},
    {"public": Identity.generate("b").public},
    {"name": "bb"},
]


def test_digest_fingerprint_and_signature_are_those_of_the_document():
    roster = everything()
    assert roster.digest == documented_digest(plain(roster))
    assert fingerprint(A.public) == documented_fingerprint(A.public)
    assert roster.sign(A) == A.sign("roster", documented_content(plain(roster)))


def plain(roster):
    """The roster with the brackets around an IPv6 address that the document wants."""
    return SimpleNamespace(members=roster.members, content=dataclasses.replace(roster.content, relay=Relay("[::1]", 8883, tls=True)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('transport = "mqt"\n', "unknown transport 'mqt'; did you mean 'mqtt'"),
        ('transport = "mqtt"\n', "a uses MQTT, but the roster names no broker"),
        ('[relay]\nurl = "http://h:1"\n', r"line 2: \[relay\]: 'http://h:1' is no broker"),
        ('[relay]\nurl = "mqtt://user:secret@h:1"\n', "is no broker"),
        ('[relay]\nurl = "mqtt://h"\n', "is no broker"),
        ('[relay]\nuri = "mqtt://h:1"\n', "unknown key 'uri'; did you mean 'url'"),
        ("[relay]\n", r"\[relay\]: url is missing"),
        ("relay = 3\n", "relay must be a table, not int"),
        ("version = 0\n", "version 0 is none"),
        ("version = true\n", "version must be a whole number, not bool"),
        ("version = 2\n", "names the digest of the one before"),
        ('previous = "ab"\n', "64 hexadecimal digits"),
        (f'previous = "{"AB" * 32}"\n', "64 hexadecimal digits"),
        ('[signatures]\na = "signature:x"\n', r'\[signatures\] a: a signature reads "signature:"'),
        ("[signatures]\na = 3\n", r"\[signatures\] a: a signature reads"),
        (f'[signatures]\n"\\u001b[2J" = "signature:{"A" * 86}=="\n', r"line 1: \[signatures\] '\\x1b\[2J' is no name"),
        (f'[signatures]\nzed = "signature:{"A" * 86}=="\n', "zed: is not in the roster"),
        ('[[revoked]]\nname = "x"\n', r"\[\[revoked\]\] 1: key is missing"),
        ("revoked = 1\n", "revoked must be a list of tables, not int"),
    ],
)
def test_mistakes_in_the_new_parts(text, message):
    with pytest.raises(ConfigError, match=message):
        Roster.parse(text + Roster(FAR).dump(), "roster.toml")


@pytest.mark.parametrize(
    "retires", ["2030-01-31T12:00:00", "2030-01-31T12:00:00.5Z", "1999-01-01", '"2030-01-31"', "0001-01-01T00:00:00+23:00"]
)
def test_dates_that_do_not_say_which_second_in_utc(retires):
    text = rotating(SOON).dump().replace(f"{SOON:%Y-%m-%dT%H:%M:%SZ}", retires)
    with pytest.raises(ConfigError, match="retires must be a date"):
        Roster.parse(text, "roster.toml")


def test_a_date_is_its_first_second():
    text = rotating(SOON).dump().replace(f"{SOON:%Y-%m-%dT%H:%M:%SZ}", "2030-01-31")
    assert Roster.parse(text, "roster.toml")["b"].retires == datetime(2030, 1, 31, tzinfo=UTC)


def test_pairs_speak_mqtt_if_either_does():
    roster = Roster([FAR[0], dataclasses.replace(FAR[1], transport="mqtt"), Member("c", C.public, None)], relay=Relay("h", 1883, tls=False))
    a, b, c = roster.members
    assert [transport_between(*pair) for pair in ((a, b), (b, a), (a, c))] == ["mqtt", "mqtt", "tcp"]
    assert [member.transport for member in Roster(FAR, relay=Relay("h", 1, tls=False), transport="mqtt").members] == ["mqtt"] * 2


# -- signatures ----------------------------------------------------------------------------------------------------


def test_a_signature_is_of_one_member_one_content_and_one_purpose():
    roster = Roster(FAR)
    for wrong in (
        B.sign("roster", roster.content.canonical()),
        A.sign("job", roster.content.canonical()),
        Roster([FAR[0], Member("b", C.public, None)]).sign(A),
    ):
        with pytest.raises(ConfigError, match="no signature of a for version 1"):
            roster.accept("a", wrong)
    assert roster.unsigned == ["a", "b"]
    with pytest.raises(ConfigError, match="another key than this one"):
        roster.sign(OLD)
    signed(roster, A, B)
    assert roster.unsigned == []
    changed = Roster.of(
        dataclasses.replace(roster.content, members=(FAR[0], dataclasses.replace(FAR[1], endpoint=("h", 1)))), roster.signatures
    )
    assert changed.unsigned == ["a", "b"]
    assert verify(A.public, "roster", roster.content.canonical(), roster.signatures["a"])


@pytest.mark.parametrize("retires", [SOON, PAST])
def test_a_roster_is_signed_with_the_key_that_stays_and_so_for_ever(retires):
    """This holds before and after the old key retires: what all have signed stays signed."""
    roster = signed(rotating(retires), A, B)
    assert roster.unsigned == []
    with pytest.raises(ConfigError, match="b replaces this key in it; sign with the new one"):
        roster.sign(OLD)
    old = OLD.sign("roster", roster.content.canonical())
    with pytest.raises(ConfigError, match="no signature of b for version 1"):
        roster.accept("b", old)
    assert roster.unsigned == []
    assert Roster.of(roster.content, {"a": roster.signatures["a"], "b": old}).unsigned == ["b"]


# -- which rosters a node takes ------------------------------------------------------------------------------------


def configured(folder, roster, identity=A, more=""):
    (folder / "roster.toml").write_text(roster.dump())
    identity.save(folder / "own.key")
    (folder / "own.toml").write_text(f'name = "{identity.name}"\nkey = "own.key"\nroster = "roster.toml"\n{more}')
    return load_config(folder / "own.toml")


ASKED = "unsigned = true\n"
NEAR = [Member("a", A.public, ("127.0.0.1", 1)), Member("b", B.public, None)]


@pytest.mark.parametrize("members", [FAR, NEAR])
def test_an_unsigned_roster_is_refused_by_name(tmp_path, members):
    with pytest.raises(ConfigError, match=r"roster.toml: version 1 is not signed by b; each runs `beaver roster sign -c`"):
        configured(tmp_path, signed(Roster(members), A)).load_roster()


LOOPBACK = [("127.0.0.1", 1), ("127.9.9.9", 1), ("::1", 1), ("localhost", 1), None]


@pytest.mark.parametrize("endpoint", LOOPBACK)
def test_an_unsigned_roster_is_taken_on_loopback_where_that_is_asked_for_and_the_log_says_so(tmp_path, caplog, endpoint):
    roster = Roster([Member("a", A.public, ("127.0.0.1", 1)), Member("b", B.public, endpoint)], relay=Relay("localhost", 1883, tls=False))
    with caplog.at_level(logging.WARNING):
        configured(tmp_path, roster, more=f'{ASKED}listen = "[::1]:1"\n').listen_address()
    assert "the roster is not signed by a, b: taken since `unsigned` asks for it, and all is on loopback" in caplog.text


@pytest.mark.parametrize(("endpoint", "broker"), [("10.0.0.1", "::1"), ("localhost.example", "::1"), ("::1", "h")])
def test_one_address_elsewhere_is_enough_to_refuse_it(tmp_path, endpoint, broker):
    roster = Roster([Member("a", A.public, ("127.0.0.1", 1)), Member("b", B.public, (endpoint, 1))], relay=Relay(broker, 1, tls=False))
    with pytest.raises(ConfigError, match="is not signed by a, b"):
        configured(tmp_path, roster, more=ASKED).load_roster()


def test_whoever_is_handed_a_socket_for_other_machines_takes_none(tmp_path):
    configured(tmp_path, Roster(NEAR), more=ASKED)
    with socket.create_server(("0.0.0.0", 0)) as listener, pytest.raises(ConfigError, match=r"0\.0\.0\.0 is no loopback address"):
        mpc.open_node(tmp_path / "own.toml", listener=listener)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "localhost.example:1"])
def test_whoever_listens_to_other_machines_takes_none(tmp_path, address):
    with pytest.raises(ConfigError, match="is not signed by a, b"):
        configured(tmp_path, Roster(NEAR), more=f'{ASKED}listen = "{address}"\n').load_roster()


def test_a_wrong_signature_is_refused_where_none_is_needed(tmp_path):
    other = Roster([*NEAR, Member("c", Identity.generate("c").public, None)])
    wrong = Roster.of(Roster(NEAR).content, {"b": other.sign(B)})
    with pytest.raises(ConfigError, match=r"roster.toml: version 1 has signatures of b that are not of this roster"):
        configured(tmp_path, wrong, more=ASKED).load_roster()


def test_a_member_starts_with_either_key_until_the_old_one_retires(tmp_path):
    for number, (identity, retires) in enumerate([(B, SOON), (OLD, SOON), (B, PAST)]):
        (tmp_path / str(number)).mkdir()
        assert configured(tmp_path / str(number), signed(rotating(retires), A, B), identity).load_roster()["b"].public == B.public
    with pytest.raises(ConfigError, match=r"own.key: retired on 2020-01-31 00:00 UTC; set `key` to the file of the key that replaces it"):
        configured(tmp_path, signed(rotating(PAST), A, B), OLD).load_roster()


# -- keys that can never be used -----------------------------------------------------------------------------------


def test_a_key_is_one_members_only_once_and_never_revoked():
    gone = [Revoked("x", OLD.public, "stolen", date(2026, 5, 1))]
    with pytest.raises(ConfigError, match=r"a key of b was revoked on 2026-05-01 \(stolen\); it makes a new one"):
        rotating(SOON, revoked=gone)
    with pytest.raises(ConfigError, match="b and b have the same key"):
        Roster([FAR[0], dataclasses.replace(FAR[1], retiring=B.public, retires=SOON)])
    with pytest.raises(ConfigError, match="a and b have the same key"):
        Roster([FAR[0], dataclasses.replace(FAR[1], retiring=A.public, retires=SOON)])
    # The same Curve25519 key with the other sign bit is the same key.
    other = OLD.public[:31] + bytes([OLD.public[31] ^ 0x80])
    with pytest.raises(ConfigError, match="was revoked|no valid point"):
        rotating(SOON, revoked=[dataclasses.replace(gone[0], public=other)])
    for bad in (bytes(32), b"\1" + bytes(31)):
        with pytest.raises(ConfigError, match="b: this public key is no valid point"):
            Roster([FAR[0], dataclasses.replace(FAR[1], retiring=bad, retires=SOON)])


def test_a_key_has_retired_in_the_moment_that_the_roster_names():
    member = rotating(PAST)["b"]
    assert member.valid(PAST - timedelta(microseconds=1)) == (B.public, OLD.public)
    assert member.valid(PAST) == (B.public,)


def hello(sender, key):
    return Hello(sender, "a", bytes(32), 3, bytes(32), fingerprint(key))


def test_the_hello_says_which_key_and_only_a_valid_one_counts():
    assert static_key(hello("b", B.public), rotating(SOON)) == B.curve_public
    assert static_key(hello("b", OLD.public), rotating(SOON)) == OLD.curve_public
    with pytest.raises(AuthenticationFailed, match="b: still uses the key that retired on 2020-01-31 00:00 UTC"):
        static_key(hello("b", OLD.public), rotating(PAST))
    revoked = Roster(FAR, revoked=[Revoked("b", OLD.public, "stolen laptop", date(2026, 5, 1))])
    with pytest.raises(AuthenticationFailed, match=r"b: uses a key that was revoked on 2026-05-01 \(stolen laptop\)"):
        static_key(hello("b", OLD.public), revoked)
    with pytest.raises(AuthenticationFailed, match="b: uses another key than the roster gives it"):
        static_key(hello("b", A.public), rotating(SOON))


@pytest.mark.parametrize(("identity", "retires", "outcome"), [(B, SOON, ""), (OLD, SOON, ""), (B, PAST, ""), (OLD, PAST, "retired on")])
@pytest.mark.parametrize("rotates", ["dialler", "responder"])
async def test_handshakes_in_and_after_the_overlap(identity, retires, outcome, rotates):
    """One roster for both; the member that rotates uses either key, whoever dials."""
    roster = rotating(retires)
    near, far = memory_pair("near", "far")
    owner, other_owner = Owner(), Owner()
    ours, theirs = (A, identity) if rotates == "responder" else (identity, A)
    one = Channel(near, ours, roster, owner, dialled=roster[theirs.name])
    other = Channel(far, theirs, roster, other_owner)
    watching = owner if rotates == "responder" else other_owner
    kind = await watching.until("closed" if outcome else "opened")
    if outcome:
        assert outcome in kind[2]
        assert not one.ready
        assert not other.ready
    else:
        await other_owner.until("opened")
        assert one.exporter == other.exporter
        assert len(one.exporter) == 64


async def test_a_member_changes_its_key_while_the_others_keep_running():
    """One roster from the first to the last job; only the member that rotates restarts."""
    identities, plain = simulated_roster(2)
    fresh = Identity.generate("p1")
    changed = dataclasses.replace(plain["p1"], public=fresh.public, retiring=identities[1].public, retires=SOON)
    roster = Roster([plain["p0"], changed, plain["the-dealer"]])
    network, clocks = MemoryNetwork(), Clocks(5.0, 5.0, 5.0)

    async def total(node, job):
        async with node.session(job) as s:
            return (await protocols.secure_sum(s, [1.0])).tolist()

    async with Node(identities[0], roster, network.of("p0"), clocks=clocks) as first, Node(identities[2], roster, network.of("the-dealer")):
        for job, identity in (("old", identities[1]), ("new", fresh)):
            async with Node(identity, roster, network.of("p1"), clocks=clocks) as second:
                assert await asyncio.gather(total(first, job), total(second, job)) == [[2.0], [2.0]]


async def test_a_connection_ends_with_the_key_that_it_was_made_with_and_its_job_too(caplog):
    """p1 still uses its old key when that retires, p2 its new one: p1 is cut off in the middle of a job, p2 is not."""
    identities, plain = simulated_roster(3)
    fresh = [Identity.generate(name) for name in ("p1", "p2")]
    # The dealer waits so long for p1 to come back before the job ends there.
    clocks = Clocks(5.0, 2.0, 5.0, repair=0.5)

    async def cut_off(margin):
        """Whether all were connected in time; then the rest is checked."""
        retires = datetime.now(UTC) + timedelta(seconds=margin)
        changed = [
            dataclasses.replace(plain[new.name], public=new.public, retiring=old.public, retires=retires)
            for new, old in zip(fresh, identities[1:3], strict=True)
        ]
        roster, network = Roster([plain["p0"], *changed, plain["the-dealer"]]), MemoryNetwork()

        async def until_cut(node):
            async with node.session("long", parties=["p0", "p1"]) as s:
                while True:
                    await protocols.secure_sum(s, [1.0])
                    await asyncio.sleep(0.02)

        async with contextlib.AsyncExitStack() as stack:
            who = [identities[0], identities[1], fresh[1], identities[3]]
            nodes = [await stack.enter_async_context(Node(each, roster, network.of(each.name), clocks=clocks)) for each in who]
            jobs = [asyncio.create_task(until_cut(node)) for node in nodes[:2]]
            while any(node.mesh.missing(["p0", "the-dealer"]) for node in nodes[1:3]) and datetime.now(UTC) < retires:
                await asyncio.sleep(0.01)
            kept = nodes[0].mesh.channel("p2")
            here, there = await asyncio.gather(*jobs, return_exceptions=True)
            if kept is None or not str(here).startswith("p1: still uses the key that retired on"):
                return False
            # PeerLost where the dealer noticed first.
            assert isinstance(here, AuthenticationFailed | PeerLost)
            assert isinstance(there, PeerLost)
            assert datetime.now(UTC) > retires
            assert nodes[0].mesh.channel("p2") is kept
            assert nodes[0].mesh.missing(["p1", "p2"]) == ["p1"]
            # Whose key it is says so itself, before and after; the others cannot tell it.
            async with asyncio.timeout(10):
                while not (said := [each for each in caplog.records if "the own key retired on" in each.getMessage()]):
                    await asyncio.sleep(0.02)
            warned = [each for each in caplog.records if "the own key retires on" in each.getMessage()]
            assert {each.name for each in (*said, *warned)} == {"beaver.p1"}
            return True

    # On a slow machine half a second is too short to connect.
    assert await cut_off(0.5) or await cut_off(5.0) or await cut_off(20.0)
