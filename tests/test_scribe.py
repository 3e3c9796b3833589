"""An audit log on a slow disk: connections do not wait for it, and entries keep their order (invariant 36).

What it says of a job's end is what was told of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager

import pytest

from mpc.errors import ConfigError, PeerLost, Refused
from parties.auditing.scribe import Scribe
from parties.jobs.job import Task, unpack_task
from tests.error_rows import row_of
from tests.jobs import MEAN, entries, requested
from tests.nodes import Nodes
from tests.test_during import Apart
from tests.waiting import until

SCRIBE = ["too late to cancel"]
"""Rows of docs/errors.md that this file provokes."""
TASK = unpack_task(MEAN)


class Disk:
    """The audit log of a node of this process, whose disk takes as long as the test wants for entries of some kinds."""

    def __init__(self, service, *kinds):
        self._append, self._kinds, self.asked, self.ready = service.journal._audit.append, kinds, [], threading.Event()
        service.journal._audit.append = self.append

    def append(self, kind, **said):
        self.asked.append(kind)
        if kind in self._kinds:
            assert self.ready.wait(10)
        self._append(kind, **said)


@asynccontextmanager
async def slow(folder, name, *kinds):
    """Nodes in this process.  This one has a slow disk, and does not allow `sum`."""
    nodes = Nodes(folder)
    config = folder / f"{name}.toml"
    config.write_text(config.read_text().replace('"sum", ', ""))
    async with Apart(nodes) as apart:
        disk = Disk(apart.services[name], *kinds)
        try:
            yield nodes, apart.services, disk
        finally:
            disk.ready.set()


async def test_an_end_that_is_being_written_is_the_end(tmp_path):
    async with slow(tmp_path, "b", "ended") as (nodes, services, disk):
        record = services["a"].asked(TASK, 20.0, lambda _: None)
        await services["a"].run(record)
        b = services["b"]
        await until(lambda: "ended" in disk.asked)
        with pytest.raises(ConfigError) as caught:
            b.cancel(record.id)
        assert row_of("too late to cancel").shows(str(caught.value))
        # What asked for it hangs up, and the node stops.
        running = b._running[record.id]
        for _ in range(3):
            running.cancel()
            await asyncio.sleep(0)
        assert not running.done()
        disk.ready.set()
        await until(lambda: b.records.get(record.id).over)
        assert b.records.get(record.id).state.name == "done"
        assert b.records.get(record.id).state.result == record.state.result
        (answer,) = await requested(nodes, {"do": "show", "id": record.id}, at="b")
        assert answer["result"] == record.state.result
    assert [(entry["kind"], entry.get("outcome")) for entry in entries(nodes, "b")] == [("started", None), ("ended", "done")]


async def test_a_job_that_is_cancelled_while_its_start_is_written_has_an_end(tmp_path):
    async with slow(tmp_path, "b", "started") as (nodes, services, disk):
        record = services["a"].asked(TASK, 20.0, lambda _: None)
        running = asyncio.create_task(services["a"].run(record))
        await until(lambda: "started" in disk.asked)
        services["b"].cancel(record.id)
        disk.ready.set()
        with pytest.raises(PeerLost, match="^b: "):
            await running
        await until(lambda: services["b"].records.get(record.id).over)
        await services["b"].journal.settled()
        assert [(entry["kind"], entry.get("outcome")) for entry in entries(nodes, "b")] == [("started", None), ("ended", "cancelled")]


async def test_connections_do_not_wait_for_what_is_written(tmp_path):
    async with slow(tmp_path, "b", "declined", "ended") as (nodes, services, disk):
        other = Task("sum", "patients", ("age",), ("a", "b", "c"))
        # What b denies and what it cancels is told to all before its disk has it.
        for _ in range(2):
            with pytest.raises(Refused):
                await services["a"].run(services["a"].asked(other, 20.0, lambda _: None))
        endless = Task("linear_regression", "patients", ("age", "bmi", "score"), ("a", "b", "c"), (),
                       {"target": "score", "solver": "sgd", "epochs": 5000, "batch_size": 20})  # fmt: skip
        disk.ready.set()
        await services["b"].journal.settled()
        disk.ready.clear()
        record = services["a"].asked(endless, 20.0, lambda _: None)
        running = asyncio.create_task(services["a"].run(record))
        await until(lambda: (mine := services["b"].records.get(record.id)) is not None and mine.state.phase == "computing")
        services["b"].cancel(record.id)
        services["b"].cancel(record.id)
        await until(lambda: services["b"].records.get(record.id).over)
        with pytest.raises(BaseException, match="^b: "):
            await running
        assert [entry["kind"] for entry in entries(nodes, "b")] == ["declined", "declined", "started"]
        listed = asyncio.create_task(requested(nodes, {"do": "jobs"}, at="b"))
        await until(lambda: disk.asked[-1] == "ended")
        assert not listed.done()
        disk.ready.set()
        await listed
        assert [entry.get("outcome") for entry in entries(nodes, "b")] == [None, None, None, "cancelled"]


async def cancelled(scribe):
    """What a concluding entry returns if its task is cancelled twice meanwhile, and how often the task then counts as cancelled."""
    task = asyncio.current_task()
    for _ in range(2):
        asyncio.get_running_loop().call_soon(task.cancel)
    return await scribe.conclude(lambda: 4), task.cancelling()


async def test_entries_keep_their_order_and_a_fault_is_told(caplog):
    written, scribe = [], Scribe(logging.getLogger("beaver.test"))

    def fails():
        msg = "no room"
        raise ConfigError(msg)

    scribe.later("first", written.append, 1)
    scribe.later("second", fails)
    assert await scribe.write(lambda: written.append(2) or len(written)) == 2
    with pytest.raises(ConfigError, match="no room"):
        await scribe.conclude(fails)
    writing = asyncio.create_task(scribe.write(written.append, 3))
    await asyncio.sleep(0)
    for _ in range(2):
        writing.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await asyncio.create_task(cancelled(scribe)) == (4, 0)
    await scribe.close()
    assert written == [1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == ["job=second its end is not in the audit log: no room"]
