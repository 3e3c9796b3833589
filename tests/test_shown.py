"""Commands print whole output wherever it goes: into a pipe, into a file, in an encoding that lacks letters."""

from __future__ import annotations

import asyncio
import re

from mpc.membership.identity import Identity, spoken
from tests.nodes import BEAVER, PATIENCE, beaver, environment
from tests.ports import free_port

SCORES = "score\n200\n"
SETTINGS = '[datasets.scores]\npath = "FILE"\n[datasets.scores.columns]\nscore = { range = [0, 120], unit = "years" }\n'


async def piped(folder, *arguments, status=0, **changes):
    """The output of a command that prints into a pipe, which has no width."""
    known = {name: value for name, value in environment().items() if name not in ("COLUMNS", "LINES")}
    process = await asyncio.create_subprocess_exec(
        *BEAVER, *arguments, cwd=folder, env=known | changes, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, "Traceback" in complaints.decode()) == (status, False), complaints.decode()
    return out.decode()


async def made(folder, *arguments):
    """Run a command that must end well, whatever it prints."""
    status, _, complaints = await beaver(folder, *arguments)
    assert status == 0, complaints


async def organisations(folder, *names):
    for name in names:
        role = "dealer" if name == "the_dealer" else "party"
        await made(folder, "init", name, "--role", role, "--endpoint", f"127.0.0.1:{free_port()}")
    await made(folder, "roster", "add", "roster.toml", *(f"{name}.public" for name in names))
    for name in names:
        await made(folder, "roster", "sign", "-c", f"{name}.toml")


async def test_tables_in_a_pipe_are_cut_nowhere(tmp_path):
    await organisations(tmp_path, "hospital_a", "hospital_b", "the_dealer")
    shown = await piped(tmp_path, "roster", "show", "roster.toml")
    assert spoken(Identity.load(tmp_path / "hospital_b.key").public) in shown
    found = await piped(tmp_path, "check", "-c", "hospital_a.toml", "--wait", "0.1", status=4)
    (row,) = re.findall(r"^.*hospital_b .*127\.0\.0\.1.*$", found, re.MULTILINE)
    assert "failed" in row
    (tmp_path / "scores.csv").write_text(SCORES)
    with (tmp_path / "hospital_a.toml").open("a") as config:
        config.write(SETTINGS.replace("FILE", "scores.csv"))
    told = await piped(tmp_path, "data", "check", "-c", "hospital_a.toml", status=1)
    assert "row 1: outside the declared range [0, 120]; mend the cell or declare another range" in told


async def test_letters_that_the_output_does_not_have_are_escaped(tmp_path):
    await made(tmp_path, "init", "hospital_a")
    (tmp_path / "größe.csv").write_text("score\n20\n")
    with (tmp_path / "hospital_a.toml").open("a", encoding="utf-8") as config:
        config.write(SETTINGS.replace("FILE", "größe.csv"))
    assert "from gr\\xf6\\xdfe.csv" in await piped(tmp_path, "data", "check", "-c", "hospital_a.toml", PYTHONIOENCODING="ascii:strict")
