"""Models and statistics of data as people have them: columns that are constant, frames of mixed types, what is missing, and what does not fit."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import Ridge

import mpc
from mpc import PrecisionError
from protocols import LinearRegression
from tests.test_protocols_linear import X, Y, by_columns, by_rows


@pytest.mark.parametrize("constant", [0.0, 0.3, 7.0])
@pytest.mark.parametrize("alpha", [0.001, 0.5, 2.0, 100.0])
@pytest.mark.parametrize("split", ["rows", "columns"])
def test_a_penalty_fits_beside_a_column_that_is_constant(split, alpha, constant):
    x = np.column_stack([np.full(len(X), constant), X[:, 2:4]])
    run = by_rows if split == "rows" else by_columns
    pooled = Ridge(alpha=alpha).fit(x, Y)
    scale = np.sqrt(x.var(axis=0) + alpha / len(x)) / Y.std()
    for model, score, _ in run(3, lambda: LinearRegression(split=split, alpha=alpha), x, Y):
        assert (np.abs(model.coef_ - pooled.coef_) * scale).max() < 1e-6
        assert abs(score - pooled.score(x, Y)) < 1e-6


def test_dates_beside_numbers_are_named_in_an_arrow_table_too():
    days = [dt.date(2020, 1, 1), dt.date(2020, 1, 2)]
    for table in (pa.table({"bmi": [1.0, 2.0], "seen": days}), pa.record_batch({"bmi": [1, 2], "seen": days})):
        with pytest.raises(PrecisionError, match=r"column 'seen' holds date; encode that as numbers, or leave it out$"):
            mpc.as_numbers(table)


@pytest.mark.parametrize("values", [{1, 2}, (each for each in [1.0]), {"a": [1.0]}])
def test_what_is_no_array_is_told_by_its_type(values):
    with pytest.raises(PrecisionError, match=rf"^numbers are needed, .*: it is a {type(values).__name__}; make an array of numbers of it$"):
        mpc.as_numbers(values)
