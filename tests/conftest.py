"""What several test files use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.nodes import Nodes

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT.parent / "shared" / "vectors"


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
