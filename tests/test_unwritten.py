"""Standard output that is a full disk or a closed pipe: one clear line, the documented status, and no message of Python's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.audit_logs import filled
from tests.nodes import BEAVER, Nodes, environment

WHY = {"full disk": "No space left on device", "closed pipe": "Broken pipe"}


def written_to(output, folder, command, *, buffered=True):
    """The exit status, and the lines of standard error."""
    read, write = os.pipe()
    os.close(read)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*BEAVER, *command.split()],
            cwd=folder,
            env={**environment(), "PYTHONUNBUFFERED": "" if buffered else "1"},
            stdout=full if output == "full disk" else write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    os.close(write)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("output", WHY)
@pytest.mark.parametrize(
    "command", ["--version", "--help", "protocols", "keygen q", "estimate sum --columns age --parties 2 --rows 10 --json", "demo"]
)
def test_output_that_cannot_be_written_is_one_clear_line(tmp_path, command, output):
    status, said = written_to(output, tmp_path, command)
    # What `keygen` says of the key is for people.
    assert (status, said[2:] if command == "keygen q" else said) == (1, [f"OutputError: cannot write the output: {WHY[output]}"])


@pytest.mark.parametrize("output", WHY)
def test_nor_where_each_line_is_written_at_once(tmp_path, output):
    assert written_to(output, tmp_path, "--version", buffered=False) == (1, [f"OutputError: cannot write the output: {WHY[output]}"])


@pytest.mark.parametrize("output", WHY)
@pytest.mark.parametrize(
    "command", ["audit verify -c a.toml", "audit show -c a.toml --json", "roster show roster.toml", "data check -c a.toml"]
)
def test_of_commands_that_read_the_files_of_a_node(tmp_path, command, output):
    Nodes(tmp_path)
    filled(tmp_path, 2000 if "show" in command else 2)
    assert written_to(output, tmp_path, command) == (1, [f"OutputError: cannot write the output: {WHY[output]}"])


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("output", WHY)
def test_a_fault_is_told_though_its_object_cannot_be_written(tmp_path, output, buffered):
    status, said = written_to(output, tmp_path, "jobs list --json -c none.toml", buffered=buffered)
    assert (status, said[0].partition(":")[0]) == (1, "ConfigError")
    assert said[1:] == ([f"OutputError: cannot write the output: {WHY[output]}"] if buffered else [])
