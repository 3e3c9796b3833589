"""Numbers that are too small, too large or too alike to compute with: results are right, or an error says what to do."""

from __future__ import annotations

import copy
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression as Pooled

import protocols
from mpc import ConfigError, Disagreement, PrecisionError, ProgramError
from mpc.fixed_point import encode
from mpc.testing import simulate
from protocols import LinearRegression, hidden
from protocols.given import given_fit, given_variance
from tests.test_protocols_linear import TABLE, X, Y, by_columns, by_rows


async def scored(s, y):
    """The R² of a model of other rows."""
    x = np.arange(18.0).reshape(9, 2) ** 2
    return await (await LinearRegression().fit(s, x, np.arange(9.0))).score(s, x, y)


async def constant_score(s):
    x = np.arange(9.0)[:, None]
    return (await LinearRegression().fit(s, x, x[:, 0])).score(x, np.full(9, 0.1))


def descent_on_shares(s, bound):
    x = s.zero((9, 2)).assume_bound(bound, "zeros")
    return LinearRegression("sgd", "shared").fit(s, x, x[:, 0])


def shared_variance(s, x):
    """The variances of rows that the first party holds all words of, in 32 fractional bits."""
    words = encode(x, frac=32, bound=1.0) if s.index == 0 else np.zeros(x.shape, np.uint64)
    return given_variance(s, np.zeros((0, x.shape[1])), s.given(words, x.shape, frac=32, bound=1.0), ["x"])


def fitted(s, **settings):
    x = np.random.default_rng(s.index).normal(size=(20, 2))
    return LinearRegression(**settings).fit(s, x, x @ [2.0, -1.0] + 3.0)


async def errors_of_a_perfect_fit(s):
    return await (await fitted(s)).standard_errors(s)


async def narrow(s):
    return (await fitted(s)).predict(np.ones((2, 1)))


async def own_columns(s):
    model = await LinearRegression(split="columns").fit(s, X[:, 5 * s.index :][:, :5], Y if s.index else None)
    return model.predict(X[:, :5])


def few_rows(s):
    own = np.random.default_rng(s.index).normal(size=(2 - s.index, 5))
    return LinearRegression().fit(s, own[:, 1:], own[:, 0])


async def joint_call_of_a_copy(s):
    return await copy.deepcopy(await fitted(s)).score(s, np.ones((2, 2)), np.ones(2))


EDGES = {
    "the pool is empty": lambda s: protocols.mean(s, np.empty((0, 2))),
    "are constant over": lambda s: LinearRegression().fit(s, np.ones((9, 2)), np.arange(9.0)),
    "the columns are collinear": lambda s: LinearRegression().fit(s, np.outer(np.arange(9.0), [1, 2]), np.arange(9.0)),
    "pooled rows are too few for ddof": lambda s: protocols.variance(s, [[1.0]], ddof=5),
    "pooled rows are too few for WHAT": few_rows,
    "X must have shape (n, d), not": lambda s: LinearRegression(split="columns").fit(s, np.ones(3), None),
    "of which this party has": own_columns,
    "X must have shape (n, d) and y": lambda s: LinearRegression().fit(s, np.ones(3), np.ones(3)),
    "the most for N parties at frac": lambda s: protocols.secure_sum(s, [1e15]),
    "is not fitted yet": lambda s: LinearRegression().predict(s, np.ones((2, 2))),
    "all weights together are": lambda s: protocols.weighted_mean(s, [1.0], [1e-5]),
    "or too little beside their mean": lambda s: protocols.variance(s, [0.1]),
    "it has no standard errors to tell": errors_of_a_perfect_fit,
    "there is no R² to tell": lambda s: scored(s, np.ones(9)),
    "to tell a variance from rounding": lambda s: given_variance(s, np.zeros((0, 1)), s.zero((4, 1), frac=32), ["x"]),
    "vary too little to fit": lambda s: given_fit(s, s.zero((8, 2), frac=32), ["x", "y"], 1),
    "takes standardised data": lambda s: descent_on_shares(s, 65.0),
    "y is the same in all": constant_score,
    "have means beyond": lambda s: LinearRegression(moments="secret").fit(s, np.arange(9.0)[:, None] + 2e6, np.arange(9.0)),
    "standard deviations from the mean": lambda s: LinearRegression("sgd").fit(s, np.eye(1, 10_000).T, np.arange(1e4)),
    "fits the ring for at most N columns": lambda s: LinearRegression("sgd", "shared", fit_intercept=False).fit(
        s, s.zero((8, 1024)).assume_bound(1.0, "zeros"), s.zero(8).assume_bound(1.0, "zeros")
    ),
    "fits no intercept to shared data": lambda s: descent_on_shares(s, 1.0),
    "and the fit had N: pass": narrow,
    "ddof=VALUE must be": lambda s: protocols.variance(s, [1.0, 2.0], ddof="1"),
    "must be a whole number": lambda s: LinearRegression("sgd", epochs=2.5).fit(s, np.ones((9, 2)), np.arange(9.0)),
    "is a copy without its shares": joint_call_of_a_copy,
}
"""Errors of docs/errors.md."""


