"""Nodes against hostile members, odd clients and bad luck: nothing is held for ever, nothing grows (invariants 20, 21, 25, 27, 34)."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

import mpc
from mpc.errors import ConfigError
from parties.auditing.entries import finite
from parties.faults import told
from parties.jobs.job import fresh_id, unpack_task
from tests.jobs import COLUMNS, ENDLESS, MEAN, hostile, mean_is_right, near, requested
from tests.nodes import Nodes
from tests.waiting import until


def open_files(process):
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def resident(process):
    """The resident memory of a process, in megabytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


ODD = {
    "no fields": {},
    "unknown field": {**MEAN, "more": 1},
    "no list": {**MEAN, "columns": "age"},
    "twice": {**MEAN, "columns": ["age", "age"]},
    "no text": {**MEAN, "columns": [1, None]},
    "no columns": {**MEAN, "columns": []},
    "a thousand columns": {**MEAN, "columns": [f"column {number}" for number in range(1024)]},
    "two thousand columns": {**MEAN, "columns": [f"column {number}" for number in range(2048)]},
    "unknown protocol": {**MEAN, "protocol": "exfiltrate\n2026 INFO node=a fake"},
    "unknown dataset": {**MEAN, "dataset": "../../etc/passwd"},
    "parameters": {**MEAN, "parameters": {"x": []}},
    "unknown parameter": {**MEAN, "parameters": {"x": 1}},
    "without the sender": {**MEAN, "parties": ["a", "b"]},
    "without the receiver": {**MEAN, "parties": ["b", "c"]},
    "alone": {**MEAN, "parties": ["c"]},
    "nobody": {**MEAN, "parties": []},
    "the dealer computes": {**MEAN, "parties": ["a", "c", "dealer"]},
    "a stranger": {**MEAN, "parties": ["a", "c", "stranger"]},
    "result for an outsider": {**MEAN, "parties": ["a", "c"], "to": ["b"]},
} | {
    f"{key} = {value!r}": {
        **MEAN, "protocol": "linear_regression", "columns": ["age", "bmi", "score"],
        "parameters": {"target": "score", "solver": "sgd", key: value},
    }
    for key, value in [("epochs", True), ("epochs", "1"), ("epochs", 1 << 62), ("epochs", -1), ("epochs", float("nan")), ("target", 1),
                       ("split", "columns\0"), ("batch_size", 0), ("learning_rate", float("inf")), ("learning_rate", float("nan"))]
}  # fmt: skip


async def test_odd_proposals_are_denied_and_a_flood_of_them_leaves_nothing_behind(tmp_path):
    async with hostile(tmp_path, extra="max_jobs = 2\n") as (nodes, c):
        for what, task in ODD.items():
            assert await c.answers({c.propose(task)}) == ["denied"], what
        assert len(nodes.log("a").splitlines()) == sum(" node=a " in line for line in nodes.log("a").splitlines())
        files, memory = open_files(nodes.processes["a"]), resident(nodes.processes["a"])
        jobs = {c.propose(MEAN) for _ in range(1000)}
        verdicts = await c.answers(jobs, within=70)
        assert verdicts.count("accepted") <= 2
        assert set(verdicts) == {"accepted", "busy"}
        first = next(body["job"] for _, body in c.got if body.get("verdict") == "accepted")
        c.propose(MEAN, first)
        await until(lambda: [body["verdict"] for _, body in c.got if body.get("job") == first] == ["accepted", "denied"])
        # c stays, and starts neither: one place is left to others, and the clock gives the other one back.
        answer = (await requested(nodes, {"do": "run", "task": {**MEAN, "parties": ["a", "b"]}, "wait": 20}))[-1]
        assert "result" in answer, answer
        await until(lambda: f"job={first} phase=withdrawn c did not start it within 3 s" in nodes.log("a"))
        c.answer("a", first, "start")
        await until(lambda: any(body["kind"] == "withdraw" and body["job"] == first for _, body in c.got))
        assert open_files(nodes.processes["a"]) <= files
        assert resident(nodes.processes["a"]) < memory + 30
        c.propose(MEAN, "no id\n")
        await until(lambda: "a" in c.downs)
        await until(lambda: not c.mesh.missing(["a"]))
        assert await c.answers({c.propose(ODD["alone"])}) == ["denied"]


