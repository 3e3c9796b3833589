"""`beaver bench` as a real command: its fields, its files, simulated distance, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mpc import ConfigError
from parties.bench import rivals, runner
from parties.bench.catalogue import WORKLOADS, chosen
from parties.bench.figures import Figures
from parties.bench.machine import Memory, cpu_seconds
from parties.bench.numbers import normal, uniform
from parties.bench.report import result, seconds, size
from tests import warm
from tests.error_rows import row_of
from tests.nodes import ROOT

PATIENCE = 80
BENCH = ("drawing needs matplotlib",)
"""Rows of docs/errors.md that are provoked here."""
FIELDS = {
    *("workload", "title", "parties", "size", "dimensions", "rtt_ms", "seconds", "rounds", "bytes_per_party", "dealer_bytes"),
    *("cpu_seconds", "memory_bytes", "check", "rival", "machine"),
}


async def spawn(*arguments, environment=None):
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    return await warm.start("bench", *arguments, env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}, cwd=ROOT, **pipes)


async def bench(*arguments):
    """The exit status, standard output and standard error of `beaver bench`."""
    process = await spawn(*arguments)
    out, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, out.decode(), complaints.decode()


async def test_fields_for_two_and_three_parties():
    status, out, complaints = await bench("--only", "W3", "--size", "1000", "--repeats", "1", "--json", "-")
    assert status == 0, complaints
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["parties"] for line in lines] == [2, 3]
    for line in lines:
        others = line["parties"] - 1
        assert set(line) == FIELDS
        assert (line["workload"], line["size"], line["rounds"], line["dealer_bytes"], line["rtt_ms"]) == ("W3", 1000, 2, 12000, 0)
        assert line["bytes_per_party"]["payload"] == 24000 * others
        assert 24000 * others < line["bytes_per_party"]["wire"] < 30000 * others
        assert line["check"] == {"right": True, "error": line["check"]["error"], "allowed": 1.0}
        times = line["seconds"]
        assert len(times["all"]) == len(times["without_barrier"]) == 1
        assert 0 < times["without_barrier"][0] <= times["median"] == times["min"] == times["max"] == times["all"][0]
        for role, used in line["memory_bytes"].items():
            assert role == "inputs_and_outputs" or 10**7 < used["start"] <= used["peak"]
        assert 0 < line["cpu_seconds"]["party"] < 10
        assert sys.platform != "linux" or 0 < line["cpu_seconds"]["dealer"] < 10
        assert line["machine"]["python"] == sys.version.split()[0]
        assert line["rival"] is None


async def test_distance_counts_rounds(tmp_path):
    status, out, complaints = await bench("--only=W6", "--size=10", "--parties=2", "--repeats=1", "--rtt=4", "--json", tmp_path / "lines")
    assert status == 0, complaints
    assert "every round trip takes 4 ms longer" in out
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["workload"] for line in lines] == ["W6", "W6-fixed", "W6-fine"]
    for line in lines:
        # 2 ms for every round, whatever the machine; without the delay it would take a tenth.
        assert line["seconds"]["without_barrier"][0] > line["rounds"] * 0.002
        assert line["rtt_ms"] == 4.0
        assert line["rival"] is None


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra bench")
async def test_a_table_and_a_picture(tmp_path):
    status, out, complaints = await bench("--only=W9", "--parties=2", "--repeats=2", "--plot", tmp_path / "times.svg")
    assert status == 0, complaints
    assert "MP-SPDZ 31 ms (recorded)" in out
    assert "exact" in out
    assert "beaver, sealed" in (tmp_path / "times.svg").read_text()


def members(folder):
    """Every process of a benchmark whose files are in `folder`, by id: others may run beside this test."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_text() if entry.name.isdigit() else ""
            if "parties.bench.member" in command and str(folder) in command:
                found[int(entry.name)] = command
    return found


async def started(count, folder):
    """The members, as soon as there are `count`."""
    async with asyncio.timeout(PATIENCE):
        while len(found := members(folder)) < count:
            await asyncio.sleep(0.02)
    return found


