"""docs/operations.md, done as written: from empty folders to the first joint mean (loopback addresses instead of the names)."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
from pathlib import Path

from tests.nodes import BEAVER, PATIENCE, ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text()
MACHINES = ("hospital_a", "hospital_b", "the_dealer")
HOSTS = {"hospital_a": "hospital-a.example:9001", "hospital_b": "hospital-b.example:9001", "the_dealer": "dealer.example:9001"}


def blocks(language):
    """(machine, file or None, body) of every block of a language."""
    for body in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL):
        head, _, rest = body.partition("\n")
        machine, _, file = head.removeprefix("# ").partition(": ")
        yield machine, file or None, rest


async def beaver(command, folder, **options):
    words = shlex.split(command)
    assert words[0] == "beaver"
    return await asyncio.create_subprocess_exec(
        *BEAVER, *words[1:], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **options,
    )  # fmt: skip


def write(folders, keys):
    ports = {}
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in MACHINES]
    for machine, each in zip(MACHINES, sockets, strict=True):
        ports[machine] = each.getsockname()[1]
        each.close()
    for language in ("toml", "csv"):
        for machine, file, body in blocks(language):
            for name in MACHINES:
                body = body.replace(f"KEY OF {name}", keys[name]).replace(HOSTS[name], f"127.0.0.1:{ports[name]}")
            for target in MACHINES if machine == "everyone" else (machine,):
                (folders[target] / file).write_text(body)


async def test_from_empty_machines_to_the_first_joint_mean(tmp_path):
    folders = {machine: tmp_path / machine for machine in MACHINES}
    keys, nodes = {}, []
    for folder in folders.values():
        folder.mkdir()
    commands = [(machine, line) for machine, _, body in blocks("sh") for line in body.splitlines()]
    for machine, command in (entry for entry in commands if "keygen" in entry[1]):
        made = await beaver(command, folders[machine])
        out, _ = await asyncio.wait_for(made.communicate(), PATIENCE)
        keys[machine] = re.search(r'key = "(.*)"', out.decode()).group(1)
    write(folders, keys)
    try:
        for machine, command in (entry for entry in commands if entry[1].split()[1] in {"dealer", "party"}):
            node = await beaver(command, folders[machine])
            nodes.append(node)
            assert b"stop it with Ctrl-C" in await asyncio.wait_for(node.stdout.readline(), PATIENCE)
        ((machine, command),) = (entry for entry in commands if entry[1].split()[1] == "run")
        job = await beaver(command, folders[machine])
        out, complaints = await asyncio.wait_for(job.communicate(), PATIENCE)
        assert job.returncode == 0, complaints.decode()
        assert "57.2" in out.decode()
        assert "26" in out.decode()
    finally:
        for node in nodes:
            node.send_signal(signal.SIGTERM)
        for node in nodes:
            _, complaints = await asyncio.wait_for(node.communicate(), PATIENCE)
            assert node.returncode == 130
            assert b"Traceback" not in complaints
    assert len(commands) == 7


def test_every_exit_status_of_the_document_is_one_of_the_command():
    from parties.cli import DENIED, LOCAL, REFUSED, REMOTE, USAGE
    from parties.run import INTERRUPTED

    documented = [int(number) for number in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)]
    assert documented == [0, LOCAL, USAGE, DENIED, REMOTE, REFUSED, INTERRUPTED]


def test_links_of_the_documents_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            if "://" not in target:
                assert (Path(path).parent / target).exists(), f"{path}: {target}"
