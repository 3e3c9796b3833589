"""Faults of real processes: one clear error at every party within its clock, and the next job runs (invariants 6, 8, 15, 25, 27)."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.organisations import Organisations, Stopwatch

PATIENT = {"lost": 20.0, "stall": 20.0}
"""Clocks so long that they do not run out on a busy machine, for tests of something else.

A test that waits for a clock sets that one beside them, long enough for all else.
"""
GOOD = {"a": [6.0], "b": [6.0], "c": [6.0]}


async def next_job_works(all_):
    for number in range(2):
        outcomes = await all_.run(f"next-{number}", "total")
        assert {name: outcome.get("result", outcome) for name, outcome in outcomes.items()} == GOOD


async def test_jobs_run_one_after_the_other(tmp_path):
    async with Organisations(tmp_path, **PATIENT) as all_:
        assert {name: outcome["result"] for name, outcome in (await all_.run("one", "total")).items()} == GOOD
        products = await all_.run("two", "product")
        assert all(abs(outcome["result"][0] - 6.0) < 1e-3 for outcome in products.values())
        assert {outcome["result"] for outcome in (await all_.run("three", "wide")).values()} == {3.0 * (1 << 21)}
        await next_job_works(all_)


@pytest.mark.parametrize("victim", ["c", "a", "dealer"])
async def test_sigkill_mid_job(tmp_path, victim):
    async with Organisations(tmp_path, **PATIENT) as all_:
        await all_.begin("doomed")
        lost = getattr(all_, victim)
        lost.signal(signal.SIGKILL)
        clock = Stopwatch()
        survivors = [party for party in all_.parties if party is not lost]
        for party in survivors:
            outcome = await party.outcome()
            assert outcome["error"] == "PeerLost", outcome
            assert outcome["text"].startswith(f"{victim}: "), outcome
        # By the end of the connection, and no clock.
        assert clock.seconds < PATIENT["lost"] / 2
        await lost.process.wait()
        await lost.start()
        await next_job_works(all_)


@pytest.mark.parametrize("victim", ["b", "dealer"])
async def test_sigstop_mid_job(tmp_path, victim):
    async with Organisations(tmp_path, lost=4.0, stall=PATIENT["stall"]) as all_:
        await all_.begin("doomed")
        stopped = getattr(all_, victim)
        stopped.signal(signal.SIGSTOP)
        clock = Stopwatch()
        for party in all_.parties:
            if party is not stopped:
                outcome = await party.outcome()
                assert outcome["error"] == "PeerLost", outcome
                assert outcome["text"].startswith(f"{victim}: "), outcome
        # By the clock `lost`, and not by `stall`.
        assert clock.seconds < PATIENT["stall"] / 2
        stopped.signal(signal.SIGCONT)
        if victim != "dealer":
            outcome = await stopped.outcome()
            assert outcome["error"] == "PeerLost", outcome
        await next_job_works(all_)


async def test_a_peer_that_never_comes(tmp_path):
    async with Organisations(tmp_path, join=4.0, **PATIENT) as all_:
        clock = Stopwatch()
        outcomes = await all_.run("lonely", "total", [all_.a, all_.b])
        assert clock.seconds < PATIENT["lost"] / 2
        for outcome in outcomes.values():
            assert outcome["error"] == "PeerLost"
            assert outcome["text"].startswith("c: is connected but did not start this job within 4 s")
        await next_job_works(all_)


async def test_a_peer_that_is_not_even_there(tmp_path):
    async with Organisations(tmp_path, join=4.0, **PATIENT) as all_:
        all_.c.process.stdin.close()
        await all_.c.process.wait()
        outcomes = await all_.run("lonely", "total", [all_.a, all_.b])
        for outcome in outcomes.values():
            assert outcome["error"] == "PeerLost"
            assert outcome["text"].startswith("c: did not come")
            assert "waited for c" in outcome["text"]
        await all_.c.start()
        await next_job_works(all_)


async def test_a_program_that_raises_at_one_party(tmp_path):
    async with Organisations(tmp_path, **PATIENT) as all_:
        outcomes = await all_.run("broken", "raises")
        assert outcomes["b"]["error"] == "RuntimeError"
        for name in "ac":
            assert outcomes[name]["error"] == "PeerLost"
            assert outcomes[name]["text"].startswith("b: left at secure_sum")
            assert "4711" not in outcomes[name]["text"]
        await next_job_works(all_)


async def test_a_timeout_around_an_op_ends_the_session_everywhere(tmp_path):
    async with Organisations(tmp_path, **PATIENT) as all_:
        for party in all_.parties:
            party.ask("hurried", "impatient")
        outcomes = {party.name: await party.outcome() for party in (all_.b, all_.c)}
        kinds = {outcome["error"] for outcome in outcomes.values()}
        assert "TimeoutError" in kinds
        assert kinds <= {"TimeoutError", "PeerLost"}
        assert (await all_.a.outcome())["error"] in {"PeerLost", "TimeoutError"}
        await next_job_works(all_)


async def test_a_peer_that_is_alive_but_sends_nothing(tmp_path):
    async with Organisations(tmp_path, lost=PATIENT["lost"], stall=4.0) as all_:
        for party in all_.parties:
            party.ask("stalled", "sleepy")
        for party in (all_.a, all_.b):
            outcome = await party.outcome()
            assert outcome["error"] == "PeerLost"
            assert outcome["text"].startswith("c: "), outcome
        all_.c.process.kill()
        await all_.c.process.wait()
        await all_.c.start()
        await next_job_works(all_)


async def test_ctrl_c_at_one_party(tmp_path):
    async with Organisations(tmp_path, **PATIENT) as all_:
        await all_.begin("interrupted")
        all_.b.signal(signal.SIGINT)
        assert await asyncio.wait_for(all_.b.process.wait(), 10) == 130
        for party in (all_.a, all_.c):
            outcome = await party.outcome()
            assert outcome["error"] == "PeerLost"
            assert outcome["text"].startswith("b: ")
        await all_.b.start()
        await next_job_works(all_)


async def test_rubbish_half_open_links_and_500_connections_do_not_disturb_a_job(tmp_path):
    async with Organisations(tmp_path, **PATIENT) as all_:
        await all_.begin("undisturbed", "long")
        address = all_.addresses["b"]
        half_open = [await asyncio.open_connection(*address) for _ in range(500)]
        for number in range(40):
            _, writer = await asyncio.open_connection(*address)
            writer.write([b"GET / HTTP/1.1\r\n\r\n", bytes(500), b"\xff" * 5000, b"\x10\0\0\0garbage"][number % 4])
            writer.close()
        outcomes = [await party.outcome() for party in all_.parties]
        for _, writer in half_open:
            writer.close()
        assert [outcome.get("result", outcome) for outcome in outcomes] == [300] * 3
        await next_job_works(all_)
