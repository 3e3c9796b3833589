"""Results for named receivers only: what they get, what the others get, and what is revealed to whom."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression as Pooled
from sklearn.linear_model import Ridge

import protocols
from mpc import ConfigError, PrecisionError, ProgramError
from mpc.testing import simulate
from parties.data import load_diabetes
from protocols import LinearRegression

TABLE = load_diabetes()
X, Y = TABLE.rows[:, :10], TABLE.rows[:, 10]
PARTS = {n: np.array_split(np.arange(len(X)), n) for n in (2, 3)}
CALLS = {
    "secure_sum": (lambda s, x, to: protocols.secure_sum(s, x.sum(axis=0), to=to), lambda x: x.sum(axis=0)),
    "mean": (lambda s, x, to: protocols.mean(s, x, to=to), lambda x: x.mean(axis=0)),
    "weighted_mean": (
        lambda s, x, to: protocols.weighted_mean(s, x, x[:, 0], to=to),
        lambda x: np.average(x, axis=0, weights=x[:, 0]),
    ),
    "variance": (lambda s, x, to: protocols.variance(s, x, ddof=1, to=to), lambda x: x.var(axis=0, ddof=1)),
    "standard_deviation": (lambda s, x, to: protocols.standard_deviation(s, x, to=to), lambda x: x.std(axis=0)),
}


@pytest.mark.parametrize("to", [0, "p1", ["p0", 1]], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_statistics_reach_their_receivers_only(name, to):
    call, reference = CALLS[name]
    results = simulate(3, lambda s: call(s, X[PARTS[3][s.index]], to), check_bounds=True)
    receivers = {int(str(who).removeprefix("p")) for who in (to if isinstance(to, list) else [to])}
    for index, result in enumerate(results):
        if index in receivers:
            np.testing.assert_allclose(result, reference(X), rtol=1e-6)
        else:
            assert result is None


@pytest.mark.parametrize("name", CALLS)
def test_the_last_reveal_goes_to_the_receivers_and_what_everyone_needs_to_everyone(name, caplog):
    caplog.set_level(logging.INFO)
    simulate(3, lambda s: CALLS[name][0](s, X[PARTS[3][s.index]], 2))
    lines = [line.split("to=")[1] for line in caplog.messages if line.startswith("revealed")]
    assert lines.count("p2") == 3
    assert lines.count("p0,p1,p2") == (6 if name in {"variance", "standard_deviation"} else 0)
    assert len(lines) == lines.count("p2") + lines.count("p0,p1,p2")
    assert ("to everyone" in protocols.PROTOCOLS[name].reveals) == ("p0,p1,p2" in lines), "what its row of docs/protocols.md says"


def test_someone_must_receive_and_receivers_must_exist():
    with pytest.raises(ProgramError, match="at least one receiver"):
        simulate(2, lambda s: protocols.mean(s, X, to=[]))
    with pytest.raises(ProgramError, match="at least one receiver"):
        simulate(2, lambda s: LinearRegression().fit(s, X, Y, to=()))
    with pytest.raises(ConfigError, match="'p7' is no party of this session"):
        simulate(2, lambda s: protocols.mean(s, X, to="p7"))


WAYS = {
    "rows": {},
    "ridge": {"alpha": 5.0},
    "secret": {"moments": "secret"},
    "secret ridge": {"moments": "secret", "alpha": 5.0},
    "columns": {"split": "columns"},
    "columns ridge": {"split": "columns", "alpha": 5.0},
    "columns without intercept": {"split": "columns", "fit_intercept": False},
    "descent": {"solver": "sgd", "epochs": 1, "batch_size": 64},
    "descent by columns": {"solver": "sgd", "split": "columns", "epochs": 1, "batch_size": 64},
}


def own(s, options):
    """A party's own part of the diabetes data."""
    if options.get("split") == "columns":
        return X[:, np.array_split(np.arange(10), s.n)[s.index]], Y if s.index == s.n - 1 else None
    return X[PARTS[s.n][s.index]], Y[PARTS[s.n][s.index]]


def reference(options):
    intercept = options.get("fit_intercept", True)
    return Ridge(options["alpha"]).fit(X, Y) if "alpha" in options else Pooled(fit_intercept=intercept).fit(X, Y)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_coefficients_reach_their_receiver_only(way, n):
    options = WAYS[way]

    async def program(s):
        everyone = await LinearRegression(**options).fit(s, *own(s, options))
        return everyone, await LinearRegression(**options).fit(s, *own(s, options), to=["p1"])

    for index, (everyone, model) in enumerate(simulate(n, program, seed=n, check_bounds=True)):
        if index != 1:
            assert model.coef_ is None and model.intercept_ is None
            with pytest.raises(ProgramError, match="went to other parties"):
                model.predict(X)
            continue
        apart = np.abs(model.coef_ - everyone.coef_) * X.std(axis=0)
        assert apart.max() < 1e-4 * np.abs(everyone.coef_ * X.std(axis=0)).max()
        assert abs(model.intercept_ - everyone.intercept_) < 2e-2
        if "sgd" not in options.values():
            wanted = reference(options)
            assert np.allclose(model.predict(X), wanted.predict(X), atol=2e-2)


