"""A roster without a dealer lets no job run, and says so to all who handle it.  It cuts off a dealer whose key was stolen."""

from __future__ import annotations

import json
from datetime import date

from mpc.membership.roster import NO_DEALER, Revoked, Roster
from tests.nodes import Nodes, beaver
from tests.test_renewal import Renewed
from tests.waiting import until

BEWARE = f"Beware: {NO_DEALER}.\n"


async def made(folder, *names):
    for name in names:
        role = "dealer" if name == "d" else "party"
        assert (await beaver(folder, "init", name, "--role", role, "--endpoint", "127.0.0.1:9001"))[0] == 0


async def test_whoever_builds_signs_looks_at_or_verifies_it_is_told(tmp_path):
    await made(tmp_path, "a", "b", "d")
    told = []
    for command in (
        "add roster.toml a.public",
        "add roster.toml b.public",
        "sign -c a.toml",
        "sign -c b.toml",
        "show roster.toml",
        "verify roster.toml",
        "add roster.toml d.public",
        "show roster.v2.toml",
    ):
        status, _, complaints = await beaver(tmp_path, "roster", *command.split())
        assert status == 0, complaints
        told.append(complaints.endswith(BEWARE))
    # Not of one party alone, which is no roster yet.
    assert told == [False, True, True, True, True, True, False, False]


async def test_a_check_of_such_a_set_up_fails_with_what_to_do(tmp_path):
    nodes = Nodes(tmp_path)
    known = Roster.load(tmp_path / "roster.toml")
    (tmp_path / "roster.toml").write_text(Roster(known.parties).dump())
    status, printed, complaint = await nodes.beaver("check", "-c", "a.toml", "--json", "--wait", "1")
    (wrong,) = (each for each in json.loads(printed)["own"] if each["remedy"])
    assert (status, wrong["what"], complaint) == (1, "dealer", f"ConfigError: {NO_DEALER}\n")


async def test_a_dealer_whose_key_was_stolen_is_cut_off_before_there_is_another(tmp_path):
    async with Renewed(tmp_path) as nodes:
        first = nodes.roster
        stolen = Revoked("dealer", first.dealer.public, "laptop stolen", date(2026, 5, 1))
        nodes.publish(Roster(first.parties, version=2, previous=first.digest, revoked=[stolen]))
        for name in nodes.names:
            await nodes.hangup(name)
            await until(lambda name=name: f"WARNING node={name} {NO_DEALER}" in nodes.log(name))
            await until(
                lambda name=name: (
                    "peer=dealer disconnected: dealer: uses a key that was revoked on 2026-05-01 (laptop stolen)" in nodes.log(name)
                )
            )
        status, _, complaint = await nodes.run("mean", "--columns", "age")
        assert (status, complaint.splitlines()[-1]) == (1, f"ConfigError: {NO_DEALER}")