async def gone(folder):
    async with asyncio.timeout(PATIENCE):
        while members(folder):
            await asyncio.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
async def test_nobody_is_left_behind(end, tmp_path):
    process = await spawn("--only=W6", "--parties=2", "--repeats=1000", environment={"TMPDIR": str(tmp_path)})
    await started(3, tmp_path)
    process.send_signal(end)
    _, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == (130 if end == signal.SIGINT else -end), complaints
    assert "Traceback" not in complaints.decode()
    await gone(tmp_path)
    # A parent that is killed cannot tidy up.
    assert end == signal.SIGKILL or list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
async def test_a_member_that_dies_is_named_and_the_others_are_measured(tmp_path):
    lines = tmp_path / "lines"
    process = await spawn("--only=W6", "--size=100", "--parties=2", "--repeats=1", "--json", lines, environment={"TMPDIR": str(tmp_path)})
    victim = next(process for process, command in (await started(3, tmp_path)).items() if "party01" in command)
    os.kill(victim, signal.SIGKILL)
    _, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    assert "W6, 100, 2 parties: " in complaints.decode()
    assert "party01 ended with status -9" in complaints.decode()
    assert [json.loads(line)["workload"] for line in lines.read_text().splitlines()] == ["W6-fixed", "W6-fine"]
    await gone(tmp_path)


async def test_files_that_cannot_be_written_are_refused_before_anything_runs(tmp_path):
    status, _, complaints = await bench("--only=W1", "--json", tmp_path / "none" / "lines")
    assert (status, "No such file" in complaints, "Traceback" in complaints) == (1, True, False)