async def test_orders_that_make_no_sense_change_nothing(tmp_path):
    async with hostile(tmp_path, extra="max_jobs = 1\n") as (nodes, c):
        for verdict in ("accepted", "start", "withdrawn", "lost", "", "x" * 60_000):
            c.answer("a", fresh_id(), verdict)
        job = c.propose(MEAN)
        assert await c.answers({job}) == ["accepted"]
        c.propose(MEAN, job, to="b")
        assert await c.answers({job}, "b") == ["accepted"]
        for verdict in ("start", "start", "withdrawn", "perhaps"):
            c.answer("a", job, verdict, c.signatures(job) | c.signature(job, MEAN))
        await until(lambda: any(body["kind"] == "join" and body["job"] == job for _, body in c.got))
        # Neither c nor b joins: the job ends by the clock, and its place is free.
        answer = (await requested(nodes, {"do": "run", "task": {**MEAN, "parties": ["a", "b"]}, "wait": 20}))[-1]
        assert "result" in answer, answer
        # c leaves the job before it tells a to start.
        job = c.propose(MEAN)
        assert await c.answers({job}) == ["accepted"]
        c.send("a", kind="withdraw", job=job, reason="gave up waiting", party="b", answers=b"")
        c.answer("a", job, "start", c.signatures(job) | c.signature(job, MEAN))
        await until(lambda: any(body["kind"] == "withdraw" and body["job"] == job for _, body in c.got))
        (state,) = (entry for entry in (await requested(nodes, {"do": "jobs"}))[-1]["jobs"] if entry["id"] == job)
        assert state["error"] == "PeerLost: b: went missing before the job started, says c"
        # c starts it and is gone before a has taken a step.
        job = c.propose(MEAN)
        assert await c.answers({job}) == ["accepted"]
        c.answer("a", job, "start", c.signatures(job) | c.signature(job, MEAN))
        channel = c.mesh.channel("a")
        channel.close()
        await until(lambda: not channel.parting)
        (state,) = (entry for entry in (await requested(nodes, {"do": "jobs"}))[-1]["jobs"] if entry["id"] == job)
        assert (state["state"], state["error"]) == ("failed", "PeerLost: c: was lost before the job started")
        await until(lambda: not c.mesh.missing(["a"]))
        job = c.propose(MEAN)
        assert await c.answers({job}) == ["accepted"]
        c.answer("a", job, "whatever")
        # Withdrawn at once: no place held until the clock.
        early = c.propose(MEAN)
        c.answer("a", early, "withdrawn")
        assert await c.answers({c.propose(MEAN)}) == ["accepted"]
        assert f"job={early} phase=withdrawn" not in nodes.log("a")


def wants_more_rows(c, name, body):
    c.send(name, kind="answer", job=body["job"], verdict="rows", signatures={}, rows=body["task"]["pool"] + 1)


def waits_and_waits(c, name, body):
    c.answer(name, body["job"], "waiting")
    if c.got[-1][1] is body:
        asyncio.get_running_loop().call_later(0.3, waits_and_waits, c, name, body)


def waits_for_a_moment(c, name, body):
    c.answer(name, body["job"], "waiting")
    signature = c.signature(body["job"], body["task"])
    asyncio.get_running_loop().call_later(0.3, c.answer, name, body["job"], "accepted", signature)


