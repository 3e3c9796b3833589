"""docs/operations.md, done as written: from empty folders to the first joint mean (loopback addresses instead of the names)."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import socket
from pathlib import Path

from tests import nodes
from tests.nodes import BEAVER, PATIENCE, ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text()
MACHINES = ("hospital_a", "hospital_b", "the_dealer")
HOSTS = {"hospital_a": "hospital-a.example:9001", "hospital_b": "hospital-b.example:9001", "the_dealer": "dealer.example:9001"}


def blocks(language, text):
    """(machine, file or None, body) of every block of a language that is for a machine."""
    for body in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL):
        head, _, rest = body.partition("\n")
        machine, _, file = head.removeprefix("# ").partition(": ")
        yield machine, file or None, rest


async def node(command, folder):
    """A process that starts from nothing, as an organisation's does."""
    words = shlex.split(command)
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    return await asyncio.create_subprocess_exec(*BEAVER, *words[1:], cwd=folder, env=nodes.environment(), **pipes)


def addresses():
    """Where the machines of the document are here."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in MACHINES]
    found = {HOSTS[machine]: f"127.0.0.1:{each.getsockname()[1]}" for machine, each in zip(MACHINES, sockets, strict=True)}
    for each in sockets:
        each.close()
    return found


def send(folders, source):
    """What one machine has for the others, as far as these have not got it yet."""
    for file in [*source.glob("*.public"), *source.glob("*.line"), *source.glob("roster.toml")]:
        for folder in folders.values():
            if not (folder / file.name).exists():
                (folder / file.name).write_text(file.read_text())


async def done(command, folder):
    """The output of a command that ends well; it may go to a file."""
    command, _, file = command.partition(" > ")
    status, out, complaints = await nodes.beaver(folder, *shlex.split(command)[1:])
    assert status == 0, complaints
    if file:
        (folder / file).write_text(out)
    return out


async def test_from_empty_machines_to_the_first_joint_mean(tmp_path):
    folders = {machine: tmp_path / machine for machine in MACHINES}
    for folder in folders.values():
        folder.mkdir()
    text, said, running = TEXT, {}, []
    for host, here in addresses().items():
        text = text.replace(host, here)
    commands = [(machine, line) for machine, _, body in blocks("sh", text) for line in body.splitlines()]
    try:
        for machine, command in commands:
            assert command.startswith("beaver ")
            if command.split()[1] in {"dealer", "party"}:
                running.append(await node(command, folders[machine]))
                assert b"stop it with Ctrl-C" in await asyncio.wait_for(running[-1].stdout.readline(), PATIENCE)
                continue
            if command.startswith("beaver roster sign") and machine == MACHINES[0]:
                # Sections 2 and 3 may be done in any order.
                for owner, file, body in [*blocks("toml", text), *blocks("csv", text)]:
                    (folders[owner] / file).write_text(body)
            said[command] = await done(command, folders[machine])
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
