"""Real nodes for tests: `beaver party` and `beaver dealer` in processes of their own, and `beaver run` beside them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from itertools import permutations
from pathlib import Path

import numpy as np

from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from tests import warm
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
BEAVER = [sys.executable, "-c", "from parties.start import main; main()"]
PATIENCE = 60.0
ALLOW = ["sum", "mean", "variance", "maximum", "highest", "linear_regression"]


def rows_of(index, rows=20):
    rng = np.random.default_rng(index)
    age, bmi = rng.uniform(20, 90, rows + index), rng.uniform(15, 45, rows + index)
    return np.round(np.column_stack([age, bmi, 2 * age - bmi + rng.normal(size=rows + index)]), 6)


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


async def spawn(folder, *arguments):
    return await warm.start(*arguments, cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)


async def beaver(folder, *arguments):
    """The exit status, standard output and standard error of one command."""
    process = await spawn(folder, *arguments)
    out, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, out.decode(), complaints.decode()


class Nodes:
    """a, b, c and the dealer, each with a configuration, a key and data in one folder."""

    def __init__(self, folder, *, names=("a", "b", "c"), extra="", allow=ALLOW, options=(), clients=(), lost=10.0, stall=600.0, repair=0.0):
        self.folder, self.names, self.options, self.processes, self.logs = folder, names, options, {}, {}
        everyone = [*names, "dealer", *clients]
        identities = {name: Identity.generate(name) for name in everyone}
        ports = [free_port() for _ in everyone]
        self.spare_ports = {name: free_port() for name in everyone}
        roster = Roster(
            Member(name, identities[name].public, None, "client")
            if name in clients
            else Member(name, identities[name].public, ("127.0.0.1", port), "dealer" if name == "dealer" else "party")
            for name, port in zip(everyone, ports, strict=True)
        )
        (folder / "roster.toml").write_text(roster.dump())
        self.data = {}
        for index, name in enumerate(everyone):
            identities[name].save(folder / f"{name}.key")
            head = f'name = "{name}"\nkey = "{name}.key"\nroster = "roster.toml"\nunsigned = true\n'
            clocks = f"[clocks]\njoin = 20.0\nlost = {lost}\nstall = {stall}\nrepair = {repair}\n"
            if name in names:
                self.data[name] = rows_of(index)
                self.write(name, self.data[name])
                listed = ", ".join(f'"{entry}"' for entry in allow)
                head += f'allow = [{listed}]\ncontrol = "{name}.sock"\n{extra}'
                clocks += f'[datasets.patients]\npath = "{name}.csv"\n'
                clocks += "[datasets.patients.columns]\nage = { range = [0, 120] }\nbmi = {}\nscore = {}\n"
            (folder / f"{name}.toml").write_text(head + clocks)

    def write(self, name, rows, columns=("age", "bmi", "score")):
        lines = [",".join(columns), *(",".join(map(repr, map(float, row))) for row in rows)]
        (self.folder / f"{name}.csv").write_text("\n".join(lines) + "\n")

    @property
    def pooled(self):
        return np.concatenate([self.data[name] for name in self.names])

    async def start(self, *names):
        for name in names:
            self.logs.setdefault(name, []).append(log := self.folder / f"{name}.{len(self.logs.get(name, []))}.log")
            with log.open("a") as file:
                kind = "dealer" if name == "dealer" else "party"
                self.processes[name] = await warm.start(
                    *(kind, *self.options, "-c", f"{name}.toml"),
                    cwd=self.folder,
                    env=environment(),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=file,
                )
        for name in names:
            line = await asyncio.wait_for(self.processes[name].stdout.readline(), PATIENCE)
            assert b"stop it with Ctrl-C" in line, self.log(name)

    @property
    def environment(self):
        return environment()

    def log(self, name):
        return "".join(path.read_text() for path in self.logs.get(name, []))

    async def __aenter__(self):
        await self.start(*self.names, "dealer")
        await self.connected()
        return self

    async def connected(self):
        """Return when all are connected with each other: only then does a party take a job at once."""
        for one, other in permutations([*self.names, "dealer"], 2):
            async with asyncio.timeout(PATIENCE):
                while not re.search(rf'peer={other} connected|"peer": "{other}".*"connected"', self.log(one)):
                    await asyncio.sleep(0.01)

    async def __aexit__(self, *_):
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            await asyncio.wait_for(process.wait(), PATIENCE)
            assert "Traceback" not in self.log(name), self.log(name)

    async def kill(self, name):
        self.processes[name].kill()
        await self.processes[name].wait()

    async def spawn(self, *arguments):
        return await spawn(self.folder, *arguments)

    async def beaver(self, *arguments):
        return await beaver(self.folder, *arguments)

    async def run(self, *arguments, at="a"):
        return await self.beaver("run", *arguments, "--dataset", "patients", "-c", f"{at}.toml")
