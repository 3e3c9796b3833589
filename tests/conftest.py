"""Fixtures and helpers that several test files use."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from tests.nodes import Nodes

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT.parent / "shared" / "vectors"


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    # What is imported and collected stays: to look for garbage among it took a sixth of the time of simulations.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def home(tmp_path):
    """A folder with the files of a, b, c and the dealer, none of which runs."""
    Nodes(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def vectors():
    """Read a public vector file, or skip where the folder is absent."""

    def load(name: str):
        path = VECTORS / name
        if not path.exists():
            pytest.skip(f"public vectors are not here: {path}")
        return json.loads(path.read_text())

    return load
