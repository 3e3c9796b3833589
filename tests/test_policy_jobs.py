"""Policies of real nodes: approvals and signatures come before data, denials give no reason, limits outlast restarts (invariants 24-26)."""

from __future__ import annotations

import asyncio
import json
import re
import signal

import numpy as np

from parties.jobs.job import Task
from tests.error_rows import row_of
from tests.jobs import (
    COLUMNS,
    MEAN,
    RUN,
    decided,
    entries,
    governed,
    hostile,
    jobs_of,
    mean_is_right,
    near,
    requested,
    waiting,
)
from tests.waiting import until

POLICY_JOBS = [
    "someone of this organisation denied it",
    "did not approve the job",
    "while the job waited for approval",
    "waits for approval here",
    "its signature of this job is missing",
    "accepted the job without a valid signature",
    "gave up the job before it started",
    "is not connected with all members",
    "which does not print as itself",
    "of a proposed job may have N characters",
]
"""Rows of docs/errors.md that this file provokes."""


ASKS = 'ask = ["mean", "sum"]\nallow = ["variance"]\npurposes = ["trial-7"]'
TAKES = 'allow = ["mean"]\npurposes = ["trial-7"]'


async def test_a_job_waits_for_approval_which_shows_what_it_is(tmp_path):
    async with governed(tmp_path, a=TAKES, b=ASKS, c=TAKES) as nodes:
        job = await nodes.spawn("run", "mean", *COLUMNS, "--dataset", "patients", "--purpose", "trial-7", "--json", "-c", "a.toml")
        said = ""
        while "waiting for approval at b" not in said:
            line = await asyncio.wait_for(job.stderr.readline(), 30)
            assert line, said
            said += line.decode()
        name = await waiting(nodes, "b")
        assert [each["progress"]["phase"] for each in await jobs_of(nodes, "a")] == ["waiting for approval"]
        status, out, complaints = await nodes.beaver("jobs", "show", name, "-c", "b.toml", "--json")
        assert status == 0, complaints
        shown = json.loads(out)
        assert (shown["asked_by"], shown["purpose"], shown["receivers"]) == ("a", "trial-7", ["a", "b", "c"])
        assert "number of rows" in shown["reveals"]
        assert (shown["cost"]["rounds"], shown["columns"]) == (1, ["age", "bmi"])
        # Nobody else holds a place meanwhile, and nobody has read anything.
        await until(lambda: "phase=accepted" in nodes.log("c"))
        async with asyncio.timeout(20):
            while await jobs_of(nodes, "c"):
                await asyncio.sleep(0.02)
        status, out, _ = await nodes.beaver("jobs", "approve", name, "-c", "b.toml")
        assert (status, "is approved" in out) == (0, True)
        out, complaints = await asyncio.wait_for(job.communicate(), 30)
        assert job.returncode == 0, complaints
        answer = json.loads(out)
        assert answer["id"] == name
        assert near(answer["result"]["mean"], nodes.pooled[:, :2].mean(axis=0))
        started = [entry for entry in entries(nodes, "b") if entry["kind"] == "started"]
        assert [(entry["asker"], entry["task"]["purpose"], set(entry["signatures"])) for entry in started] == [
            ("a", "trial-7", {"a", "b", "c"})
        ]
        # An approval is good for one start.
        again = asyncio.create_task(requested(nodes, {**RUN, "task": {**MEAN, "purpose": "trial-7"}}))
        second = await waiting(nodes, "b")
        await decided(nodes, "deny", second, "b")
        assert (await again)[-1]["text"].startswith("b: the job was denied by b; ")
        assert "rule `ask`: someone of this organisation denied it" in nodes.log("b")
        assert "rule `ask`" not in nodes.log("a") + nodes.log("c")
        for what in ("approve", "deny"):
            assert "waits for approval here" in (await requested(nodes, {"do": what, "id": second}, at="b"))[-1]["text"]
        answer = (await requested(nodes, {**RUN, "task": {**MEAN, "purpose": "trial-7"}, "wait": 1}))[-1]
        assert (answer["error"], answer["text"].startswith("b: did not approve the job within 1 s.")) == ("Refused", True)
        async with asyncio.timeout(20):
            while any(each["state"] == "waiting for approval" for each in await jobs_of(nodes, "b")):
                await asyncio.sleep(0.02)


