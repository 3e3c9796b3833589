"""Three parties and a dealer, each a process without an open port, meet at a real broker (invariants 18, 27)."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from mpc.membership.roster import Roster
from tests.brokers import BROKERS, Mosquitto
from tests.nodes import Nodes
from tests.organisations import Organisations


def meet_at(folder, relay, *, but=()):
    """Rewrite the roster: nobody has an endpoint, all meet at `relay`; those in `but` stay on TCP among themselves."""
    path = folder / "roster.toml"
    members = [
        member if member.name in but else replace(member, endpoint=None, transport="mqtt") for member in Roster.load(path).content.members
    ]
    path.write_text(Roster(members, relay=relay).dump())


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_mean_and_a_comparison_run_over_a_broker(kind, tmp_path):
    async with BROKERS[kind](tmp_path) as broker:
        nodes = Nodes(tmp_path)
        meet_at(tmp_path, broker.relay)
        async with nodes:
            for protocol, expected in (("mean", nodes.pooled.mean(axis=0)), ("maximum", nodes.pooled.max(axis=0))):
                status, out, complaints = await nodes.run(protocol, "--columns", "age,bmi,score", "--json")
                assert status == 0, complaints
                assert np.allclose(numbers(json.loads(out)["result"][protocol]), expected, atol=1e-4), out


def numbers(value):
    """The numbers of a result, in order."""
    if isinstance(value, dict | list):
        return [number for each in (value.values() if isinstance(value, dict) else value) for number in numbers(each)]
    return [value]


async def test_a_check_says_who_the_broker_refuses_and_prints_nothing_of_a_library(tmp_path):
    (tmp_path / "passwords").touch()
    async with Mosquitto(tmp_path, access=f"allow_anonymous false\npassword_file {tmp_path / 'passwords'}") as broker:
        nodes = Nodes(tmp_path)
        meet_at(tmp_path, broker.relay)
        status, _, complaints = await nodes.beaver("check", "-c", "a.toml", "--json")
        assert status == 1
        assert re.fullmatch(r"ConfigError: the relay .* refuses this member .*\n", complaints)


@pytest.mark.parametrize("kind", BROKERS)
async def test_two_million_elements_are_summed_over_a_broker(kind, tmp_path):
    async with BROKERS[kind](tmp_path) as broker:
        organisations = Organisations(tmp_path, lost=30.0, stall=60.0)
        meet_at(tmp_path, broker.relay)
        async with organisations:
            outcomes = await organisations.run("big", "wide")
            assert {outcome.get("result") for outcome in outcomes.values()} == {3.0 * (1 << 21)}, outcomes


async def test_some_members_may_meet_at_a_broker_while_others_use_tcp(tmp_path):
    async with Mosquitto(tmp_path) as broker:
        organisations = Organisations(tmp_path, lost=30.0)
        meet_at(tmp_path, broker.relay, but=("a", "b", "dealer"))
        async with organisations:
            outcomes = await organisations.run("mixed", "product")
            assert all(abs(outcome["result"][0] - 6.0) < 1e-3 for outcome in outcomes.values()), outcomes


async def test_a_broker_restarted_in_the_middle_of_a_job_does_not_change_its_result(tmp_path):
    async with Mosquitto(tmp_path) as broker:
        organisations = Organisations(tmp_path, lost=8.0)
        meet_at(tmp_path, broker.relay)
        async with organisations:
            await organisations.begin("long", "long")
            await broker.stop()
            await broker.start()
            for party in organisations.parties:
                assert (await party.outcome()) == {"job": "long", "result": 300}


async def test_a_broker_that_stays_away_so_long_that_links_end_is_survived_on_new_links(tmp_path):
    async with Mosquitto(tmp_path) as broker:
        organisations = Organisations(tmp_path, lost=1.0, stall=30.0, repair=20.0)
        meet_at(tmp_path, broker.relay)
        async with organisations:
            await organisations.begin("long", "long")
            await broker.stop()
            for party in organisations.parties:
                await party.says("phase=repair")
            await broker.start()
            for party in organisations.parties:
                assert (await party.outcome()) == {"job": "long", "result": 300}


async def test_a_broker_that_stays_away_ends_the_job_at_every_party_with_the_same_reason(tmp_path):
    async with Mosquitto(tmp_path) as broker:
        organisations = Organisations(tmp_path, lost=1.0)
        meet_at(tmp_path, broker.relay)
        async with organisations:
            await organisations.begin("cut")
            await broker.stop()
            outcomes = [await party.outcome() for party in organisations.parties]
            reason = f"is cut off: the relay {broker.relay.url} was out of reach for 1 s; start the broker again, or mend the way to it"
            assert {(outcome["error"], reason in outcome["text"]) for outcome in outcomes} == {("PeerLost", True)}, outcomes
            await broker.start()
            assert {outcome["result"][0] for outcome in (await organisations.run("next", "total")).values()} == {6.0}


async def test_a_party_that_dies_ends_the_job_at_the_others_and_can_come_back(tmp_path):
    async with Mosquitto(tmp_path) as broker:
        organisations = Organisations(tmp_path, lost=1.0)
        meet_at(tmp_path, broker.relay)
        async with organisations:
            await organisations.begin("cut")
            organisations.c.process.kill()
            for party in (organisations.a, organisations.b):
                outcome = await party.outcome()
                assert outcome["error"] == "PeerLost" and outcome["text"].startswith("c: "), outcome
            await organisations.c.process.wait()
            await organisations.c.start()
            outcomes = await organisations.run("next", "total")
            assert {outcome["result"][0] for outcome in outcomes.values()} == {6.0}, outcomes