@pytest.mark.parametrize(("bound", "options", "kind", "message"), [
    (64.5, {"fit_intercept": False}, PrecisionError, 'y is shared with bound=64.5, and solver="sgd" takes standardised data, at most 64'),
    (64.0, {}, ConfigError, 'solver="sgd" fits no intercept to shared data'),
])  # fmt: skip
def test_a_descent_on_shares_that_would_end_in_garbage_is_refused(bound, options, kind, message):
    async def program(s):
        await LinearRegression("sgd", "shared", **options).fit(s, s.zero((8, 2)), s.zero(8).assume_bound(bound, "zeros"))

    with pytest.raises(kind, match=message):
        simulate(2, program)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("n", [2, 3])
def test_a_joint_score_counts_the_spread_however_small_it_is(n, offset):
    """Beside y's offset in a fit without an intercept, and beside the rows of the fit."""
    rng = np.random.default_rng(7)
    x = np.column_stack([np.ones(60), rng.normal(size=60)])
    y = offset + 2 * x[:, 1] + rng.normal(size=60)

    async def program(s):
        own = slice(s.index, None, s.n)
        without = await LinearRegression(fit_intercept=False).fit(s, x[own], y[own])
        fitted = await LinearRegression().fit(s, x[own, 1:], y[own] - offset)
        return (
            await without.score(s, x[own], y[own]),
            without.score(x, y),
            await fitted.score(s, 1e-4 * x[own, 1:], 1e-4 * y[own] - 1e-4 * offset),
            fitted,
        )

    for joint, alone, few, fitted in simulate(n, program):
        assert abs(joint - alone) < 1e-5
        assert abs(few - fitted.score(1e-4 * x[:, 1:], 1e-4 * y - 1e-4 * offset)) < 1e-5


@pytest.mark.parametrize(("x", "y", "message"), [
    (X, np.full(len(X), 7.0), "there is no R² to tell: y is constant over the pooled rows"),
    (1e9 * X, Y, "more than a thousand of its standard deviations off"),
])  # fmt: skip
def test_what_has_no_score_is_told(x, y, message):
    async def program(s):
        model = await LinearRegression().fit(s, X[s.index :: 2], Y[s.index :: 2])
        await model.score(s, x[s.index :: 2], y[s.index :: 2])

    with pytest.raises(PrecisionError, match=message):
        simulate(2, program)


def test_a_party_without_columns_predicts_too():
    async def program(s):
        own = (X, np.zeros((len(X), 0)))[s.index]
        model = await LinearRegression(split="columns").fit(s, own, Y if s.index == 0 else None, reveal=False)
        return await model.predict(s, own)

    for predicted in simulate(2, program):
        assert np.allclose(predicted, Pooled().fit(X, Y).predict(X), atol=1e-2)


