"""What several test files use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT.parent / "shared" / "vectors"


@pytest.fixture(scope="session")
def vectors():
    """Read a public vector file, or skip where the folder is absent."""

    def load(name: str):
        path = VECTORS / name
        if not path.exists():
            pytest.skip(f"public vectors are not here: {path}")
        return json.loads(path.read_text())

    return load
