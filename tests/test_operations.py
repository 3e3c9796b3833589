"""docs/operations.md, done as written, leads from empty machines to the first joint mean, on loopback and in separate networks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest

from tests import nodes
from tests.nodes import BEAVER, PATIENCE, ROOT
from tests.ports import free_port

TEXT = (ROOT / "docs" / "operations.md").read_text()
MACHINES = ("hospital_a", "hospital_b", "the_dealer")
HOSTS = {"hospital_a": "hospital-a.example:9001", "hospital_b": "hospital-b.example:9001", "the_dealer": "dealer.example:9001"}


def blocks(language, text):
    """(machine, file or None, body) of every block of a language that is for a machine."""
    for body in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL):
        head, _, rest = body.partition("\n")
        machine, _, file = head.removeprefix("# ").partition(": ")
        yield machine, file or None, rest


class Loopback:
    """All machines are this one: for the names stand loopback addresses, with a port for each."""

    prefix: ClassVar = dict.fromkeys(MACHINES, ())

    def __init__(self):
        self.text = TEXT
        for machine in MACHINES:
            self.text = self.text.replace(HOSTS[machine], f"127.0.0.1:{free_port()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Namespaces:
    """Each machine is a network of its own with one address, all at one switch; names are those of the document."""

    text = TEXT

    def __init__(self):
        self.names = {machine: f"beaver-{os.getpid()}-{number}" for number, machine in enumerate(MACHINES, 1)}
        self.prefix = {machine: ("ip", "netns", "exec", name) for machine, name in self.names.items()}
        self._switch = f"beaver-{os.getpid()}-switch"

    def __enter__(self):
        if shutil.which("ip") is None or os.geteuid() != 0:
            pytest.skip("namespaces of the network need root and iproute2 (apt-get install iproute2)")
        try:
            self._ip("netns", "add", self._switch)
        except subprocess.CalledProcessError as fault:
            pytest.skip(f"this machine makes no namespaces of the network: {fault.stderr.strip()}")
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self):
        self._ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
        self._ip("-n", self._switch, "link", "set", "switch", "up")
        hosts = "".join(f"10.77.0.{number} {HOSTS[machine].partition(':')[0]}\n" for number, machine in enumerate(MACHINES, 1))
        for number, name in enumerate(self.names.values(), 1):
            self._ip("netns", "add", name)
            self._ip("-n", self._switch, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            self._ip("-n", self._switch, "link", "set", f"port{number}", "master", "switch", "up")
            self._ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            self._ip("-n", name, "link", "set", "eth0", "up")
            folder = Path("/etc/netns") / name
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")

    def __exit__(self, *_):
        for name in (*self.names.values(), self._switch):
            with contextlib.suppress(subprocess.CalledProcessError):
                self._ip("netns", "delete", name)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path("/etc/netns").rmdir()

    @staticmethod
    def _ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


async def node(command, folder, prefix):
    """A process that starts from nothing, as an organisation's does, at the machine that `prefix` leads to."""
    words = shlex.split(command)
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    return await asyncio.create_subprocess_exec(*prefix, *BEAVER, *words[1:], cwd=folder, env=nodes.environment(), **pipes)


def send(folders, source):
    """Send the others all files of this machine that they do not have yet."""
    for file in [*source.glob("*.public"), *source.glob("*.line"), *source.glob("roster.toml")]:
        for folder in folders.values():
            if not (folder / file.name).exists():
                (folder / file.name).write_text(file.read_text())


async def done(command, folder, prefix):
    """The output of a command that ends well; it may go to a file."""
    command, _, file = command.partition(" > ")
    words = shlex.split(command)
    if prefix and words[1] in {"check", "run"}:
        process = await node(command, folder, prefix)
        out, complaints = (each.decode() for each in await asyncio.wait_for(process.communicate(), PATIENCE))
        status = process.returncode
    else:
        status, out, complaints = await nodes.beaver(folder, *words[1:])
    assert status == 0, complaints
    if file:
        (folder / file).write_text(out)
    return out


@pytest.mark.parametrize("kind", [Loopback, Namespaces])
async def test_from_empty_machines_to_the_first_joint_mean(tmp_path, kind):
    with kind() as machines:
        await walk(tmp_path, machines.text, machines.prefix)


async def walk(folder, text, prefix):
    """Everything that the document says, in its order; `prefix` is what runs a command at a machine."""
    folders = {machine: folder / machine for machine in MACHINES}
    for each in folders.values():
        each.mkdir()
    said, running = {}, []
    commands = [(machine, line) for machine, _, body in blocks("sh", text) for line in body.splitlines()]
    try:
        for machine, command in commands:
            assert command.startswith("beaver ")
            if command.split()[1] in {"dealer", "party"}:
                running.append(await node(command, folders[machine], prefix[machine]))
                assert b"stop it with Ctrl-C" in await asyncio.wait_for(running[-1].stdout.readline(), PATIENCE)
                continue
            if command.startswith("beaver roster sign") and machine == MACHINES[0]:
                # Sections 2 and 3 may be done in any order.
                for owner, file, body in [*blocks("toml", text), *blocks("csv", text)]:
                    (folders[owner] / file).write_text(body)
            said[command] = await done(command, folders[machine], prefix[machine])
            send(folders, folders[machine])
        assert "is signed by all 3 members" in said["beaver roster verify roster.toml"]
        assert "what to do" not in said["beaver check -c hospital_a.toml"]
        (mean,) = (out for command, out in said.items() if command.startswith("beaver run"))
        assert "57.2" in mean
        assert "26" in mean
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            _, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
            assert process.returncode == 130
            assert b"Traceback" not in complaints
            assert b"not signed" not in complaints
    assert len(running) == 3


def test_every_exit_status_of_the_document_is_one_of_the_command():
    from parties.faults import DENIED, LOCAL, REFUSED, REMOTE, USAGE
    from parties.run import INTERRUPTED

    documented = [int(number) for number in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)]
    assert documented == [0, LOCAL, USAGE, DENIED, REMOTE, REFUSED, INTERRUPTED]


def test_links_of_the_documents_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            if "://" not in target:
                assert (Path(path).parent / target).exists(), f"{path}: {target}"
