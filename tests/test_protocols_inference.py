"""Standard errors of coefficients against the formula on the pooled rows, for any receivers, near collinearity and a perfect fit."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from mpc import ConfigError, PrecisionError
from mpc.testing import simulate
from parties.data import load_diabetes
from protocols import LinearRegression

TABLE = load_diabetes()
X, Y = TABLE.rows[:, :10], TABLE.rows[:, 10]


def reference(x, y):
    """sqrt(RSS / (n - d - 1) · ((X'X)^-1)_jj), the columns being standardised for the inverse; and last that of the intercept."""
    (n, d), spread = x.shape, x.std(axis=0)
    centred = (x - x.mean(axis=0)) / spread
    q, r = np.linalg.qr(centred)
    apart = (y - y.mean()) - q @ (q.T @ (y - y.mean()))
    inverse, rest = np.linalg.inv(r), apart @ apart / (n - d - 1)
    intercept = np.sqrt(rest * (1 / n + np.square((x.mean(axis=0) / spread) @ inverse).sum()))
    return np.append(np.sqrt(rest * np.square(inverse).sum(axis=1)) / spread, intercept)


def all_of(found):
    return [*found.coefficients, found.intercept]


def errors(x, y, n=3, to=None, **options):
    """The standard errors that each of n parties gets."""

    async def program(s):
        model = await LinearRegression(**options).fit(s, x[s.index :: n], y[s.index :: n], to=to)
        s.log.info("fitted")
        before = s.cost.rounds
        found = await model.standard_errors(s, to=to)
        assert s.cost.rounds - before == 5
        return found

    return simulate(n, program, check_bounds=True)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_they_are_those_of_the_pooled_rows(n):
    for found in errors(X, Y, n):
        np.testing.assert_allclose(all_of(found), reference(X, Y), rtol=5e-5)
        assert (found.degrees_of_freedom, type(found.degrees_of_freedom)) == (len(X) - 11, int)
        assert abs(found.r_squared - 0.5177484) < 1e-6


def test_they_go_to_the_receivers_and_so_does_what_they_are_made_of(caplog):
    caplog.set_level(logging.INFO)
    one, *others = errors(X, Y, to=0)
    np.testing.assert_allclose(all_of(one), reference(X, Y), rtol=5e-5)
    assert others == [None, None]
    for name in ("p0", "p1", "p2"):
        said = [record.getMessage() for record in caplog.records if record.name == f"beaver.{name}"]
        after = sorted(line for line in said[said.index("fitted") :] if line.startswith("revealed"))
        assert sorted(line.partition("shape=")[2].split(" times")[0] for line in after) == ["() to=p0", "(10,) to=p0", "(2,) to=p0"]


@pytest.mark.parametrize("apart", [1.0, 1e-1, 1e-2])
@pytest.mark.parametrize("noise", [10.0, 1.0, 1e-1])
def test_however_collinear_the_columns_and_however_they_are_scaled(apart, noise):
    """An inflation of 40,000 at the most."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((300, 5))
    x[:, 1] = x[:, 0] + apart * x[:, 1]
    y = x @ np.array([1.0, -1.0, 2.0, 0.5, 0.0]) + noise * rng.standard_normal(300)
    x = x * [1e-3, 1.0, 1e3, 50.0, 7.0] + [1.0, 0.0, 1e4, -30.0, 1900.0]
    for found in errors(x, y, 2):
        np.testing.assert_allclose(all_of(found), reference(x, y), rtol=5e-5)


@pytest.mark.parametrize("columns", [1, 2, 10])
@pytest.mark.parametrize("seed", range(3))
def test_errors_of_a_fit_that_is_nearly_perfect_are_right_or_refused(columns, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, columns))
    noise, line = rng.standard_normal(60), x @ rng.standard_normal(columns) + 5.0
    noise -= np.column_stack([x, np.ones(60)]) @ np.linalg.lstsq(np.column_stack([x, np.ones(60)]), noise, rcond=None)[0]
    for left in (0.0, 1e-9, 0.9, 1.1, 30.0):
        part = left * (columns + 1) * 2.0**-22 if left >= 0.1 else left
        y = line + noise / noise.std() * line.std() * np.sqrt(part)
        if left < 1.0:
            with pytest.raises(
                PrecisionError, match="^the fit leaves less than .* of the variance of y, which cannot be told from rounding"
            ):
                errors(x, y, 2)
        else:
            for found in errors(x, y, 2):
                np.testing.assert_allclose(all_of(found), reference(x, y), rtol=0.025 / left)
                assert found.r_squared < 1


def test_an_error_of_a_perfect_fit_is_that_of_its_receivers():
    async def program(s):
        x = np.random.default_rng(s.index).standard_normal((20, 2))
        model = await LinearRegression().fit(s, x, x @ [2.0, -1.0] + 5.0)
        score = await model.fitted_score(s)
        if s.index == 1:
            with pytest.raises(PrecisionError, match="has no standard errors to tell"):
                await model.standard_errors(s, to=1)
        else:
            assert await model.standard_errors(s, to=1) is None
        return score

    for score in simulate(2, program):
        assert 1 - 1e-7 < score <= 1.0


def test_no_score_of_a_fit_is_above_1():
    async def program(s, seed):
        x = np.random.default_rng([seed, s.index]).standard_normal((20, 2))
        return await (await LinearRegression().fit(s, x, x @ [2.0, -1.0] + 5.0)).fitted_score(s)

    assert max(max(simulate(2, lambda s, seed=seed: program(s, seed))) for seed in range(8)) <= 1.0


def test_no_row_beyond_the_coefficients_is_an_error():
    x = np.random.default_rng(8).standard_normal((20, 2))
    with pytest.raises(ConfigError, match="no more rows than coefficients"):
        errors(x[:3], np.array([1.0, 2.0, 4.0]), 2)
    assert errors(x[:4], np.array([1.0, 2.0, 4.0, 1.0]), 2)[0].degrees_of_freedom == 1


@pytest.mark.parametrize(
    "options",
    [{"alpha": 1.0}, {"moments": "secret"}, {"fit_intercept": False}, {"solver": "sgd"}, {"split": "columns"}, {"split": "shared"}],
)
def test_other_fits_have_none(options):
    async def program(s):
        x, y = X[s.index :: 2], Y[s.index :: 2]
        if options.get("split") == "columns":
            x, y = X[:, 5 * s.index : 5 * s.index + 5], Y if s.index == 0 else None
        elif options.get("split") == "shared":
            x, y = [sum(await s.inputs(own[:40] / 2, bound=400.0)) for own in (X, Y)]
        await (await LinearRegression(**options).fit(s, x, y)).standard_errors(s)

    with pytest.raises(ConfigError, match="standard errors need"):
        simulate(2, program)
