"""Before, during and after a job: its estimated cost is its real one, its progress is shown, and a command ends as documented."""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import os
import re
import socket
import termios
import threading
import time
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

import mpc
import parties.cli
from parties import control
from parties.auditing.audit import AuditLog
from parties.bench.member import node_of
from parties.config import load_node_config
from parties.door import handler
from parties.faults import exit_status
from parties.jobs.job import Task
from parties.jobs.progress import Foresight
from parties.jobs.service import Service
from parties.programs import PROGRAMS
from parties.programs.forecast import BEGINNING, Forecast
from tests.jobs import requested
from tests.nodes import BEAVER, ROOT, Nodes

DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
RTT = 30.0
LOCAL_SECONDS = 10.0
"""What four members in one busy process may compute beside a job's messages."""
MEAN = ("run", "mean", "--dataset", "patients", "--columns", "age,bmi", "-c", "a.toml")
DESCENT = ("run", "linear_regression", "--dataset", "patients", "--columns", "age,bmi,score", "-c", "a.toml",
           "--set", "target=score", "--set", "solver=sgd", "--set", "batch_size=20")  # fmt: skip


# -- before ------------------------------------------------------------------------------------------------------


class Apart:
    """The nodes of `nodes` in this process, over real sockets on which every round trip takes RTT milliseconds."""

    def __init__(self, nodes):
        self.nodes, self.services, self.stack = nodes, {}, AsyncExitStack()

    async def __aenter__(self):
        opened = {}
        for name in (*self.nodes.names, "dealer"):
            file = self.nodes.folder / f"{name}.toml"
            settings = load_node_config(file)
            listener = socket.create_server(settings.load_roster()[name].endpoint)
            opened[name] = await self.stack.enter_async_context(node_of(file, listener, RTT / 2000))
            if name != "dealer":
                audit = await self.stack.enter_async_context(AuditLog(settings.audit_file, settings.identity()))
                self.services[name] = Service(settings, opened[name], audit)
                self.stack.push_async_callback(self.services[name].close)
                service = self.services[name]
                await self.stack.enter_async_context(
                    control.serve(control.socket_path(settings), handler(opened[name], service), service.log)
                )
        async with asyncio.timeout(60):
            while any(node.mesh.missing([name for name in opened if name != me]) for me, node in opened.items()):
                await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *fault):
        await self.stack.__aexit__(*fault)

    async def run(self, task):
        """The records of all parties, and the seconds that the job took."""
        start = time.monotonic()
        record = self.services["a"].asked(task, 30.0, lambda _: None)
        await self.services["a"].run(record)
        seconds = time.monotonic() - start
        async with asyncio.timeout(30):
            while any(service.records.get(record.id).state.name != "done" for service in self.services.values()):
                await asyncio.sleep(0.02)
        return [self.services[name].records.get(record.id) for name in self.nodes.names], seconds


