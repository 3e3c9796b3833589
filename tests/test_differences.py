"""Jobs that differ by few rows are listed from the audit log, and denied where the policy says so (invariant 26)."""

from __future__ import annotations

import asyncio
import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import typer.testing

from mpc.errors import ConfigError, PolicyDenied
from parties.auditing.entries import START, canonical, digest, opened
from parties.auditing.history import History, Use, used
from parties.cli import app
from parties.jobs.job import Client, Task
from parties.policy import check_difference
from parties.rules import Policy
from tests.audit_logs import log_of, shown
from tests.error_rows import row_of
from tests.jobs import COLUMNS, MEAN, RUN, entries, governed, recorded, requested
from tests.nodes import PATIENCE

DIFFERENCES = ["rule `datasets.NAME.min_difference`"]
"""Rows of docs/errors.md that this file provokes."""
RULES = Policy(datasets={"patients": {"columns": ["age", "bmi", "score"], "min_difference": 5}})


def use(job, rows, *, to=(), columns=("age",), protocol="mean", dataset="patients", client=None):
    task = Task(protocol, dataset, columns, ("a", "b", "c"), to, client=client)
    return used({"job": job, "asker": "b", "member": "a", "task": task.pack(), "columns": columns}, rows, 1e9)


LAB = Client("lab", 3, (7,), dict.fromkeys("abc", "0" * 64))
APART = {
    "as many rows": use("2", 100),
    "far more": use("2", 105),
    "far fewer": use("2", 95),
    "other columns": use("2", 99, columns=("bmi",)),
    "other data": use("2", 99, dataset="others"),
    "this party alone learns of it": use("2", 99, to=("a",)),
    "a client alone learns of it": use("2", 99, to=("lab",), protocol="variance", client=LAB),
}
NEAR = {
    "one fewer": use("2", 99),
    "some more": use("2", 104),
    "another protocol": use("2", 99, protocol="sum"),
    "more columns": use("2", 99, columns=("bmi", "age")),
    "one of several": use("2", 99, to=("a", "c")),
    "everybody learns": use("2", 99, to=("a",), protocol="variance"),
    "a program of another version": use("2", 99, to=("a",), protocol="of another version"),
}


def after(*uses):
    history = History()
    for each in uses:
        history.begins(each)
        history.ends(each.job, left=True)
    return history


@pytest.mark.parametrize("case", APART)
def test_jobs_from_which_nobody_can_subtract_few_rows(case):
    check_difference(RULES, after(use("1", 100)), APART[case])


@pytest.mark.parametrize("case", NEAR)
def test_jobs_from_which_somebody_can(case):
    with pytest.raises(PolicyDenied) as caught:
        check_difference(RULES, after(use("1", 100), use("0", 200)), NEAR[case])
    assert row_of(DIFFERENCES[0]).shows(str(caught.value)), caught.value
    assert "fewer than 5 more or less than those of job 1, of which" in str(caught.value)
    # Off unless it is asked for.
    check_difference(Policy(), after(use("1", 100)), NEAR[case])
    check_difference(Policy(datasets={"patients": {"columns": ["age"]}}), after(use("1", 100)), NEAR[case])


def test_a_job_counts_while_it_runs_and_further_only_if_something_left():
    history = History()
    history.begins(use("1", 100))
    with pytest.raises(PolicyDenied):
        check_difference(RULES, history, use("2", 99))
    assert history.near(use("2", 99, dataset="others"), 5) == []
    assert history.ends("1", left=False) is None
    check_difference(RULES, history, use("2", 99))
    # It never began.
    assert history.ends("3", left=True) is None
    # What is kept does not grow with every job.
    for number in range(10):
        history.begins(use(str(number), 100))
        history.ends(str(number), left=True)
    assert [each.job for each in history.near(use("x", 99), 5)] == ["9"]


def test_near_jobs_are_found_among_many_and_whoever_learned_of_them():
    history = after(*(use(str(rows), rows) for rows in range(80, 121)))
    assert [each.rows for each in history.near(use("x", 100), 5)] == [96, 97, 98, 99, 101, 102, 103, 104]
    # As many rows of the same columns are another job where others learn of it.
    history = after(use("1", 100, to=("b",)), use("2", 100, to=("c",)))
    assert [each.job for each in history.near(use("3", 99, to=("b",)), 5)] == ["1"]


