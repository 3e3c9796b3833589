"""A node remembers the roster that it used, and refuses an older one though all its members signed it (invariant 35)."""

from __future__ import annotations

import dataclasses
import os
import stat
from datetime import date

import pytest

import mpc
from mpc import ConfigError
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Revoked, Roster
from tests.error_rows import row_of
from tests.ports import free_port
from tests.rosters import signed

REMEMBERED = [
    "is older than version",
    "this node has used another version",
    "follows another version",
    "is not signed by all, and this node has used",
    "which roster was used last",
    "others may read or write this state",
    "which roster was used must be remembered",
]
"""Rows of docs/errors.md that this file provokes."""

A, B, STOLEN = (Identity.generate(name) for name in "abb")
FIRST = Roster([Member("a", A.public, ("a.example", 1)), Member("b", STOLEN.public, None)])
REVOKING = Roster(
    [FIRST["a"], Member("b", B.public, None)],
    version=2,
    previous=FIRST.digest,
    revoked=[Revoked("b", STOLEN.public, "laptop stolen", date(2026, 5, 1))],
)


@pytest.fixture
def home(tmp_path):
    A.save(tmp_path / "a.key")
    (tmp_path / "a.toml").write_text(f'name = "a"\nkey = "a.key"\nroster = "roster.toml"\nlisten = "127.0.0.1:{free_port()}"\n')
    return tmp_path


async def use(home, roster, *, by=B):
    """Open a's node with this roster, which everyone signed."""
    (home / "roster.toml").write_text(signed(Roster.of(roster.content), A, by).dump())
    async with mpc.open_node(home / "a.toml"):
        pass


async def refused(home, roster, case, **more):
    with pytest.raises(ConfigError) as caught:
        await use(home, roster, **more)
    assert row_of(case).shows(str(caught.value)), caught.value
    return str(caught.value)


async def test_an_older_roster_that_all_signed_is_refused_whatever_key_the_node_uses_now(home):
    await use(home, FIRST, by=STOLEN)
    await use(home, FIRST, by=STOLEN)
    await use(home, REVOKING)
    assert stat.S_IMODE((home / "a.state").stat().st_mode) == 0o600
    (home / "a.key").rename(home / "a.new.key")
    (home / "a.toml").write_text((home / "a.toml").read_text().replace("a.key", "a.new.key"))
    text = await refused(home, FIRST, "is older than version", by=STOLEN)
    assert f"{home / 'roster.toml'}: version 1 is older than version 2" in text
    assert f"move {home / 'a.state'} away" in text
    await use(home, REVOKING)
    (home / "a.state").unlink()
    await use(home, FIRST, by=STOLEN)


async def test_another_branch_is_refused_and_versions_may_be_skipped(home):
    await use(home, REVOKING)
    other = dataclasses.replace(REVOKING.content, members=(FIRST["a"], Member("b", B.public, ("b.example", 1))))
    await refused(home, Roster.of(other), "this node has used another version")
    third = dataclasses.replace(other, version=3, previous=Roster.of(other).digest)
    await refused(home, Roster.of(third), "follows another version")
    await use(home, Roster.of(dataclasses.replace(third, version=4, previous=bytes(31) + b"\1")))


async def test_a_state_that_cannot_be_used_says_so(home):
    for rubbish in ("{}", "[" * 100_000, '{"roster": {"version": Infinity, "digest": ""}}', f'{{"roster": {{"version": {"9" * 5000}}}}}'):
        (home / "a.state").write_text(rubbish)
        (home / "a.state").chmod(0o600)
        await refused(home, REVOKING, "which roster was used last")
    (home / "a.state").chmod(0o644)
    await refused(home, REVOKING, "others may read or write this state")
    (home / "a.toml").write_text('state = "missing/a.state"\n' + (home / "a.toml").read_text())
    await refused(home, REVOKING, "which roster was used must be remembered")
    (home / "missing").mkdir()
    await use(home, REVOKING)
    assert os.listdir(home / "missing") == ["a.state"]


async def test_an_unsigned_roster_is_not_remembered_and_not_taken_after_a_signed_one(home):
    (home / "a.toml").write_text("unsigned = true\n" + (home / "a.toml").read_text())
    near = Roster([Member("a", A.public, ("127.0.0.1", free_port())), Member("b", B.public, None)])
    text = near.dump()
    for _ in range(2):
        (home / "roster.toml").write_text(text)
        async with mpc.open_node(home / "a.toml"):
            pass
        assert not (home / "a.state").exists()
    await use(home, near)
    (home / "roster.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        async with mpc.open_node(home / "a.toml"):
            pass
    assert row_of("is not signed by all, and this node has used").shows(str(caught.value)), caught.value
