"""A party that cannot write its audit log runs no job.  All members are told that and no more, and no denial is counted (invariant 36)."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request

import pytest

from mpc import Refused
from parties.client import ask
from tests.jobs import RUN, jobs_of, requested
from tests.test_audit_jobs import limit
from tests.test_client import served, shown

TASK = {**RUN["task"], "parties": ["a", "b", "c"]}
CASE = "cannot write its audit log"
DISKS = [CASE]
"""Rows of docs/errors.md that this file provokes."""


def filled(nodes, name):
    """Fill the disk of this node: not even the start of a job fits into its audit log."""
    size = (nodes.folder / f"{name}.audit.log").stat().st_size
    # The node's own log must not reach the limit first, since tests wait for its lines.  It begins again here, whatever was logged.
    os.truncate(nodes.logs[name][-1], 0)
    limit(nodes, name, size + 100)


def denials(address):
    """The lines of a node's metrics that count denials."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
        return [line for line in answer.read().decode().splitlines() if line.startswith("beaver_denials_total")]


async def test_a_full_disk_is_told_as_what_it_is_at_every_member(tmp_path):
    nodes = served(tmp_path)
    address = f"127.0.0.1:{nodes.spare_ports['c']}"
    with (tmp_path / "c.toml").open("a") as file:
        file.write(f'[status]\naddress = "{address}"\n')
    async with nodes:
        for _ in range(8):
            assert "result" in (await requested(nodes, {**RUN, "task": TASK}))[-1]
        filled(nodes, "c")
        # Who asks, whoever else takes part, and a client.
        answer = (await requested(nodes, {**RUN, "task": TASK}))[-1]
        assert answer["error"] == "Refused"
        shown(CASE, answer["text"])
        async with asyncio.timeout(20):
            while not (error := (await jobs_of(nodes, "b"))[-1]["error"]):
                await asyncio.sleep(0.02)
        shown(CASE, error.removeprefix("Refused: "))
        with pytest.raises(Refused) as caught:
            await ask(tmp_path / "lab.toml", "mean", dataset="patients", columns=["age", "bmi"])
        shown(CASE, caught.value)
        for name in "ab":
            assert "denied" not in nodes.log(name), nodes.log(name)
            assert "File too large" not in nodes.log(name) + json.dumps(await jobs_of(nodes, name))
        # At the party itself, with the file, the reason and what to do; the command's status is that of a fault of its own.
        status, _, complaints = await nodes.run("mean", "--columns", "age,bmi", at="c")
        assert status == 1
        assert "c.audit.log: the audit log cannot be written (File too large): no job runs" in complaints
        assert denials(address) == []
        # Where there is room again, the next job runs.
        limit(nodes, "c", None)
        assert "result" in (await requested(nodes, {**RUN, "task": TASK}))[-1]
