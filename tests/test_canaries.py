"""Whatever goes wrong, no control message, log, audit log, error or list of jobs has a value of anybody's data (invariants 25, 34)."""

from __future__ import annotations

import asyncio
import logging

from mpc.framing import wire
from parties import nodes as service
from parties.config import load_node_config
from parties.control import ask, socket_path
from parties.jobs.job import Task
from tests.nodes import Nodes
from tests.soak import encodings, found

PARTIES = ("a", "b", "c")
COLUMNS = ("age", "bmi", "score")
OUTSIDE, BEYOND = 147.250317, 9.1375e301
"""An age that no column may have, and a score that no ring holds."""


def task(protocol, columns=COLUMNS, **parameters):
    return Task(protocol, "patients", columns, PARTIES, (), parameters).pack()


async def test_no_value_leaves_by_another_door_than_the_result(tmp_path, monkeypatch, caplog):
    nodes = Nodes(tmp_path)
    said, plain = [], wire.control

    def control(body):
        said.append(repr(body).encode() + plain(body))
        return plain(body)

    monkeypatch.setattr(wire, "control", control)
    caplog.set_level(logging.DEBUG, "beaver")
    running = [asyncio.create_task(service.dealer(tmp_path / "dealer.toml"))]
    running += [asyncio.create_task(service.party(tmp_path / f"{name}.toml")) for name in PARTIES]
    sockets = {name: socket_path(load_node_config(tmp_path / f"{name}.toml")) for name in PARTIES}

    async def asked(at, **request):
        answers = [message async for message in ask(sockets[at], request)]
        said.append(repr(answers).encode())
        return answers[-1]

    async with asyncio.timeout(60):
        while not all(path.exists() for path in sockets.values()):
            assert not any(each.done() for each in running)
            await asyncio.sleep(0.01)
        for program in (task("sum"), task("highest", ("score",)), task("linear_regression", target="score")):
            assert "result" in await asked("a", do="run", task=program, wait=20.0)
        for row, wrong in ((4, (OUTSIDE, 20.0, 1.0)), (4, (50.0, 20.0, BEYOND)), (4, (50.0, float("nan"), 1.0))):
            rows = nodes.data["b"].copy()
            rows[row] = wrong
            nodes.write("b", rows)
            assert "error" in await asked("a", do="run", task=task("sum"), wait=20.0)
            assert "error" in await asked("b", do="run", task=task("sum"), wait=20.0)
        for name in PARTIES:
            jobs = [{"state": "running"}]
            while {job["state"] for job in jobs} != {"done", "failed"}:
                jobs = (await asked(name, do="jobs"))["jobs"]
            assert any("row" in job["error"] or "denied" in job["error"] for job in jobs)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    everything = b"".join([*said, caplog.text.encode(), *(path.read_bytes() for path in tmp_path.glob("*.audit.log"))])
    assert len(caplog.records) > 50
    assert b"linear_regression" in everything
    values = {float(value) for rows in nodes.data.values() for value in rows.reshape(-1)} | {OUTSIDE, BEYOND}
    assert found(values, everything) == []
    # What is looked for would be found.
    one = float(nodes.data["c"][3, 1])
    assert all(found({one}, b"x" + form + b"x") == [one] for form in encodings(one))
