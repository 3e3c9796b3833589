"""A read that takes long or hangs is stopped once nobody waits for it, and holds up neither other jobs nor the end of its process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import sys
import threading
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import duckdb
import pytest

from mpc import ConfigError
from parties.commands.client import UNASKED
from parties.commands.data import UNREAD
from parties.config import load_node_config
from parties.datasets import load
from parties.reading import Reading
from parties.run import INTERRUPTED
from parties.sources.halt import HaltedError
from tests.error_rows import row_of
from tests.nodes import PATIENCE, ROOT, Nodes, environment, spawn
from tests.waiting import until

ENDLESS = "WITH RECURSIVE n(age) AS (SELECT 1 UNION ALL SELECT 1 - age FROM n) SELECT max(age) AS age FROM n"
SECONDS = ["dataset 'NAME' was not read within"]
"""A row of docs/errors.md that this file provokes."""
QUERY = f'database = "sqlite:slow.db"\nsql = "{ENDLESS}"\n'
FOREVER = """
import asyncio, threading
from parties.reading import Reading
from parties.run import run

async def main():
    reading = Reading(lambda halt: threading.Event().wait())
    print("reads", flush=True)
    await reading.within(None)

run(main())
"""


def threads():
    return [each for each in threading.enumerate() if each.name in {"reading", "halting"}]


def declared(home, source, more=""):
    (home / "a.toml").write_text(f'name = "a"\nkey = "k"\nroster = "r"\n[datasets.p]\n{source}{more}\ncolumns = {{ age = {{}} }}\n')
    return load_node_config(home / "a.toml")


async def stopped(config):
    """Read something endless, give it up in the middle, and return when the threads of the read are gone."""
    others = threads()
    reading = Reading(lambda halt: load(config, "p", ["age"], halt=halt))
    with pytest.raises(TimeoutError):
        await reading.within(0.2)
    await until(lambda: set(threads()) <= set(others))
    # Told before the query began, or interrupted in it.
    (fault,) = await asyncio.gather(reading.over, return_exceptions=True)
    assert isinstance(fault, HaltedError) or "the query failed (" in str(fault)


async def test_a_query_that_nobody_waits_for_is_interrupted(tmp_path):
    sqlite3.connect(tmp_path / "p.db").close()
    await stopped(declared(tmp_path, f'database = "sqlite:p.db"\nsql = "{ENDLESS}"'))
    duckdb.connect(str(tmp_path / "p.duck")).close()
    await stopped(declared(tmp_path, f'database = "duckdb:p.duck"\nsql = "{ENDLESS}"'))
    # One whose answer comes bit by bit, and has no end.
    rows = ENDLESS.replace("max(age) AS age", "age")
    await stopped(declared(tmp_path, f'database = "sqlite:p.db"\nsql = "{rows}"'))


async def test_what_is_read_or_goes_wrong_comes_from_the_thread(tmp_path):
    (tmp_path / "p.csv").write_text("age\n50\n")
    config = declared(tmp_path, 'path = "p.csv"')
    assert (await Reading(partial(_load, config)).within(None)).rows.tolist() == [[50]]
    (tmp_path / "p.csv").write_text("age\nx\n")
    with pytest.raises(ConfigError, match="row 1"):
        await Reading(partial(_load, config)).within(PATIENCE)


def _load(config, halt):
    return load(config, "p", ["age"], halt=halt)


async def test_what_cannot_be_interrupted_does_not_hold_the_process():
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FOREVER, cwd=ROOT, env=environment(), **pipes)
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"reads\n"
    process.send_signal(signal.SIGTERM)
    _, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert complaints.decode().splitlines()[-1] == "KeyboardInterrupt"


class Slow(Nodes):
    """a, b and the dealer; both have a dataset `slow`, which b reads from `source`."""

    def __init__(self, folder, source, *, extra=""):
        super().__init__(folder, names=("a", "b"), extra=extra)
        (folder / "slow.csv").write_text("age\n" + "50\n" * 20)
        sqlite3.connect(folder / "slow.db").close()
        for name, where in (("a", 'path = "slow.csv"'), ("b", source)):
            with (folder / f"{name}.toml").open("a") as file:
                file.write(f"[datasets.slow]\n{where}\ncolumns = {{ age = {{}} }}\n")

    def read(self):
        """How many jobs b has begun to read for."""
        return len(re.findall(r'"kind":"started"', (self.folder / "b.audit.log").read_text()))

    async def ask(self, reads=lambda: True):
        """A mean of `slow` that b reads for."""
        before = self.read()
        process = await self.spawn("run", "mean", "--dataset", "slow", "--columns", "age", "-c", "a.toml")
        await until(lambda: self.read() > before and reads())
        return process

    async def give_up(self, reads=lambda: True):
        process = await self.ask(reads)
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == INTERRUPTED

    async def mean(self, *more):
        return await self.beaver("run", "mean", "--dataset", "patients", "--columns", "age", *more, "-c", "a.toml")


async def test_jobs_that_are_given_up_while_a_query_runs_leave_the_node_as_it_was(tmp_path):
    async with Slow(tmp_path, QUERY) as nodes:
        for _ in range(7):
            await nodes.give_up()
        assert (await nodes.mean())[0] == 0
        await until(lambda: (tmp_path / "b.audit.log").read_text().count('"kind":"ended"') == 8)
        await nodes.ask()
        b = nodes.processes["b"]
        b.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(b.wait(), PATIENCE) == INTERRUPTED
        assert "never retrieved" not in nodes.log("b")


def is_read(pipe, writer):
    """Whether somebody reads it; what is read comes when the `writer` is closed, and not before."""
    with suppress(OSError):
        writer.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    return writer


async def test_verifying_the_audit_log_does_not_hold_the_node(tmp_path):
    """The node goes on however long that takes; here the data never come."""
    nodes, writer = Nodes(tmp_path, names=("a", "b")), []
    with (tmp_path / "a.toml").open("a") as file:
        file.write(f'[status]\naddress = "127.0.0.1:{nodes.spare_ports["a"]}"\nverify = 0.01\n')
    await nodes.start("a")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe").rename(tmp_path / "a.audit.log")
    await until(partial(is_read, tmp_path / "a.audit.log", writer))
    a = nodes.processes["a"]
    try:
        a.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(a.wait(), PATIENCE) == INTERRUPTED
    finally:
        os.close(*writer)
    assert "Traceback" not in nodes.log("a")


async def test_a_place_is_kept_while_what_cannot_be_interrupted_is_read(tmp_path):
    source = 'database = "postgresql://me@127.0.0.1:1/x"\npassword_file = "pipe"\nsql = "SELECT 1 AS age"'
    os.mkfifo(tmp_path / "pipe", 0o600)
    writer = []
    opened = partial(is_read, tmp_path / "pipe", writer)
    async with Slow(tmp_path, source, extra="max_jobs = 1\n") as nodes:
        await nodes.give_up(opened)
        await until(lambda: "keeps its place until its data's reading ends" in nodes.log("b"))
        status, _, complaints = await nodes.mean("--wait", "0")
        assert (status, "b: is busy" in complaints) == (5, True), complaints
        os.close(*writer)
        # Whoever asks tries again as long as b is busy.
        assert (await nodes.mean())[0] == 0


async def test_a_query_has_as_many_seconds_as_its_dataset_says(tmp_path):
    async with Slow(tmp_path, QUERY + "seconds = 0.2\n") as nodes:
        status, _, complaints = await nodes.beaver("run", "mean", "--dataset", "slow", "--columns", "age", "-c", "b.toml")
        assert status == 1
        kind, _, text = complaints.splitlines()[-1].partition(": ")
        assert (kind, row_of(SECONDS[0]).shows(text)) == ("ConfigError", True), complaints
        status, _, complaints = await nodes.beaver("run", "mean", "--dataset", "slow", "--columns", "age", "-c", "a.toml")
        assert (status, "denied by b" in complaints, "0.2" in complaints) == (5, True, False), complaints
        assert (await nodes.mean())[0] == 0


COMMANDS = {
    UNREAD: ("data", "check", "slow", "-c", "a.toml"),
    UNASKED: ("client", "mean", "--data", "slow", "--columns", "age", "-c", "lab.toml"),
}
"""Commands that read by themselves, by what they say when they are stopped."""


@asynccontextmanager
async def reads(folder, said, *more, limit=""):
    """One of them, which reads the answer to a query that never ends."""
    Nodes(folder, names=("a", "b"), clients=("lab",))
    sqlite3.connect(folder / "slow.db").close()
    for name in ("a", "lab"):
        with (folder / f"{name}.toml").open("a") as file:
            file.write(f"[datasets.slow]\n{QUERY}{limit}columns = {{ age = {{}} }}\n")
    process = await spawn(folder, *COMMANDS[said], *more)
    try:
        yield process
    finally:
        process.kill()


def has_open(process, path):
    # One of its files may be closed while we look.
    with suppress(FileNotFoundError):
        return path in [each.readlink() for each in Path(f"/proc/{process.pid}/fd").iterdir()]
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("said", COMMANDS)
async def test_a_command_that_reads_is_stopped_at_once(tmp_path, said, number):
    async with reads(tmp_path, said) as process:
        await until(lambda: has_open(process, tmp_path / "slow.db"))
        process.send_signal(number)
        out, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, out, complaints.decode().splitlines()[-1]) == (INTERRUPTED, b"", said)


@pytest.mark.parametrize("said", COMMANDS)
async def test_a_command_reads_for_as_many_seconds_as_its_dataset_says(tmp_path, said):
    async with reads(tmp_path, said, "--json", limit="seconds = 0.2\n") as process:
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    told = json.loads(out)
    assert process.returncode == 1
    assert row_of(SECONDS[0]).shows(told[0]["error"] if isinstance(told, list) else told["text"])
