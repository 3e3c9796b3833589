"""Real nodes write an audit entry before data is read and before a result is handed over; no entry has a value (invariants 34, 36)."""

from __future__ import annotations

import asyncio
import json
import os
import resource

from mpc.membership.identity import Identity
from parties.auditing.entries import START, digest, fault_of, opened, sealed
from parties.jobs.job import unpack_task
from tests.audit_logs import headed
from tests.jobs import COLUMNS, MEAN, RUN, entries, hostile, jobs_of, mean_is_right, recorded, requested
from tests.nodes import Nodes
from tests.test_jobs_faults import started
from tests.waiting import until

CANARY = 33.7142857
LIMITLESS = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


async def verified(nodes, at, *options):
    return await nodes.beaver("audit", "verify", "-c", f"{at}.toml", *options)


async def test_every_job_has_its_entries_at_every_party_and_none_holds_a_value(tmp_path):
    nodes = Nodes(tmp_path)
    nodes.data["b"][3, 1] = CANARY
    nodes.write("b", nodes.data["b"])
    async with nodes:
        answer = await mean_is_right(nodes)
        status, _, complaints = await nodes.run("maximum", "--columns", "bmi", "--to", "b", "--json", "--out", "b.json", at="b")
        assert status == 0, complaints
        await nodes.run("minimum", *COLUMNS)
        job = await started(nodes)
        (running,) = (each["id"] for each in await jobs_of(nodes, "b") if each["state"] == "running")
        assert "event" in (await requested(nodes, {"do": "cancel", "id": running}, at="b"))[-1]
        await asyncio.wait_for(job.communicate(), 30)
        for name in "abc":
            async with asyncio.timeout(20):
                while any(each["state"] == "running" for each in await jobs_of(nodes, name)):
                    await asyncio.sleep(0.02)
            await recorded(nodes, name, 3, "ended")
        logs = {name: entries(nodes, name) for name in "abc"}
        starts = {name: [entry for entry in log if entry["kind"] == "started"] for name, log in logs.items()}
        assert [len(each) for each in starts.values()] == [3, 3, 3]
        for mine, theirs in zip(starts["a"], starts["b"], strict=True):
            assert fault_of(mine) == ""
            assert {key: mine[key] for key in ("digest", "description", "signatures", "task", "roster", "asker")} == {
                key: theirs[key] for key in ("digest", "description", "signatures", "task", "roster", "asker")
            }
        ends = {
            name: [(entry["outcome"], entry["output"] is None) for entry in log if entry["kind"] == "ended"] for name, log in logs.items()
        }
        assert ends["a"] == [("done", False), ("done", True), ("failed", True)]
        assert ends["b"] == [("done", False), ("done", False), ("cancelled", True)]
        mean = next(entry for entry in logs["c"] if entry["kind"] == "ended")
        assert mean["released"] == [{"what": "mean/reveal", "shape": [3], "to": ["a", "b", "c"], "times": 1}]
        assert (mean["cost"]["rounds"], mean["cost"]["bytes_to_each_peer"]) == (1, 24)
        assert {name: [entry["rows"] for entry in log if entry["kind"] == "ended"] for name, log in logs.items()} == {
            name: [len(nodes.data[name])] * 3 for name in "abc"
        }
        # Its key makes a result one's own: two receivers of the same result have different digests.
        assert len({log[1]["output"] for log in logs.values()}) == 3
        assert len(answer["seal"]) == 64
        denied = [entry for log in logs.values() for entry in log if entry["kind"] == "declined"]
        assert [(entry["member"], entry["by"], entry["task"]["protocol"]) for entry in denied] == [("a", "a", "minimum")]
        for name in "abc":
            status, out, complaints = await verified(nodes, name, *(("--result", "b.json") if name == "b" else ()))
            assert (status, "all in order and signed" in out) == (0, True), out + complaints
        assert (await verified(nodes, "a", "--result", "b.json"))[0] == 1
    for name in "abc":
        text = (tmp_path / f"{name}.audit.log").read_text()
        assert "33.71" not in text + nodes.log(name)
        # Nor a result.
        assert not any(f"{value:.4f}" in text for value in nodes.pooled[:, :2].mean(axis=0))


