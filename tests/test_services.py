"""The examples of a service and of a container are valid where a tool can tell, and their very commands run as they would there."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tomllib
import zipfile

import pytest

from mpc import ConfigError
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from parties.ask import alive
from parties.config import load_node_config
from parties.run import INTERRUPTED
from tests.error_rows import row_of
from tests.nodes import BEAVER, PATIENCE, ROOT, Nodes, environment
from tests.ports import free_port
from tests.rosters import signed
from tests.test_control import full
from tests.waiting import until

STOPPED = ["did not answer within N s: it is stopped"]
"""Rows of docs/errors.md that this file provokes."""
UNIT = ROOT / "examples" / "systemd" / "beaver-party.service"
CONTAINER = ROOT / "examples" / "container" / "Containerfile"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
EXPOSED = 20
"""Tenths of systemd's measure, of which 100 is an unprotected service; it needs the network, its user and its socket."""


def settings(section):
    """(key, value) of every line of one section of the unit."""
    (body,) = re.findall(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", UNIT.read_text(), re.DOTALL | re.MULTILINE)
    return [tuple(line.split("=", 1)) for line in body.splitlines() if line and not line.startswith("#")]


def test_the_unit_runs_what_the_document_prepares_and_takes_a_stop_for_a_success():
    service = dict(settings("Service"))
    command = service["ExecStart"].split()
    assert command[1:3] == ["party", "-c"]
    assert command[0] in OPERATIONS
    assert command[3] in OPERATIONS
    assert int(service["SuccessExitStatus"]) == INTERRUPTED
    # What ends with such a status, but was not stopped, must not stay down.
    assert service["Restart"] == "always"
    assert "systemctl reload beaver-party" in OPERATIONS
    assert f"useradd --system --home-dir /var/lib/{service['StateDirectory']}" in OPERATIONS
    assert f'control = "/run/{service["RuntimeDirectory"]}/' in OPERATIONS
    # `beaver check` writes its state there before the service has ever run.
    assert f"install --directory --owner=beaver --mode=0700 /etc/beaver /var/lib/{service['StateDirectory']}\n" in OPERATIONS
    # It hides /proc/stat, without which there are no metrics of the process.
    assert "ProcSubset" not in service


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")
def test_systemd_finds_no_fault_in_the_unit_and_little_exposed(tmp_path):
    (tmp_path / UNIT.name).write_text(UNIT.read_text().replace("/opt/beaver/bin/beaver", sys.executable))
    for check in (["verify"], ["security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager"]):
        done = subprocess.run(["systemd-analyze", *check, tmp_path / UNIT.name], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown" not in done.stderr


async def test_a_reload_ends_no_node_without_a_terminal(tmp_path):
    reload = dict(settings("Service"))["ExecReload"]
    async with Nodes(tmp_path, names=("a", "b")) as nodes:
        for name in ("a", "dealer"):
            subprocess.run(shlex.split(reload.replace("$MAINPID", str(nodes.processes[name].pid))), check=True, timeout=PATIENCE)
            await until(lambda name=name: "phase=renewal from now on" in nodes.log(name))
        status, _, complaints = await nodes.run("mean", "--columns", "age", at="b")
        assert status == 0, complaints


SIGNALLED = """
import os, signal, sys
class Signal:
    def find_spec(self, name, *_):
        if name == "parties.cli":
            os.kill(os.getpid(), int(number))
number = sys.argv.pop(1)
sys.meta_path.insert(0, Signal())
from parties.start import main
main()
"""
"""The command after a signal's number: it gets that when it has begun to import what it needs."""


async def signalled(folder, number, *arguments):
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SIGNALLED, str(int(number)), *arguments), cwd=folder, env=environment(), start_new_session=True, **pipes
    )


@pytest.mark.parametrize("kind", ["party", "dealer"])
async def test_a_reload_of_a_node_that_still_starts_is_heard_when_it_has(tmp_path, kind):
    Nodes(tmp_path)
    process = await signalled(tmp_path, signal.SIGHUP, kind, "-c", f"{'a' if kind == 'party' else kind}.toml")
    async with asyncio.timeout(PATIENCE):
        while b"phase=renewal from now on" not in (line := await process.stderr.readline()):
            assert line, process.returncode
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == INTERRUPTED


