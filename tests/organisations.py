"""Real processes for tests: three parties and a dealer, each a node of its own on loopback TCP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from asyncio.subprocess import PIPE
from pathlib import Path

from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from tests import warm

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 80.0


class Organisation:
    """One member: its files, its socket, and its process while it runs."""

    def __init__(self, name, config, listener):
        self.name, self.config, self.listener = name, config, listener
        self.process = None

    async def start(self):
        self.process = await warm.start(
            self.config, 3, module="tests.member", cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE, passed=[self.listener]
        )
        assert (await self.event())["ready"] == self.name

    def ask(self, job, program):
        self.process.stdin.write(f"{job} {program}\n".encode())

    async def event(self):
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        if not line:
            raise AssertionError(f"{self.name} ended: {(await self.process.stderr.read()).decode()}")
        return json.loads(line)

    async def running(self):
        """Return when this organisation is in the middle of a job."""
        while "rounds" not in (event := await self.event()):
            raise AssertionError(f"{self.name} is not running: {event}")

    async def outcome(self):
        while "job" not in (event := await self.event()):
            pass
        return event

    async def says(self, text):
        """Return when this organisation's log has a line with `text`."""
        async with asyncio.timeout(PATIENCE):
            while text.encode() not in await self.process.stderr.readline():
                pass

    def signal(self, number):
        os.kill(self.process.pid, number)

    async def end(self):
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), PATIENCE)
        complaints = (await self.process.stderr.read()).decode()
        assert "Traceback" not in complaints, complaints
        assert "never retrieved" not in complaints, complaints


class Organisations:
    """a, b, c and dealer; `async with` starts and stops all, and sees that no port stays open."""

    def __init__(self, folder, *, join=20.0, lost=2.0, stall=4.0, repair=0.5):
        names = ["a", "b", "c", "dealer"]
        identities = {name: Identity.generate(name) for name in names}
        listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
        roster = Roster(
            Member(name, identities[name].public, listeners[name].getsockname(), "dealer" if name == "dealer" else "party")
            for name in names
        )
        (folder / "roster.toml").write_text(roster.dump())
        self.addresses = {name: listeners[name].getsockname() for name in names}
        for name in names:
            identities[name].save(folder / f"{name}.key")
            config = folder / f"{name}.toml"
            clocks = f"[clocks]\njoin = {join}\nlost = {lost}\nstall = {stall}\nrepair = {repair}\n"
            config.write_text(f'name = "{name}"\nkey = "{name}.key"\nroster = "roster.toml"\nunsigned = true\n{clocks}')
            setattr(self, name, Organisation(name, config, listeners[name]))
        self.parties = [self.a, self.b, self.c]
        self.everyone = [*self.parties, self.dealer]

    async def __aenter__(self):
        await asyncio.gather(*(organisation.start() for organisation in self.everyone))
        return self

    async def __aexit__(self, *_):
        try:
            await asyncio.gather(*(organisation.end() for organisation in self.everyone))
        finally:
            for organisation in self.everyone:
                organisation.listener.close()
                if organisation.process is not None and organisation.process.returncode is None:
                    organisation.process.kill()
        for address in self.addresses.values():
            socket.create_server(address).close()

    async def run(self, job, program, parties=None):
        """All outcomes of a job, by name."""
        asked = parties or self.parties
        for party in asked:
            party.ask(job, program)
        return {party.name: await party.outcome() for party in asked}

    async def begin(self, job, program="endless"):
        """Start a job and return when all parties are in the middle of it."""
        for party in self.parties:
            party.ask(job, program)
        for party in self.parties:
            await party.running()


class Stopwatch:
    def __init__(self):
        self.start = time.monotonic()

    @property
    def seconds(self):
        return time.monotonic() - self.start