@pytest.mark.parametrize("split", ["rows", "columns"])
def test_a_penalty_too_small_for_a_column_that_hardly_varies(split):
    x = np.column_stack([1e6 + 0.05 * (X[:, 0] - X[:, 0].mean()) / X[:, 0].std(), X[:, 1]])
    run = by_rows if split == "rows" else by_columns
    with pytest.raises(ConfigError, match=r"'x0' are constant .* or fit with a larger alpha than 1e-06"):
        run(2, lambda: LinearRegression(split=split, alpha=1e-6), x, Y)


SETTINGS = {
    "intercept": ({"fit_intercept": True}, {"fit_intercept": False}),
    "penalty": ({"alpha": 1.0}, {"alpha": 2.0}),
    "rate": ({"solver": "sgd"}, {"solver": "sgd", "learning_rate": 0.25}),
}


@pytest.mark.parametrize("what", SETTINGS)
@pytest.mark.parametrize("more", [{}, {"moments": "secret"}, {"split": "columns"}])
def test_parties_that_fit_with_other_settings_disagree(what, more):
    if what == "rate" and "moments" in more:
        pytest.skip("a descent has no secret moments")

    async def program(s):
        own = X[s.index :: 3] if more.get("split") != "columns" else X[:, s.index :: 3]
        y = Y[s.index :: 3] if more.get("split") != "columns" else Y if s.index == 1 else None
        await LinearRegression(**more, **SETTINGS[what][s.index == 1]).fit(s, own, y)

    with pytest.raises(Disagreement):
        simulate(3, program)


@pytest.mark.parametrize("y", [Y[:1], Y[:5], Y[None], np.column_stack([Y, Y])])
def test_a_score_needs_a_number_for_each_row(y):
    async def program(s):
        model = await LinearRegression().fit(s, X[s.index :: 2], Y[s.index :: 2])
        with pytest.raises(ConfigError, match="y must have shape"):
            model.score(X, y)
        with pytest.raises(ConfigError, match="y must have shape"):
            await model.score(s, X, y)

    simulate(2, program)


@pytest.mark.parametrize("split", ["rows", "columns"])
def test_a_column_with_one_among_many_has_no_room_in_a_descent(split):
    x = np.column_stack([np.tile([1.0, 2.0], 5000), np.arange(10_000) == 6, np.tile([0.0, 1.0, 1.0, 0.0], 2500)])

    async def program(s):
        own = (x[s.index :: 2], x[s.index :: 2, 0]) if split == "rows" else (x[:, [[0], [1, 2]][s.index]], None if s.index else x[:, 2])
        await LinearRegression("sgd", split).fit(s, *own)

    place = "column 'x1', row 3" if split == "rows" else "column 'x0', row 6"
    with pytest.raises(
        PrecisionError, match=rf"{place} is more than 64 standard deviations from the mean \(1 such value\(s\)\), and .*exact"
    ):
        simulate(2, program)


@pytest.mark.parametrize("columns", [1023, 1024])
def test_a_descent_of_too_many_columns_is_refused_before_it_begins(columns):
    rounds = []

    async def program(s):
        model = LinearRegression("sgd", "shared", fit_intercept=False, epochs=1)
        try:
            await model.fit(s, s.zero((8, columns)).assume_bound(64.0, "zeros"), s.zero(8).assume_bound(64.0, "zeros"))
        finally:
            rounds.append(s.cost.rounds)

    if columns < 1024:
        simulate(2, program)
        return
    with pytest.raises(ConfigError, match="at most 1023 columns, not 1024"):
        simulate(2, program)
    assert rounds == [0, 0]


