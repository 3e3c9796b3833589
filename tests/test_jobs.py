"""Jobs between real nodes: results, refusals, faults and cancelling, after which the nodes go on (invariants 6, 8, 19, 25-27, 34)."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mpc.errors import ConfigError
from mpc.node import open_node
from parties.door import handler
from parties.jobs.job import unpack_task
from parties.jobs.records import Records
from tests.error_rows import row_of
from tests.jobs import COLUMNS, ENDLESS, MEAN, jobs_of, mean_is_right, near
from tests.nodes import Nodes, rows_of
from tests.waiting import until

ASKED = ["no job runs without the dealer", "have an id that begins with"]
"""Rows of docs/errors.md that this file provokes."""


async def test_a_first_joint_mean_and_what_follows(tmp_path):
    async with Nodes(tmp_path) as nodes:
        answer = await mean_is_right(nodes)
        assert len(answer["id"]) == 32
        status, out, complaints = await nodes.run("sum", *COLUMNS, "--to", "b", "--json", at="c")
        assert status == 0, complaints
        job = json.loads(out)
        assert job["result"] is None
        status, out, _ = await nodes.beaver("jobs", "show", job["id"], "-c", "b.toml", "--json")
        assert status == 0
        assert near(json.loads(out)["result"]["sum"], nodes.pooled[:, :2].sum(axis=0), 1e-3)
        status, out, _ = await nodes.beaver("jobs", "list", "-c", "a.toml", "--json")
        assert [entry["state"] for entry in json.loads(out)] == ["done", "done"]
        wanted = np.linalg.lstsq(np.column_stack([nodes.pooled[:, :2], np.ones(len(nodes.pooled))]), nodes.pooled[:, 2], rcond=None)[0]
        out_file = tmp_path / "result.json"
        everything = ("linear_regression", "--columns", "age,bmi,score", "--set", "target=score", "--json", "--out", str(out_file))
        status, out, complaints = await nodes.run(*everything, at="b")
        assert status == 0, complaints
        assert near(json.loads(out)["result"]["coefficients"], wanted[:2], 1e-4)
        assert json.loads(out_file.read_text()) == json.loads(out)
        assert out_file.stat().st_mode & 0o777 == 0o600
        status, _, complaints = await nodes.run(*everything, at="b")
        assert status == 1
        assert "cannot be written" in complaints
        status, out, _ = await nodes.run("highest", "--columns", "score")
        assert status == 0
        assert "job " in out


async def test_regression_by_columns_as_a_job(tmp_path):
    nodes = Nodes(tmp_path, names=("a", "b"))
    both = rows_of(1)
    nodes.write("a", both[:, :1], ["age"])
    nodes.write("b", both[:, 1:], ["bmi", "score"])
    for name, unknown in (("a", ("bmi", "score")), ("b", ("age",))):
        config = tmp_path / f"{name}.toml"
        lines = config.read_text().splitlines()
        config.write_text("\n".join(line for line in lines if line.split(" ")[0] not in unknown) + "\n")
    async with nodes:
        setting = ("--set", "target=score", "--set", "split=columns")
        status, out, complaints = await nodes.run("linear_regression", "--columns", "age,bmi,score", *setting, "--json")
        assert status == 0, complaints
        wanted = np.linalg.lstsq(np.column_stack([both[:, :2], np.ones(len(both))]), both[:, 2], rcond=None)[0]
        assert near(json.loads(out)["result"]["coefficients"], wanted[:2], 1e-4)


async def test_what_is_not_allowed_does_not_run(tmp_path):
    nodes = Nodes(tmp_path)
    config = tmp_path / "c.toml"
    config.write_text(config.read_text().replace('"mean", ', ""))
    async with nodes:
        status, _, complaints = await nodes.run("mean", *COLUMNS, at="c")
        assert status == 3
        assert "PolicyDenied: rule `allow`: 'mean' is not on the list of c" in complaints
        status, _, complaints = await nodes.run("mean", *COLUMNS)
        assert status == 5
        assert "Refused: c: the job was denied by c; " in complaints.strip().splitlines()[-1]
        assert "rule `allow`" in nodes.log("c")
        assert "rule `allow`" not in nodes.log("a") + nodes.log("b")
        status, _, _ = await nodes.run("sum", *COLUMNS)
        assert status == 0


async def test_too_few_rows_and_bad_data_are_denied_without_a_word_of_it_elsewhere(tmp_path):
    nodes = Nodes(tmp_path, extra="min_rows = 15\n")
    async with nodes:
        faults = {
            "rule `min_rows`": nodes.data["b"][:14],
            "not a finite number": np.where(nodes.data["b"] == nodes.data["b"][3, 1], np.nan, nodes.data["b"]),
            "range": np.where(nodes.data["b"] == nodes.data["b"][5, 0], 4711.25, nodes.data["b"]),
        }
        for what, rows in faults.items():
            nodes.write("b", rows)
            status, _, complaints = await nodes.run("mean", *COLUMNS)
            assert (status, "Refused: b: the job was denied by b" in complaints) == (5, True), complaints
            status, _, complaints = await nodes.run("mean", *COLUMNS, at="b")
            assert status in (1, 3)
            assert "patients" in complaints, (what, complaints)
        nodes.write("b", nodes.data["b"])
        await mean_is_right(nodes)
        assert "4711." not in "".join(nodes.log(name) for name in "abc")


async def test_a_lost_node_fails_the_job_everywhere_and_the_next_one_works(tmp_path):
    async with Nodes(tmp_path) as nodes:
        counts = []
        for victim in ("b", "dealer", "c", "b", "dealer"):
            job = await nodes.spawn("run", "linear_regression", "--columns", "age,bmi,score", "--set", "target=score",
                                    "--set", "solver=sgd", "--set", "epochs=5000", "--set", "batch_size=20",
                                    "--dataset", "patients", "-c", "a.toml")  # fmt: skip
            while b"started" not in (line := await asyncio.wait_for(job.stderr.readline(), 60)):
                assert line, nodes.log("a")
            await nodes.kill(victim)
            _, complaints = await asyncio.wait_for(job.communicate(), 30)
            assert job.returncode == 4, complaints
            assert f"PeerLost: {victim}: ".encode() in complaints, complaints
            await nodes.start(victim)
            await mean_is_right(nodes, at="a" if victim == "c" else "c")
            open_files = len(list(Path(f"/proc/{nodes.processes['a'].pid}/fd").iterdir()))
            counts.append(open_files)
        assert max(counts[1:]) <= counts[0], counts


async def test_a_missing_party_is_waited_for_and_never_dropped(tmp_path):
    nodes = Nodes(tmp_path)
    async with nodes:
        await nodes.kill("c")
        status, _, complaints = await nodes.run("mean", *COLUMNS, "--wait", "1")
        assert status == 4
        assert "waiting for c" in complaints
        assert "PeerLost: c: did not come within 1 s" in complaints
        job = asyncio.create_task(nodes.run("mean", *COLUMNS, "--json"))
        other = asyncio.create_task(nodes.run("mean", *COLUMNS, "--parties", "a,b", "--json"))
        assert (await other)[0] == 0
        await nodes.start("c")
        status, out, _ = await job
        assert status == 0
        name = json.loads(out)["id"]
        # As people copy ids: only the beginning.
        status, shown, complaints = await nodes.beaver("jobs", "show", name[:12], "-c", "a.toml", "--json")
        assert (status, json.loads(shown)["id"]) == (0, name), complaints
        await nodes.kill("dealer")
        status, _, complaints = await nodes.run("mean", *COLUMNS, "--wait", "1")
        assert (status, row_of(ASKED[0]).shows(complaints.splitlines()[-1].removeprefix("PeerLost: "))) == (4, True), complaints
        assert near(json.loads(out)["result"]["mean"], nodes.pooled[:, :2].mean(axis=0))


async def test_nodes_that_propose_together_all_finish(tmp_path):
    async with Nodes(tmp_path, extra="max_jobs = 1\n") as nodes:
        outcomes = await asyncio.gather(*(nodes.run("mean", *COLUMNS, at=name) for name in ("a", "b", "c")))
        assert [status for status, _, _ in outcomes] == [0, 0, 0], outcomes
    async with Nodes(tmp_path / "many", extra="max_jobs = 4\n") if (tmp_path / "many").mkdir() is None else nodes as nodes:
        outcomes = await asyncio.gather(*(nodes.run("sum", *COLUMNS, at=name) for name in ("a", "b", "c") * 2))
        assert [status for status, _, _ in outcomes] == [0] * 6, outcomes


async def test_a_dealer_that_has_no_place_is_named_by_all_and_no_party_denied_the_job(tmp_path, monkeypatch):
    nodes = Nodes(tmp_path)
    await nodes.start("a", "b", "c")
    try:
        async with open_node(tmp_path / "dealer.toml") as dealer:
            await until(lambda: not dealer.mesh.missing(["a", "b", "c"]))
            with monkeypatch.context() as patch:
                patch.setattr("mpc.preprocessing.dealer.MAX_SESSIONS", 0)
                status, _, complaints = await nodes.run("mean", *COLUMNS)
            # Each hears it from the dealer, or before that from another party.
            said = "Refused: dealer: serves as many jobs at once as it can"
            assert status == 5 and said in complaints, complaints
            for name in "bc":
                (job,) = await jobs_of(nodes, name)
                assert job["error"].startswith(said), job
            await mean_is_right(nodes)
    finally:
        await nodes.__aexit__()


async def test_busy_and_cancel(tmp_path):
    async with Nodes(tmp_path, extra="max_jobs = 1\n") as nodes:
        job = await nodes.spawn("run", *ENDLESS, "--dataset", "patients", "-c", "a.toml")
        while b"started" not in await asyncio.wait_for(job.stderr.readline(), 60):
            pass
        status, _, complaints = await nodes.run("mean", *COLUMNS, "--wait", "0", at="b")
        assert status == 5, complaints
        assert "is busy" in complaints
        progress = await asyncio.wait_for(job.stderr.readline(), 30)
        assert re.search(rb"running: \d+ rounds, \d+ bytes to each peer", progress), progress
        job.send_signal(signal.SIGINT)
        await asyncio.wait_for(job.communicate(), 30)
        assert job.returncode == 130
        await mean_is_right(nodes, at="b")
        job = await nodes.spawn("run", *ENDLESS, "--dataset", "patients", "-c", "a.toml")
        while b"started" not in await asyncio.wait_for(job.stderr.readline(), 60):
            pass
        _, out, _ = await nodes.beaver("jobs", "list", "-c", "b.toml", "--json")
        (running,) = (entry["id"] for entry in json.loads(out) if entry["state"] == "running")
        status, out, _ = await nodes.beaver("jobs", "cancel", running, "-c", "b.toml")
        assert (status, "is cancelled" in out) == (0, True)
        _, complaints = await asyncio.wait_for(job.communicate(), 30)
        assert job.returncode == 4, complaints
        assert b"PeerLost: b: left at" in complaints
        await mean_is_right(nodes, at="c")


async def test_without_a_node_and_beside_one(tmp_path):
    nodes = Nodes(tmp_path)
    status, _, complaints = await nodes.run("mean", *COLUMNS)
    assert status == 1
    assert "no node answers" in complaints
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a.sock"))
    async with nodes:
        assert (tmp_path / "a.sock").stat().st_mode & 0o777 == 0o600
        status, _, complaints = await nodes.beaver("party", "-c", "a.toml")
        assert status == 1
        assert "already running" in complaints
        assert "beaver run" in complaints
        await mean_is_right(nodes)


async def test_commands_without_a_network(tmp_path):
    nodes = Nodes(tmp_path)
    status, out, _ = await nodes.beaver("protocols")
    assert status == 0
    assert "linear_regression" in out
    status, out, _ = await nodes.beaver("estimate", "mean", "--columns", "age,bmi", "--rows", "100", "--json")
    assert status == 0
    assert json.loads(out)["rounds"] == 1
    status, _, complaints = await nodes.beaver("estimate", "mean", "--columns", "age", "--parties", "40000")
    assert (status, "--parties" in complaints) == (2, True)
    status, _, complaints = await nodes.run("meen", *COLUMNS)
    assert status == 1
    assert "did you mean" in complaints
    status, out, _ = await nodes.beaver("--version")
    assert out.startswith("beaver ")
    assert "\nwire 16\nprotocols " in out
    for command in ("party", "dealer", "run", "jobs", "protocols", "estimate", "keygen", "demo"):
        status, out, _ = await nodes.beaver(command, "--help")
        assert status == 0
        assert "Usage: " in out


async def test_a_beginning_of_an_id_is_a_job_only_where_it_is_one():
    known, cancelled, said = Records(), [], []
    for job in ("ab" * 16, "ac" * 16):
        known.add(job, unpack_task(MEAN), "b")
    approvals = SimpleNamespace(with_standing=list, approve=lambda job, *_: cancelled.append(f"approved {job}"))
    asked = handler(None, SimpleNamespace(records=known, approvals=approvals, cancel=cancelled.append))
    await asked({"do": "cancel", "id": "ab"}, said.append)
    assert (cancelled, said) == (["ab" * 16], [{"id": "ab" * 16, "event": "cancelled"}])
    with pytest.raises(ConfigError) as caught:
        await asked({"do": "cancel", "id": "a"}, said.append)
    assert row_of(ASKED[1]).shows(str(caught.value))
    for whole in ("", "ad"):
        await asked({"do": "cancel", "id": whole}, said.append)
    # Another job may begin so by now: what runs is what was shown.
    await asked({"do": "approve", "id": "ab", "user": 1}, said.append)
    assert cancelled[1:] == ["", "ad", "approved ab"]
