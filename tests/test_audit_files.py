"""An audit log in several files is one chain, whoever closes a file and whenever closing is interrupted (invariants 35, 36)."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import typer.testing

from mpc.errors import ConfigError
from mpc.membership.identity import Identity
from parties.auditing import volumes
from parties.auditing.audit import AuditLog
from parties.auditing.entries import digest, opened
from parties.auditing.volumes import lines_of, lock
from parties.cli import app
from parties.jobs.job import Task
from tests.audit_logs import exported, head_file, log_of, refused, shown, verified
from tests.jobs import COLUMNS, RUN, governed, requested
from tests.nodes import PATIENCE, ROOT
from tests.test_differences import found, job
from tests.test_jobs_faults import started

LIMITLESS = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def appended(log, count):
    for _ in range(count):
        log.append("declined", job="0" * 32, asker="b", task=None, by="a", reason="no")


def rotated(home, *counts):
    """a's log with this many job entries in each of its files."""
    log = log_of(home)
    for number, count in enumerate(counts):
        if number:
            log.rotate()
        appended(log, count)
    log.close()
    return home / "a.audit.log"


def names(home):
    return sorted(path.name for path in home.glob("a.audit.log*"))


def entries(path):
    return [opened(line) for line in path.read_bytes().splitlines()]


def kinds(home):
    return {path.name[12:]: "".join(entry["kind"][:2] + " " for entry in entries(path)) for path in files(home)}


def files(home):
    return sorted(path for path in home.glob("a.audit.log*") if path.suffix != ".head")


def test_a_file_is_closed_and_the_next_one_goes_on(home):
    path = rotated(home, 2, 0, 1)
    assert names(home) == ["a.audit.log", "a.audit.log.0001", "a.audit.log.0002", "a.audit.log.head"]
    assert kinds(home) == {"0001": "de de cl ", "0002": "co cl ", "": "co de "}
    assert [file.stat().st_mode & 0o777 for file in files(home)] == [0o600] * 3
    first, second = home / "a.audit.log.0001", home / "a.audit.log.0002"
    for before, after in ((first, second), (second, path)):
        assert entries(after)[0]["previous"] == digest(before.read_bytes().splitlines()[-1])
    assert [entry["file"] for entry in (*entries(first)[-1:], *entries(second), *entries(path)[:1])] == [1, 2, 2, 3]
    (told,), fault = verified(home)
    assert (fault, "7 entries in 3 files, all in order and signed" in told) == (None, True)
    copy = home / "copy.log"
    assert "7 entries" in exported(home).stdout
    assert copy.read_bytes() == first.read_bytes() + second.read_bytes() + path.read_bytes()
    assert "7 entries, all in order" in verified(home, "--log", copy)[0][0]
    said = typer.testing.CliRunner().invoke(app, ["audit", "show", "-c", str(home / "a.toml")], env={"COLUMNS": "200"}).stdout
    assert (said.count("declined"), said.count("file 2"), "unreadable" in said) == (3, 2, False)
    assert "10 entries in 4 files" in (rotated(home, 0, 1), verified(home)[0][0])[1]


def exchanged(one, other):
    one.rename(one.with_suffix(".x"))
    other.rename(one)
    one.with_suffix(".x").rename(other)


def without(file, lines):
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[lines]))