def test_drawing_without_matplotlib_says_what_to_install(tmp_path):
    code = "import sys, importlib.util as u; u.find_spec = lambda name: None; from parties.start import main; main()"
    arguments = ["bench", "--only=W1", "--size=10", "--plot", str(tmp_path / "times.svg")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert row_of(*BENCH).shows(done.stderr.strip().removeprefix("ConfigError: "))


# -- without processes -------------------------------------------------------------------------------------------


def test_names_choose_workloads():
    assert [kind.key for kind in chosen([])][:2] == ["W1", "W2"]
    assert {work.key for work in chosen(["W5"])} == {"W5", "W5-vector"}
    assert [(work.key, work.n, work.size) for work in chosen(["W6-fixed"], 4, 7)] == [("W6-fixed", 4, 7)]
    assert [(work.n, work.size) for work in chosen(["W4"])] == [(2, 1_000_000), (3, 1_000_000), (2, 100_000), (3, 100_000)]
    for bad in (["W"], ["w3"], ["W3", "W99"], ["W5-"]):
        with pytest.raises(ConfigError, match="there is no workload"):
            chosen(bad)
    with pytest.raises(ConfigError, match="W7 needs a size of at least 128, not 100"):
        chosen(["W7"], None, 100)


def test_rivals_are_of_workloads_that_there_are():
    for key, extent, n in rivals.RECORDED:
        assert any((work.key, work.size) == (key, extent) for work in chosen([key]))
        assert n in {2, 3}
    assert rivals.best("W3", 1_000_000, 2) == rivals.Rival("CrypTen", 0.101)
    assert rivals.best("W3", 999, 2) is None


def test_data_are_made_again_alike():
    whole = uniform("x", 1, 0, 1000, 3.0)
    assert (uniform("x", 1, 301, 700, 3.0) == whole[301:700]).all()
    assert (whole != uniform("x", 0, 0, 1000, 3.0)).any()
    assert -3 <= whole.min() < -2.9 < 2.9 < whole.max() < 3
    many = normal("x", 0, (200, 500), 2.0)
    assert abs(many.mean()) < 0.03
    assert abs(many.std() - 2) < 0.03
    assert np.isfinite(many).all()


@pytest.mark.parametrize("key", WORKLOADS)
def test_wrong_results_are_found(key):
    """A result is wrong if it is too far from the plaintext, no number, or not the same at all parties."""
    workload = WORKLOADS[key](2, max(WORKLOADS[key].least, 20))

    one = {"runs": [dict.fromkeys(("seconds", "alone", "cpu", "dealer_cpu", "rounds", "payload", "wire", "corrections"), 1)]}
    one |= {"memory": {"start": 1, "peak": 2}, "error": workload.allowed, "result": "a"}
    dealer = {"memory": {"start": 1, "peak": 2}}
    assert Figures.of(workload, 0.0, [one, one], dealer).right
    other = Figures.of(workload, 0.0, [one, {**one, "result": "b"}], dealer)
    assert not other.right
    assert (other.as_json()["check"]["error"], result(other)) == (None, "WRONG by inf")
    assert not Figures.of(workload, 0.0, [{**one, "error": workload.allowed + 1}, one], dealer).right
    assert not Figures.of(workload, 0.0, [{**one, "error": float("nan")}, one], dealer).right


def test_memory_and_cpu_of_processes():
    memory = Memory()
    memory.reset()
    # Pages that nobody had before; an array may lie where another was.
    block = np.frombuffer(mmap.mmap(-1, 1 << 26), np.uint8)
    block.fill(1)
    assert memory.peak >= memory.start + (block.nbytes // 2 if sys.platform == "linux" else 0)
    if sys.platform == "linux":
        before = cpu_seconds(os.getpid())
        block.sum()
        assert cpu_seconds(os.getpid()) > before > 0


def test_processes_share_the_cores(monkeypatch):
    for name in runner.THREADS:
        monkeypatch.delenv(name, raising=False)
    assert runner.environment(3)["OPENBLAS_NUM_THREADS"] == str(max(1, (os.cpu_count() or 1) // 3))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    assert runner.environment(3)["OPENBLAS_NUM_THREADS"] == "7"


def test_units():
    assert [seconds(value) for value in (0.0123456, 1.5, 12)] == ["12.3 ms", "1.5 s", "12 s"]
    assert [size(value) for value in (0, 999, 1000, 12_345_678, 5e12)] == ["0 B", "999 B", "1 kB", "12.3 MB", "5e+03 GB"]


MISTAKES = {
    "floors.py": (["nothing.jsonl"], "has no rows of `beaver bench --json`"),
    "roles.py": (["W99"], "there is no workload 'W99'"),
    "rivals.py": (["nowhere"], "nowhere is no folder"),
}
LISTS = {
    "--only=": "--only names no workload",
    "--only=W99": "there is no workload 'W99'",
    "--parties=": "argument --parties: invalid numbers value: ''",
}


@pytest.mark.parametrize("script", MISTAKES)
def test_scripts_say_what_is_wrong_with_their_arguments(script, tmp_path):
    arguments, message = MISTAKES[script]
    for given, wanted in ((arguments, message), ([], "the following arguments are required")):
        command = [sys.executable, ROOT / "benchmarks" / script, *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=tmp_path)
        assert done.returncode == 2
        assert wanted in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("given", LISTS)
def test_lists_of_a_script_are_refused_where_they_name_nothing(given, tmp_path):
    """An empty list, as from a script's empty variable, must not mean all workloads: they would take half an hour."""
    command = [sys.executable, ROOT / "benchmarks" / "rivals.py", tmp_path, given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert LISTS[given] in done.stderr


SCRIPTS = ("sums", "products", "comparisons", "regression", "scale", "rivals", "roles")
HELP = """
import runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        print("status", end.code)
"""


def test_scripts_know_their_options():
    paths = [ROOT / "benchmarks" / f"{script}.py" for script in SCRIPTS]
    done = subprocess.run([sys.executable, "-c", HELP, *paths], capture_output=True, text=True, check=True, timeout=PATIENCE)
    *helps, rest = done.stdout.split("status 0")
    assert [help_.count("--repeats ") > 0 for help_ in helps] == [True] * len(SCRIPTS), done.stdout
    assert not rest.strip()
