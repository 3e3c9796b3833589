"""docs/protocols.md is what the protocols declare (invariant 33)."""

from __future__ import annotations

import dataclasses
import inspect
import re

import numpy as np
import pandas as pd
import pytest

from mpc import Disagreement
from mpc.testing import simulate
from protocols import PROTOCOLS, LinearRegression
from protocols.document import COLUMNS, FITS, PARTIES, ROWS, document
from tests.conftest import ROOT


def test_the_document_is_up_to_date():
    assert (ROOT / "docs" / "protocols.md").read_text() == document(), "run: python -m protocols.document > docs/protocols.md"


def test_every_protocol_has_a_row_that_says_what_it_reveals():
    lines = document().splitlines()
    for each in PROTOCOLS.values():
        (row,) = [line for line in lines if line.startswith(f"| `{each.name}(")]
        assert each.reveals == "nothing" or f" | {each.reveals} | " in row


def test_what_a_model_does_on_shares_has_a_row():
    text = document()
    for name, call in vars(LinearRegression).items():
        if not name.startswith("_") and "Session" in str(inspect.signature(call)):
            assert f"| `model.{name}(" in text
    assert "to=None" in text.split("| `model.fit(")[1].split("`")[0]


def test_what_a_session_has_to_be_awaited_for_is_written_so():
    text = document()
    for name in ("inputs", "mask", "reveal", "run", "made"):
        assert f"| `await s.{name}(" in text
    for name in ("encode", "zero", "input"):
        assert f"| `s.{name}(" in text


def test_what_a_model_tells_of_its_fit_stands_with_it():
    for name, told in (("fitted_score", "R²"), ("standard_errors", "variance inflation factor")):
        (row,) = [line for line in document().splitlines() if line.startswith(f"| `model.{name}(")]
        assert f"Reveals {'R²' if name == 'fitted_score' else 'to the receivers'}" in row
        assert told in row
        assert 'For solver="exact"' in row


def done(number):
    """The outcome of the recipe with this number, done as written."""
    recipes = re.findall(r"```python\n(.*?)```", document(), re.DOTALL)
    scope = {}
    exec(compile(recipes[number], "protocols.md", "exec"), scope)  # noqa: S102
    return scope


def test_the_recipe_for_a_test_of_a_protocol_runs_and_every_parameter_has_a_row():
    assert "sum_of_squares" in done(1)
    text = document().partition("## Testing")[2]
    for name, parameter in inspect.signature(simulate).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert f"| `{name}={parameter.default if name != 'clocks' else ''}` |" in text


def test_what_a_session_tells_has_a_row():
    told = {"index", "n", "names", "cost", "id", "releases", "announcements", "log"}

    async def program(s):
        return {name for name in told if hasattr(s, name)}, {field.name for field in dataclasses.fields(s.cost)}

    (row,) = [line for line in document().splitlines() if line.startswith("| `s.cost` |")]
    for public, figures in simulate(2, program):
        assert public == {name for name in told if f"`s.{name}`" in document()} == told
        # Not how the node looks on: these are no figures.
        assert all(f"`{name}`" in row for name in figures - {"on_round", "revealing"})


def test_the_recipe_for_groups_runs_and_compares_the_groups():
    scope = done(0)
    frame = pd.DataFrame({"region": ["south", "north", "east", "south", "north"], "cost": [1.0, 2.0, 3.0, 4.0, 6.0]})
    mine = frame[:2], frame[2:]
    for found in simulate(2, lambda s: scope["mean_costs"](s, mine[s.index])):
        assert {name: round(float(value), 4) for name, value in found.items()} == {"east": 3.0, "north": 4.0, "south": 2.5}
    with pytest.raises(Disagreement):
        simulate(2, lambda s: scope["mean_costs"](s, mine[s.index], tuple(mine[s.index]["region"].unique())))


@pytest.mark.parametrize("solver", FITS)
def test_a_fit_costs_what_its_row_says(solver):
    rng = np.random.default_rng(7)

    async def program(s):
        x = rng.normal(size=(ROWS, COLUMNS))
        await LinearRegression(solver, **FITS[solver]).fit(s, x, x.sum(axis=1))
        return s.cost.rounds, s.cost.payload

    (row,) = [line for line in document().splitlines() if line.startswith(f'| `solver="{solver}"')]
    rounds, payload = max(simulate(PARTIES, program))
    assert [f"{rounds:,}", f"{payload:,}"] == [cell.strip() for cell in row.split("|")][4:6]