@pytest.mark.parametrize(("rows", "spread"), [(1000, 1.0), ((1 << 17) - 1, 1e-4), (1 << 17, 1.0), (1 << 19, 1e-2)])
def test_the_variance_of_any_number_of_shared_rows(rows, spread):
    x = 0.3 + spread * np.random.default_rng(rows).uniform(-0.5, 0.5, (rows, 1))
    for found in simulate(2, lambda s: shared_variance(s, x), check_bounds=True):
        assert abs(found.value / x.var() - 1) < 1e-3
        assert found.size == rows


def test_a_variance_of_many_shared_rows_is_never_that_of_their_rounding():
    x = 0.3 + 1e-6 * np.random.default_rng(0).uniform(-1, 1, (1 << 17, 1))
    with pytest.raises(PrecisionError, match="'x' are constant, or vary too little beside the range"):
        simulate(2, lambda s: shared_variance(s, x))


def test_secret_moments_show_powers_of_two_of_deviations_and_not_of_variances():
    variances = np.array([2.0**-11, 2.0**-10, 0.9, 1.0, 1.9, 2.1, 3.9, 4.0, 2.0**40, 2.0**41])

    async def program(s):
        x = s.input(variances if s.index == 0 else None, 0, variances.shape, frac=16, bound=2.0**42)
        return await hidden.exponents(s, x)

    for found in simulate(2, program):
        assert found.tolist() == [-5, -4, 0, 1, 1, 1, 1, 2, 21, 21]


