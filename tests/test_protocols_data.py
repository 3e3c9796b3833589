"""Models and statistics of data as people have them: columns that are constant, frames of mixed types, what is missing, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

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
