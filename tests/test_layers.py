"""The rules of the house: imports go down only, files and functions stay short, and nothing forbidden is used."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = sorted(path for package in ("mpc", "protocols", "parties") for path in (ROOT / package).rglob("*.py"))
ALL = PRODUCT + sorted(path for folder in ("tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))

LAYERS = {
    "mpc.errors": 0,
    "mpc.papers": 0,
    "mpc.durable": 0,
    "mpc.ring": 1,
    "mpc.prg": 1,
    "mpc.tabular": 1,
    "mpc.fixed_point": 1,
    "mpc.canonical": 1,
    "mpc.kernels": 1,
    "mpc.membership": 2,
    "mpc.naming": 2,
    "mpc.values": 2,
    "mpc.ledger": 2,
    "mpc.program": 2,
    "mpc.framing": 3,
    "mpc.transport": 4,
    "mpc.channels": 5,
    "mpc.network": 5,
    "mpc.messaging": 5,
    "mpc.preprocessing": 6,
    "mpc.engine": 7,
    "mpc.later": 7,
    "mpc.masking": 7,
    "mpc.op_session": 7,
    "mpc.session": 7,
    "mpc.config": 7,
    "mpc.estimate": 7,
    "mpc.blocking": 7,
    "mpc.node": 7,
    "mpc.following": 7,
    "mpc.ops": 8,
    "mpc": 8,
    "mpc.testing": 9,
    "protocols": 10,
    "parties": 11,
}
PURE = {0, 1, 2, 3}
IO = {"asyncio", "socket", "selectors", "ssl", "threading", "subprocess"}
FORBIDDEN = {"pickle", "random", "numpy.random", "marshal", "shelve", "dill", "cloudpickle"}
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str | None:
    while module and module not in LAYERS:
        module = module.rpartition(".")[0]
    return module or None


def layer(module: str) -> int | None:
    return LAYERS.get(room(module))


def imports(path: Path):
    """Every imported module with whether it is for type checking only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in typing_only
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*full.split("."))).with_suffix(".py").exists() or (ROOT / Path(*full.split("."))).is_dir()
                yield (full if is_module or full in FORBIDDEN else node.module), node in typing_only


def test_every_module_has_a_layer():
    assert [module_of(path) for path in PRODUCT if layer(module_of(path)) is None] == []
    unknown = [
        name
        for name in LAYERS
        if not (ROOT / Path(*name.split("."))).exists() and not (ROOT / Path(*name.split("."))).with_suffix(".py").exists()
    ]
    assert unknown == []


@pytest.mark.parametrize("path", PRODUCT, ids=module_of)
def test_imports_go_down(path):
    mine = module_of(path)
    if mine == "mpc":
        return
    for wanted, _ in imports(path):
        theirs = layer(wanted) if wanted.split(".")[0] in {"mpc", "protocols", "parties"} else None
        if theirs is not None:
            assert theirs <= layer(mine), f"{mine} (layer {layer(mine)}) imports {wanted} (layer {theirs})"


def test_rooms_import_each_other_one_way():
    below = defaultdict(set)
    for path in PRODUCT:
        mine = room(module_of(path))
        below[mine] |= {theirs for wanted, typing_only in imports(path) if not typing_only and (theirs := room(wanted)) not in {None, mine}}
    del below["mpc"]
    # CycleError names a circle, if there is one.
    TopologicalSorter(below).prepare()


@pytest.mark.parametrize("path", PRODUCT, ids=module_of)
def test_forbidden_imports(path):
    mine = module_of(path)
    for wanted, typing_only in imports(path):
        assert wanted not in FORBIDDEN and wanted.split(".")[0] not in FORBIDDEN, f"{mine} imports {wanted}"
        if wanted.split(".")[0] == "aiomqtt":
            assert mine == "mpc.transport.broker"
        if wanted.split(".")[0] in {"prometheus_client", "h11"}:
            assert mine.startswith("parties.status.")
        if wanted.startswith("mpc.testing"):
            assert mine.startswith("mpc.testing"), f"{mine}: production code never imports mpc.testing"
        if layer(mine) in PURE and mine not in {"mpc.naming.scope"} and not typing_only:
            assert wanted.split(".")[0] not in IO, f"{mine} is pure and imports {wanted}"


@pytest.mark.parametrize(
    "line",
    ["import numpy.random", "import numpy.random as draw", "from numpy import random as draw", "from numpy.random import default_rng"],
)
def test_no_way_to_import_what_is_forbidden_is_overlooked(tmp_path, line):
    (tmp_path / "module.py").write_text(line)
    assert {wanted for wanted, _ in imports(tmp_path / "module.py")} & FORBIDDEN


def test_protocols_use_public_names_only():
    for path in PRODUCT:
        if module_of(path).split(".")[0] == "protocols":
            assert {wanted for wanted, _ in imports(path) if wanted.startswith("mpc.")} == set()


def test_no_insecure_randomness_or_runtime_asserts():
    for path in PRODUCT:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: assert is no runtime check"
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in {"np.random", "numpy.random"}, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes_and_names(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert path.stem not in VAGUE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_cited_papers_exist_and_are_cited():
    from mpc.papers import PAPERS

    cited = set()
    for path in PRODUCT:
        for group in re.findall(r"\(papers?: ([a-z0-9, -]+)\)", path.read_text()):
            cited.update(key.strip() for key in group.split(","))
    assert cited == set(PAPERS)
    assert all(paper.url.startswith("https://") for paper in PAPERS.values())


def test_testing_is_not_loaded_by_production_code():
    import subprocess
    import sys

    code = "import sys, mpc, protocols, parties.cli; sys.exit(any(name.startswith('mpc.testing') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