def test_a_fit_that_fails_leaves_what_was_there():
    async def program(s):
        x, y = X[s.index :: 2], Y[s.index :: 2]
        model = LinearRegression()
        for _ in range(2):
            with pytest.raises(ConfigError, match="collinear"):
                await model.fit(s, x[:, [0, 0]], y)
            for use in (lambda: model.predict(X), lambda: model.predict(s, x), lambda: model.score(X, Y), lambda: model.fitted_score(s)):
                with pytest.raises(ProgramError, match="not fitted yet"):
                    await use()
        await model.fit(s, pd.DataFrame(x, columns=TABLE.columns[:10]), y)
        kept = dict(vars(model))
        with pytest.raises(ConfigError, match="collinear"):
            await model.fit(s, pd.DataFrame(x[:, [0, 0]], columns=["a", "b"]), y)
        assert vars(model) == kept
        assert await model.fitted_score(s) == pytest.approx(model.score(X, Y), abs=1e-6)
        await model.fit(s, x, y)
        assert not hasattr(model, "feature_names_in_")
        return model.predict(pd.DataFrame(x, columns=list("qwertyuiop"))).shape

    assert simulate(2, program) == [(len(X) // 2,)] * 2


@pytest.mark.parametrize("options", [{}, {"solver": "sgd", "fit_intercept": False}])
def test_no_shared_rows_are_an_empty_pool(options):
    with pytest.raises(ConfigError, match="no party has any row, so there is nothing to fit"):
        simulate(2, lambda s: LinearRegression(split="shared", **options).fit(s, s.zero((0, 2)), s.zero(0)))


@pytest.mark.parametrize("options", [{}, {"to": 0}, {"reveal": False}])
@pytest.mark.parametrize("split", ["rows", "columns", "secret"])
def test_without_features_there_is_an_intercept(split, options):
    y = np.arange(6.0)

    async def program(s):
        if split == "columns":
            model = await LinearRegression(split=split).fit(s, np.zeros((6, 0)), y if s.index == 0 else None, **options)
        else:
            moments = "secret" if split == "secret" else "reveal"
            model = await LinearRegression(moments=moments).fit(s, np.zeros((3, 0)), y[s.index :: 2], **options)
        return model.intercept_

    assert simulate(2, program)[0] == (None if "reveal" in options else pytest.approx(2.5, abs=1e-5))


def test_a_score_of_rows_in_which_nothing_varies_is_refused():
    async def program(s):
        model = await LinearRegression().fit(s, X, Y)
        for x, y in ((X, np.full(len(X), 0.1)), (X[:0], Y[:0])):
            with pytest.raises(ConfigError, match="y is the same in all of these rows, or there are none"):
                model.score(x, y)

    simulate(2, program)


def test_secret_moments_of_as_many_parties_as_they_are_for():
    x, y = X[:, :3], Y

    async def program(s):
        return (await LinearRegression(moments="secret").fit(s, x[s.index :: s.n], y[s.index :: s.n])).coef_

    for found in simulate(hidden.PARTIES, program, check_bounds=True):
        assert np.allclose(found, Pooled().fit(x, y).coef_, rtol=1e-4)
    assert (1 + np.sqrt(hidden.PARTIES) / 16) ** 2 <= hidden.SPREAD
    with pytest.raises(ConfigError, match="at most 12 parties, not 13"):
        simulate(hidden.PARTIES + 1, program)


@pytest.mark.parametrize(("x", "alpha", "kind", "message"), [
    (X + 2e6 * (np.arange(10) == 4), 0.0, PrecisionError, r"column\(s\) 'x4' have means beyond 1048576 here"),
    (X * (np.arange(10) != 4), 0.0, ConfigError, r"'x4' are constant .* or fit with alpha > 0"),
    (X * (np.arange(10) != 4), 1e-3, ConfigError, r"'x4' are constant .* or fit with a larger alpha than 0\.001"),
])  # fmt: skip
def test_columns_that_secret_moments_are_not_for_are_named(x, alpha, kind, message):
    with pytest.raises(kind, match=message):
        by_rows(2, lambda: LinearRegression(moments="secret", alpha=alpha), x, Y)


@pytest.mark.parametrize("options", [{}, {"moments": "secret"}, {"split": "columns"}])
def test_what_a_fit_keeps_shows_no_data(options):
    async def program(s):
        own = (X[:, s.index :: 2], Y if s.index else None) if "split" in options else (X[s.index :: 2], Y[s.index :: 2])
        fitted = (await LinearRegression(**options).fit(s, *own))._fitted
        return [repr(fitted), repr(getattr(fitted, "own", None)), repr(getattr(fitted, "local", None))]

    for shown in simulate(2, program):
        assert all(re.fullmatch(r"None|<[\w.]+ object at 0x[0-9a-f]+>", each) for each in shown)


@pytest.mark.parametrize("statistic", [protocols.mean, protocols.variance, protocols.standard_deviation])
def test_a_number_of_rows_is_never_rounded(statistic):
    with pytest.raises(ConfigError, match="frac=-1: sums that come with the number of rows"):
        simulate(2, lambda s: statistic(s, [10.0, 10.0, 10.0], frac=-1))


def test_what_is_masked_in_an_array_is_missing():
    with pytest.raises(PrecisionError, match="row 1 is not a finite number"):
        simulate(2, lambda s: protocols.mean(s, np.ma.masked_array([1.0, 1000.0], [False, True])))


@pytest.mark.parametrize("split", ["rows", "columns"])
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"alpha": 1.0}, "has no penalty"),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"learning_rate": 0.0}, "positive"),
    ],
)
def test_settings_that_fit_nothing_are_refused_before_anything_is_revealed(split, settings, text):
    async def program(s):
        x, y = (X, Y) if split == "rows" else (X[:, s.index :: 2], Y if s.index else None)
        with pytest.raises(ConfigError, match=text):
            await LinearRegression("sgd", split, **settings).fit(s, x, y)
        return s.cost.rounds, dict(s.releases)

    assert simulate(2, program) == [(0, {}), (0, {})]


def test_a_descent_of_too_many_columns_is_refused_before_anything_is_revealed():
    async def program(s):
        with pytest.raises(ConfigError, match="at most 1023 columns, not 1024"):
            await LinearRegression("sgd").fit(s, np.ones((2, 1024)), np.ones(2))
        return s.cost.rounds, dict(s.releases)

    assert simulate(2, program) == [(0, {}), (0, {})]