async def test_approval_here_and_at_another(tmp_path):
    async with governed(tmp_path, b='ask = ["mean"]', a='ask = ["mean"]\nallow = ["sum"]') as nodes:
        asked = asyncio.create_task(requested(nodes, RUN))
        mine = await waiting(nodes, "a")
        assert await jobs_of(nodes, "b") == []
        await decided(nodes, "approve", mine, "a")
        assert await waiting(nodes, "b") == mine
        await decided(nodes, "approve", mine, "b")
        assert "result" in (await asked)[-1]
        denied = asyncio.create_task(requested(nodes, RUN))
        await decided(nodes, "deny", await waiting(nodes, "a"), "a")
        answer = (await denied)[-1]
        assert (answer["error"], "rule `ask`" in answer["text"]) == ("PolicyDenied", True)
        assert (await requested(nodes, {**RUN, "wait": 0}))[-1]["text"].startswith("a: did not approve")
        # Its proposer goes: nothing waits on.
        gone = asyncio.create_task(requested(nodes, RUN, at="c"))
        job = await waiting(nodes, "b")
        await nodes.kill("c")
        await gone
        async with asyncio.timeout(20):
            while any(each["id"] == job for each in await jobs_of(nodes, "b")):
                await asyncio.sleep(0.02)


async def test_a_job_that_waited_and_never_started_is_in_the_log_of_who_was_asked(tmp_path):
    async with governed(tmp_path, b='ask = ["mean"]', c='ask = ["mean"]') as nodes:
        reasons = lambda: [entry["reason"] for entry in entries(nodes, "b") if entry["kind"] == "declined"]  # noqa: E731
        # Nobody decides, and nobody decides but b; then a stops asking, or is gone, or b stops.
        for approved in (False, True):
            asking = asyncio.create_task(requested(nodes, {**RUN, "wait": 1 if not approved else 60}))
            job = await waiting(nodes, "b")
            if approved:
                await decided(nodes, "approve", job, "b")
                await nodes.kill("a")
            await asyncio.wait([asking])
            async with asyncio.timeout(20):
                while len(reasons()) <= approved:
                    await asyncio.sleep(0.02)
        assert reasons() == [
            "PeerLost: a: withdrew the job while it waited for approval here",
            "PeerLost: a: was lost before the job started",
        ]
        await nodes.start("a")
        asking = asyncio.create_task(requested(nodes, {**RUN, "wait": 60}))
        job = await waiting(nodes, "b")
        await decided(nodes, "approve", job, "b")
        nodes.processes["b"].send_signal(signal.SIGTERM)
        await asyncio.wait_for(nodes.processes["b"].wait(), 20)
        assert reasons()[2:] == [f"JobCancelled: job {job} was cancelled: the node was stopped"]
        await asyncio.wait([asking])


async def test_rows_that_all_must_have_together(tmp_path):
    # 20, 21 and 22 rows.
    fit = Task("linear_regression", "patients", ("age", "bmi", "score"), ("a", "b", "c"), parameters={"target": "score"}).pack()
    rules = 'allow = ["mean", "linear_regression"]\nmin_pool_rows = {}\nmax_parameters_per_row = 0.04'
    async with governed(tmp_path, b=rules.format(63), c=rules.format(60)) as nodes:
        answer = (await requested(nodes, RUN))[-1]
        assert near(answer["result"]["mean"], nodes.pooled[:, :2].mean(axis=0))
        ended = entries(nodes, "a")[-1]
        assert [each["what"] for each in ended["released"]] == ["enough/reveal", "mean/reveal"]
        answer = (await requested(nodes, {**RUN, "task": fit}, at="a"))[-1]
        assert answer["error"] == "PolicyDenied", answer
        assert "all parties together have fewer than 75 rows" in answer["text"]
        await until(lambda: all("fewer than 75 rows" in nodes.log(name) for name in "abc"))
        # The entry is written after the line.
        await until(lambda: all(entries(nodes, name)[-1].get("outcome") == "denied" for name in "abc"))
        for name in "abc":
            assert [each["what"] for each in entries(nodes, name)[-1]["released"]] == ["enough/reveal"]
        await mean_is_right(nodes, at="c")


