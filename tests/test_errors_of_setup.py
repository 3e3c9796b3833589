"""Rows of docs/errors.md about set-up, rosters and checks, each provoked by a command, a handshake or a peer."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta

import pytest

from mpc.errors import BeaverError
from mpc.framing.handshake import Hello, static_key
from mpc.membership.identity import Identity, encode_key, fingerprint
from mpc.membership.roster import Revoked, Roster
from tests.error_rows import row_of
from tests.rosters import signed
from tests.test_check import CHECKED
from tests.test_errors_of_commands import PARTY, Told, compare_offline, edit, key_of, roster
from tests.test_refusals import SCANNED
from tests.test_roster_signatures import FAR, OLD, rotating
from tests.test_two_nodes import TWINS

PAST, SOON = datetime(2020, 1, 31, tzinfo=UTC), datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
MEMBERS = ("a", "b", "c", "dealer")
KEY = encode_key(Identity.generate("x").public)
NO_SIGNATURE = f"signature:{'A' * 86}=="
REVOKED = f'[[revoked]]\nname = "x"\nkey = "{KEY}"\nreason = "stolen"\nsince = 2026-05-01'
CHECK = "check -c a.toml --wait 0"


def before(line):
    """`line` before the roster."""
    return lambda home: (home / "roster.toml").write_text(f"{line}\n{(home / 'roster.toml').read_text()}")


def after(line):
    return lambda home: (home / "roster.toml").write_text(f"{(home / 'roster.toml').read_text()}\n{line}\n")


def dealer(*lines):
    """`lines` about the dealer."""
    return edit("roster.toml", 'role = "dealer"', "\n".join(('role = "dealer"', *lines)))


def all_of(*changes):
    def do(home):
        for change in changes:
            change(home)

    return do


def renewed(retires=None, file="roster.toml"):
    """The roster with a new key of a, which replaces the old one until `retires`."""

    def do(home):
        known = Roster.load(home / "roster.toml")
        more = {"retiring": known["a"].public, "retires": retires} if retires else {}
        new = dataclasses.replace(known["a"], public=Identity.generate("a").public, **more)
        (home / file).write_text(Roster([new, *known.members[1:]]).dump())

    return do


def sign(home):
    """All members have signed the roster."""
    identities = [Identity.load(home / f"{name}.key") for name in MEMBERS]
    (home / "roster.toml").write_text(signed(Roster.load(home / "roster.toml"), *identities).dump())


def next_version(home):
    """A signed roster, and something where its next version would be."""
    sign(home)
    (home / "roster.v2.toml").touch()


def forgets(home):
    """A second version that lists a revoked key, and a third that does not."""
    first = Roster.load(home / "roster.toml")
    gone = Revoked("x", Identity.generate("x").public, "stolen", date(2026, 5, 1))
    second = Roster.of(dataclasses.replace(first.content, version=2, previous=first.digest, revoked=(gone,)))
    (home / "second.toml").write_text(second.dump())
    (home / "third.toml").write_text(Roster.of(dataclasses.replace(second.content, version=3, previous=second.digest, revoked=())).dump())


def public(name, key):
    return lambda home: (home / "new.public").write_text(f'[[member]]\nname = "{name}"\nkey = "{key}"\n')


def with_password(text, mode=0o600, user='username = "a"\n'):
    def do(home):
        before('[relay]\nurl = "mqtt://127.0.0.1:1"')(home)
        if text is not None:
            (home / "password").write_text(text)
            (home / "password").chmod(mode)
        (home / "a.toml").write_text((home / "a.toml").read_text() + f'[relay]\n{user}password_file = "password"\n')

    return do


def without_certificates(home):
    before('[relay]\nurl = "mqtts://127.0.0.1:1"')(home)
    (home / "a.toml").write_text((home / "a.toml").read_text() + '[relay]\nca = "none.pem"\n')


COMMANDS = {
    "A trial with all addresses on loopback": (edit("a.toml", "unsigned = true", ""), PARTY),
    "does not take it: HOST is no loopback": (edit("roster.toml", "127.0.0.1", "10.99.0.1"), PARTY),
    "that are not of this roster: sign it anew": (all_of(sign, edit("roster.toml", "127.0.0.1", "127.0.0.2")), PARTY),
    "is not signed by NAMES; get their": (None, "roster verify roster.toml"),
    "retired on DATE UTC; set": (renewed(PAST), PARTY),
    "uses MQTT, but the roster names no": (before('transport = "mqtt"'), PARTY),
    "is no broker; write": (before('[relay]\nurl = "broker:1883"'), PARTY),
    "unknown transport 'NAME'": (before('transport = "mqt"'), PARTY),
    "unknown key 'KEY'; did you mean 'url'": (before('[relay]\nuri = "mqtt://h:1"'), PARTY),
    "was revoked on DATE (REASON); it makes": (all_of(after(REVOKED), public("e", KEY)), "roster add roster.toml new.public"),
    "names the digest of the one before as": (before("version = 2"), PARTY),
    "is none; the first roster is": (before("version = 0"), PARTY),
    "must be the N hexadecimal digits": (before('previous = "ab"'), PARTY),
    "retires must be a date": (dealer(f'retiring_key = "{KEY}"', "retires = 1990-01-01"), PARTY),
    "belong together: the old key": (dealer("retires = 2030-01-01"), PARTY),
    "since must be a date": (after(REVOKED + "T00:00:00Z"), PARTY),
    "a signature reads": (after('[signatures]\na = "x"'), PARTY),
    "[signatures] NAME: is not in": (after(f'[signatures]\nzed = "{NO_SIGNATURE}"'), PARTY),
    "needs 'relay.username' too": (with_password("x", user=""), CHECK),
    "no such password file": (with_password(None), CHECK),
    "read or write this password": (with_password("x", 0o644), CHECK),
    "is empty; write the password": (with_password(""), CHECK),
    "choose another --dir": (None, "init a"),
    "no member was given to make it of": (None, "roster add none.toml --relay mqtts://h:1"),
    "is in the roster with another key": (public("b", KEY), "roster add roster.toml new.public"),
    "it is another next version": (next_version, "roster remove roster.toml c"),
    "rotate from the key that": (renewed(SOON), "roster rotate -c a.toml"),
    "has no retiring key, or": (None, "roster revoke roster.toml a --reason x --retiring"),
    "--new describes NAME": (public("b", KEY), "roster revoke roster.toml a --reason x --new new.public"),
    "this is no signature of": (None, f'roster accept roster.toml a="{NO_SIGNATURE}"'),
    "give a file of lines that a member sent": (None, "roster accept roster.toml none.line"),
    "holds no signature": (lambda home: (home / "empty.line").touch(), "roster accept roster.toml empty.line"),
    "the roster gives NAME another": (renewed(file="other.toml"), "roster sign -c a.toml --roster other.toml"),
    "replaces this key in it; sign": (renewed(SOON, "other.toml"), "roster sign -c a.toml --roster other.toml"),
    "was not made from FILE": (None, "roster verify roster.toml --previous roster.toml"),
    "no longer lists the revoked": (forgets, "roster verify third.toml --previous second.toml"),
    "a reason is N to N": (None, f"roster revoke roster.toml a --reason {'x' * 201}"),
    "cannot be read as a roster": (None, "roster show none.toml"),
    "a roster is a list of": (lambda home: (home / "roster.toml").write_text(""), PARTY),
    "TABLE: must be a table": (before("revoked = [3]"), PARTY),
    "TABLE: KEY is missing": (before("[relay]"), PARTY),
    "WHERE must be KIND": (before("version = true"), PARTY),
    "unknown role 'NAME'": (edit("roster.toml", 'role = "dealer"', 'role = "deeler"'), PARTY),
    "is no valid point of the curve": (roster(lambda text, members: text.replace(key_of(members, "b"), encode_key(bytes(32)))), PARTY),
    "cannot be read as a WHAT file": (lambda home: (home / "a.key").write_bytes(b"\xff"), PARTY),
    "make room, or choose another": (None, "keygen z --out none/z.key"),
    "cannot listen there": (edit("a.toml", '"a.sock"', '"/proc/self/a.sock"'), PARTY),
    "may be changed by others": (lambda home: (home / "roster.toml").chmod(0o666), CHECK),
    "correct `ca` under [relay]": (without_certificates, CHECK),
    "FILE cannot be read; correct its": (edit("a.toml", "a.csv", "none.csv"), CHECK),
    "nothing listens at ADDRESS": (None, CHECK),
}


async def test_commands(tmp_path):
    told = Told()
    await compare_offline(told, COMMANDS, tmp_path)
    assert told.wrong == [], "\n".join(map(str, told.wrong))


# -- what a handshake and a peer show ------------------------------------------------------------------------------


def rosters():
    """b uses OLD, which its roster lets it, has retired or has revoked."""
    gone = Revoked("b", OLD.public, "stolen", date(2026, 5, 1))
    return OLD, {
        "still uses the key that retired": rotating(PAST),
        "uses a key that was revoked": Roster(FAR, revoked=[gone]),
        "uses another key than the roster": Roster(FAR),
    }


HANDSHAKES = ("still uses the key that retired", "uses a key that was revoked", "uses another key than the roster")


@pytest.mark.parametrize("case", HANDSHAKES)
def test_keys_that_do_not_count(case):
    old, known = rosters()
    with pytest.raises(BeaverError) as caught:
        static_key(Hello("b", "a", bytes(32), 3, bytes(32), fingerprint(old.public)), known[case])
    row = row_of(case)
    assert (type(caught.value).__name__, row.shows(str(caught.value))) == (row.kind, True)


SETUP = (*COMMANDS, *HANDSHAKES, *CHECKED, *SCANNED, *TWINS)
"""Rows that this file, and those which are named here, provoke."""
