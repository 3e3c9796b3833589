"""Linear models against scikit-learn on the pooled data: precision, options, faults, and what they reveal."""

from __future__ import annotations

import asyncio
import logging
import threading

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression as Pooled
from sklearn.linear_model import Ridge

import mpc
from mpc import ConfigError, PrecisionError, ProgramError
from mpc.testing import simulate
from parties.data import load_diabetes
from protocols import LinearRegression, blockwise

TABLE = load_diabetes()
X, Y = TABLE.rows[:, :10], TABLE.rows[:, 10]


def error(found, wanted, x):
    """max |dw| sd / max |w| sd."""
    sd = x.std(axis=0)
    return float((np.abs(found - wanted) * sd).max() / (np.abs(wanted) * sd).max())


def by_rows(n, model, x, y, parts=None, **options):
    parts = parts or np.array_split(np.arange(len(x)), n)

    async def program(s):
        mine = parts[s.index]
        fitted = await model().fit(s, x[mine], y[mine])
        return fitted, await fitted.score(s, x[mine], y[mine]), await fitted.predict(s, x[mine])

    return simulate(n, program, **options)


def by_columns(n, model, x, y, owner=-1, **options):
    parts = np.array_split(np.arange(x.shape[1]), n)

    async def program(s):
        mine, target = parts[s.index], y if s.index == owner % n else None
        fitted = await model().fit(s, x[:, mine], target)
        return fitted, await fitted.score(s, x[:, mine], target), await fitted.predict(s, x[:, mine])

    return simulate(n, program, **options)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("moments", ["reveal", "secret"])
