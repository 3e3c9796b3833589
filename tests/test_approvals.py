"""A node signs what a person approved, for a day at most, and an approval can be taken back (invariants 25-26)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import pytest

import mpc
from parties.jobs import records
from parties.jobs.approvals import LASTS, Approvals
from parties.jobs.job import Task, fresh_id
from parties.jobs.records import Record, Records
from parties.jobs.states import Accepted
from parties.nodes import _allowed
from parties.rules import Policy
from tests import warm
from tests.error_rows import row_of
from tests.jobs import Hostile, entries, governed, jobs_of, requested, waiting
from tests.waiting import until

MEAN = Task("mean", "patients", ("age", "bmi"), ("a", "c"), purpose="trial-7")
ASKS = 'ask = ["mean", "sum", "linear_regression"]\npurposes = ["*"]'
APPROVALS = ["has the digest", "under the id of another", "under an id that was used before", "that it takes no part in"]
"""Rows of docs/errors.md that this file provokes."""


class Proposer(Hostile):
    """Member c in this process, whose jobs wait for approval at a."""

    async def proposed(self, task, job=None):
        """The id of a job, and what a answers."""
        seen = len(self.got)
        job = self.propose(task.pack(), job)
        found = lambda: [body["verdict"] for _, body in self.got[seen:] if body["kind"] == "answer" and body["job"] == job]  # noqa: E731
        await until(found)
        return job, found()[-1]

    def withdraw(self, job):
        self.answer("a", job, "withdrawn")


@asynccontextmanager
async def asking(folder):
    nodes = governed(folder, a=ASKS)
    await nodes.start("a", "dealer")
    try:
        async with mpc.open_node(folder / "c.toml") as node:
            c = Proposer(node)
            await until(lambda: not node.mesh.missing(["a", "dealer"]) and "peer=dealer connected" in nodes.log("a"))
            yield nodes, c
    finally:
        await nodes.__aexit__()


async def last(nodes, **request):
    return (await requested(nodes, request))[-1]


async def test_an_approval_is_for_the_job_that_was_shown(tmp_path):
    async with asking(tmp_path) as (nodes, c):
        job, verdict = await c.proposed(MEAN)
        assert verdict == "waiting"
        first = await last(nodes, do="show", id=job)
        # What is withdrawn may come again, and wants no fewer rows than before.
        c.withdraw(job)
        assert await c.proposed(MEAN, job) == (job, "waiting")
        assert (await last(nodes, do="show", id=job))["digest"] == first["digest"]
        c.withdraw(job)
        assert await c.proposed(replace(MEAN, pool=30), job) == (job, "waiting")
        assert (await last(nodes, do="show", id=job))["digest"] != first["digest"]
        answer = await last(nodes, do="approve", id=job, digest=first["digest"])
        assert (answer["error"], row_of("has the digest").shows(answer["text"])) == ("ConfigError", True), answer
        c.withdraw(job)
        assert await c.proposed(MEAN, job) == (job, "denied")
        # While a person looks at one job, another takes its name.
        for other in (replace(MEAN, columns=("score",)), replace(MEAN, to=("c",)), replace(MEAN, purpose="")):
            job, verdict = await c.proposed(MEAN)
            assert verdict == "waiting"
            c.withdraw(job)
            assert await c.proposed(other, job) == (job, "denied")
            assert f"job={job} peer=c phase=denied c proposed a job under the id of another; " in nodes.log("a")
            assert "waits for approval here" in (await last(nodes, do="approve", id=job))["text"]
        assert await c.proposed(MEAN, job) == (job, "denied")
        assert (await c.proposed(replace(MEAN, parties=("a", "b"))))[1] == "denied"
        denied = re.findall("phase=denied (.*)", nodes.log("a"))
        assert all(any(row_of(case).shows(text) for text in denied) for case in APPROVALS[1:]), denied
        job, _ = await c.proposed(MEAN)
        status, out, _ = await nodes.beaver("jobs", "show", job, "-c", "a.toml")
        # Nobody gives rows as a client: "0" of such rows were listed.
        assert (status, "given by the client" in out) == (0, False), out
        command = out[out.index("`beaver jobs approve") :].split("`")[1].split()
        assert command[3:5] == [job, (await last(nodes, do="show", id=job))["digest"]]
        status, out, _ = await nodes.beaver(*command[1:])
        assert (status, "is approved" in out) == (0, True)
        assert await c.answers({job, ""}) == ["waiting", "accepted"]


def test_an_id_stands_for_the_task_and_the_asker_that_it_was_first_used_for(monkeypatch):
    known, job = Records(), fresh_id()
    assert not known.used_otherwise(job, "c", MEAN)
    known.forget(known.add(job, MEAN, "c"))
    assert not known.used_otherwise(job, "c", replace(MEAN, pool=1))
    assert known.used_otherwise(job, "b", MEAN)
    known.forget(known.add(job, replace(MEAN, pool=5), "c"))
    assert known.used_otherwise(job, "c", MEAN)
    monkeypatch.setattr(records, "MAX_IDS", 2)
    for _ in range(3):
        known.add(fresh_id(), MEAN, "c")
    assert len(known._uses) <= 3
    assert not known.used_otherwise(job, "b", MEAN)


async def test_an_approval_stands_where_everyone_sees_it_and_can_be_taken_back(tmp_path):
    async with asking(tmp_path) as (nodes, c):
        job, _ = await c.proposed(MEAN)
        assert "event" in await last(nodes, do="approve", id=job)
        assert await c.answers({job, ""}) == ["waiting", "accepted"]
        c.withdraw(job)
        async with asyncio.timeout(20):
            while [(each["id"], each["state"]) for each in await jobs_of(nodes, "a")] != [(job, "approved")]:
                await asyncio.sleep(0.02)
        status, out, _ = await nodes.beaver("jobs", "show", job, "-c", "a.toml")
        assert (status, "is approved and has not started" in out, f"jobs deny {job}" in out) == (0, True, True), out
        assert await c.proposed(MEAN, job) == (job, "accepted")
        c.withdraw(job)
        assert "event" in await last(nodes, do="deny", id=job)
        assert await jobs_of(nodes, "a") == []
        assert await c.proposed(MEAN, job) == (job, "denied")
        # Accepted already, and not started yet.
        job, _ = await c.proposed(MEAN)
        assert "event" in await last(nodes, do="approve", id=job)
        await until(lambda: c.signatures(job))
        assert "event" in await last(nodes, do="deny", id=job)
        c.answer("a", job, "start", c.signatures(job) | c.signature(job, MEAN.pack()))
        await until(lambda: any(body["kind"] == "withdraw" and body["job"] == job for _, body in c.got))
        assert "waits for approval here" in (await last(nodes, do="deny", id=job))["text"]
        ((state, error),) = [(each["state"], each["error"]) for each in await jobs_of(nodes, "a")]
        assert (state, "rule `ask`: someone of this organisation denied it" in error) == ("failed", True)
        # What was approved is spent by what denies the job for good.
        job, _ = await c.proposed(MEAN)
        assert "event" in await last(nodes, do="approve", id=job)
        await until(lambda: c.signatures(job))
        c.withdraw(job)
        assert await c.proposed(replace(MEAN, purpose=""), job) == (job, "denied")
        assert all(each["id"] != job for each in await jobs_of(nodes, "a"))
        assert [entry["kind"] for entry in entries(nodes, "a")] == ["declined"] * 4


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({}, "none are allowed"),
        ({"allow": ["mean", "sum"]}, "mean, sum"),
        ({"ask": ["mean"]}, "once approved here: mean"),
        ({"allow": ["mean"], "ask": ["sum", "variance"]}, "mean; once approved here: sum, variance"),
    ],
)
def test_a_node_says_what_runs_at_once_and_what_must_be_approved(rules, said):
    assert _allowed(Policy(**rules)) == said


async def test_who_approved_is_in_the_log_and_in_the_audit_log(tmp_path):
    async with governed(tmp_path, a=ASKS.replace("ask", "allow"), b=ASKS) as nodes:
        run = {"do": "run", "task": Task("mean", "patients", ("age",), ("a", "b"), purpose="trial 7").pack(), "wait": 20}
        for decision in ("approve", "deny"):
            asked = asyncio.create_task(requested(nodes, run))
            job = await waiting(nodes, "b")
            # What a request says of its user does not count.
            assert "event" in (await requested(nodes, {"do": decision, "id": job, "user": 4711}, at="b"))[-1]
            assert ("result" in (await asked)[-1]) == (decision == "approve")
            word = {"approve": "approved", "deny": "denied"}[decision]
            assert f"job={job} peer=a phase={word} by the user {os.getuid()} of this machine" in nodes.log("b")
        started = next(entry for entry in entries(nodes, "b") if entry["kind"] == "started")
        assert started["approval"]["user"] == os.getuid()
        assert datetime.fromisoformat(started["approval"]["time"]) <= datetime.fromisoformat(started["time"])
        assert [entry["approval"] for entry in entries(nodes, "a") if entry["kind"] == "started"] == [None]
        status, out, complaints = await nodes.beaver("audit", "verify", "-c", "b.toml")
        assert (status, "all in order and signed" in out) == (0, True), out + complaints
        _, out, _ = await nodes.beaver("audit", "show", "-c", "b.toml", "--job", started["job"])
        told = " ".join(re.sub(r"[│┃]", " ", out).split())
        assert f"mean on patients: age; to a, b; purpose 'trial 7'; approved by the user {os.getuid()}" in told
        assert f"{len(nodes.data['b'])} rows of this party; revealed to a, b" in told


async def test_an_approval_ends_with_its_age():
    lapsed = []
    known, approvals = Records(), Approvals("a", logging.getLogger("beaver"), lambda record: bytes(32), lapsed.append, lasts=0.05)
    withdrawn, accepted = (known.add(fresh_id(), MEAN, "c") for _ in range(2))
    for record in (withdrawn, accepted):
        approvals.ask(record, lambda record, approved: record.becomes(Accepted()))
        approvals.approve(record.id, 1000)
        assert approvals.given(record)
    approvals.keep(withdrawn)
    await until(lambda: not approvals.all_standing)
    # The other was accepted while its approval stood.
    assert lapsed == [withdrawn]
    assert not approvals.given(withdrawn)
    assert LASTS <= 86_400


async def test_an_approval_is_for_one_job_of_one_asker():
    approvals = Approvals("a", logging.getLogger("beaver"), lambda record: bytes(32), lambda record: None)
    job = fresh_id()
    approved = Record(job, MEAN, "c")
    approvals.ask(approved, lambda record, approved: record.becomes(Accepted()))
    approvals.approve(job, 1000)
    for other in (Record(job, MEAN, "b"), Record(job, replace(MEAN, columns=("score",)), "c")):
        assert not approvals.given(other)
        assert other.approval is None
    # Nor does another asker use it up, or lose it for this one.
    approvals.spend(job, "b")
    assert approvals.void("b") == []
    assert approvals.given(again := Record(job, MEAN, "c"))
    assert again.approval == approved.approval
    approvals.spend(job, "c")
    assert not approvals.given(again)


async def test_what_waits_is_shown_whole_and_at_once_whatever_it_would_cost(tmp_path):
    async with asking(tmp_path) as (nodes, c):
        purpose = "study-2026/" + "x" * 200 + ":skull:[b]/and-the-names-of-all"
        endless = {"target": "score", "solver": "sgd", "epochs": 1_000_000, "batch_size": 1}
        fit = Task("linear_regression", "patients", ("age", "bmi", "score"), ("a", "c"), (), endless, purpose)
        job, verdict = await c.proposed(fit)
        assert verdict == "waiting"
        env = {**nodes.environment, "COLUMNS": "60"}
        began = time.monotonic()
        process = await warm.start("jobs", "show", job, "-c", "a.toml", cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE)
        out = (await asyncio.wait_for(process.communicate(), 30))[0].decode()
        assert (process.returncode, time.monotonic() - began < 15) == (0, True)
        cells = [line.strip("\u2502").split("\u2502") for line in out.splitlines() if line.count("\u2502") == 3]
        assert purpose in "".join(value.strip() for _, value in cells)
        assert "\u2026" not in out
        assert "is not known: to work it out takes longer than 1 s" in " ".join(value.strip() for _, value in cells)
        assert out.rstrip().endswith("or `beaver jobs deny`.")
        status, out, _ = await nodes.beaver("jobs", "show", job, "-c", "a.toml", "--json")
        shown = json.loads(out)
        refused, _, complaints = await nodes.beaver("jobs", "show", job, "-c", "a.toml", "--out", "early.json")
        assert (refused, (tmp_path / "early.json").exists()) == (1, False)
        assert row_of("so FILE is not written").shows(complaints.strip().removeprefix("ConfigError: "))
        assert (status, shown["cost"], shown["purpose"], shown["state"]) == (0, None, purpose, "waiting for approval")