def job(log, number, rows, released=("mean/reveal",), *, columns=("age",), **more):
    """A job in a's log."""
    task = Task("mean", "patients", columns, ("a", "b", "c"), **more)
    about = {"job": f"{number:032x}", "asker": "b"}
    log.append("started", **about, task=task.pack(), columns=list(columns))
    log.append("ended", **about, outcome="done", output=None, rows=rows, released=[{"what": what} for what in released])


def listed(home, *options):
    answer = typer.testing.CliRunner().invoke(app, ["audit", "differences", "-c", str(home / "a.toml"), *options], env={"COLUMNS": "250"})
    return SimpleNamespace(out=answer.stdout, fault=answer.exception)


def found(home, *options):
    return [
        ([int(each["id"], 16) for each in pair["jobs"]], pair["difference"])
        for pair in map(json.loads, listed(home, *options, "--json").out.splitlines())
    ]


ODD = {
    "rows in words": {"rows": "x"},
    "rows in parts": {"rows": 99.5},
    "a name that is a number": {"columns": ["age", 1]},
    "a list for a name": {"asker": ["b"]},
    "a time after all times": {"time": "9999-12-31T23:59:59-23:00"},
    "a time before them": {"time": "0001-01-01T00:00:00+23:00"},
}


@pytest.mark.parametrize("case", ODD)
def test_a_pair_of_what_no_node_writes_is_no_traceback(home, case):
    log = log_of(home)
    job(log, 1, 100)
    job(log, 2, 99)
    log.close()
    path, previous, lines = home / "a.audit.log", START, []
    for line in path.read_bytes().splitlines():
        entry = opened(line)
        entry |= {"previous": previous} | {name: value for name, value in ODD[case].items() if name in entry}
        lines.append(canonical(entry))
        previous = digest(lines[-1])
    path.write_bytes(b"\n".join(lines) + b"\n")
    fault = listed(home).fault
    assert isinstance(fault, ConfigError) and "is no entry, or was altered" in str(fault), fault


def test_names_that_move_the_cursor_do_not(home):
    log = log_of(home)
    for number in (1, 2):
        job(log, number, 100 + number, columns=("\x1b[2J",))
    out = listed(home).out
    assert "\\x1b[2J" in out and "\x1b" not in out


def test_pairs_are_listed_from_the_log(home):
    log = log_of(home)
    job(log, 1, 100)
    job(log, 2, 99, columns=("bmi",))
    job(log, 3, 100)
    job(log, 4, 91, (), to=("b",))
    job(log, 5, None)
    job(log, 6, 95, columns=("age", "bmi"), to=("a", "c"))
    log.append("declined", job="7" * 32, asker="b", task=None, by="a", reason="x")
    log.append("started", job="8" * 32, asker="b", task=Task("mean", "patients", ("age",), ("a", "b")).pack(), columns=["age"])
    # Without an end; and of an earlier version, which did not write how many rows.
    log.append("ended", job="8" * 32, outcome="done", output=None)
    assert found(home) == [([2, 6], -4), ([3, 6], -5)]
    assert found(home, "--rows", "5") == [([2, 6], -4)]
    assert found(home, "--rows", "1") == []
    (home / "a.toml").write_text((home / "a.toml").read_text().replace("allow =", "min_rows = 5\nallow ="))
    assert found(home) == [([2, 6], -4)]
    pair = json.loads(listed(home, "--json").out)
    assert {key: pair[key] for key in ("dataset", "columns", "learned_by")} == {
        "dataset": "patients",
        "columns": ["bmi"],
        "learned_by": ["c"],
    }
    times = [opened(line)["time"] for line in log.path.read_bytes().splitlines() if b'"started"' in line]
    assert [(each["asker"], each["protocol"], each["rows"], each["time"]) for each in pair["jobs"]] == [
        ("b", "mean", 99, f"{times[1][:19]}+00:00"),
        ("b", "mean", 95, f"{times[4][:19]}+00:00"),
    ]
    text = listed(home).out
    assert "1 pair(s) of jobs whose rows differ by fewer than 5" in text
    assert all(f"{number:032x}" in text for number in (2, 6))
    assert "0 pair(s)" in listed(home, "--rows", "1").out
    log.close()


def test_a_log_that_was_changed_is_no_basis(home):
    log = log_of(home)
    job(log, 1, 100)
    job(log, 2, 99)
    log.close()
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + b"torn")
    assert found(home) == [([1, 2], -1)]
    for bad in (b"".join(whole.splitlines(keepends=True)[:1] + whole.splitlines(keepends=True)[2:]), whole.replace(b"99", b"50", 1)):
        log.path.write_bytes(bad + b"\n")
        shown(listed(home).fault, "The audit log was changed: keep it")


