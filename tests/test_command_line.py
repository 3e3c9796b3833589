"""The commands that the README shows, run as a user runs them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mpc import PrecisionError
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from parties.cli import app
from parties.data import load_diabetes
from parties.demo.organisations import HOSPITALS, compute, right
from parties.demo.study import pooled, split, tolerance
from tests import nodes
from tests.error_rows import row_of
from tests.ports import free_port
from tests.rosters import signed

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DEMO = ("needs amqtt",)
"""Rows of docs/errors.md that are provoked here."""
BEAVER = [sys.executable, "-c", "import sys; from parties.start import main; sys.argv[0] = 'beaver'; main()"]


def beaver(*arguments, **options):
    return subprocess.run([*BEAVER, *arguments], capture_output=True, text=True, check=False, timeout=80, **options)


def members_of(group):
    """Processes of a demo whose temporary folder lies in `group`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(group) in folder.read_bytes().decode(errors="replace"):
                found.append(folder)
        except OSError:
            continue
    return found


def test_the_demo_is_right_and_leaves_nothing_behind(tmp_path):
    done = beaver("demo", cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    for name in ("secure sum", "secure mean", "secure product", "pooled plaintext", "rounds 1", "rounds 2", "target", "hospital_c"):
        assert name in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert members_of(tmp_path) == []


def test_the_demo_over_a_broker_of_its_own_is_right_and_leaves_nothing_behind(tmp_path):
    done = beaver("demo", "--transport", "mqtt", cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    for name in ("broker (MQTT)", "five processes", "secure sum", "secure mean", "secure product", "rounds 1", "rounds 2", "hospital_c"):
        assert name in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert started_in(tmp_path) == []


def started_in(folder):
    """Processes with `folder` as their temporary one: the broker's command line does not name it."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={folder}".encode() in environment.read_bytes().split(b"\0"):
                found.append(environment)
        except OSError:
            continue
    return found


def test_a_demo_over_a_broker_that_is_not_installed_says_what_to_install():
    code = "import sys; sys.modules['amqtt'] = None; from parties.start import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "demo", "--transport", "mqtt"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert row_of(*DEMO).shows(done.stderr.strip().removeprefix("ConfigError: ")), done.stderr


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_gets_nothing_and_no_socket_takes_its_place(closed, tmp_path):
    out = tmp_path / "out"
    command = f"{shlex.join(BEAVER)} bench --only W5-vector --parties 2 --size 16 --repeats 1 --json {out}"
    done = subprocess.run(["/bin/sh", "-c", f"{command} {closed}"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert json.loads(out.read_text())["workload"] == "W5-vector"
    assert (done.stdout == "") == ("<&- >&-" in closed)


async def test_the_demo_compares_every_number_at_every_hospital(tmp_path):
    holdings = dict(zip(HOSPITALS, split(load_diabetes(), list(HOSPITALS.values())), strict=True))
    assert len({len(holding.rows.rows) for holding in holdings.values()}) == 3
    assert {name for holding in holdings.values() for name in holding.columns.columns} == set(load_diabetes().columns)
    expected, allowed = pooled(list(holdings.values())), tolerance(list(holdings.values()))
    results = await compute(tmp_path, holdings)
    assert len(results) == 3
    for result in results:
        assert right(result, expected, allowed)
        for name in expected:
            off = json.loads(json.dumps(result))
            off[name]["value"][-1] += 3 * np.max(allowed[name]) + 1e-9
            assert not right(off, expected, allowed)
    keys = [(tmp_path / name / "key").stat().st_mode & 0o777 for name in (*HOSPITALS, "the_dealer")]
    assert keys == [0o600] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_stopping_the_demo_stops_everyone(tmp_path, number):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *BEAVER, "demo", env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    async with asyncio.timeout(30):
        while len(members_of(tmp_path)) < 4:
            assert process.returncode is None, (await process.stderr.read()).decode()
            await asyncio.sleep(0.002)
    process.send_signal(number)
    async with asyncio.timeout(30):
        _, complaints = await process.communicate()
        while members_of(tmp_path):
            await asyncio.sleep(0.01)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert complaints.decode().strip() == "stopped"
        assert list(tmp_path.iterdir()) == []


def test_the_data_is_the_published_data():
    from sklearn.datasets import load_diabetes as published

    table = load_diabetes()
    theirs = published(scaled=False)
    assert table.columns == [*theirs.feature_names, "target"]
    assert np.allclose(table.rows[:, :-1], theirs.data, rtol=0, atol=1e-4)
    assert np.array_equal(table.rows[:, -1], theirs.target)


async def test_keygen_and_version(tmp_path):
    assert re.match(r"beaver \d+\.\d+\.\d+\nwire 16\nprotocols .*mean@1", beaver("--version").stdout)
    status, printed, _ = await nodes.beaver(tmp_path, "keygen", "hospital_a")
    assert status == 0
    identity = Identity.load(tmp_path / "hospital_a.key")
    other = Identity.generate("zed")
    text = (
        printed.replace("HOST:PORT", "h:1")
        + Roster([Member("y", other.public, None), Member("zed", Identity.generate("z").public, None)]).dump()
    )
    assert Roster.parse(text, "made")["hospital_a"].public == identity.public
    status, _, complaints = await nodes.beaver(tmp_path, "keygen", "hospital_a")
    assert status == 1
    assert "never overwritten" in complaints
    assert (await nodes.beaver(tmp_path, "keygen", "a b"))[2].startswith("ConfigError: 'a b' is no name")
    assert "Traceback" not in (await nodes.beaver(tmp_path, "nonsense"))[2]


def test_no_file_is_judged_by_the_parser_of_the_command_line(tmp_path, monkeypatch):
    """The parser would call an unreadable file a wrong command line (2): it is a fault of the set-up (1), with a remedy."""
    sources = "".join(path.read_text() for path in (ROOT / "parties").rglob("*.py"))
    options = re.findall(r"Annotated\[\s*Path(?: \| None)?,\s*typer\.\w+\(([^)]*)", sources)
    assert len(options) > 20 and all("readable=False" in each for each in options)
    monkeypatch.setattr(os, "access", lambda *_: False)
    (tmp_path / "a.toml").write_text("")
    answer = CliRunner().invoke(app, ["jobs", "list", "-c", str(tmp_path / "a.toml")])
    assert "key 'name' is missing" in str(answer.exception)


async def test_the_dealer_command_serves_until_ctrl_c(tmp_path):
    identities = [Identity.generate(name) for name in ("a", "b", "the_dealer")]
    port = free_port()
    roster = Roster(
        Member(identity.name, identity.public, ("127.0.0.1", port) if identity.name == "the_dealer" else ("127.0.0.1", 1), role)
        for identity, role in zip(identities, ("party", "party", "dealer"), strict=True)
    )
    (tmp_path / "roster.toml").write_text(signed(roster, *identities).dump())
    for identity in identities:
        identity.save(tmp_path / f"{identity.name}.key")
        (tmp_path / f"{identity.name}.toml").write_text(f'name = "{identity.name}"\nkey = "{identity.name}.key"\nroster = "roster.toml"\n')
    process = await asyncio.create_subprocess_exec(
        *BEAVER, "dealer", "-c", str(tmp_path / "the_dealer.toml"), cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert b"the_dealer serves 2 parties" in await asyncio.wait_for(process.stdout.readline(), 20)
    socket.create_connection(("127.0.0.1", port)).close()
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 20) == 130
    wrong = beaver("dealer", "-c", str(tmp_path / "a.toml"))
    assert wrong.returncode == 1
    assert wrong.stderr.splitlines()[-1].startswith("ConfigError: ")
    assert 'must be "dealer"' in wrong.stderr


# -- the README ------------------------------------------------------------------------------------------------


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_command_of_the_readme_is_tested_here():
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert commands == [
        "make demo",
        "make test",
        "beaver init hospital_a --endpoint hospital-a.example:9001",
        "beaver dealer -c the_dealer.toml",
        "beaver party -c hospital_a.toml",
        "beaver run mean --dataset patients --columns age,bmi -c hospital_a.toml",
    ]
    # The last two are run, word for word, by the walk of docs/operations.md.
    assert all(command in (ROOT / "docs" / "operations.md").read_text().splitlines() for command in commands[2:])
    makefile = (ROOT / "Makefile").read_text()
    assert "demo: env\n\t@$(BIN)/beaver demo" in makefile
    assert "test: dev\n\t@$(BIN)/python -m pytest" in makefile


def test_the_simulations_of_the_readme_run():
    examples = [block for block in blocks("python") if "simulate" in block]
    assert len(examples) == 3
    results = []
    for example in examples:
        scope = {}
        exec(compile(example, "README.md", "exec"), scope)  # noqa: S102
        results.append(scope["results"])
    assert np.allclose(results[0], [[1.5, 15.0]] * 3, atol=1e-5)
    x, y = np.concatenate(scope["tables"]), np.concatenate(scope["targets"])
    *coefficients, intercept = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    assert np.allclose(results[2][0][0], coefficients, atol=1e-4)
    assert np.allclose(results[2][0][1], intercept, atol=1e-4)
    assert np.allclose(results[1][0], [10.0], atol=1e-4)
    assert results[1][1] is None


def test_bounds_and_fractional_bits_are_what_the_readme_says():
    (example,) = (block for block in blocks("python") if "bound=1000.0" in block)
    call = "mpc.mul_trunc(s, x, y, 20)"
    assert f"`{call}` drops 20" in README and "here 20 + 20" in README

    def outcome(*changes):
        text = example
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        scope = {}
        exec(compile(text, "README.md", "exec"), scope)  # noqa: S102
        return scope["results"][0]

    product, revealed = "await mpc.mul(s, x, y)", ("await s.reveal(await mpc.mul(s, x, y), to=[0])", "(await mpc.mul(s, x, y)).frac")
    assert outcome(revealed) == 40 and outcome(revealed, ("mpc.mul(s, x, y)", call)) == 20
    with pytest.raises(PrecisionError, match="beyond the declared bound 1000"):
        outcome(("[2.5]", "[1000.5]"))
    with pytest.raises(PrecisionError, match="the product of values up to"):
        outcome((product, f"await mpc.mul(s, {product}, y)"))
    assert np.allclose(outcome((product, f"await mpc.mul(s, await {call}, y)"), ("bound=1000.0", "bound=100.0")), [40.0], atol=1e-3)


async def test_the_embedding_of_the_readme_runs_as_separate_processes(tmp_path):
    (example,) = (block for block in blocks("python") if "mpc.connect(" in block)
    (blocking,) = (block for block in blocks("python") if "mpc.connect_sync(" in block)
    (config,) = blocks("toml")
    names = ["hospital_a", "hospital_b", "the_dealer"]
    identities = {name: Identity.generate(name) for name in names}
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    addresses = {name: sock.getsockname() for name, sock in sockets.items()}
    roster = Roster(Member(n, identities[n].public, addresses[n], "dealer" if n == "the_dealer" else "party") for n in names)
    (tmp_path / "roster.toml").write_text(signed(roster, *identities.values()).dump())
    for name in names:
        identities[name].save(tmp_path / f"{name}.key")
        (tmp_path / f"{name}.toml").write_text(config.replace("hospital_a", name))
        sockets[name].close()
    (tmp_path / "a.py").write_text(example)
    (tmp_path / "b.py").write_text(blocking)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, "cwd": tmp_path, "env": environment}
    dealer = await asyncio.create_subprocess_exec(*BEAVER, "dealer", "-c", "the_dealer.toml", **pipes)
    both = [await asyncio.create_subprocess_exec(sys.executable, f"{which}.py", **pipes) for which in "ab"]
    async with asyncio.timeout(60):
        outputs = [await process.communicate() for process in both]
        dealer.terminate()
        await dealer.communicate()
    for printed, complaints in outputs:
        assert printed.decode().strip() == "[57.   28.75]", complaints.decode()
