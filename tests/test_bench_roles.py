"""The profile of a workload by role covers all its work, and names a purpose for every package that computes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.test_layers import LAYERS

SCRIPT = ROOT / "benchmarks" / "roles.py"


@pytest.fixture(scope="module")
def roles():
    spec = importlib.util.spec_from_file_location("roles", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_package_that_computes_has_a_purpose(roles):
    packages = [ROOT / module.replace(".", "/") for module, layer in LAYERS.items() if module.startswith("mpc.") and layer < 9]
    files = [file for package in packages if package.is_dir() and package.name != "membership" for file in package.glob("*.py")]
    assert len(files) > 50
    assert [str(file) for file in files if roles.purpose(str(file)) == "else"] == []


def test_what_a_thread_would_do_is_in_the_profile(tmp_path):
    """Matrix products usually run in a thread, where the profiler would not see them, at the parties and at the dealer."""
    command = [sys.executable, SCRIPT, "W5", "--size", "512", "--repeats", "1", "--json", tmp_path / "roles.jsonl"]
    subprocess.run(command, check=True, capture_output=True, timeout=80)
    found = json.loads((tmp_path / "roles.jsonl").read_text())["roles"]
    for parts in found.values():
        assert parts["kernels and numpy"] > 0.25 * sum(parts.values()), found