LIMITED = 'allow = ["mean", "sum"]\n[policy.datasets.patients]\ncolumns = ["age", "bmi", "score"]\nmin_difference = 3\n'


async def denied(nodes):
    """The job is denied by a, and nobody else learns more than that."""
    answer = (await requested(nodes, {**RUN, "task": MEAN}, at="b"))[-1]
    assert answer["text"].startswith("a: the job was denied by a; "), answer
    assert "rule `datasets.patients.min_difference`: its rows are fewer than 3 more or less than those of job" in nodes.log("a")
    assert not any("min_difference" in nodes.log(name) + (nodes.folder / f"{name}.audit.log").read_text() for name in "bc")


async def test_a_node_denies_a_job_that_differs_by_few_rows_over_restarts(tmp_path):
    async with governed(tmp_path, a=LIMITED) as nodes:
        assert "result" in (await requested(nodes, {**RUN, "task": MEAN}, at="b"))[-1]
        nodes.write("a", nodes.data["a"][1:])
        await denied(nodes)
        _, end = await recorded(nodes, "a", 2, "ended")
        assert (end["outcome"], end["rows"], end["released"]) == ("denied", None, [])
        nodes.processes["a"].send_signal(signal.SIGTERM)
        await asyncio.wait_for(nodes.processes["a"].wait(), PATIENCE)
        await nodes.start("a")
        await denied(nodes)
        # For this party alone it is its own rows; three rows fewer are enough.
        status, _, complaints = await nodes.run("mean", *COLUMNS, "--to", "a")
        assert status == 0, complaints
        nodes.write("a", nodes.data["a"][3:])
        assert "result" in (await requested(nodes, {**RUN, "task": MEAN}, at="b"))[-1]
        # b's policy asks for nothing; its log tells.
        nodes.write("b", nodes.data["b"][1:])
        nodes.write("a", nodes.data["a"])
        status, _, complaints = await nodes.run("sum", "--columns", "bmi", "--to", "c")
        assert status == 0, complaints
        await recorded(nodes, "b", len(entries(nodes, "b", "started")), "ended")
        status, out, complaints = await nodes.beaver("audit", "differences", "-c", "b.toml", "--json")
        assert status == 0, complaints
        (pair,) = map(json.loads, out.splitlines())
        assert (pair["columns"], pair["learned_by"], pair["difference"]) == (["bmi"], ["c"], -1)


async def test_rows_without_a_weight_are_none_of_a_weighted_mean(tmp_path):
    """Otherwise two weights that differ in one row would tell what that row holds, though both jobs read the same rows."""
    limited, allowed = LIMITED.replace('"mean", "sum"', '"weighted_mean", "mean"'), 'allow = ["weighted_mean", "mean"]\n'
    async with governed(tmp_path, a=limited, b=allowed, c=allowed) as nodes:
        for name, rows in nodes.data.items():
            rows = rows.copy()
            rows[:, 1], rows[:, 2] = np.arange(len(rows)) < 12, np.arange(len(rows)) < 13
            nodes.write(name, rows)

        async def weighted(by):
            task = Task("weighted_mean", "patients", ("age", by), ("a", "b", "c"), (), {"weights": by}).pack()
            return (await requested(nodes, {**RUN, "task": task}, at="b"))[-1]

        for by in ("bmi", "bmi"):
            assert "result" in await weighted(by)
        answer = await weighted("score")
        assert answer["text"].startswith("a: the job was denied by a; "), answer
        assert "rule `datasets.patients.min_difference`: its rows are fewer than 3" in nodes.log("a")
        # A mean of all 20 rows is far from either.
        assert "result" in (await requested(nodes, {**RUN, "task": {**MEAN, "columns": ["age"]}}, at="b"))[-1]
        assert [entry["rows"] for entry in await recorded(nodes, "a", 4, "ended")] == [12, 12, None, 20]


def test_a_job_is_compared_with_few_however_many_there_were():
    """Comparisons are counted: only jobs with near numbers of rows are compared."""
    history, compared = History(), []

    class Counted(Use):
        def near(self, other, least):
            compared.append(self.rows)
            return super().near(other, least)

    for rows in range(5000):
        use = Counted(f"{rows}", "b", float(rows), "mean", "p", frozenset({"age"}), frozenset({"b"}), rows)
        found = history.near(use, 3)
        assert [each.rows for each in found] == [each for each in (rows - 2, rows - 1) if each >= 0]
        history.begins(use)
        history.ends(use.job, left=True)
    assert len(compared) < 5 * 5000