def test_rows_on_diabetes(n, moments):
    reference = Pooled().fit(X, Y)
    parts = np.split(np.arange(len(X)), np.sort(np.random.default_rng(n).integers(1, len(X), n - 1)))
    results = by_rows(n, lambda: LinearRegression(moments=moments), X, Y, parts, seed=n, check_bounds=True)
    for index, (model, score, predicted) in enumerate(results):
        assert error(model.coef_, reference.coef_, X) < 1e-5
        assert abs(model.intercept_ - reference.intercept_) < 1e-2
        assert abs(score - reference.score(X, Y)) < 1e-6
        assert np.allclose(predicted, reference.predict(X[parts[index]]), atol=1e-2)
        assert np.allclose(model.predict(X), reference.predict(X), atol=1e-2)
        assert abs(model.score(X, Y) - reference.score(X, Y)) < 1e-6
        assert (model.n_features_in_, model.n_samples_seen_) == (10, 442)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_columns_on_diabetes(n):
    reference = Pooled().fit(X, Y)
    for model, score, predicted in by_columns(n, lambda: LinearRegression(split="columns"), X, Y, owner=n // 2, seed=n, check_bounds=True):
        assert error(model.coef_, reference.coef_, X) < 1e-5
        assert abs(model.intercept_ - reference.intercept_) < 1e-2
        assert abs(score - reference.score(X, Y)) < 1e-6
        assert np.allclose(predicted, reference.predict(X), atol=1e-2)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_shared_data(n):
    reference = Pooled().fit(X, Y)

    async def program(s):
        x = s.input(X if s.index == 0 else None, 0, X.shape, bound=2.0**10)
        y = s.input(Y if s.index == 1 else None, 1, Y.shape, bound=2.0**10)
        model = await LinearRegression(split="shared").fit(s, x, y)
        return model.coef_, model.intercept_

    for coefficients, intercept in simulate(n, program, seed=1, check_bounds=True):
        assert error(coefficients, reference.coef_, X) < 1e-5
        assert abs(intercept - reference.intercept_) < 1e-2


@pytest.mark.parametrize("split", ["rows", "columns"])
@pytest.mark.parametrize("alpha", [0.01, 5.0, 1e4])
def test_ridge(split, alpha):
    reference = Ridge(alpha).fit(X, Y)
    run = by_rows if split == "rows" else by_columns
    for model, _, _ in run(3, lambda: LinearRegression(split=split, alpha=alpha), X, Y, check_bounds=True):
        assert error(model.coef_, reference.coef_, X) < 1e-4
        assert abs(model.intercept_ - reference.intercept_) < 1e-1


def test_ridge_with_secret_moments():
    reference = Ridge(3.0).fit(X, Y)
    for model, _, _ in by_rows(3, lambda: LinearRegression(alpha=3.0, moments="secret"), X, Y, check_bounds=True):
        assert error(model.coef_, reference.coef_, X) < 1e-4


@pytest.mark.parametrize("split", ["rows", "columns"])
def test_without_an_intercept(split):
    reference = Pooled(fit_intercept=False).fit(X, Y)
    run = by_rows if split == "rows" else by_columns
    for model, _, _ in run(2, lambda: LinearRegression(split=split, fit_intercept=False), X, Y):
        assert error(model.coef_, reference.coef_, X) < 1e-4
        assert model.intercept_ == 0.0 or abs(model.intercept_) < 1e-5


def ill_conditioned(condition, rows=3000, d=6, seed=0):
    """Scales 0.1..1000, offsets to 1000, two columns so close that the correlation matrix has about this condition."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, d))
    z[:, 1] = z[:, 0] + 2 / np.sqrt(condition) * z[:, 1]
    x = z * np.geomspace(0.1, 1000, d)[rng.permutation(d)] + rng.uniform(-1000, 1000, d)
    w = rng.normal(size=d) / x.std(axis=0)
    return x, x @ w + rng.normal(size=rows)


@pytest.mark.parametrize("condition", [1e2, 1e4])
@pytest.mark.parametrize("how", ["rows", "secret", "columns"])
def test_precision_on_ill_scaled_and_ill_conditioned_data(condition, how):
    x, y = ill_conditioned(condition)
    reference = Pooled().fit(x, y)
    if how == "columns":
        results = by_columns(3, lambda: LinearRegression(split="columns"), x, y, check_bounds=True)
    else:
        results = by_rows(3, lambda: LinearRegression(moments="secret" if how == "secret" else "reveal"), x, y, check_bounds=True)
    for model, _, _ in results:
        assert error(model.coef_, reference.coef_, x) < 1e-3


FLAT = np.column_stack([X[:, :3], np.full(len(X), 7.25)])
BAD = {
    "collinear": (np.column_stack([X, X[:, 0]]), "collinear over the pooled rows"),
    "nearly collinear": (np.column_stack([X, 2 * X[:, 0] - X[:, 3] + 1e-9]), "alpha > 0"),
    "constant": (FLAT, "'x3' are constant over the pooled rows"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("moments", ["reveal", "secret"])
def test_columns_without_unique_coefficients_are_a_named_error(what, moments):
    x, message = BAD[what]
    message = "constant over the pooled rows" if what == "constant" else message
    with pytest.raises(ConfigError, match=message):
        by_rows(3, lambda: LinearRegression(moments=moments), x, Y)
    models = by_rows(2, lambda: LinearRegression(alpha=1.0), x, Y)
    assert error(models[0][0].coef_[:3], Ridge(1.0).fit(x, Y).coef_[:3], x[:, :3]) < 1e-3


def test_constant_column_of_one_owner():
    with pytest.raises(ConfigError, match="are constant"):
        by_columns(2, lambda: LinearRegression(split="columns"), FLAT, Y)


def test_sgd_approaches_the_exact_solution():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 5)) * [1, 10, 0.5, 100, 3] + 20
    y = x @ [3.0, -0.2, 1.0, 0.05, 0.5] + 0.1 * rng.normal(size=400)
    reference = Pooled().fit(x, y)
    make = lambda split: lambda: LinearRegression("sgd", split, epochs=4, batch_size=32, learning_rate=0.25)  # noqa: E731
    for results in (by_rows(3, make("rows"), x, y, check_bounds=True), by_columns(2, make("columns"), x, y, check_bounds=True)):
        for model, _, _ in results:
            assert error(model.coef_, reference.coef_, x) < 0.02


@pytest.mark.parametrize("rate", [0.25, 0.2])
def test_sgd_steps_are_those_of_numpy(rate):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(100, 4)), rng.normal(size=100)
    w = np.zeros(4)
    # The last 4 rows are no step by themselves.
    for part in (slice(0, 32), slice(32, 64), slice(64, 100)):
        w -= rate / len(y[part]) * x[part].T @ (x[part] @ w - y[part])

    async def program(s):
        shares = [s.input(part if s.index == 0 else None, 0, part.shape, bound=16.0) for part in (x, y)]
        return (
            await LinearRegression("sgd", "shared", fit_intercept=False, epochs=1, batch_size=32, learning_rate=rate).fit(s, *shares)
        ).coef_

    for found in simulate(3, program, check_bounds=True):
        assert np.allclose(found, w, atol=1e-4)


@pytest.mark.parametrize("split", ["rows", "columns"])
def test_shared_coefficients_predict_jointly(split):
    reference = Pooled().fit(X, Y)
    rows, columns = np.array_split(np.arange(len(X)), 3), np.array_split(np.arange(10), 3)

    async def program(s):
        x = X[rows[s.index]] if split == "rows" else X[:, columns[s.index]]
        y = Y[rows[s.index]] if split == "rows" else Y if s.index == 1 else None
        model = await LinearRegression(split=split).fit(s, x, y, reveal=False)
        assert isinstance(model.coef_, mpc.AShare)
        with pytest.raises(ProgramError, match="coefficients are shared"):
            model.predict(X)
        return await model.predict(s, x)

    for index, predicted in enumerate(simulate(3, program)):
        wanted = reference.predict(X[rows[index]] if split == "rows" else X)
        assert np.abs(predicted - wanted).max() < 1e-2


REVEALS = {"rows": 4, "secret": 4, "columns": 4}


@pytest.mark.parametrize("how", REVEALS)
def test_fit_reveals_what_its_head_says(how, caplog):
    caplog.set_level(logging.INFO)
    if how == "columns":

        async def program(s):
            part = np.array_split(np.arange(10), 2)[s.index]
            await LinearRegression(split="columns").fit(s, X[:, part], Y if s.index else None)
    else:

        async def program(s):
            part = np.array_split(np.arange(len(X)), 2)[s.index]
            await LinearRegression(moments="secret" if how == "secret" else "reveal").fit(s, X[part], Y[part])

    simulate(2, program)
    shapes = sorted(line.split("shape=")[1].split(" to=")[0] for line in caplog.messages if line.startswith("revealed") and "p0" in line)
    expected = {
        # count and sums, coarse squares; squares about the mean; the bit; the coefficients.
        "rows": ["()", "(10,)", "(11,)", "(12,)", "(22,)"],
        # the count; powers of two; the bit; the coefficients; the intercept.
        "secret": ["()", "()", "(1,)", "(10,)", "(11,)"],
        # powers of two; the bit; the coefficients; the intercept.
        "columns": ["()", "()", "(10,)", "(11,)"],
    }[how]
    assert sorted(shapes) == sorted(expected * 2)


def test_unequal_rows_are_an_error_that_names_both():
    async def program(s):
        rows = 100 + s.index
        await LinearRegression(split="columns").fit(s, X[:rows, :3], Y[:rows] if s.index else None)

    with pytest.raises(ConfigError, match="p0 has 100 rows and p1 has 101"):
        simulate(2, program)


@pytest.mark.parametrize("holders", [0, 2])
def test_exactly_one_party_has_y(holders):
    async def program(s):
        await LinearRegression(split="columns").fit(s, X[:, :3], Y if s.index < holders else None)

    with pytest.raises(ConfigError, match="exactly one party passes y"):
        simulate(3, program)


FAULTS = {
    "solver": (lambda: LinearRegression("magic"), X, Y, ConfigError, "'magic' is none of 'exact', 'sgd'"),
    "alpha": (lambda: LinearRegression(alpha=-1.0), X, Y, ConfigError, "alpha=-1.0"),
    "shape": (LinearRegression, X[:, 0], Y, ConfigError, r"must have shape \(n, d\)"),
    "text": (LinearRegression, np.array([["a"] * 3] * 5), np.zeros(5), ConfigError, "must be numbers"),
    "nan": (LinearRegression, np.where(X[3, 4] == X, np.nan, X), Y, ConfigError, "row 3, column 4 is not a finite number"),
    "no target": (LinearRegression, X, None, ConfigError, "every party passes y"),
    "penalised descent": (lambda: LinearRegression("sgd", alpha=1.0), X, Y, ConfigError, "has no penalty"),
    "secret columns": (lambda: LinearRegression(split="columns", moments="secret"), X, Y, ConfigError, 'for split="rows"'),
    "shared": (lambda: LinearRegression(split="shared"), X, Y, ProgramError, "takes AShares"),
    "empty": (LinearRegression, X[:0], Y[:0], ConfigError, "the pool is empty"),
    # Their sums fit: no reveal of those is left behind unawaited, which Python warns of.
    "huge squares": (LinearRegression, X, Y * 1e8, PrecisionError, r"column\(s\) 'y', or their squares, sum to more than the ring holds"),
    "huge": (LinearRegression, X * 1e30, Y, PrecisionError, r"column\(s\) 'x0', 'x1', .*'x9', or their squares, sum to more"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults_are_named(what):
    make, x, y, kind, message = FAULTS[what]

    async def program(s):
        await make().fit(s, x, y)

    with pytest.raises(kind, match=message):
        simulate(2, program)


class Frame:
    """All that `fit` needs of a data frame: named columns that become an array."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype)


def test_names_of_columns_are_kept_and_used_in_errors():
    names = TABLE.columns[:4]

    async def program(s):
        part = np.array_split(np.arange(len(X)), 2)[s.index]
        model = await LinearRegression().fit(s, Frame(names, X[part, :4]), Y[part])
        with pytest.raises(ConfigError, match="'bmi' are constant"):
            await LinearRegression().fit(s, Frame(names, np.where(np.arange(4) == 2, 1.0, X[part, :4])), Y[part])
        assert np.array_equal(model.predict(Frame(names, X[:, :4])), model.predict(X[:, :4]))
        with pytest.raises(ConfigError, match="and the fit had age, sex, bmi, bp: pass these, in this order"):
            model.predict(Frame(names[::-1], X[:, 3::-1]))
        with pytest.raises(ConfigError, match="in this order"):
            await model.score(s, Frame(names[::-1], X[:, 3::-1]), Y)
        return model.feature_names_in_.tolist(), model.n_features_in_

    assert simulate(2, program) == [(names, 4)] * 2


def test_the_conventions_of_scikit_learn():
    model = LinearRegression(alpha=2.0)
    assert model.get_params()["alpha"] == 2.0
    assert model.set_params(split="columns") is model
    assert model.split == "columns"
    with pytest.raises(ConfigError, match="no parameter 'gamma'"):
        model.set_params(gamma=1)
    with pytest.raises(ProgramError, match="not fitted yet"):
        model.predict(X)
    assert "alpha=2.0" in repr(model)


@pytest.mark.parametrize("n", [2, 3])
def test_the_estimate_is_what_a_fit_costs(n):
    async def program(s, x, y):
        before = s.cost.rounds, s.cost.payload
        shares = [s.input(part if s.index == 0 else None, 0, part.shape, bound=16.0) for part in (x, y)]
        await LinearRegression(split="shared").fit(s, *shares)
        return s.cost.rounds - before[0], s.cost.payload - before[1], s.cost.corrections

    z = (X - X.mean(axis=0)) / X.std(axis=0)
    t = (Y - Y.mean()) / Y.std()
    results = simulate(n, lambda s: program(s, z, t))
    plan = mpc.estimate(program, n, [X.shape, Y.shape])
    assert max(result[0] for result in results) == plan.rounds
    assert results[0][1] == plan.payload
    assert sum(result[2] for result in results) == plan.dealer


@pytest.mark.parametrize(("rows", "order"), [(0, "C"), (1, "C"), (63, "C"), (5000, "C"), (5000, "F")])
@pytest.mark.parametrize("target", [True, False])
def test_products_by_blocks_are_those_of_numpy(rows, order, target):
    rng = np.random.default_rng(rows)
    x = np.asarray(np.sort(rng.normal(size=(rows, 3)), axis=0) * [1e-6, 1.0, 1e6] + [1e3, -50.0, 1e9], order=order)
    y = rng.normal(size=rows) + 7 if target else None
    full = x if y is None else np.column_stack([x, y])
    own = blockwise.products(x, y)
    centre = full.mean(axis=0) if rows else np.zeros(full.shape[1])
    assert np.allclose(blockwise.mean(own), centre, rtol=1e-14)
    moved = blockwise.about(own, centre)
    scale = full.std(axis=0) * np.sqrt(rows) if rows > 1 else np.ones(full.shape[1])
    apart = (full - centre) / scale
    assert np.abs(moved[:-1, :-1] / np.outer(scale, scale) - apart.T @ apart).max() < 1e-11
    assert moved[-1, -1] == rows
    assert np.array_equal(moved, moved.T)
    z = blockwise.scaled(x, y, centre, scale, 20)
    assert np.array_equal(z, np.rint(np.ldexp((full - centre) / scale, 20)) / 2**20)


def test_large_tables_are_worked_on_beside_the_loop():
    async def thread(x):
        return await blockwise.locally(lambda _: threading.get_ident(), x)

    assert asyncio.run(thread(np.zeros(10))) == threading.get_ident()
    assert asyncio.run(thread(np.zeros(blockwise.SMALL + 1))) != threading.get_ident()


def test_rows_in_any_order_with_any_offset():
    order = np.argsort(X[:, 2])
    x, y = X[order] * 1e-2 + 1e4, Y[order]
    for model, _, _ in by_rows(2, LinearRegression, np.repeat(x, 12, axis=0), np.repeat(y, 12)):
        assert error(model.coef_, Pooled().fit(X, Y).coef_ * 1e2, x) < 1e-5


ROUNDS = {"rows": 4, "secret": 16, "columns": 10}
"""Of a fit, beside those of solve."""


@pytest.mark.parametrize("how", ROUNDS)
def test_rounds_of_a_fit(how):
    async def program(s):
        x = X[:, s.index :: 2] if how == "columns" else X[s.index :: 2]
        y = Y[s.index :: 2] if how != "columns" else Y if s.index else None
        options = {"rows": {}, "secret": {"moments": "secret"}, "columns": {"split": "columns"}}[how]
        await LinearRegression(**options).fit(s, x, y)
        return s.cost.rounds

    assert simulate(2, program) == [ROUNDS[how] + 41] * 2