JOBS = [(name, {}) for name in PROGRAMS if name != "linear_regression"] + [
    ("linear_regression", {"score": True}),
    ("linear_regression", {"moments": "secret"}),
    ("linear_regression", {"solver": "sgd", "epochs": 1, "batch_size": 20}),
]
NAMED = {"weights": "age", "target": "score", "first": "a", "second": "c"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apart(tmp_path_factory):
    async with Apart(Nodes(tmp_path_factory.mktemp("apart"), allow=list(PROGRAMS))) as apart:
        yield apart


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_estimated_is_what_every_protocol_costs_over_a_distance(apart):
    nodes = apart.nodes
    for name, settings in JOBS:
        program = PROGRAMS[name]
        given = {each.name: NAMED[each.name] for each in program.parameters if each.default is None}
        columns = ("score", "age", "bmi")[: program.at_most]
        task = Task(name, "patients", columns, nodes.names, (), {**given, **settings}, pool=5)
        plans = program.plans(task, 3, [len(nodes.data[party]) for party in nodes.names])
        records, seconds = await apart.run(task)
        costs = [record.effort.cost for record in records]
        assert [(cost.rounds, cost.sent) for cost in costs] == [(plan.rounds, plan.ledger.sent) for plan in plans], task
        assert sum(cost.corrections for cost in costs) == plans[0].dealer
        forecast = Forecast.of(plans, nodes.names)
        assert (forecast.rounds, forecast.payload) == (max(c.rounds for c in costs), max(c.payload for c in costs))
        assert sum(sum(cost.sent.values()) for cost in costs) / 3 <= forecast.busiest
        most = forecast.seconds(RTT, 1e6)
        # Whoever gets a correction is a trip ahead of the others, and asks for the next one then: a wait of two trips can be one.
        waits = (forecast.trips - BEGINNING - forecast.rounds) / 2
        least = most - math.ceil(waits) * RTT / 2e3
        assert 0.99 * least < seconds < most + LOCAL_SECONDS, (task, least, seconds)


def test_seconds_are_trips_and_bytes():
    task = Task("linear_regression", "x", ("c0", "c1"), ("p0", "p1"), (), {"target": "c0"})
    plans = PROGRAMS["linear_regression"].plans(task, 2, 100)
    cost = Forecast.of(plans, task.parties)
    assert cost.trips >= 5 + cost.rounds
    assert cost.seconds(100.0, 1e9) == pytest.approx(cost.trips * 0.05)
    assert cost.seconds(0.0, 8.0) == pytest.approx(cost.busiest / 1e6)
    assert cost.busiest >= max(cost.payload, cost.dealt)


# -- during ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("during")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(folder):
    """a, b, c and the dealer run; d is in the roster and does not."""
    nodes = Nodes(folder, names=("a", "b", "c", "d"))
    for name in "abc":
        nodes.data[name] = nodes.data[name][:20]
        nodes.write(name, nodes.data[name])
    config = folder / "c.toml"
    config.write_text(config.read_text().replace('"mean", ', ""))
    await nodes.start("a", "b", "c", "dealer")
    yield nodes
    await nodes.__aexit__()


async def on_a_terminal(nodes, *arguments):
    """A command whose standard error, and nothing else, is a terminal of its own; and that terminal."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))

    def control():
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = await asyncio.create_subprocess_exec(
        *BEAVER, *arguments, cwd=nodes.folder, env={**nodes.environment, "TERM": "xterm-256color", "COLUMNS": "100"},
        stdin=theirs, stdout=asyncio.subprocess.PIPE, stderr=theirs, start_new_session=True, preexec_fn=control,
    )  # fmt: skip
    os.close(theirs)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", buffering=0))
    return process, reader, ours


async def seen(terminal, text=None):
    """What the terminal shows until `text` comes, or to the end."""
    shown = b""
    async with asyncio.timeout(60):
        while text is None or re.search(text, shown) is None:
            try:
                more = await terminal.read(4096)
            except OSError:
                # Linux says so when the last process has closed a terminal.
                more = b""
            if not more:
                assert text is None, shown
                break
            shown += more
    return shown.decode()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bar_moves_on_a_terminal_and_ends(apart):
    job = ("linear_regression", "--dataset", "patients", "--columns", "age,bmi,score", "--set", "target=score", "--set", "moments=secret")
    process, terminal, _ = await on_a_terminal(apart.nodes, "run", *job, "-c", "a.toml", "--json")
    shown = await seen(terminal)
    out = await process.stdout.read()
    assert await process.wait() == 0, shown
    assert json.loads(out)["result"]["coefficients"].keys() == {"age", "bmi"}
    (cost,) = (record.effort.cost for record in apart.services["a"].records if record.id == json.loads(out)["id"])
    steps = [(int(done), int(planned)) for done, planned in re.findall(r"computing.*? (\d+)/(\d+) rounds", shown)]
    assert len(set(steps)) > 3
    assert steps == sorted(steps)
    assert {planned for _, planned in steps} == {cost.rounds}
    assert re.search(r"\d+:\d\d left", shown)
    # It ends full, and gives the cursor back.
    assert re.search(rf"done .*? {cost.rounds}/{cost.rounds} rounds", shown)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


async def test_ctrl_c_on_the_terminal_cancels_the_job_everywhere(nodes):
    process, terminal, keyboard = await on_a_terminal(nodes, *DESCENT, "--set", "epochs=1000", "--parties", "a,b,c")
    before = await seen(terminal, rb"\d+ rounds")
    job = re.search(r"proposed ([0-9a-f]{32})", before).group(1)
    await shows_how_far_it_is(nodes, job)
    os.write(keyboard, b"\x03")
    shown = await seen(terminal)
    assert await process.wait() == 130, shown
    assert "stopped" in shown
    assert "\x1b[?25h" in shown
    async with asyncio.timeout(30):
        for name in "abc":
            while (state := await state_of(nodes, name, job)) == "running":
                await asyncio.sleep(0.02)
            assert state == ("cancelled" if name == "a" else "failed")


async def state_of(nodes, name, job):
    (answer,) = await requested(nodes, {"do": "jobs"}, at=name)
    return next(each["state"] for each in answer["jobs"] if each["id"] == job)


async def shows_how_far_it_is(nodes, job):
    (status, out, complaints), (_, shown, _), (_, listed, _) = await asyncio.gather(
        nodes.beaver("jobs", "show", job, "-c", "b.toml", "--json"),
        nodes.beaver("jobs", "show", job, "-c", "a.toml"),
        nodes.beaver("jobs", "list", "-c", "c.toml"),
    )
    assert status == 0, complaints
    progress = json.loads(out)
    assert (progress["id"], progress["state"], progress["rows"]) == (job, "running", len(nodes.data["b"]))
    assert progress["rounds"] > 0
    assert progress["bytes"] > 0
    assert progress["phase"] in ("computing", "revealing")
    assert f"job {job} has no result yet" in shown
    assert re.search(rf"{job}.*running.*(computing|revealing): [\d,]+ rounds, [\d,]+ bytes", listed), listed


async def test_lines_where_there_is_no_terminal(nodes):
    job = (*DESCENT, "--set", "epochs=8", "--parties", "a,b,c", "--json")
    status, out, lines = await nodes.beaver(*job)
    assert (status, list(json.loads(out))) == (0, ["id", "result", "seal"])
    words = [line.split(" s  ")[1].split(" ")[0] for line in lines.splitlines()]
    assert list(dict.fromkeys(words)) in (
        ["proposed", "reading", "started", "done:"],
        ["proposed", "reading", "started", "running:", "done:"],
    )
    assert "\x1b" not in lines
    task = Task("linear_regression", "patients", ("age", "bmi", "score"), ("a", "b", "c"), (),
                {"target": "score", "solver": "sgd", "batch_size": 20, "epochs": 8})  # fmt: skip
    plan = PROGRAMS["linear_regression"].plans(task, 3, [len(nodes.data[name]) for name in "abc"])[0]
    assert f"done: {plan.rounds} rounds, {plan.payload} bytes to each peer" in lines


def test_a_dry_run_that_nobody_waits_for_ends():
    """The dry run would take minutes, and the end of the process would wait for it."""
    endless = {"target": "score", "solver": "sgd", "batch_size": 20, "epochs": 100_000}
    foresight = Foresight(Task("linear_regression", "patients", ("age", "bmi", "score"), ("a", "b", "c"), (), endless))
    before = set(threading.enumerate())
    foresight.begin({"rows": 40, "pool": 0})
    foresight.wait(0.2)
    assert set(threading.enumerate()) > before
    foresight.stop()
    foresight.wait(30)
    assert set(threading.enumerate()) == before


# -- after -------------------------------------------------------------------------------------------------------


async def test_a_file_appears_whole_and_overwrites_nothing(nodes):
    job = await nodes.spawn(*DESCENT, "--set", "epochs=20", "--parties", "a,b,c", "--json", "--out", "late.json")
    while b"started" not in await asyncio.wait_for(job.stderr.readline(), 60):
        pass
    assert not (nodes.folder / "late.json").exists()
    (nodes.folder / "late.json").write_text("somebody else's")
    out, complaints = await asyncio.wait_for(job.communicate(), 60)
    name = json.loads(out)["id"]
    told = f"ConfigError: late.json: cannot be written (File exists); the node still has the result: `beaver jobs show {name}`"
    assert (job.returncode, told in complaints.decode()) == (1, True), complaints
    assert (nodes.folder / "late.json").read_text() == "somebody else's"
    status, shown, _ = await nodes.beaver("jobs", "show", name, "-c", "a.toml", "--json", "--out", "new.json")
    assert (status, json.loads(shown)["result"]) == (0, json.loads(out)["result"])
    assert json.loads((nodes.folder / "new.json").read_text())["seal"] == json.loads(out)["seal"]
    assert (nodes.folder / "new.json").stat().st_mode & 0o777 == 0o600
    assert list(nodes.folder.glob(".beaver-*")) == []


ENDS = {
    0: (*MEAN, "--parties", "a,b"),
    1: ("run", "meen", "--dataset", "patients", "--columns", "age", "-c", "a.toml", "--json"),
    2: ("run", "mean", "--dataset"),
    3: ("run", "mean", "--dataset", "patients", "--columns", "age", "--parties", "a,c", "-c", "c.toml", "--json"),
    4: (*MEAN, "--parties", "a,d", "--wait", "0", "--json"),
    5: (*MEAN, "--parties", "a,c", "--json"),
}
"""A command for every exit status; that of Ctrl-C is tried above."""
INTERRUPTED = 130


def codes():
    """The table of docs/operations.md: the codes, and the status of each."""
    return {code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)}


async def test_every_exit_status_is_that_of_a_command_and_every_code_is_documented(nodes):
    documented = [int(number) for number in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)]
    assert documented == [*ENDS, INTERRUPTED]
    for status, command in ENDS.items():
        ended, said, complaints = await nodes.beaver(*command)
        assert ended == status, complaints
        if "--json" in command:
            code, _, text = complaints.splitlines()[-1].partition(": ")
            party = text.partition(": ")[0] if status in (4, 5) else None
            assert json.loads(said) == {"error": code, "status": status, "party": party, "text": text}
            assert codes()[code] == status


def test_the_codes_are_those_of_the_document():
    def below(kind):
        return [each for child in kind.__subclasses__() for each in (child, *below(child))]

    # Of the first two there are kinds only; the last is told as a ConfigError, with its line.
    untold = {"LocalFault", "RemoteFault", "MisplacedError"}
    assert parties.cli  # the command has imported all kinds
    kinds = [mpc.BeaverError, *(kind for kind in below(mpc.BeaverError) if kind.__module__.split(".")[0] in {"mpc", "parties"})]
    faults = [kind("x", "y") if issubclass(kind, mpc.errors.RemoteFault) else kind("x") for kind in kinds if kind.__name__ not in untold]
    assert codes() == {"OutputError": 1, **{type(fault).__name__: exit_status(fault) for fault in faults}}
