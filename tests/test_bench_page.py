"""A command writes measurements into the tables of docs/performance.md and touches nothing else of that page."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from parties.bench.catalogue import WORKLOADS
from parties.bench.machine import machine
from parties.bench.runner import measure
from tests.nodes import ROOT

PATIENCE = 80
PAGE = ROOT / "docs" / "performance.md"


def script(name, *arguments):
    command = [sys.executable, ROOT / "benchmarks" / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=ROOT)


@pytest.fixture(scope="module")
def rows():
    """The rows that `beaver bench --json` writes for one small workload, near and far."""
    figures = [asyncio.run(measure(WORKLOADS["W3"](2, 1000), rtt=rtt, repeats=1)) for rtt in (0.0, 10.0)]
    return [json.dumps({**each.as_json(), "machine": machine()}) + "\n" for each in figures]


def test_tables_are_written_and_the_rest_stays(tmp_path, rows):
    near, far = rows
    page, folder = tmp_path / "page.md", tmp_path / "results"
    folder.mkdir()
    page.write_text(PAGE.read_text())
    (folder / "rows.jsonl").write_text(near)
    (folder / "rtt.jsonl").write_text(far)
    (folder / "scale.jsonl").write_text(near + near.replace('"W3"', '"W1"'))
    (folder / "rivals.jsonl").write_text(
        json.dumps({"workload": "W3", "size": 1000, "parties": 2, "beaver": 0.002, "crypten": 0.004, "spu": None})
    )
    (folder / "ops.txt").write_text("an op\n")
    parts = {"dealer": {"kernels": 1.0, "else": 3.0}, "party": {"kernels": 1.0, "else": 0.0}}
    (folder / "roles.jsonl").write_text(json.dumps({"workload": "W3", "roles": parts}))
    assert script("floors.py", folder / "rows.jsonl", "--json", folder / "floors.jsonl").returncode == 0
    done = script("page.py", folder, "--page", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    for line in (
        "| W3 | 1,000 | 2 | 2 ms | 4 ms (2.00x) | - | - |",
        "| kernels | 25 % | 100 % |",
        "```\nan op\n```",
        "| W3 | 1,000 | 2 | 2 |",
        "| W1 | 1,000 | 2 |",
    ):
        assert line in text
    plain = [
        line for line in PAGE.read_text().splitlines() if line and line[0] not in "|" and not line.startswith(("Every figure", "Measured:"))
    ]
    outside = [line for line in plain[: plain.index("## Ops beside numpy")] if line in text.splitlines()]
    assert outside == plain[: plain.index("## Ops beside numpy")]
    assert f"run on one machine: {machine()['cpu']}" in text
    first = text
    assert script("page.py", folder, "--page", page).returncode == 0
    assert page.read_text() == first


def test_a_floor_counts_the_distance(tmp_path, rows):
    """Rows of `--rtt` beside that of loopback: each round takes half a round trip more."""
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    done = script("floors.py", tmp_path / "rows.jsonl", "--json", tmp_path / "floors.jsonl")
    assert done.returncode == 0, done.stderr
    near, far = (json.loads(line)["floors"] for line in (tmp_path / "floors.jsonl").read_text().splitlines())
    rounds, half = json.loads(rows[1])["rounds"], 10.0 / 2000
    assert far[0] - near[0] == pytest.approx(rounds * half)


def test_the_page_says_what_every_workload_is():
    text = PAGE.read_text()
    section = text[text.index("## Workloads") : text.index("## Times")]
    listed = dict(line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| W"))
    assert listed == {key: workload.title for key, workload in WORKLOADS.items()}


RUBBISH = {
    "cut": ("rows.jsonl", b'{"workload": "W3"', "rows.jsonl, line 1: is no JSON object"),
    "noise": ("rows.jsonl", b"\x80\xff\n", "rows.jsonl, line 1: is no JSON object"),
    "deep": ("rows.jsonl", b"[" * 100_000, "rows.jsonl, line 1: is no JSON object"),
    "list": ("floors.jsonl", b"[1]", "floors.jsonl, line 1: is no JSON object"),
    "empty": ("rivals.jsonl", b"", "rivals.jsonl: has no line"),
    "fields": ("rows.jsonl", b'{"workload": "W3"}', "rows.jsonl: has rows that the command of this file does not write (KeyError("),
    "order": ("scale.jsonl", b'{"workload": "W3"}', "scale.jsonl: has rows that the command of this file does not write (StopIteration("),
    "types": ("roles.jsonl", b'{"roles": [1]}', "roles.jsonl: has rows that the command of this file does not write (AttributeError("),
}


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_is_told_in_one_line_and_the_page_stays(tmp_path, what):
    name, content, message = RUBBISH[what]
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    (tmp_path / name).write_bytes(content)
    done = script("page.py", tmp_path, "--page", page)
    assert (done.returncode, page.read_text()) == (2, PAGE.read_text())
    assert f"page.py: error: {tmp_path / message}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_page_without_the_place_is_told(tmp_path, rows):
    (tmp_path / "page.md").write_text("# Performance\n")
    (tmp_path / "rows.jsonl").write_text(rows[0])
    done = script("page.py", tmp_path, "--page", tmp_path / "page.md")
    assert done.returncode == 2
    assert done.stderr.endswith("the page has no heading 'Times' with 1 table(s) or block(s) to replace\n")


@pytest.mark.parametrize("told", ["{", "[1]", "{}", '{"seconds_median": "fast"}'])
def test_a_launcher_that_prints_rubbish_has_no_result(tmp_path, told):
    launcher = tmp_path / "run.sh"
    launcher.write_text(f"#!/bin/sh\nprintf 'RESULT %s\\n' '{told}'\n")
    launcher.chmod(0o755)
    done = script("rivals.py", tmp_path, "--only", "W7", "--parties", "3", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    assert "mpyc W7, 3 parties: its RESULT is no JSON object with seconds_median\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_measurements_is_told(tmp_path):
    done = script("page.py", tmp_path)
    assert done.returncode == 2
    assert "has none of rows.jsonl, " in done.stderr
    assert "Traceback" not in done.stderr