def limit(nodes, at, size):
    """Let no file of this node grow beyond `size`, as on a full disk."""
    limits = LIMITLESS if size is None else (size, resource.RLIM_INFINITY)
    resource.prlimit(nodes.processes[at].pid, resource.RLIMIT_FSIZE, limits)


async def test_on_a_full_disk_no_data_is_read_and_no_result_handed_over(tmp_path):
    two = {**RUN, "task": {**MEAN, "parties": ["a", "b"]}}
    async with Nodes(tmp_path) as nodes:
        path = tmp_path / "a.audit.log"
        for _ in range(6):
            assert "result" in (await requested(nodes, two))[-1]
        before = len(entries(nodes, "a"))
        # The node's own log, whose lines are waited for, must not reach the limit first: it begins again.
        os.truncate(nodes.logs["a"][-1], 0)
        start = len(path.read_bytes().splitlines()[0])
        # Not even the start fits.
        limit(nodes, "a", path.stat().st_size + 100)
        answer = (await requested(nodes, two))[-1]
        assert (answer["error"], "the audit log cannot be written (File too large)" in answer["text"]) == ("ConfigError", True), answer
        answer = (await requested(nodes, two, at="b"))[-1]
        assert (answer["error"], answer["text"]) == (
            "Refused",
            "a: cannot write its audit log, without which it runs no job; ask again once it can",
        )
        assert len(entries(nodes, "a")) == before == 12
        # What the log should say of either is tried later.
        await until(lambda: nodes.log("a").count(" not in the audit log") == 2)
        # The start fits, and the end does not: no result.  (The start says more now: earlier jobs used these columns.)
        limit(nodes, "a", path.stat().st_size + start + 200)
        answer = (await requested(nodes, two))[-1]
        assert (answer["error"], "no result is handed over" in answer["text"]) == ("ConfigError", True), answer
        last = (await jobs_of(nodes, "a"))[-1]
        assert last["state"] == "failed"
        assert "has no result: failed" in (await requested(nodes, {"do": "show", "id": last["id"]}))[-1]["text"]
        await until(lambda: nodes.log("a").count(" not in the audit log") == 3)
        assert [entry["kind"] for entry in entries(nodes, "a")][-3:] == ["started", "ended", "started"]
        limit(nodes, "a", None)
        assert "result" in (await requested(nodes, two))[-1]
        # What could not be written was no job: neither an earlier one of this, nor one of those that may start.
        starts = [entry for entry in entries(nodes, "a") if entry["kind"] == "started"]
        assert starts[-1]["overlaps"] == dict.fromkeys(two["task"]["columns"], {"jobs": 7, "last": starts[-2]["job"]})
        assert (await verified(nodes, "a"))[0] == 0


async def test_a_node_killed_in_a_job_keeps_the_start_and_mends_its_log(tmp_path):
    async with Nodes(tmp_path) as nodes:
        job = await started(nodes)
        await nodes.kill("b")
        await asyncio.wait_for(job.communicate(), 30)
        path = tmp_path / "b.audit.log"
        with path.open("ab") as file:
            file.write(b'{"half":')
        await nodes.start("b")
        await mean_is_right(nodes, at="b")
        assert [entry["kind"] for entry in entries(nodes, "b")] == ["started", "repaired", "ended", "started", "ended"]
        assert [(entry["outcome"], entry["reason"][:12]) for entry in await recorded(nodes, "a", 2, "ended")] == [
            ("failed", "PeerLost: b:"),
            ("done", ""),
        ]
        start, _, end, *_ = entries(nodes, "b")
        assert {key: end[key] for key in ("job", "outcome", "released", "output")} == {
            "job": start["job"],
            "outcome": "unknown",
            "released": None,
            "output": None,
        }
        status, out, complaints = await verified(nodes, "b")
        assert status == 0, out + complaints
        assert f"since the node stopped in them or they run now: {start['job']}\n" in out
        # Altered while it is stopped: it does not start, and nobody's evidence is mended away.
        await nodes.kill("b")
        path.write_text(path.read_text().replace('"torn_bytes":8', '"torn_bytes":9'))
        status, _, complaints = await nodes.beaver("party", "-c", "b.toml")
        assert (status, "line 3: " in complaints, "The audit log was changed" in complaints) == (1, True, True), complaints
        assert (await verified(nodes, "b"))[0] == 1