@pytest.mark.parametrize("answers", [wants_more_rows, waits_and_waits, waits_for_a_moment])
async def test_a_party_that_always_wants_another_try_does_not_keep_a_proposal_beyond_its_time(tmp_path, answers):
    async with hostile(tmp_path) as (nodes, c):

        def control(name, body):
            c.got.append((name, body))
            if body["kind"] == "propose":
                answers(c, name, body)

        c.control = control
        async with asyncio.timeout(30):
            answer = (await requested(nodes, {"do": "run", "task": MEAN, "wait": 1}))[-1]
        assert (answer["error"], answer["text"].partition(".")[0]) == ("Refused", "c: did not approve the job within 1 s"), answer


async def test_who_proposes_and_never_starts_leaves_a_place_to_the_others(tmp_path):
    run = {"do": "run", "task": {**MEAN, "parties": ["a", "b"]}, "wait": 20}
    async with hostile(tmp_path) as (nodes, c):
        for to, other in ("ab", "ba"):
            jobs = [c.propose(MEAN, to=to) for _ in range(6)]
            assert (await c.answers(jobs, to)).count("accepted") == 3
            # At the node itself, and at one that is asked.
            for at in (to, other):
                assert "result" in (answer := (await requested(nodes, run, at=at))[-1]), answer
            for job in jobs:
                c.answer(to, job, "withdrawn")


async def test_a_proposer_is_told_clearly_of_odd_missing_and_lost_answers(tmp_path):
    run = {"do": "run", "task": MEAN, "wait": 1}
    async with hostile(tmp_path, extra="max_jobs = 1\n") as (nodes, c):
        for c.reply, kind, text in (
            ("perhaps", "Refused", "c: the job was denied by c"),
            ("start", "Refused", "c: the job was denied"),
            ("lost", "Refused", "c: "),
            ("busy", "Refused", "c: is busy"),
            (None, "PeerLost", "c: is connected but does not answer"),
        ):
            answer = (await requested(nodes, run))[-1]
            assert answer["error"] == kind, answer
            assert answer["text"].startswith(text), answer
        c.reply = "accepted"
        answer = (await requested(nodes, run))[-1]
        assert answer["error"] == "PeerLost", answer
        states = {entry["state"] for entry in (await requested(nodes, {"do": "jobs"}))[-1]["jobs"]}
        assert states == {"failed"}
        c.reply = None
        waiting = asyncio.create_task(requested(nodes, {**run, "wait": 30}))
        seen = len(c.got)
        await until(lambda: any(body["kind"] == "propose" for _, body in c.got[seen:]))
        c.mesh.channel("a").end(mpc.PeerLost("a", "cut"))
        answer = (await waiting)[-1]
        assert (answer["error"], answer["text"]) == ("PeerLost", "c: was lost before the job started")
        for at in "ab":
            answer = (await requested(nodes, {"do": "run", "task": {**MEAN, "parties": ["a", "b"]}, "wait": 20}, at=at))[-1]
            assert "result" in answer, answer


async def said(path, data, *, hang_up=False):
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(data)
        if not hang_up:
            writer.write_eof()
            return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_rubbish_at_the_local_socket(tmp_path):
    async with Nodes(tmp_path) as nodes:
        path = str(tmp_path / "a.sock")
        await mean_is_right(nodes)
        files, memory = open_files(nodes.processes["a"]), resident(nodes.processes["a"])
        for rubbish in (b"", b"\n", b"\0" * 1000 + b"\n", b"\xff\xfe\n", b"{", b"[1]\n", b"[" * 100_000 + b"\n", b"1" * 10_000 + b"\n"):
            assert await said(path, rubbish) == b"", rubbish[:20]
        for request in ({}, {"do": 1}, {"do": "stop"}, {"do": "run"}, {"do": "cancel"}, {"do": "result", "id": []},
                        {"do": "run", "wait": 1, "task": {}},
                        *({"do": "run", "task": MEAN, "wait": wait} for wait in (True, float("nan"), float("inf"), -1, "1", None)),
                        {"do": "run", "wait": 1, "task": {**MEAN, "parameters": {"x": 1 << 70}}},
                        {"do": "run", "wait": 1, "task": {**MEAN, "columns": ["\ud800"]}},
                        {"do": "run", "wait": 1, "task": {**MEAN, "columns": ["x" * 200 + str(n) for n in range(1000)]}}):  # fmt: skip
            answer = json.loads(await said(path, json.dumps(request).encode() + b"\n"))
            assert answer["error"] == "ConfigError", (request, answer)
        await said(path, b"x" * 100_000_000)
        for _ in range(3):
            await said(path, json.dumps({"do": "run", "task": MEAN, "wait": 9}).encode() + b"\n", hang_up=True)
        await mean_is_right(nodes)
        await until(lambda: open_files(nodes.processes["a"]) <= files)
        assert resident(nodes.processes["a"]) < memory + 60


