"""Models of data frames compare column names, also where a party cannot know them, and say what is wrong with a call."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mpc
from mpc import ConfigError, Disagreement, ProgramError
from mpc.testing import simulate
from protocols import LinearRegression
from tests.test_protocols_linear import TABLE, X, Y

FRAME = pd.DataFrame(X[:, :4], columns=TABLE.columns[:4]).assign(cost=Y, other=Y)
NAMES = list(FRAME.columns[:4])
OTHERS = {"series": "other", "frame": ["other"], "array": None}


def other(what):
    return FRAME["cost"].to_numpy() if what == "array" else FRAME[OTHERS[what]]


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("settings", [{}, {"moments": "secret"}, {"solver": "sgd"}])
def test_a_target_of_another_name_is_a_disagreement(settings, what):
    y = FRAME[["cost"]] if what == "frame" else FRAME["cost"]
    with pytest.raises(Disagreement):
        simulate(2, lambda s: LinearRegression(**settings).fit(s, FRAME[NAMES], other(what) if s.index else y))


def test_a_name_of_y_is_none_of_a_column():
    x, y = FRAME[["cost"]], FRAME["other"].rename("cost")
    with pytest.raises(Disagreement):
        simulate(2, lambda s: LinearRegression().fit(s, *((x, y.to_numpy()) if s.index else (x.to_numpy(), y))))


@pytest.mark.parametrize("what", OTHERS)
def test_a_score_of_targets_of_other_names_is_a_disagreement(what):
    reached = []

    async def program(s):
        model = await LinearRegression().fit(s, FRAME[NAMES], FRAME["cost"])
        assert await model.score(s, FRAME[NAMES], FRAME["other"]) == pytest.approx(model.score(FRAME[NAMES], FRAME["cost"]), abs=1e-6)
        reached.append(s.index)
        await model.score(s, FRAME[NAMES], other(what) if s.index else FRAME["cost"])

    with pytest.raises(Disagreement):
        simulate(2, program)
    assert sorted(reached) == [0, 1]


async def of_columns(s, **options):
    own = FRAME[NAMES[:1] if s.index == 0 else NAMES[1:]]
    return own, await LinearRegression(split="columns").fit(s, own, FRAME["cost"] if s.index else None, **options)


def test_a_party_has_the_names_of_its_own_columns_only():
    async def program(s):
        own, model = await of_columns(s)
        assert not hasattr(model, "feature_names_in_")
        told = dict(zip(own.columns, model.coef_[model.own_columns_], strict=True))
        assert np.array_equal(model.predict(FRAME[NAMES]), model.predict(FRAME[NAMES].rename(columns={NAMES[1 - s.index]: "else"})))
        for rename in ({own.columns[0]: "else"},):
            with pytest.raises(ConfigError, match="^X has the columns else"):
                model.predict(FRAME[NAMES].rename(columns=rename))
            with pytest.raises(ConfigError, match="^X has the columns else"):
                model.predict(s, own.rename(columns=rename))
        with pytest.raises(
            ConfigError, match=r"^X has \d columns, and the fit had 4, of which this party has \d: for its own columns, await predict"
        ):
            model.predict(own)
        with pytest.raises(ConfigError, match="of which this party has"):
            model.score(own, FRAME["cost"])
        await model.set_params(split="rows").fit(s, FRAME[NAMES], FRAME["cost"])
        assert not hasattr(model, "own_columns_")
        return told, model.coef_, list(model.feature_names_in_)

    (first, coefficients, names), (second, *_) = simulate(2, program)
    assert [*first, *second] == names == NAMES
    np.testing.assert_allclose([*first.values(), *second.values()], coefficients, rtol=1e-4)


def test_own_columns_are_told_of_secret_coefficients_too():
    async def program(s):
        return (await of_columns(s, reveal=False))[1].own_columns_

    assert simulate(2, program) == [slice(0, 1), slice(1, 4)]


@pytest.mark.parametrize("n", [2, 3])
def test_a_score_of_columns_needs_one_target(n):
    x = X[:, :6]
    for holders, told in (([], "no party"), ([0, 1], "p0, p1")):

        async def program(s, holders=holders):
            mine = x[:, s.index :: n]
            model = await LinearRegression(split="columns").fit(s, mine, Y if s.index == 1 else None)
            assert await model.score(s, mine, Y if s.index == 0 else None) == pytest.approx(await model.fitted_score(s), abs=1e-6)
            await model.score(s, mine, Y if s.index in holders else None)

        with pytest.raises(ConfigError, match=f"^exactly one party passes y, the others None; here it is {told}"):
            simulate(n, program)


def test_a_score_of_columns_needs_a_row_of_every_party_for_each_record():
    async def program(s):
        own, model = await of_columns(s)
        await model.score(s, own[s.index :], FRAME["cost"][1:] if s.index else None)

    with pytest.raises(ConfigError, match="^p0 has 442 rows and p1 has 441"):
        simulate(2, program)


def test_a_score_of_no_rows_in_columns_has_none():
    async def program(s):
        own, model = await of_columns(s)
        await model.score(s, own[:0], FRAME["cost"][:0] if s.index else None)

    with pytest.raises(ConfigError, match="no party has any row, so there is no score"):
        simulate(2, program)


@pytest.mark.parametrize("split", ["rows", "shared"])
def test_a_score_of_rows_needs_every_target(split):
    async def program(s):
        x, y = X[s.index :: 2, :4], Y[s.index :: 2]
        shares = [mpc.concatenate(await s.inputs(own, bound=512.0)) for own in (x, y)] if split == "shared" else (x, y)
        model = await LinearRegression(split=split).fit(s, *shares)
        rounds = s.cost.rounds
        with pytest.raises(ConfigError, match=f'^with split="{split}" every party passes y for its own rows'):
            await model.score(s, x, None)
        assert s.cost.rounds == rounds

    simulate(2, program)


SHAPES = {
    "row": (
        FRAME[NAMES].iloc[0],
        r'^X must have shape \(n, d\), not \(4,\): one column is frame\[\["age"\]\], and one row frame\.iloc\[\[0\]\]$',
    ),
    "array": (X[0, :4], r"^X must have shape \(n, d\), not \(4,\): one column is X\.reshape\(-1, 1\), and one row X\.reshape\(1, -1\)$"),
    "more": (X[None, :, :4], r"^X must have shape \(n, d\), not \(1, 442, 4\)$"),
}


@pytest.mark.parametrize("what", SHAPES)
def test_one_row_is_a_table_too(what):
    x, told = SHAPES[what]

    async def program(s):
        model = await LinearRegression().fit(s, FRAME[NAMES].to_numpy(), FRAME["cost"])
        for call in (lambda: model.predict(x), lambda: model.predict(s, x)):
            with pytest.raises(ConfigError) as caught:
                await call()
            with pytest.raises(ConfigError, match=told):
                raise caught.value

    simulate(2, program)


@pytest.mark.parametrize(("options", "told"), [
    ({}, "^3 pooled rows are too few for 4 coefficients and an intercept: use more rows, fewer columns, or alpha > 0\n"),
    ({"moments": "secret"}, "^3 pooled rows are too few for 4 coefficients and an intercept"),
    ({"fit_intercept": False}, "^3 pooled rows are too few for 4 coefficients: use more"),
    ({"split": "columns"}, "^3 pooled rows are too few for 4 coefficients and an intercept"),
])  # fmt: skip
def test_too_few_rows_are_told_from_columns_that_are_collinear(options, told):
    async def program(s):
        x, y = X[:3, :4], Y[:3]
        own = (x[:, 2 * s.index :][:, :2], y if s.index else None) if "split" in options else (x[s.index :: 2], y[s.index :: 2])
        await LinearRegression(**options).fit(s, *own)

    with pytest.raises(ConfigError) as caught:
        simulate(2, program)
    with pytest.raises(ConfigError, match=told):
        raise caught.value


class Synchronous:
    """A session as `connect_sync` gives it, which has no ops of its own."""

    def run(self, program, *arguments):
        """Nothing."""


CALLS = {
    "fit": lambda model, s: model.fit(s, X, Y),
    "predict": lambda model, s: model.predict(s, X),
    "score": lambda model, s: model.score(s, X, Y),
    "fitted_score": lambda model, s: model.fitted_score(s),
    "standard_errors": lambda model, s: model.standard_errors(s),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("given", [Synchronous(), X, None])
def test_what_is_no_session_is_refused_at_once(name, given):
    kind = type(given).__name__
    with pytest.raises(
        ProgramError, match=rf"^model\.{name} takes the session first, not {kind}: in a program `await model\.{name}\(s, \.\.\.\)`"
    ):
        CALLS[name](LinearRegression(), given)