MISFIT = "line 1: does not follow the line before: entry"
DAMAGE = {
    "first missing": (lambda first, *_: first.unlink(), f"0002, {MISFIT} 4 where 1 belongs, a file before it"),
    "one between missing": (lambda _, second, *__: second.unlink(), f"0003, {MISFIT} 7 where 4 belongs"),
    "last closed missing": (lambda *all_: all_[2].unlink(), f"log, {MISFIT} 10 where 7 belongs"),
    "all closed missing": (lambda *all_: [file.unlink() for file in all_[:3]], f"log, {MISFIT} 10 where 1"),
    "reordered": (lambda first, second, *_: exchanged(first, second), f"0001, {MISFIT} 4 where 1"),
    "exchanged with the last": (lambda *all_: exchanged(all_[2], all_[3]), f"0003, {MISFIT} 10 where 7"),
    "shortened": (lambda _, second, *__: without(second, slice(2)), f"0003, {MISFIT} 7 where 6"),
    "shortened in front": (lambda _, second, *__: without(second, slice(1, None)), f"0002, {MISFIT} 5"),
    "torn": (lambda _, second, *__: os.truncate(second, second.stat().st_size - 5), "0002, line 3: is no entry, or was altered"),
    "without its line end": (lambda _, second, *__: os.truncate(second, second.stat().st_size - 1),
                             "0002, line 3: is no entry, or was altered"),
    "emptied": (lambda first, *_: first.write_bytes(b""), f"0002, {MISFIT} 4 where 1 belongs"),
    "a copy of another": (lambda first, second, *_: shutil.copy(first, second), f"0002, {MISFIT} 1 where 4"),
    "modified": (lambda first, *_: first.write_bytes(first.read_bytes().replace(b'"no"', b'"so"', 1)),
                 "0001, line 1: its signature is not right"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_to_a_file_is_found(home, damage):
    rotated(home, 2, 1, 1, 1)
    act, text = DAMAGE[damage]
    act(*[home / f"a.audit.log.000{number}" for number in (1, 2, 3)], home / "a.audit.log")
    before = {file: file.read_bytes() for file in files(home)}
    told, fault = verified(home)
    shown(fault, "in the audit log, listed above")
    assert f"a.audit.log.{text}".replace("log.log", "log") in told[0]
    refused(lambda: log_of(home), "The audit log was changed: keep it")
    shown(exported(home).exception, "The audit log was changed: keep it")
    assert not (home / "copy.log").exists()
    assert {file: file.read_bytes() for file in files(home)} == before


def test_a_last_file_that_is_gone_or_emptied_is_missed(home):
    path = rotated(home, 2, 1)
    path.rename(home / "away")
    text = refused(lambda: log_of(home), "the audit log cannot be opened")
    assert f"restore it: {head_file(home)} knows of 5 entries" in text
    assert "entries were cut off or replaced" in verified(home)[0][0]
    shown(exported(home).exception, "lacks an entry that FILE knows of")
    path.touch()
    assert f"{path}, line 1: was cut off" in refused(lambda: log_of(home), "The audit log was changed: keep it")
    (home / "away").rename(path)
    assert verified(home)[1] is None


def test_an_empty_file_beside_a_log_is_none_of_its_files(home):
    path, stray = rotated(home, 2, 1), home / "a.audit.log.9999"
    stray.touch()
    log = log_of(home)
    log.rotate()
    log.close()
    assert kinds(home) == {"0001": "de de cl ", "0002": "co de cl ", "9999": "", "": "co "}
    # As a crash between two files leaves it: what the log ends with then is in the file that was closed last.
    path.unlink()
    head_file(home).write_bytes(f"{6:020} {digest((home / 'a.audit.log.0002').read_bytes().splitlines()[-1])}\n".encode())
    log_of(home).close()
    (told,), fault = verified(home)
    assert (fault, "7 entries in 3 files, all in order and signed" in told) == (None, True)
    (home / "a.audit.log.0003").touch()
    log = log_of(home)
    assert "a.audit.log.0003 is there already: move it away" in refused(log.rotate, "the audit log cannot be written")
    log.close()


def test_files_are_in_order_beyond_9999(home):
    log = log_of(home, 1)
    # What a node writes when it closes its 9998th file, and a crash before the next one.
    log.append("closed", file=9998)
    log.close()
    (home / "a.audit.log").rename(home / "a.audit.log.9998")
    assert rotated(home, 1, 1, 1).exists()
    assert [name[12:] for name in names(home)] == ["", "10000", "9998", "9999", "head"]
    (told,), fault = verified(home)
    assert (fault, "in 4 files, all in order and signed" in told) == (None, True)


def torn(data):
    return data[: len(data) // 2]


INTERRUPTED = {
    "before the old file has its number": lambda old, _: old.rename(old.with_name("a.audit.log")),
    "its last entry without a line end": lambda old, _: (
        os.truncate(old, old.stat().st_size - 1),
        old.rename(old.with_name("a.audit.log")),
    ),
    "before the new file has its name": lambda _, new: new.rename(new.with_name("a.audit.log.new")),
    "before the new file has an entry": lambda _, new: new.write_bytes(b""),
    "within its first entry": lambda _, new: new.write_bytes(torn(new.read_bytes())),
    "before the first entry has a line end": lambda _, new: os.truncate(new, new.stat().st_size - 1),
}


@pytest.mark.parametrize("head", ["there", "one older"])
@pytest.mark.parametrize("case", INTERRUPTED)
def test_a_crash_at_any_moment_is_mended_and_nothing_is_lost(home, case, head):
    log = log_of(home, 3)
    before = head_file(home).read_bytes()
    log.rotate()
    log.close()
    old, new = home / "a.audit.log.0001", home / "a.audit.log"
    closing = old.read_bytes()
    # How far the head had come before its first entry: the old file's last, or the one before that.
    known = f"{4:020} {digest(closing.splitlines()[-1])}\n".encode()
    INTERRUPTED[case](old, new)
    head_file(home).write_bytes({"there": known, "one older": before}[head])
    told, fault = verified(home)
    assert fault is None or "is torn" in told[0], told
    log = log_of(home)
    appended(log, 1)
    log.close()
    assert old.read_bytes() == closing
    assert kinds(home)[""] == ("co re de " if case == "within its first entry" else "co de ")
    assert "in 2 files, all in order" in verified(home)[0][0]
    rotated(home, 0, 1)
    assert names(home) == ["a.audit.log", "a.audit.log.0001", "a.audit.log.0002", "a.audit.log.head"]
    assert verified(home)[1] is None


KILLED = """
from pathlib import Path
from parties.auditing.audit import AuditLog
from mpc.membership.identity import Identity
log = AuditLog(Path("a.audit.log"), Identity.load("a.key"), most=1)
log.open()
while True:
    log.append("x", text="y" * 300)
    print(log.entries, flush=True)
"""


def test_what_append_returned_from_is_there_after_a_kill_between_files(home):
    command, more = [sys.executable, "-c", KILLED], {"cwd": home, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **more) as process:
        for _ in range(10):
            said = process.stdout.readline()
        process.kill()
        for line in process.stdout:
            said = line
    log = log_of(home)
    assert log.entries >= int(said)
    log.close()
    assert verified(home)[1] is None


def test_files_are_closed_at_a_size(home):
    log = AuditLog(home / "a.audit.log", Identity.load(home / "a.key"), most=4000)
    log.open()
    appended(log, 30)
    log.close()
    assert len(files(home)) >= 4
    assert all(4000 <= file.stat().st_size < 6000 for file in files(home) if file.name != "a.audit.log")
    assert "in order and signed" in verified(home)[0][0]


def test_what_is_counted_from_the_log_is_counted_over_its_files(home):
    log = log_of(home)
    job(log, 1, 100)
    about = {"job": "2" * 32, "asker": "b", "task": Task("mean", "patients", ("age",), ("a", "b")).pack(), "columns": ["age"]}
    log.append("started", **about, policy={}, roster="")
    log.rotate()
    job(log, 3, 99)
    log.rotate()
    log.close()
    log = log_of(home)
    assert (log.history.ever("patients"), log.history.within_a_day("patients")) == (3, 3)
    assert log.history.overlaps("patients", ["age"])["age"]["jobs"] == 3
    log.close()
    # The job that was running when a file was closed has its end in a later one.
    end = entries(home / "a.audit.log")[-1]
    assert (end["job"], end["outcome"]) == ("2" * 32, "unknown")
    assert found(home) == [([1, 3], -1)]


def test_whoever_reads_beside_a_node_sees_the_files_of_one_moment(home):
    log, over = log_of(home, 1), threading.Event()
    seen = SimpleNamespace(faults=[], files=0)

    def read():
        while not over.is_set() or seen.files < 2:
            told, fault = verified(home)
            seen.faults += told if fault is not None and "is torn" not in told[0] else []
            seen.files = max(seen.files, len({line.file for line in lines_of(home / "a.audit.log")}))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(60):
        log.rotate()
    over.set()
    reader.join()
    log.close()
    assert seen.faults == []
    assert "121 entries in 61 files" in verified(home)[0][0]


def test_whoever_looks_just_before_the_first_file_is_closed_sees_it_after(home, monkeypatch):
    log, plain, looked = log_of(home, 1), volumes.closed, []

    def first(path):
        files = plain(path)
        if not looked:
            looked.append(files)
            # Closed, and the next file not yet begun.
            path.rename(volumes.volume(path, 1))
        return files

    monkeypatch.setattr(volumes, "closed", first)
    assert [line.file.name for line in lines_of(log.path)] == ["a.audit.log.0001"]
    assert looked == [{}]
    log.close()


def test_only_one_process_writes_whichever_file_is_the_last(home):
    log = log_of(home, 1)
    stale = os.open(home / "a.audit.log", os.O_RDWR)
    log.rotate()
    refused(lambda: log_of(home), "another node writes this audit log")
    # It was opened before the file was closed, and nobody holds it any more.
    refused(lambda: lock(stale, home / "a.audit.log"), "another node writes this audit log")
    os.close(stale)
    log.close()
    log_of(home).close()


def test_a_file_that_cannot_be_closed_or_begun_stops_the_log_and_harms_nothing(home):
    log = log_of(home, 2)
    size = log.path.stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        refused(log.rotate, "the audit log cannot be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, LIMITLESS)
    assert log.path.stat().st_size == size
    appended(log, 1)
    (home / "a.audit.log.0001").write_bytes(b"")
    for call in (log.rotate, lambda: appended(log, 1)):
        text = refused(call, "the audit log cannot be written")
        assert "a.audit.log.0001 is there already: move it away" in text
    (home / "a.audit.log.0001").unlink()
    # What was closed stays so: the next entry is in a new file.
    appended(log, 1)
    log.close()
    assert kinds(home) == {"0001": "de de de cl ", "": "co de "}
    assert verified(home)[1] is None


def test_the_command_closes_a_file_where_no_node_runs(home):
    run = typer.testing.CliRunner().invoke
    answer = run(app, ["audit", "rotate", "-c", str(home / "a.toml")])
    assert isinstance(answer.exception, ConfigError)
    shown(answer.exception, "no audit log can be read there")
    assert not (home / "a.audit.log").exists()
    rotated(home, 1)
    said = run(app, ["audit", "rotate", "-c", str(home / "a.toml")]).stdout
    assert said == f"{home / 'a.audit.log.0001'} is closed; keep it where it is. The log goes on in {home / 'a.audit.log'}\n"
    assert kinds(home) == {"0001": "de cl ", "": "co "}
    assert verified(home)[1] is None


async def test_a_node_that_runs_closes_its_file_and_forgets_no_job(tmp_path):
    nodes = governed(tmp_path, a='allow = ["linear_regression", "mean"]\nmax_jobs_per_day = 3')
    (tmp_path / "a.toml").write_text("audit_bytes = 4096\n" + (tmp_path / "a.toml").read_text())
    async with nodes:
        job = await started(nodes)
        status, out, complaints = await nodes.beaver("audit", "rotate", "-c", "a.toml")
        assert (status, out.startswith("a.audit.log.0001 is closed; ")) == (0, True), complaints
        job.send_signal(signal.SIGINT)
        await asyncio.wait_for(job.communicate(), PATIENCE)
        for _ in range(2):
            status, _, complaints = await nodes.run("mean", *COLUMNS)
            assert status == 0, complaints
        first, second, last = kinds(tmp_path)["0001"], kinds(tmp_path)["0002"], kinds(tmp_path)[""]
        assert (first, (second + last).replace("cl co ", "")) == ("st cl ", "co en st en st en ")
        nodes.processes["a"].send_signal(signal.SIGTERM)
        await asyncio.wait_for(nodes.processes["a"].wait(), PATIENCE)
        await nodes.start("a")
        answer = (await requested(nodes, RUN))[-1]
        assert answer["text"] == "rule `max_jobs_per_day`: 3 jobs started within the last 24 hours"
        status, out, complaints = await nodes.beaver("audit", "verify", "-c", "a.toml")
        assert (status, " entries in 3 files, all in order and signed" in out) == (0, True), out + complaints
