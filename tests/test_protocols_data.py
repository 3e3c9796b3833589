"""Models and statistics of real-world data: constant columns, frames of mixed types, missing values, and data that do not fit."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.linear_model import Ridge

import mpc
import protocols
from mpc import ConfigError, PrecisionError, ProgramError
from mpc.testing import simulate
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


WARDS = pd.DataFrame({"bmi": [1.0, 2.0, 3.0], "ward": pd.Categorical([3, 1, 2])})
CATEGORIES = {
    "a frame": (WARDS, "column 'ward' holds categories"),
    "nothing else": (WARDS[["ward"]], "column 'ward' holds categories"),
    "of one name": (WARDS.set_axis(["ward", "ward"], axis=1), "column 'ward' holds categories"),
    "a series": (WARDS["ward"], "it holds categories"),
    "no series": (WARDS["ward"].array, "it holds categories"),
}


@pytest.mark.parametrize("what", CATEGORIES)
def test_categories_are_no_amounts_although_numbers_name_them(what):
    x, told = CATEGORIES[what]
    for call in (protocols.mean, protocols.secure_sum, protocols.variance):
        with pytest.raises(
            PrecisionError, match=rf"^numbers are needed, not an array of category: {told}; encode that as numbers \(astype\(float\)"
        ):
            simulate(2, lambda s, call=call: call(s, x))
    amounts = np.asarray(x.astype(float))
    assert all(np.array_equal(found, amounts.mean(axis=0)) for found in simulate(2, lambda s: protocols.mean(s, x.astype(float))))


DAYS = pd.DataFrame({"bmi": [1.0, 2.0], "sex": ["m", "f"], "seen": pd.to_datetime(["2020-01-01", "2020-01-02"])})
BAD = {
    "text": (DAYS[["bmi", "sex"]], [1.0, 2.0], "^X must be numbers: .*column 'sex' holds str; encode that"),
    "dates": (DAYS[["bmi", "seen"]], [1.0, 2.0], "^X must be numbers: .*column 'seen' holds Timestamp; encode that"),
    "text of y": (np.ones((2, 1)), DAYS["sex"], "^y must be numbers: "),
    "lengths": ([[1.0], [1.0, 2.0]], [1.0, 2.0], "^X must be numbers: these rows are of different lengths"),
    "no rows": ([], [], r"or np\.empty\(\(0, d\)\)"),
    "one column": ([1.0, 2.0], [1.0, 2.0], r"not \(2,\) and \(2,\): one column is X\.reshape\(-1, 1\)"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_table_of_numbers_is_told_with_its_columns(what):
    x, y, message = BAD[what]
    with pytest.raises(ConfigError, match=message):
        simulate(2, lambda s: LinearRegression().fit(s, x, y))


@pytest.mark.parametrize("joint", [False, True])
def test_a_score_of_what_is_missing_is_refused_by_its_row(joint):
    y = np.where(np.arange(len(Y)) == 7, np.nan, Y)

    async def program(s):
        model = await LinearRegression().fit(s, X, Y)
        rounds = s.cost.rounds
        with pytest.raises(ConfigError, match=r"^y, row 7 is not a finite number \(1 such value\(s\)\); mend or drop these rows"):
            await model.score(s, X, y) if joint else model.score(X, y)
        return s.cost.rounds - rounds

    assert simulate(2, program) == [0, 0]


@pytest.mark.parametrize("value", ["no", None, 2])
@pytest.mark.parametrize("split", ["rows", "columns"])
def test_an_intercept_is_fitted_or_not(split, value):
    with pytest.raises(ConfigError, match=rf"^fit_intercept={value!r} must be True or False"):
        simulate(2, lambda s: LinearRegression(split=split, fit_intercept=value).fit(s, X, Y))


INCOMES = pd.DataFrame({"age": [40.0, 50.0, 60.0], "income": [1e8, 2e11, 4e8]})


@pytest.mark.parametrize("spread", [protocols.variance, protocols.standard_deviation])
def test_squares_that_do_not_fit_are_told_for_the_frac_that_was_asked_for(spread):
    told = r"^a sum of squares over this party's rows \(column 'income'\) exceeds 9.445e\+21, the most for 2 parties at frac=20"
    with pytest.raises(PrecisionError, match=told):
        simulate(2, lambda s: spread(s, INCOMES))
    for found in simulate(2, lambda s: spread(s, INCOMES, frac=16)):
        assert found[1] == pytest.approx(INCOMES["income"].var(ddof=0) ** (0.5 if spread is protocols.standard_deviation else 1), rel=1e-9)


@pytest.mark.parametrize("settings", [{}, {"moments": "secret"}])
def test_columns_of_a_fit_whose_squares_do_not_fit_are_named(settings):
    x = INCOMES.assign(age=[0.1, 0.2, 0.4]) if settings else INCOMES
    x = x.assign(income=x["income"] - x["income"].mean())
    with pytest.raises(PrecisionError, match=r"^column\(s\) 'income', or their squares, sum to more than the ring holds at this party"):
        simulate(2, lambda s: LinearRegression(**settings).fit(s, x, [1.0, 3.0, 2.0]))


LESS = (protocols.less_than, protocols.less_equal)


def test_columns_of_any_frame_are_compared_from_either_side():
    values = [1.0, 2.0, 3.0]

    async def program(s):
        x = s.input([2.0, 2.0, 2.0] if s.index == 0 else None, 0, 3)
        columns = (pl.Series(values), pd.Series(values, index=[7, 8, 9]), pa.array(values), values)
        return [[await s.reveal(await less(s, *pair)) for pair in ((each, x), (x, each))] for less in LESS for each in columns]

    for found in simulate(2, program):
        assert np.array_equal(found[:4], [[[True, False, False], [False, False, True]]] * 4)
        assert np.array_equal(found[4:], [[[True, True, False], [False, True, True]]] * 4)


@pytest.mark.parametrize("to", [None, [0]])
@pytest.mark.parametrize("split", ["columns", "secret"])
@pytest.mark.parametrize("n", [2, 5])
def test_a_model_with_secret_means_goes_through_them_to_its_stated_precision(n, split, to):
    rng = np.random.default_rng(n)
    x = 100.0 * rng.normal(size=(300, 5)) + 2e4 * rng.normal(size=5)
    y = x @ rng.normal(size=5) + 30.0 * rng.normal(size=300)
    mine = np.array_split(np.arange(5), n)

    async def program(s):
        if split == "columns":
            model = await LinearRegression(split=split).fit(s, x[:, mine[s.index]], y if s.index == 1 else None, to=to)
        else:
            model = await LinearRegression(moments="secret").fit(s, x[s.index :: n], y[s.index :: n], to=to)
        return model.coef_, model.intercept_

    coefficients, intercept = simulate(n, program)[0]
    allowed = n * 2.0**-20 * y.std() * (1 if to is None else 1 + np.abs(coefficients * x.std(axis=0)).sum() / y.std())
    assert abs(intercept + coefficients @ x.mean(axis=0) - y.mean()) < allowed


@pytest.mark.parametrize("n", [2, 3])
def test_predictions_from_shared_coefficients_cost_what_is_estimated(n):
    async def program(s, x, y):
        model = await LinearRegression().fit(s, x, y, reveal=False)
        await model.predict(s, x)
        await model.score(s, x, y)
        return s.cost.rounds, s.cost.payload, s.cost.corrections

    found = simulate(n, lambda s: program(s, X[s.index * 100 :][:100], Y[s.index * 100 :][:100]))
    plan = mpc.estimate(program, n, [(100, 10), (100,)])
    assert (plan.rounds, plan.payload) == (max(each[0] for each in found), max(each[1] for each in found))
    assert plan.dealer == sum(each[2] for each in found)


def test_what_is_missing_multiplies_nothing():
    async def program(s):
        x = s.zero(3) + 2.0
        with pytest.raises(ProgramError, match="only integers multiply a share"):
            x * np.ma.masked_array([1, 1000, 3], [False, True, False])
        return await s.reveal(x * np.ma.masked_array([1, 2, 3], [False, False, False]))

    assert [found.tolist() for found in simulate(2, program)] == [[2.0, 4.0, 6.0]] * 2


@pytest.mark.parametrize(("weight", "what"), [(np.nan, "not a finite number"), (np.inf, "not a finite number"), (-np.inf, "negative")])
def test_a_weight_that_counts_nothing_is_told_from_a_datum(weight, what):
    with pytest.raises(ConfigError, match=f"^weight 2 is {what}; weights say how often a row counts"):
        simulate(2, lambda s: protocols.weighted_mean(s, INCOMES, [1.0, 2.0, weight]))
