"""What a type checker says to authors of programs: `mypy --strict` on a user's program and on the README's examples."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import mpc
import mpc.testing
import protocols
from mpc import Floats, Session

ROWS = [[1.0, 2.0], [3.0, 4.0]]


async def own(s: Session, some: list[int | str] | None) -> float:
    assert_type(await protocols.mean(s, ROWS), Floats)
    assert_type(await protocols.mean(s, ROWS, to=0), Floats | None)
    assert_type(await protocols.mean(s, ROWS, to=some), Floats | None)
    assert_type(await protocols.weighted_mean(s, ROWS, [1, 2]), Floats)
    assert_type(await protocols.variance(s, ROWS, ddof=1), Floats)
    assert_type(await protocols.standard_deviation(s, ROWS, to=["p0"]), Floats | None)
    assert_type(await protocols.secure_sum(s, ROWS), NDArray[Any])
    assert_type(await s.run(protocols.mean, ROWS), Floats)
    assert_type(await s.run(protocols.mean, ROWS, to=0), Floats | None)
    return float((await protocols.mean(s, ROWS))[0])


async def shares(s: Session) -> tuple[bool, float] | None:
    x = s.input(ROWS if s.index == 0 else None, owner=0, shape=(2, 2))
    less = await mpc.ltz(s, x)
    assert_type(await s.reveal(x), NDArray[Any])
    assert_type(await s.reveal(x, to=[0]), NDArray[Any] | None)
    assert_type(await s.reveal(less), NDArray[np.bool_])
    assert_type(await s.reveal(less, "p1"), NDArray[np.bool_] | None)
    found = await s.reveal(x, to=0)
    return None if found is None else (bool((await s.reveal(less)).any()), float(found[0, 0]))


async def fitted(s: Session) -> tuple[Floats, float | None]:
    model = await protocols.LinearRegression().fit(s, ROWS, [1.0, 2.0])
    assert_type(await model.predict(s, ROWS), Floats)
    assert_type(model.n_features_in_, int)
    assert_type(model.n_samples_seen_, int)
    return model.coef_, model.intercept_


assert_type(mpc.testing.simulate(2, shares), list[tuple[bool, float] | None])
with mpc.connect_sync("a.toml", job="j") as opened:
    assert_type(opened.run(protocols.mean, ROWS), Floats)
    assert_type(opened.run(protocols.mean, ROWS, to=0), Floats | None)
    assert_type(opened.run(shares, plan=True), tuple[bool, float] | None)
"""
WRONG = {
    "a sum of what may be None": "async def f(s: Session) -> float:\n    return float((await protocols.mean(s, [1.0], to=0)).sum())",
    "a keyword that nobody takes": "async def f(s: Session) -> None:\n    await s.run(protocols.mean, [1.0], too=0)",
    "another type of result": "async def f(s: Session) -> int:\n    return 1\n\n\nx: list[str] = mpc.testing.simulate(2, f)",
    "what coefficients have not": (
        "async def f(s: Session) -> None:\n    (await protocols.LinearRegression().fit(s, [[1.0]], [1.0])).coef_.reveal()"
    ),
    "a quotient of a share": "def f(x: AShare) -> None:\n    x / 2",
    "a product of matrices of shares": "def f(x: AShare) -> None:\n    x @ x",
    "an order of shares": "def f(x: AShare) -> bool:\n    return bool(x > 0)",
    "the number in a share": "def f(x: AShare) -> float:\n    return float(x)",
    "the elements of a share": "def f(x: AShare) -> None:\n    for _ in x:\n        pass",
    "a share for numpy": "def f(x: AShare) -> None:\n    np.mean(x)",
    "a share for own rows": "async def f(s: Session, x: AShare) -> None:\n    await protocols.mean(s, x)",
    "logic on bits without await": "def f(x: BShare) -> None:\n    x & x",
    "what comes after a decision by a share": "def f(x: BShare) -> None:\n    if x:\n        pass\n    return 1",
    "a program of no session": "async def f(s: str) -> int:\n    return 1\n\n\nmpc.testing.simulate(2, f)",
}
HEAD = "import mpc.testing\nimport numpy as np\nimport protocols\nfrom mpc import AShare, BShare, Session\n\n\n"


UNTYPED = "# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls\n"
"""Short examples say no types of their own."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What mypy says of the program, of each wrong one and of each example, by name.

    One run checks them all, since most of its time goes into our own modules.
    """
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    programs = {"program": PROGRAM} | {name: HEAD + text for name, text in WRONG.items()}
    programs |= {f"example {number}": UNTYPED + text for number, text in enumerate(examples)}
    folder = tmp_path_factory.mktemp("programs")
    for name, text in programs.items():
        (folder / f"{name.replace(' ', '_')}.py").write_text(text)
    # Without the checkout's settings, which a user has not, and beside its cache.
    settings = ("--config-file", "", "--cache-dir", ".mypy_cache/of_users", "--strict")
    command = [sys.executable, "-m", "mypy", *settings, *sorted(map(str, folder.glob("*.py")))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 1, done.stdout + done.stderr
    return {name: re.findall(rf"{name.replace(' ', '_')}\.py:\d+: error: (.*)", done.stdout) for name in programs}


@pytest.mark.timeout(300)
def test_results_have_types_of_which_a_checker_can_tell(told):
    assert told["program"] == []
    assert [name for name in WRONG if not told[name]] == []


@pytest.mark.timeout(300)
def test_the_examples_of_the_readme_have_right_types(told):
    found = {name: errors for name, errors in told.items() if name.startswith("example ")}
    assert len(found) >= 5
    assert not any(found.values())