async def test_a_closed_terminal_ends_every_other_command_while_it_starts(tmp_path):
    process = await signalled(tmp_path, signal.SIGHUP, "keygen", "a")
    await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == -signal.SIGHUP


@pytest.mark.parametrize("words", [("party", "-c", "a.toml"), ("keygen", "a")])
async def test_a_stop_ends_what_still_starts_as_ctrl_c_does(tmp_path, words):
    Nodes(tmp_path)
    process = await signalled(tmp_path, signal.SIGTERM, *words)
    assert await asyncio.wait_for(process.communicate(), PATIENCE) == (b"", b"stopped\n")
    assert process.returncode == INTERRUPTED


async def test_a_closed_terminal_ends_its_node(tmp_path):
    home, (ours, theirs) = home_of(tmp_path), pty.openpty()
    name = os.ttyname(theirs)

    def own_terminal():
        os.setsid()
        # The first that a session opens is its own.
        os.close(os.open(name, os.O_RDWR))

    words = [*BEAVER, "party", "-c", str(home / "party.toml")]
    node = await asyncio.create_subprocess_exec(
        *words, stdin=theirs, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(), preexec_fn=own_terminal
    )
    os.close(theirs)
    line = await asyncio.wait_for(node.stdout.readline(), PATIENCE)
    assert b"a takes jobs (mean)" in line, (await node.stderr.read()).decode()
    os.close(ours)
    _, complaints = await asyncio.wait_for(node.communicate(), PATIENCE)
    assert (node.returncode, complaints.decode().splitlines()[-1]) == (INTERRUPTED, "stopped")


async def test_a_node_that_is_stopped_is_told_from_one_that_is_not_there(tmp_path):
    Nodes(tmp_path)
    config = load_node_config(tmp_path / "a.toml")
    with socket.socket(socket.AF_UNIX) as stopped:
        # Connections are made, and nobody answers.
        stopped.bind(str(tmp_path / "a.sock"))
        stopped.listen()
        with pytest.raises(ConfigError) as caught:
            await alive(config, 0.2)
    assert row_of(STOPPED[0]).shows(str(caught.value))
    (tmp_path / "a.sock").unlink()
    with full(tmp_path / "a.sock"), pytest.raises(ConfigError) as caught:
        await alive(config, 0.2)
    assert row_of(STOPPED[0]).shows(str(caught.value))
    with pytest.raises(ConfigError, match="no node answers at"):
        await alive(config, 0.2)


def instructions():
    """(word, rest) of every instruction of the container's file."""
    text = re.sub(r"\\\n\s*", "", CONTAINER.read_text())
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line and not line.startswith("#")]


def said(word):
    return [rest for each, rest in instructions() if each == word]


def test_the_image_holds_no_secret_and_its_process_is_not_root():
    assert {word for word, _ in instructions()} == {
        *("FROM", "WORKDIR", "COPY", "ARG", "RUN", "USER", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }  # fmt: skip
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert said("COPY") == [
        "pyproject.toml README.md LICENSE ./",
        *(f"{name} ./{name}" for name in packages),
        "--from=build /wheels /wheels",
    ]
    (user,) = said("USER")
    assert int(user) > 0
    assert [word for word, _ in instructions()].index("USER") > max(
        number for number, (word, _) in enumerate(instructions()) if word == "RUN"
    )
    assert all(image.startswith("docker.io/library/python:3.11-slim") for image in said("FROM"))


def test_the_image_is_made_of_what_is_copied_into_it(tmp_path):
    for line in said("COPY")[:-1]:
        *sources, target = line.split()
        for source in sources:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, tmp_path / target if (ROOT / source).is_dir() else tmp_path)
    command = shlex.split(said("RUN")[0].replace("/wheels", str(tmp_path / "wheels")))
    assert command[0] == "python"
    # Without isolation, what builds the wheel is what is installed here already.
    done = subprocess.run([sys.executable, *command[1:], "--no-build-isolation"], cwd=tmp_path, capture_output=True, text=True, timeout=80)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheels").glob("beaver_mpc-*.whl")
    assert {"mpc/node.py", "protocols/__init__.py", "parties/start.py"} < set(zipfile.ZipFile(wheel).namelist())
    (extras,) = re.findall(r"--build-arg EXTRAS=(\S+?)[ `]", OPERATIONS)
    install = said("RUN")[1].replace("/wheels", str(tmp_path / "wheels")).replace("python", sys.executable, 1)
    for chosen in ("", extras):
        trial = {**os.environ, "EXTRAS": chosen, "PIP_DRY_RUN": "1", "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_IGNORE_INSTALLED": "1"}
        done = subprocess.run(["sh", "-c", install], cwd=tmp_path, env=trial, capture_output=True, text=True, timeout=80)
        assert "Would install beaver-mpc" in done.stdout, done.stderr
        assert "does not provide the extra" not in done.stdout + done.stderr