async def test_what_lies_where_the_socket_should_be(tmp_path, monkeypatch):
    nodes = Nodes(tmp_path)
    await nodes.start("dealer")
    (tmp_path / "a.sock").write_text("my file")
    (tmp_path / "b.sock").symlink_to(tmp_path / "b.csv")
    for name in "ab":
        status, _, complaints = await nodes.beaver("party", "-c", f"{name}.toml")
        assert status == 1
        assert f"{name}.sock: is there already and no socket" in complaints
    assert (tmp_path / "a.sock").read_text() == "my file"
    (tmp_path / "a.sock").unlink()
    tmp_path.chmod(0o777)
    for command in (["party"], ["jobs", "list"]):
        status, _, complaints = await nodes.beaver(*command, "-c", "a.toml")
        assert (status, "writable by nobody else" in complaints) == (1, True), complaints
    tmp_path.chmod(0o700)
    config = tmp_path / "a.toml"
    config.write_text(config.read_text().replace('"a.sock"', '"a.csv/a.sock"'))
    status, _, complaints = await nodes.beaver("party", "-c", "a.toml")
    assert (status, "cannot be made" in complaints) == (1, True), complaints
    await nodes.__aexit__()


async def started(nodes, *arguments, at="a"):
    job = await nodes.spawn("run", *(arguments or ENDLESS), "--dataset", "patients", "-c", f"{at}.toml")
    while b"started" not in (line := await asyncio.wait_for(job.stderr.readline(), 60)):
        assert line, nodes.log(at)
    return job


async def test_a_node_that_is_stopped_says_so_to_its_client_and_to_its_peers(tmp_path):
    async with Nodes(tmp_path) as nodes:
        for number, text in (
            (signal.SIGTERM, b"the node was stopped"),
            (signal.SIGKILL, b"the node ended before it answered"),
        ):
            job = await started(nodes)
            nodes.processes["a"].send_signal(number)
            _, complaints = await asyncio.wait_for(job.communicate(), 30)
            assert (job.returncode, text in complaints, b"Traceback" in complaints) == (1, True, False), complaints
            assert await nodes.processes["a"].wait() == (-9 if number == signal.SIGKILL else 130)
            await nodes.start("a")
            last = (await requested(nodes, {"do": "jobs"}, at="b"))[-1]["jobs"][-1]
            assert (last["state"], last["error"].startswith("PeerLost: a: ")) == ("failed", True), last
            await mean_is_right(nodes, at="b")
        job = await started(nodes)
        (running,) = (entry["id"] for entry in (await requested(nodes, {"do": "jobs"}))[-1]["jobs"] if entry["state"] == "running")
        assert f"job {running} has no result yet" in (await nodes.beaver("jobs", "show", running, "-c", "a.toml"))[1]
        await nodes.beaver("jobs", "cancel", running, "-c", "a.toml")
        _, complaints = await asyncio.wait_for(job.communicate(), 30)
        assert (job.returncode, b"was cancelled" in complaints) == (1, True), complaints
        job = await started(nodes, at="c")
        nodes.processes["a"].send_signal(signal.SIGINT)
        _, complaints = await asyncio.wait_for(job.communicate(), 30)
        assert (job.returncode, b"PeerLost: a: " in complaints) == (4, True), complaints
        assert await nodes.processes["a"].wait() == 130


