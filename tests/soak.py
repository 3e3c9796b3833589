"""Job after job between real nodes, each under a fault that its seed chooses: `python -m tests.soak --hours H --seed S`.

Every job ends with the right result, or ends at every party with an error that names the same members; the next one works; no value of
anybody's data shows in a log, an audit log, an error or on the wire; and no process grows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import struct
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpc.fixed_point import FRAC
from mpc.membership.roster import Roster
from mpc.network.mesh import Clocks
from parties.config import load_node_config
from parties.control import ask, socket_path
from parties.jobs.job import Task
from parties.jobs.states import Cancelled, Done, Failed
from tests.faults import ALL, ENDED, REJECTED, FaultProxy, Flood
from tests.jobs import near
from tests.nodes import Nodes

CLOCKS = Clocks(join=20.0, lost=2.0, stall=6.0, repair=3.0)
DEADLINE = CLOCKS.lost + CLOCKS.stall + CLOCKS.repair + 20.0
"""Seconds for one job, whatever happens; the last part is for a machine that does much else."""
KINDS = ("nothing", "flood", *ALL)
MAY_END = {*ENDED, *REJECTED}
PARTIES = ("a", "b", "c")
COLUMNS = ("age", "bmi", "score")
GROWTH = 5.0
"""Megabytes that a process may grow by in 900 jobs; it remembers the last 1000."""


def jobs(pooled, own):
    """Tasks, and what each must give."""
    X, y = np.column_stack([pooled[:, :2], np.ones(len(pooled))]), pooled[:, 2]
    fitted = np.linalg.lstsq(X, y, rcond=None)[0]
    highest = max(own, key=lambda name: own[name][:, 2].mean())
    return [
        (Task("sum", "patients", COLUMNS, PARTIES), lambda result: near(result["sum"], pooled.sum(axis=0), 1e-2)),
        (Task("highest", "patients", ("score",), PARTIES), lambda result: result["highest"] == highest),
        (
            Task("linear_regression", "patients", COLUMNS, PARTIES, (), {"target": "score"}),
            lambda result: near(result["coefficients"], fitted[:2], 1e-3),
        ),
    ]


def encodings(value):
    """All forms in which a number could leave."""
    binary = [struct.pack(form, value) for form in ("<d", ">d")]
    if abs(value) < 1 << 40:
        binary += [struct.pack(form, round(value * (1 << FRAC))) for form in ("<q", ">q")]
    texts = [repr(value), f"{value:.6f}", f"{value:.5f}", f"{value:.9g}", value.hex(), *(each.hex() for each in binary)]
    return {*binary, *(each.encode() for text in texts for each in (text, text.upper()))}


def found(values, content):
    """Those of `values` that are in `content`, in whatever form."""
    return [value for value in values if any(form in content for form in encodings(value))]


@dataclass
class Outcome:
    """What became of one job under one fault."""

    seed: int
    kind: str
    at: str
    protocol: str
    asker: str
    struck: bool
    errors: dict[str, str]
    """By party, where the job did not end well."""
    seconds: float


class Soak:
    """a, b, c and the dealer as processes, each behind a proxy."""

    def __init__(self, folder):
        self.folder = folder
        self.nodes = Nodes(folder, lost=CLOCKS.lost, stall=CLOCKS.stall, repair=CLOCKS.repair)
        self.jobs = jobs(self.nodes.pooled, self.nodes.data)
        self.canaries = {float(value) for rows in self.nodes.data.values() for value in rows[:3].reshape(-1)}
        self.proxies, self.ports, self._known = {}, {}, set()

    async def __aenter__(self):
        path = self.folder / "roster.toml"
        members = Roster.load(path).content.members
        for member in members:
            self.ports[member.name] = member.endpoint[1]
            self.proxies[member.name] = await FaultProxy(member.endpoint[1], CLOCKS).start()
            config = self.folder / f"{member.name}.toml"
            status = f'[status]\naddress = "127.0.0.1:{self.nodes.spare_ports[member.name]}"\n'
            config.write_text(f'listen = "127.0.0.1:{member.endpoint[1]}"\n{config.read_text()}{status}')
        self.roster = Roster([replace(member, endpoint=self.proxies[member.name].address) for member in members])
        path.write_text(self.roster.dump())
        await self.nodes.__aenter__()
        self.sockets = {name: socket_path(load_node_config(self.folder / f"{name}.toml")) for name in PARTIES}
        return self

    async def __aexit__(self, *_):
        try:
            await self.nodes.__aexit__()
        finally:
            for proxy in self.proxies.values():
                await proxy.close()

    # -- one job -------------------------------------------------------------------------------------------------

    async def asked(self, name, request):
        """The last message of a node about a request."""
        return [message async for message in ask(self.sockets[name], request)][-1]

    async def run(self, seed):
        """One job under the fault that `seed` chooses, and one on which nothing acts; AssertionError if one did not end as it must."""
        rng = random.Random(seed)
        kind, at, asker = KINDS[seed % len(KINDS)], rng.choice(("b", "c", "dealer")), rng.choice(PARTIES)
        job, proxy, began = rng.choice(self.jobs), self.proxies[at], time.monotonic()
        if kind in ALL:
            proxy.arm(kind, rng, rng.randrange(8 if job[0].protocol == "sum" else 40))
        async with Flood(self.ports[at], at, self.roster, rng) if kind == "flood" else contextlib.nullcontext():
            task, errors = await self._job(job, asker)
        outcome = Outcome(seed, kind, at, task.protocol, asker, proxy.disarm(), errors, time.monotonic() - began)
        self._check(outcome)
        _, errors = await self._job(self.jobs[0], "a")
        if errors and kind in MAY_END and not outcome.errors:
            # It struck so late that only this job found the channel gone.
            self._check(replace(outcome, errors=errors))
            _, errors = await self._job(self.jobs[0], "a")
        assert not errors, (outcome, errors)
        self.check_canaries(outcome)
        return outcome

    async def _job(self, job, asker):
        """Let `asker` propose a job; return it, and why it ended badly at each party, as soon as it is over everywhere."""
        task, right = job
        async with asyncio.timeout(DEADLINE):
            answer = await self.asked(asker, {"do": "run", "task": task.pack(), "wait": DEADLINE})
            assert right(answer["result"]) if "result" in answer else "error" in answer, answer
            errors = await self._errors()
        if "error" in answer:
            errors[asker] = f"{answer['error']}: {answer['text']}"
        return task, errors

    async def _errors(self):
        """Why the job ended badly at each party, as soon as it is over everywhere."""
        errors, known = {}, set(self._known)
        for name in PARTIES:
            while True:
                new = [job for job in await self._records(name) if job["id"] not in known]
                if all(job["state"] in (Done.name, Failed.name, Cancelled.name) for job in new):
                    break
                await asyncio.sleep(0.02)
            for job in new:
                self._known.add(job["id"])
                if job["error"]:
                    errors[name] = job["error"]
        return errors

    async def _records(self, name):
        return (await self.asked(name, {"do": "jobs"}))["jobs"]

    # -- what must hold ------------------------------------------------------------------------------------------

    def _check(self, outcome):
        if outcome.kind not in MAY_END:
            assert not outcome.errors, outcome
        if outcome.errors:
            named = set.intersection(*(_named(name, error) for name, error in outcome.errors.items()))
            assert all(error.startswith(("PeerLost: ", "PeerMisbehaved: ")) for error in outcome.errors.values()), outcome
            assert named, outcome
            assert outcome.kind in REJECTED or outcome.at in named, outcome

    def check_canaries(self, outcome):
        """Nothing that anyone wrote, said or sent has a value of the data."""
        for proxy in self.proxies.values():
            self._search("the wire", bytes(proxy.seen))
            proxy.seen.clear()
        self._search("what was said", repr(outcome).encode())

    async def check_outputs(self):
        """No log, audit log, metric or status page has a value of the data."""
        for name, port in self.nodes.spare_ports.items():
            for page in ("/metrics", "/status.json", "/"):
                content = await _got(port, page)
                assert b" 200 " in content[:20], content[:200]
                self._search(f"{page} of {name}", content)
        for path in sorted(self.folder.glob("*.log")):
            self._search(path.name, path.read_bytes())

    def _search(self, where, content):
        assert found(self.canaries, content) == [], f"a value of the data is in {where}"

    def usage(self):
        """Megabytes, open files and threads of each process."""
        return {name: _usage(process.pid) for name, process in self.nodes.processes.items()}


def _named(name, error):
    """The two members that an error at `name` is about; the member that reports it is one of them where no other is named."""
    _, party, text = error.split(": ", 2)
    other = re.search(r"found (\w+) |sent (\w+) what|disagrees with (\w+) at| to (\w+), says", text) or re.search(r"says (\w+)", text)
    return {party, next(filter(None, other.groups())) if other else name}


async def _got(port, page):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {page} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()


def _usage(pid):
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"])


async def soak(ends, seed):
    """Job after job from `seed` on until `ends(jobs)`; say every hundred jobs how it goes."""
    with tempfile.TemporaryDirectory() as folder:
        async with Soak(Path(folder)) as network:
            jobs, first = 0, None
            while not ends(jobs):
                try:
                    outcome = await network.run(seed + jobs)
                except BaseException:
                    kind = KINDS[(seed + jobs) % len(KINDS)]
                    print(f"seed {seed + jobs} ({kind}) failed; --jobs 1 --seed {seed + jobs} repeats it", file=sys.stderr, flush=True)
                    raise
                jobs += 1
                if jobs % 100 == 0:
                    await network.check_outputs()
                    print(f"{jobs} jobs under faults, the last {outcome}; MB, files and threads: {network.usage()}", flush=True)
                    # The first thousand jobs are remembered.
                    first = network.usage() if jobs <= 1000 else first
                    assert all(used[0] < first[name][0] + GROWTH for name, used in network.usage().items()), (first, network.usage())
    print(f"all of {jobs} jobs ended as they must")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=0, help="stop after so many")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    until = time.monotonic() + arguments.hours * 3600
    asyncio.run(soak(lambda jobs: jobs == arguments.jobs if arguments.jobs else time.monotonic() > until, arguments.seed))


if __name__ == "__main__":
    main()