def home_of(folder):
    """A party's folder as the examples have it: all that is written lies in `state`."""
    keys = [Identity.generate(name) for name in ("a", "b", "dealer")]
    roles = {"dealer": "dealer"}
    members = [
        Member(each.name, each.public, ("a.example", 9) if each.name == "a" else None, roles.get(each.name, "party")) for each in keys
    ]
    (folder / "roster.toml").write_text(signed(Roster(members), *keys).dump())
    keys[0].save(folder / "a.key")
    (folder / "state").mkdir(mode=0o700)
    (folder / "party.toml").write_text(
        f'name = "a"\nkey = "a.key"\nroster = "roster.toml"\nlisten = "127.0.0.1:{free_port()}"\nallow = ["mean"]\n'
        'audit = "state/a.audit.log"\nstate = "state/a.state"\ncontrol = "state/a.sock"\n'
    )
    return folder


async def test_a_dealer_that_is_alone_is_healthy_and_one_that_is_gone_is_not(tmp_path):
    (health,) = re.findall(r'--health-cmd "beaver (.*?)"', OPERATIONS)
    asked = health.replace("/etc/beaver/", "").split()
    nodes = Nodes(tmp_path, names=("a", "b"))
    await nodes.start("dealer")
    assert (await nodes.beaver(*asked))[:2] == (0, "dealer answers\n")
    await nodes.kill("dealer")
    status, _, complaints = await nodes.beaver(*asked)
    assert (status, "no node answers" in complaints) == (1, True), complaints


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'


async def confined(folder, *command):
    """`command` as the first process of a system whose root is read-only but for `folder`; skipped where that cannot be had."""
    words = ["unshare", *([] if os.getuid() == 0 else ["--user", "--map-root-user"]), "--mount", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*words, "mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("this machine lets nobody here make a namespace with a root of its own (unshare)")
    return await asyncio.create_subprocess_exec(
        *words, "sh", "-c", READ_ONLY, str(folder), *command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd="/",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


async def test_a_node_is_the_first_process_where_only_its_state_can_be_written_and_ends_when_told(tmp_path):
    home = home_of(tmp_path)
    (start,), (health,) = said("CMD"), said("HEALTHCHECK")
    here = str(home / "party.toml")

    def words(text):
        return [word.replace("/etc/beaver/party.toml", here) for word in json.loads(text[text.index("[") :])]

    node = await confined(home / "state", *BEAVER, *words(start))
    try:
        line = await asyncio.wait_for(node.stdout.readline(), PATIENCE)
        assert b"a takes jobs (mean)" in line, (await node.stderr.read()).decode()
        assert words(health)[0] == "beaver"
        asked = await asyncio.create_subprocess_exec(*BEAVER, *words(health)[1:], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd="/")
        assert await asyncio.wait_for(asked.wait(), PATIENCE) == 0
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        _, complaints = await asyncio.wait_for(node.communicate(), PATIENCE)
    assert (node.returncode, b"Traceback" in complaints) == (INTERRUPTED, False), complaints.decode()
    written = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home / "state").iterdir()}
    assert written == {"a.audit.log": 0o600, "a.audit.log.head": 0o600, "a.state": 0o600}
    asked = await asyncio.create_subprocess_exec(
        *BEAVER, *words(health)[1:], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=asyncio.subprocess.PIPE
    )
    assert (await asked.wait(), b"no node" in await asked.stderr.read()) == (1, True)


async def test_the_first_process_of_a_container_hears_a_stop_while_it_starts(tmp_path):
    # The system ends no first process by a signal that it does not handle.
    process = await confined(tmp_path, sys.executable, "-c", SIGNALLED, str(int(signal.SIGTERM)), "keygen", "a")
    assert await asyncio.wait_for(process.communicate(), PATIENCE) == (b"", b"stopped\n")
    assert process.returncode == INTERRUPTED