async def test_what_the_rows_deny_ends_the_job_everywhere_by_a_name_only(tmp_path):
    async with governed(tmp_path, c='allow = ["mean"]\nmin_rows = 23', b='allow = ["mean", "sum"]\nmin_rows = 1') as nodes:
        for at in "ab":
            answer = (await requested(nodes, RUN, at=at))[-1]
            assert (answer["error"], answer["text"].startswith("c: the job was denied by c; ")) == ("Refused", True), answer
        assert "PolicyDenied: rule `min_rows`" in nodes.log("c")
        assert "min_rows" not in nodes.log("a") + nodes.log("b")
        for name in "ab":
            async with asyncio.timeout(20):
                while not all("denied by c" in job["error"] for job in await jobs_of(nodes, name)):
                    await asyncio.sleep(0.02)
        # b would deny what it cannot read: c's rule comes before anyone reads.
        (tmp_path / "b.csv").unlink()
        answer = (await requested(nodes, {**RUN, "task": {**MEAN, "protocol": "sum"}}))[-1]
        assert answer["text"].startswith("c: the job was denied by c; ")
        assert all(entry["kind"] == "declined" for entry in entries(nodes, "a") if entry.get("task", MEAN)["protocol"] == "sum")
        answer = (await requested(nodes, {**RUN, "task": {**MEAN, "protocol": "sum", "parties": ["a", "b"]}}))[-1]
        assert answer["text"].startswith("b: the job was denied by b; ")


async def test_nothing_is_read_without_the_signatures_of_all(tmp_path):
    async with hostile(tmp_path) as (nodes, c):
        for signatures in ({}, {"b": bytes(64)}, {"b": "text"}, {"b": b"short"}):
            job = c.propose(MEAN)
            assert await c.answers({job}) == ["accepted"]
            c.answer("a", job, "start", {**c.signatures(job), **c.signature(job, MEAN), **signatures})
            await until(lambda job=job: any(body["kind"] == "decline" and body["job"] == job for _, body in c.got))
            (state,) = (entry for entry in await jobs_of(nodes, "a") if entry["id"] == job)
            assert state["error"].startswith("Disagreement: b: its signature of this job is missing or wrong")
        assert not [entry for entry in entries(nodes, "a") if entry["kind"] == "started"]
        # Another task's signature, then none at all.
        for c.signature in (lambda job, task: {"c": bytes(64)}, lambda job, task: {}):
            c.reply = "accepted"
            answer = (await requested(nodes, RUN))[-1]
            assert (answer["error"], answer["text"]) == (
                "Disagreement",
                "c: accepted the job without a valid signature of it; see that both use the same version of the roster",
            )
        c.reply = "apart"
        answer = (await requested(nodes, {**RUN, "wait": 0}))[-1]
        assert row_of("is not connected with all members").shows(answer["text"]), answer
        # It ends a job while this party reads, or in the name of another.
        c.reply = None
        for party, reason, text in (
            ("c", "lost", "PeerLost: c: gave up the job before it started"),
            ("b", "denied", "Refused: b: the job was denied by b; the reason is known there only, in its log, says c"),
            ("a", "denied", "Refused: c: the job was denied by c; the reason"),
            ("b", "lost", "PeerLost: b: gave up the job before it started, says c"),
            ("zed", "x", "PeerLost: c: gave up"),
        ):
            job = c.propose(MEAN)
            assert await c.answers({job}) == ["accepted"]
            c.send("a", kind="decline", job=job, party=party, reason=reason)
            await until(lambda text=text: text in nodes.log("a"))
            (state,) = (entry for entry in await jobs_of(nodes, "a") if entry["id"] == job)
            assert state["error"].startswith(text)
        c.send("a", kind="decline", job="nothing", party="b", reason="denied")
        answer = (await requested(nodes, {**RUN, "task": {**MEAN, "parties": ["a", "b"]}}))[-1]
        assert "result" in answer


