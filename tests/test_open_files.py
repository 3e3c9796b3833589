"""A node that may open no more files says so, and blames nobody else for it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from pathlib import Path

import pytest

from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from mpc.network.heartbeat import Heartbeat
from mpc.network.mesh import Clocks
from mpc.network.ways import unreachable
from tests.error_rows import row_of
from tests.nodes import Nodes
from tests.waiting import until

FILES = ["hung up without an answer: it has", "was not dialled, since this member"]
"""Rows of docs/errors.md that this file provokes."""
FULL = "phase=mesh too many open files: new connections are dropped, and jobs may fail; raise `ulimit -n`"


async def test_a_node_without_a_descriptor_left_says_so_and_so_does_who_asks_it(tmp_path):
    nodes = Nodes(tmp_path, names=("a", "b"), lost=4.0)
    await nodes.start("a")
    process = nodes.processes["a"].pid
    most = len(list(Path(f"/proc/{process}/fd").iterdir())) + 20
    resource.prlimit(process, resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(Roster.load(tmp_path / "roster.toml")["a"].endpoint))
        await until(lambda: FULL in nodes.log("a"))
        status, _, complaints = await nodes.beaver("jobs", "list", "-c", "a.toml")
        assert (status, row_of(FILES[0]).shows(complaints.strip().removeprefix("ConfigError: "))) == (1, True), complaints
    # It runs on, and answers as soon as it can.
    async with asyncio.timeout(30):
        while (await nodes.beaver("jobs", "list", "-c", "a.toml"))[0]:
            await asyncio.sleep(0.2)
    assert nodes.log("a").count(FULL) == 1
    await nodes.__aexit__()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_peer_that_was_not_dialled_for_that_is_not_called_unreachable(number):
    fault = unreachable(Member("b", Identity.generate("b").public, ("h", 1)), OSError(number, "x"))
    assert row_of(FILES[1]).shows(str(fault)), fault


def test_it_is_said_once_a_minute(monkeypatch, caplog):
    seconds = iter((100.0, 100.0, 130.0, 161.0, 161.0))

    def full(*_):
        raise OSError(errno.EMFILE, "x")

    monkeypatch.setattr("mpc.network.heartbeat.os.open", full)
    monkeypatch.setattr("mpc.network.heartbeat.time.monotonic", lambda: next(seconds))
    heart = Heartbeat(Clocks(), logging.getLogger("beaver.a"))
    for _ in range(3):
        heart.see_itself()
    monkeypatch.undo()
    assert caplog.text.count(FULL) == 2