REVEALED = {
    # To all: count and sums, coarse squares; squares about the mean; the bit.
    "rows": (["()", "(11,)", "(12,)", "(22,)"], ["(10,)"]),
    # To all: the count; powers of two; the bit.
    "secret": (["()", "(1,)", "(11,)"], ["()", "(10,)"]),
    # To all: powers of two; the bit.
    "columns": (["()", "(11,)"], ["()", "(10,)"]),
}


@pytest.mark.parametrize("way", REVEALED)
def test_a_fit_reveals_the_coefficients_to_the_receiver_alone(way, caplog):
    caplog.set_level(logging.INFO)
    simulate(3, lambda s: LinearRegression(**WAYS[way]).fit(s, *own(s, WAYS[way]), to=1))
    lines = [line.split("shape=")[1].split(" to=") for line in caplog.messages if line.startswith("revealed")]
    for names, shapes in zip(("p0,p1,p2", "p1"), REVEALED[way], strict=True):
        assert sorted(shape for shape, to in lines if to == names) == sorted(shapes * 3)


def test_a_fit_of_means_that_are_too_far_out_is_refused_with_a_remedy():
    async def program(s):
        x = np.arange(20.0)[:, None] * 1e-3 + 1e4 if s.index == 0 else np.square(np.arange(20.0))[:, None]
        await LinearRegression(split="columns").fit(s, x, None if s.index == 0 else np.arange(20.0) + x[:, 0] ** 2, to=1)

    with pytest.raises(PrecisionError, match="subtract a constant"):
        simulate(2, program)


def test_not_revealing_names_no_receivers():
    with pytest.raises(ProgramError, match="reveal=False keeps them shared"):
        simulate(2, lambda s: LinearRegression().fit(s, X, Y, reveal=False, to=0))


def test_joint_predictions_do_not_need_the_coefficients():
    async def program(s):
        model = await LinearRegression().fit(s, *own(s, {}), to=0)
        return await model.predict(s, own(s, {})[0]), await model.score(s, *own(s, {}))

    wanted = Pooled().fit(X, Y)
    for index, (predicted, score) in enumerate(simulate(2, program)):
        assert np.abs(predicted - wanted.predict(X[PARTS[2][index]])).max() < 1e-2
        assert abs(score - wanted.score(X, Y)) < 1e-5


@pytest.mark.parametrize("way", ["rows", "ridge", "columns", "columns ridge"])
@pytest.mark.parametrize("to", [None, 0])
def test_the_fitted_score_is_that_of_the_pool(way, to, caplog):
    caplog.set_level(logging.INFO)
    options = WAYS[way]

    async def program(s):
        model = await LinearRegression(**options).fit(s, *own(s, options), to=to)
        s.log.info("fitted")
        return await model.fitted_score(s, to=to)

    results = simulate(3, program, check_bounds=True)
    wanted = reference(options).score(X, Y)
    assert abs(results[0] - wanted) < 1e-5
    assert results[1:] == ([None, None] if to == 0 else results[:1] * 2)
    for name in ("p0", "p1", "p2"):
        said = [record.getMessage() for record in caplog.records if record.name == f"beaver.{name}"]
        after = [line for line in said[said.index("fitted") :] if line.startswith("revealed")]
        assert len(after) == 1 and f"shape=(2,) to={'p0' if to == 0 else 'p0,p1,p2'}" in after[0]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("split", ["rows", "columns"])
def test_rounds_of_what_uses_shared_weights_do_not_grow_with_the_parties(split, n):
    async def program(s):
        x, y = own(s, {"split": split}) if split == "columns" else (X[s.index :: n], Y[s.index :: n])
        model = await LinearRegression(split=split, alpha=5.0).fit(s, x, y, reveal=False)
        fitted = s.cost.rounds
        predicted = await model.predict(s, x)
        then = s.cost.rounds
        await model.fitted_score(s)
        wanted = reference({"alpha": 5.0}).predict(X if split == "columns" else x)
        assert np.abs(predicted - wanted).max() < 1e-2
        return then - fitted, s.cost.rounds - then

    # Of split columns, the predictions are shared until y's owner has scaled them.
    assert simulate(n, program, check_bounds=True) == [(4 if split == "rows" else 3 + 4, 4 + 1)] * n


@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("split", ["rows", "columns"])
def test_the_fitted_score_is_right_however_little_y_varies(split, alpha):
    y = 3e-7 * (Y[:24] - Y[:24].mean()) / Y[:24].std()

    async def program(s):
        own = slice(s.index, None, s.n)
        x, mine = (X[own, :2][:12], y[own]) if split == "rows" else (X[:24, own][:, :2], None if s.index else y)
        model = await LinearRegression(split=split, alpha=alpha).fit(s, x, mine)
        return await model.fitted_score(s), await model.score(s, x, mine)

    for fitted, joint in simulate(2, program, check_bounds=True):
        assert abs(fitted - joint) < 1e-6


@pytest.mark.parametrize("way", ["secret", "columns without intercept", "descent"])
def test_other_fits_have_no_score_of_their_system(way):
    async def program(s):
        await (await LinearRegression(**WAYS[way]).fit(s, *own(s, WAYS[way]))).fitted_score(s)

    with pytest.raises(ConfigError, match="`score` takes others"):
        simulate(2, program)
