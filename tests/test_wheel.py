"""The wheel, installed into a clean environment, runs the demo from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.timeout(300)
def test_the_wheel_runs_the_demo_elsewhere(tmp_path):
    # Without PYTHONPATH, so that what runs is the wheel and not the checkout.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command, **options):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, env=environment, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("beaver_mpc-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"mpc", "protocols", "parties"}
    assert {"parties/data/diabetes.csv", "parties/status/page.html"} <= set(names)
    # Without these, type checkers and editors take every signature of an installed package for Any (PEP 561).
    assert {"mpc/py.typed", "protocols/py.typed", "parties/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "clean"))
    binaries = tmp_path / "clean" / "bin"
    pip = (sys.executable, "-m", "pip", "--python", str(binaries / "python"))
    run(*pip, "install", "--quiet", "--disable-pip-version-check", "--no-compile", str(wheel))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shown = run(str(binaries / "beaver"), "demo", cwd=elsewhere)
    assert "pooled plaintext" in shown
    where = run(str(binaries / "python"), "-c", "import mpc; print(mpc.__file__)", cwd=elsewhere)
    assert str(tmp_path / "clean") in where


def test_the_versions_of_python_are_the_same_wherever_they_are_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    versions = [name.removeprefix(prefix) for name in project["classifiers"] if name.startswith(prefix + "3.")]
    assert project["requires-python"] == f">={versions[0]}"
    assert f"pass on Python {', '.join(versions[:-1])} and {versions[-1]};" in (ROOT / "README.md").read_text()
    assert f"in {' '.join(f'python{version}' for version in versions)} python3;" in (ROOT / "Makefile").read_text()