async def test_where_the_result_cannot_be_written(tmp_path):
    async with Nodes(tmp_path) as nodes:
        (tmp_path / "there").write_text("mine")
        for path in ("nowhere/x.json", "there", "."):
            status, _, complaints = await nodes.run("mean", *COLUMNS, "--out", path)
            assert (status, f"{path}: cannot be written" in complaints) == (1, True), complaints
        assert (tmp_path / "there").read_text() == "mine"
        # No file of this process may grow: the same as a full disk.
        full = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); from parties.start import main; main()"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-B", "-c", full, "run", "mean", *COLUMNS, "--dataset", "patients", "-c", "a.toml", "--out", "x.json",
            cwd=tmp_path, env=nodes.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, complaints = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1
        assert b"the node still has the result" in complaints, complaints
        assert not (tmp_path / "x.json").exists()
        shown = complaints.decode().split("jobs show ")[1][:32]
        status, out, _ = await nodes.beaver("jobs", "show", shown, "-c", "a.toml", "--json")
        assert status == 0
        assert near(json.loads(out)["result"]["mean"], nodes.pooled[:, :2].mean(axis=0))


async def test_names_with_brackets_and_letters_of_the_world(tmp_path):
    nodes = Nodes(tmp_path)
    for name in "abc":
        nodes.write(name, nodes.data[name], ["dose [mg]", "größe [/]", "score"])
        config = tmp_path / f"{name}.toml"
        config.write_text(config.read_text().replace("age =", '"dose [mg]" =').replace("bmi =", '"größe [/]" ='))
    async with nodes:
        status, out, complaints = await nodes.run("mean", "--columns", "dose [mg],größe [/]")
        assert status == 0, complaints
        assert "dose [mg]" in out
        assert "größe [/]" in out
        (tmp_path / "b.csv").unlink()
        status, _, complaints = await nodes.run("mean", "--columns", "dose [mg]")
        assert (status, "Refused: b: the job was denied by b" in complaints) == (5, True), complaints


def test_numbers_and_tasks_that_json_or_the_wire_cannot_have():
    assert finite({"a": [1.0, float("nan")], "b": {"c": float("-inf")}, "d": None}) == {"a": [1.0, None], "b": {"c": None}, "d": None}
    assert str(told("PeerLost", "b: gone")) == "b: gone"
    with pytest.raises(ConfigError, match="60000 bytes"):
        unpack_task({**MEAN, "columns": ["x" * 200 + str(n) for n in range(1000)]})


@pytest.mark.slow
async def test_two_nodes_that_propose_twenty_jobs_each(tmp_path):
    async with Nodes(tmp_path, names=("a", "b"), extra="max_jobs = 2\n") as nodes:
        run = {"do": "run", "task": {**MEAN, "parties": ["a", "b"]}, "wait": 60}
        async with asyncio.timeout(70):
            outcomes = await asyncio.gather(*(requested(nodes, run, at=at) for at in ("a", "b") * 20))
        assert all("result" in outcome[-1] for outcome in outcomes), [outcome[-1] for outcome in outcomes]


@pytest.mark.slow
async def test_two_hundred_jobs_leave_nothing_behind_and_no_value_in_a_log(tmp_path):
    async with Nodes(tmp_path) as nodes:
        run = {"do": "run", "task": MEAN, "wait": 20}
        nodes.data["b"][3, 1] = 33.7142857
        nodes.write("b", nodes.data["b"])
        for count in range(250):
            answer = (await requested(nodes, run, at="abc"[count % 3]))[-1]
            assert "result" in answer, answer
            if count == 49:
                before = {name: (open_files(process), resident(process)) for name, process in nodes.processes.items()}
        for name, process in nodes.processes.items():
            await until(lambda name=name, process=process: open_files(process) <= before[name][0])
            assert resident(process) < before[name][1] + 6, name
        assert "33.7142" not in "".join(map(nodes.log, nodes.processes))
