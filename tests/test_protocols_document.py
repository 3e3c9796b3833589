"""docs/protocols.md is what the protocols declare (invariant 33)."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

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
