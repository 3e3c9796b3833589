"""What the next version of a roster changes, shown before anybody signs it, and changes that need no line of a member."""

from __future__ import annotations

import json
from pathlib import Path

from mpc.membership.identity import Identity, spoken
from mpc.membership.roster import Roster
from tests.test_setup_commands import _home, agreed, beaver, made, read, refused

__all__ = ["_home", "agreed", "made"]


def changed(version, previous="roster.toml"):
    printed = beaver(f"roster show a/{version} --previous a/{previous}")
    found = [line.removeprefix("changed   ") for line in printed.splitlines() if line.startswith("changed ")]
    assert json.loads(beaver(f"roster show a/{version} --previous a/{previous} --json"))["changes"] == found
    return found


def test_whoever_is_to_sign_sees_what_has_changed(agreed):
    old, other = (spoken(Identity.load(f"{name}/{name}.key").public) for name in "ab")
    beaver("init c --dir c --endpoint c.example:1")
    beaver("roster add a/roster.toml c/c.public", read("b/b.public") + 'endpoint = "b.example:2"')
    key = spoken(Identity.load("c/c.key").public)
    assert changed("roster.v2.toml") == ["b: the address is b.example:2, was dials only", f"c joins: party, c.example:1, key {key}"]
    for name in "abd":
        beaver(f"roster sign -c {name}/{name}.toml --roster a/roster.v2.toml")
    beaver("roster rotate -c a/a.toml --roster a/roster.v2.toml --days 10")
    third = Roster.load("a/roster.v3.toml")
    until = f"{third['a'].retires:%Y-%m-%d %H:%M} UTC"
    new = spoken(third["a"].public)
    assert changed("roster.v3.toml", "roster.v2.toml") == [f"a: the key is {new}, was {old}", f"a: the key {old} counts until {until}"]
    beaver("roster revoke a/roster.v3.toml b --reason lost")
    beaver("roster revoke a/roster.v4.toml a --reason leaked --retiring")
    beaver("init d2 --role dealer")
    beaver("roster remove a/roster.v4.toml d")
    beaver("roster add a/roster.v4.toml d2.public --relay mqtts://h:1 --transport mqtt")
    dealer = spoken(Identity.load("d2.key").public)
    assert changed("roster.v4.toml", "roster.v3.toml") == [
        f"a: the key {old} does not count any more",
        "a: the address is at the broker, was a.example:9001",
        "b leaves",
        "c: the address is at the broker, was c.example:1",
        "d leaves",
        f"d2 joins: dealer, at the broker, key {dealer}",
        f"b: the key {other} is revoked (lost)",
        f"a: the key {old} is revoked (leaked)",
        "the broker is mqtts://h:1, was none",
    ]
    assert "was not made from a/roster.toml" in refused("roster show a/roster.v4.toml --previous a/roster.toml")


def test_a_broker_is_named_without_lines_of_a_member(agreed):
    beaver("roster add a/roster.toml --relay mqtts://h:8883 --transport mqtt")
    known = Roster.load("a/roster.v2.toml")
    assert [member.transport for member in known.members] == ["mqtt"] * 3
    beaver("roster add a/roster.v2.toml")
    assert Roster.load("a/roster.v2.toml").digest == known.digest
    assert "no member was given to make it of" in refused("roster add none.toml --relay mqtts://h:8883")
    assert not Path("none.toml").exists()


def test_a_dealer_is_replaced_in_one_version(agreed):
    """The steps are those of docs/operations.md."""
    beaver("init d2 --role dealer --endpoint d2.example:1")
    beaver("roster remove a/roster.toml d")
    beaver("roster add a/roster.v2.toml d2.public")
    key = spoken(Identity.load("d2.key").public)
    assert changed("roster.v2.toml") == ["d leaves", f"d2 joins: dealer, d2.example:1, key {key}"]
    for config in ("a/a.toml", "b/b.toml", "d2.toml"):
        beaver(f"roster sign -c {config} --roster a/roster.v2.toml")
    beaver("roster verify a/roster.v2.toml --previous a/roster.toml")