async def test_two_nodes_cannot_write_one_log(tmp_path):
    nodes = Nodes(tmp_path, extra='audit = "audit.log"\n')
    await nodes.start("a", "dealer")
    try:
        status, _, complaints = await nodes.beaver("party", "-c", "b.toml")
        assert (status, "another node writes this audit log" in complaints) == (1, True), complaints
    finally:
        await nodes.__aexit__()


async def test_a_flood_of_denied_proposals_does_not_fill_the_disk(tmp_path):
    async with hostile(tmp_path) as (nodes, c):
        jobs = {c.propose({**MEAN, "protocol": "no such thing"}) for _ in range(150)} | {
            c.propose({"rubbish": "x" * 50_000}) for _ in range(50)
        }
        assert set(await c.answers(jobs)) == {"denied"}
        assert await jobs_of(nodes, "a") == []
        log = entries(nodes, "a")
        assert len(log) == 100
        assert {(entry["kind"], entry["asker"], entry["by"]) for entry in log} == {("declined", "c", "a")}
        c.propose({**MEAN, "parameters": {"x": float("nan")}}, to="b")
        async with asyncio.timeout(20):
            while not (found := entries(nodes, "b")):
                await asyncio.sleep(0.02)
        assert found[0]["task"]["parameters"] == {"x": None}
        # Own jobs have their entries all the same.
        assert "result" in (await requested(nodes, {**RUN, "task": {**MEAN, "parties": ["a", "b"]}}))[-1]
        assert all(opened(line) for line in (tmp_path / "a.audit.log").read_bytes().splitlines())


async def test_long_tasks_that_are_denied_take_little_of_the_log(tmp_path):
    """The longest that a proposal can be, in characters that take twelve bytes each."""
    short, long = (
        {**MEAN, "protocol": "none"},
        {**MEAN, "columns": [chr(0x1F600 + k) * 230 for k in range(60)], "purpose": "\U0001f600" * 256},
    )
    async with hostile(tmp_path) as (nodes, c):
        for task in (short, long, {**long, "protocol": "\U0001f600" * 256, "parameters": {"p": "x" * 999}}):
            assert set(await c.answers({c.propose(task)})) == {"denied"}
        # An entry may be written after the answer.
        await until(lambda: len(entries(nodes, "a")) == 3)
        first, *others = entries(nodes, "a")
        assert (first["task"], first["program"]) == (short, unpack_task(short).program)
        for entry, line in zip(others, (tmp_path / "a.audit.log").read_bytes().splitlines()[1:], strict=True):
            assert len(line) < 3000
            assert len(json.dumps(entry["task"], separators=(",", ":"))) <= 1000
            assert entry["task"]["columns"][3:] == ["... 57 more"]
            assert entry["task"]["columns"][0] == "\U0001f600" * 4 + "..."
        assert others[0]["program"] == unpack_task(long).program
        assert (await verified(nodes, "a"))[0] == 0
        status, out, complaints = await nodes.beaver("audit", "show", "-c", "a.toml")
        assert (status, "mean on patients" in out) == (0, True), complaints


async def test_a_node_warns_of_jobs_whose_dates_are_to_come_since_they_count(tmp_path):
    nodes = Nodes(tmp_path, names=("a", "b"))
    identity, last, lines = Identity.load(tmp_path / "a.key"), START, []
    for number, year in enumerate((2020, 2098, 2099), 1):
        job = {"job": f"{number:032x}", "asker": "b", "policy": {}, "roster": "", "task": {"dataset": "patients"}, "columns": ["age"]}
        entry = {**job, "kind": "started", "member": "a", "number": number, "previous": last, "time": f"{year}-01-02T03:04:05+00:00"}
        lines.append(sealed(entry, identity) + b"\n")
        last = digest(lines[-1][:-1])
    (tmp_path / "a.audit.log").write_bytes(b"".join(lines))
    headed(tmp_path)
    await nodes.start("a")
    await nodes.__aexit__()
    (line,) = (line for line in nodes.log("a").splitlines() if "dates to come" in line)
    assert "WARNING" in line
    assert "phase=start the audit log has 2 job(s) that started on dates to come, the last 2099-01-02 03:04 UTC: the clock" in line