async def test_limits_count_over_restarts_and_overlaps_are_recorded(tmp_path):
    rules = 'allow = ["mean", "sum"]\nmax_jobs_per_day = 4\n[policy.datasets.patients]\ncolumns = ["age", "bmi"]\nmax_jobs_ever = 3'
    async with governed(tmp_path, a=rules) as nodes:
        for columns in (["age"], ["age", "bmi"]):
            assert "result" in (await requested(nodes, {**RUN, "task": {**MEAN, "columns": columns}}))[-1]
        await nodes.kill("a")
        await nodes.start("a")
        assert "result" in (await requested(nodes, {**RUN, "task": {**MEAN, "columns": ["bmi"]}}, at="b"))[-1]
        overlaps = [entry["overlaps"] for entry in entries(nodes, "a") if entry["kind"] == "started"]
        assert [{column: found["jobs"] for column, found in each.items()} for each in overlaps] == [{}, {"age": 1}, {"bmi": 1}]
        answer = (await requested(nodes, RUN))[-1]
        assert answer["text"] == "rule `datasets.patients.max_jobs_ever`: 3 jobs started since the audit log began"
        answer = (await requested(nodes, RUN, at="b"))[-1]
        assert answer["text"].startswith("a: the job was denied by a; ")
        answer = (await requested(nodes, {**RUN, "task": {**MEAN, "columns": ["age", "score"]}}))[-1]
        assert answer["text"] == "rule `datasets.patients.columns`: column 'score' is not on the list of a"
        for purpose, told in (
            ("x" * 300, "the purpose of a proposed job may have 256 characters, not 300; shorten --purpose"),
            ("trial\n7", "has U+000A as its character 6, which does not print as itself; leave it out of --purpose"),
        ):
            status, _, complaints = await nodes.run("mean", *COLUMNS, "--purpose", purpose)
            assert (status, told in complaints) == (1, True), complaints


async def test_of_jobs_that_start_together_no_more_run_than_may(tmp_path):
    async with governed(tmp_path, a='allow = ["mean"]\nmax_jobs_per_day = 2') as nodes:
        answers = await asyncio.gather(*(requested(nodes, RUN, at="b") for _ in range(4)))
        assert sum("result" in answer[-1] for answer in answers) == 2
        assert sum(entry["kind"] == "started" for entry in entries(nodes, "a")) == 2
        assert nodes.log("a").count("rule `max_jobs_per_day`") == 2


async def test_a_node_that_ends_while_it_reads_ends_the_job_for_those_who_read_too(tmp_path):
    async with governed(tmp_path) as nodes:
        big = np.tile(nodes.data["c"], (20_000, 1))
        nodes.write("c", big)
        job = await nodes.spawn("run", "mean", *COLUMNS, "--dataset", "patients", "-c", "a.toml")
        async with asyncio.timeout(20):
            while not (tmp_path / "c.audit.log").read_text():
                await asyncio.sleep(0.01)
        (running,) = await jobs_of(nodes, "c")
        (await requested(nodes, {"do": "cancel", "id": running["id"]}, at="c"))
        _, complaints = await asyncio.wait_for(job.communicate(), 30)
        assert (job.returncode, re.search(rb"PeerLost: c: (gave up the job|left at)", complaints) is not None) == (4, True), complaints
        nodes.write("c", nodes.data["c"])
        await mean_is_right(nodes)


async def test_a_node_that_stops_says_so_to_who_waits_and_in_its_log(tmp_path):
    async with governed(tmp_path, a='ask = ["mean"]', b='ask = ["sum"]') as nodes:
        own = asyncio.create_task(requested(nodes, RUN))
        await waiting(nodes, "a")
        theirs = asyncio.create_task(requested(nodes, {**RUN, "task": {**MEAN, "protocol": "sum", "parties": ["b", "c"]}}, at="c"))
        await waiting(nodes, "b")
        for name in "ab":
            nodes.processes[name].send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(nodes.processes[name].wait(), 20) == 130
        assert "the node was stopped" in (await own)[-1]["text"]
        answer = (await theirs)[-1]
        assert (answer["error"], row_of("while the job waited for approval").shows(answer["text"])) == ("PeerLost", True), answer
        (entry,) = entries(nodes, "b")
        assert (entry["kind"], entry["asker"], entry["reason"]) == (
            "declined", "c", f"JobCancelled: job {entry['job']} was cancelled: the node was stopped"
        )  # fmt: skip
        ((kind, why),) = [(entry["kind"], entry["reason"]) for entry in entries(nodes, "a")]
        assert (kind, why.endswith("was cancelled: the node was stopped")) == ("declined", True)
        # Nothing waits any more after a restart; what is asked anew does.
        await nodes.start("b")
        assert await jobs_of(nodes, "b") == []
        again = asyncio.create_task(requested(nodes, {**RUN, "task": {**MEAN, "protocol": "sum", "parties": ["b", "c"]}}, at="c"))
        fresh = await waiting(nodes, "b")
        assert "waits for approval here" in (await requested(nodes, {"do": "approve", "id": entry["job"]}, at="b"))[-1]["text"]
        await decided(nodes, "approve", fresh, "b")
        assert "result" in (await again)[-1]
