"""Whole machines: five organisations, two lost at once, a full disk, and memory as the system counts it (invariants 15, 21, 27)."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from tests.organisations import Organisation, Organisations
from tests.test_command_line import BEAVER

ROOT = Path(__file__).resolve().parent.parent


class Many(Organisations):
    """Like Organisations, but with any number of parties."""

    def __init__(self, folder, n, *, join=20.0, lost=20.0, stall=20.0):
        names = [*(f"org{index}" for index in range(n)), "dealer"]
        identities = {name: Identity.generate(name) for name in names}
        listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
        self.addresses = {name: listeners[name].getsockname() for name in names}
        roster = Roster(
            Member(name, identities[name].public, self.addresses[name], "dealer" if name == "dealer" else "party") for name in names
        )
        (folder / "roster.toml").write_text(roster.dump())
        self.everyone = []
        for name in names:
            identities[name].save(folder / f"{name}.key")
            clocks = f"[clocks]\njoin = {join}\nlost = {lost}\nstall = {stall}\nrepair = 0.0\n"
            (folder / f"{name}.toml").write_text(f'name = "{name}"\nkey = "{name}.key"\nroster = "roster.toml"\nunsigned = true\n{clocks}')
            self.everyone.append(Organisation(name, folder / f"{name}.toml", listeners[name]))
        *self.parties, self.dealer = self.everyone


async def test_five_organisations_lose_two_at_once_and_go_on_when_they_are_back(tmp_path):
    async with Many(tmp_path, 5) as all_:
        assert [outcome["result"] for outcome in (await all_.run("one", "total")).values()] == [[15.0]] * 5
        await all_.begin("doomed")
        lost = [all_.parties[1], all_.parties[4]]
        for party in lost:
            party.signal(signal.SIGKILL)
        for party in all_.parties:
            if party not in lost:
                outcome = await party.outcome()
                assert outcome["error"] == "PeerLost", outcome
                assert outcome["text"].split(":")[0] in {"org1", "org4"}, outcome
        for party in lost:
            await party.process.wait()
        await asyncio.gather(*(party.start() for party in lost))
        assert [outcome["result"] for outcome in (await all_.run("two", "total")).values()] == [[15.0]] * 5
        products = (await all_.run("three", "product")).values()
        assert all(abs(outcome["result"][0] - 6.0) < 1e-3 for outcome in products)


async def test_everyone_but_one_dies_and_comes_back(tmp_path):
    async with Many(tmp_path, 3) as all_:
        await all_.begin("doomed")
        others = [*all_.parties[1:], all_.dealer]
        for one in others:
            one.signal(signal.SIGKILL)
        outcome = await all_.parties[0].outcome()
        assert outcome["error"] == "PeerLost"
        for one in others:
            await one.process.wait()
            await one.start()
        assert [outcome["result"] for outcome in (await all_.run("next", "total")).values()] == [[6.0]] * 3


# -- a disk without room -------------------------------------------------------------------------------------------


def full_disk():
    """Let no file grow beyond 16 bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))


def on_a_full_disk(folder, *arguments):
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*BEAVER, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60, preexec_fn=full_disk
    )


def test_a_key_that_does_not_fit_on_the_disk_is_one_clear_line_and_no_half_key_stays(tmp_path):
    done = on_a_full_disk(tmp_path, "keygen", "a")
    assert done.returncode == 1
    assert done.stderr.startswith("ConfigError: a.key: cannot be written")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_does_not_fit_on_the_disk_is_one_clear_line_and_leaves_nothing(tmp_path):
    done = on_a_full_disk(tmp_path, "demo")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr or "writable temporary folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


# -- memory as the system counts it --------------------------------------------------------------------------------

MEASURED = """
import resource, sys
from tests.test_flow import WINDOW, run
assert WINDOW == 64 << 10
run(1 << 20, [range(4), range(4)])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
for order in eval(sys.argv[1]):
    run(64 << 20, [range(4), order])
print((peak() - before) / (2 * 4 * (64 << 20)))
"""


def peak_of(orders):
    """The growth of resident memory over the openings of both parties: each opens 4 times 64 MiB, results included."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, repr(orders)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_four_gathered_openings_of_64_mib_with_a_64_kib_window():
    assert peak_of([(3, 2, 1, 0), (2, 0, 3, 1)]) < 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_gathered_openings_of_64_mib_in_all_24_orders():
    assert peak_of(list(itertools.permutations(range(4)))) < 3
