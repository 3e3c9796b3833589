"""Protocols take data frames as they are, where a program embeds the engine."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import mpc
import protocols
from mpc import BeaverError, ConfigError, Disagreement, PrecisionError, column_names
from mpc.testing.simulate import simulate
from protocols import LinearRegression

PLANTED = "77713371"
NUMBERS = {"age": [50, 60, 70, 40], "bmi": [21.5, 22.5, 23.5, 30.25], "smokes": [True, False, True, True]}
ROWS = np.column_stack([np.array(column, float) for column in NUMBERS.values()])
FRAMES = {
    "pandas": pd.DataFrame(NUMBERS),
    "polars": pl.DataFrame(NUMBERS),
    "arrow": pa.table({name: pa.array(map(float, column)) for name, column in NUMBERS.items()}),
    "pandas on arrow": pd.DataFrame(NUMBERS).convert_dtypes(dtype_backend="pyarrow"),
    "pandas that knows nothing": pd.DataFrame(NUMBERS).convert_dtypes(),
    "decimals": pd.DataFrame({name: [Decimal(str(float(cell))) for cell in column] for name, column in NUMBERS.items()}),
    "polars decimals": pl.DataFrame({name: [Decimal(str(float(cell))) for cell in column] for name, column in NUMBERS.items()}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_protocols_take_frames(kind):
    frame = FRAMES[kind]

    async def program(s):
        half = frame if s.index == 0 else frame[:2]
        return await protocols.mean(s, half), await protocols.variance(s, frame), await protocols.secure_sum(s, frame)

    pooled = np.concatenate([ROWS, ROWS[:2]])
    for mean, variance, total in simulate(2, program):
        assert np.allclose(mean, pooled.mean(axis=0), atol=1e-4)
        assert np.allclose(variance, ROWS.var(axis=0), atol=1e-3)
        assert np.allclose(total, 2 * ROWS, atol=1e-4)


OTHERS = {
    "another order": lambda frame: frame[["bmi", "age"]],
    "another name": lambda frame: frame.rename(columns={"age": "years"}),
    "an array": lambda frame: frame.to_numpy(),
}
CALLS = {
    "secure_sum": protocols.secure_sum,
    "mean": protocols.mean,
    "weighted_mean": lambda s, x: protocols.weighted_mean(s, x, np.ones(4)),
    "variance": protocols.variance,
    "standard_deviation": protocols.standard_deviation,
    "fit": lambda s, x: protocols.LinearRegression().fit(s, x, np.arange(4.0)),
    "descent": lambda s, x: protocols.LinearRegression(solver="sgd", fit_intercept=False).fit(s, x, np.arange(4.0)),
    "secret moments": lambda s, x: protocols.LinearRegression(moments="secret").fit(s, x, np.arange(4.0)),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("call", CALLS)
def test_columns_of_another_meaning_are_not_added_up(call, what):
    frame = pd.DataFrame(NUMBERS)[["age", "bmi"]]

    async def program(s):
        return await CALLS[call](s, OTHERS[what](frame) if s.index == 1 else frame)

    with pytest.raises(Disagreement, match="columns or settings"):
        simulate(2, program)


@pytest.mark.parametrize("call", CALLS)
def test_who_disagrees_about_columns_is_told_the_own_ones_alone(call):
    """Nobody's names are sent to others: each party is told its own, and compares."""
    frame, told = pd.DataFrame(NUMBERS)[["age", "bmi"]], {}

    async def program(s):
        try:
            await CALLS[call](s, (frame[["bmi", "age"]], frame.rename(columns={"bmi": PLANTED}), frame.to_numpy())[s.index])
        except Disagreement as fault:
            told[s.index] = "\n".join([str(fault), *getattr(fault, "__notes__", ())])
            raise

    with pytest.raises(Disagreement):
        simulate(3, program)
    assert [re.findall("this party's columns are (.*); all parties", told[index]) for index in range(3)] == [
        ["'bmi', 'age'"],
        [f"'age', '{PLANTED}'"],
        [],
    ]
    assert PLANTED not in told[0] + told[2]


def test_names_of_an_arrow_table_are_not_its_data():
    for frame in (FRAMES["arrow"], FRAMES["pandas"], FRAMES["polars"]):
        assert column_names(frame) == ("age", "bmi", "smokes")
    assert column_names(ROWS) == column_names([1.0]) == column_names(FRAMES["arrow"]["age"]) == ()
    assert column_names(FRAMES["pandas"]["age"]) == column_names(FRAMES["polars"]["age"]) == ("age",)


def test_a_column_that_is_called_like_an_attribute_stays_data():
    names = ("age", "column_names", "columns")
    table = dict.fromkeys(names, [float(PLANTED), 2.0])
    for frame in (pd.DataFrame(table), pl.DataFrame(table), pa.table(table)):
        assert column_names(frame) == names
    for array in (pd.Series([float(PLANTED)] * 3, index=names), np.rec.fromarrays([[float(PLANTED)]] * 3, names=names)):
        assert column_names(array) == ()


def test_split_columns_have_names_of_their_own():
    async def program(s):
        frame = pd.DataFrame(NUMBERS)[["age"] if s.index else ["bmi", "smokes"]]
        model = await protocols.LinearRegression(split="columns", alpha=0.1).fit(s, frame, np.arange(4.0) if s.index else None)
        return list(np.array(["bmi", "smokes", "age"])[model.own_columns_]), hasattr(model, "feature_names_in_")

    assert simulate(2, program) == [(["bmi", "smokes"], False), (["age"], False)]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_columns_and_shares_of_frames(make):
    frame = make(NUMBERS)

    async def program(s):
        shared = s.input(frame[["age", "bmi"]] if s.index == 0 else None, 0, (4, 2))
        return await protocols.mean(s, frame["age"]), await s.reveal(shared)

    for mean, values in simulate(2, program):
        assert abs(mean - 55) < 1e-4
        assert np.allclose(values, ROWS[:, :2], atol=1e-5)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_a_regression_on_frames_knows_the_names(make):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 2))
    frame = make({"age": x[:, 0], "bmi": x[:, 1], "score": x @ [2.0, -1.0] + 3})

    async def program(s):
        model = protocols.LinearRegression()
        await model.fit(s, frame[["age", "bmi"]], frame["score"])
        return model.coef_, list(model.feature_names_in_), model.score(frame[["age", "bmi"]], frame["score"])

    for coefficients, names, score in simulate(2, program):
        assert np.allclose(coefficients, [2, -1], atol=1e-3)
        assert names == ["age", "bmi"]
        assert score > 0.999


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, lambda table: pd.DataFrame(table).to_numpy()])
def test_a_target_of_one_column_is_a_target(make):
    """The target may be a frame of one column, as `frame[["score"]]` is: no result changes its shape."""
    x = np.random.default_rng(1).normal(size=(80, 2))
    y = make({"score": x @ [2.0, -1.0] + 3})

    async def program(s):
        model = await LinearRegression().fit(s, x, y)
        columns = await LinearRegression(split="columns").fit(s, x[:, [s.index]], y if s.index else None)
        shared = [s.input(own if s.index == 0 else None, 0, own.shape, bound=16.0) for own in (x, np.asarray(y))]
        both = await LinearRegression(split="shared").fit(s, *shared)
        score = model.score(x, y), await model.score(s, x, y)
        return [each.coef_ for each in (model, columns, both)], [each.intercept_ for each in (model, columns, both)], score

    for coefficients, intercepts, score in simulate(2, program):
        assert np.allclose(coefficients, [[2, -1]] * 3, atol=1e-3)
        assert np.allclose(intercepts, 3, atol=1e-3)
        assert np.allclose(score, 1, atol=1e-3)


WRONG = {
    "text": ["1", "x" + PLANTED],
    "digits": [PLANTED, PLANTED],
    "dates": [dt.date(2020, 1, 2)] * 2,
    "times": [dt.datetime(2020, 1, 2, 3, tzinfo=dt.UTC)] * 2,
    "lists": [[1, int(PLANTED)], [2, 3]],
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("call", ["mean", "secure_sum", "variance", "fit", "input"])
def test_frames_that_are_no_numbers(make, kind, call):
    frame = make({"age": WRONG[kind]})

    async def program(s):
        if call == "fit":
            return await protocols.LinearRegression().fit(s, frame, [1.0, 2.0])
        if call == "input":
            return s.input(frame if s.index == 0 else None, 0, (2, 1))
        return await getattr(protocols, call)(s, frame)

    with pytest.raises(BeaverError) as caught:
        simulate(2, program)
    fault = caught.value
    while fault is not None:
        assert PLANTED not in str(fault)
        fault = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)


def test_what_is_missing_in_a_frame_is_refused_with_its_place():
    for frame in (
        pl.DataFrame({"age": [1, None]}),
        pd.DataFrame({"age": pd.array([1, None], dtype="Int64")}),
        pd.DataFrame({"age": [1, None]}),
    ):
        with pytest.raises(PrecisionError, match="row 1, column 'age' is not a finite number"):
            simulate(2, lambda s, frame=frame: protocols.mean(s, frame))


def test_columns_that_hold_no_numbers_are_named_with_what_they_hold():
    columns = {"age": [1.0, 2.0], "sex": [PLANTED, PLANTED], "seen": [dt.date(2024, 1, 2)] * 2, "paid": [None, Decimal(2)]}
    told = "column 'sex' holds str, column 'seen' holds {}; encode that as numbers, or leave it out"
    for frame, date in (
        (pl.DataFrame(columns), "date"),
        (pd.DataFrame(columns), "date"),
        (pd.DataFrame(columns).astype({"seen": "datetime64[s]"}), "Timestamp"),
    ):
        for program in (
            lambda s, frame=frame: protocols.mean(s, frame),
            lambda s, frame=frame: protocols.variance(s, frame),
            lambda s, frame=frame: protocols.secure_sum(s, frame),
        ):
            with pytest.raises(PrecisionError, match=told.format(date)) as caught:
                simulate(2, program)
            assert PLANTED not in str(caught.value)
        with pytest.raises(BeaverError) as caught:
            simulate(2, lambda s, frame=frame: LinearRegression().fit(s, frame, [1.0, 2.0]))
        assert told.format(date) in str(caught.value)
        assert PLANTED not in str(caught.value)


def test_the_column_is_named_whose_values_or_sums_do_not_fit():
    frame = pd.DataFrame({"age": [1.0, 2.0], "income": [1e13, 1.0]})
    for call in (protocols.mean, protocols.variance, protocols.secure_sum):
        with pytest.raises(PrecisionError, match=r"\((row 0, )?column 'income'\) exceeds"):
            simulate(2, lambda s, call=call: call(s, frame))
    with pytest.raises(PrecisionError, match=r"row 0, column 'income' is beyond the declared bound"):
        simulate(2, lambda s: s.made(s.input(*((frame, 0) if s.index == 0 else (None, 0, (2, 2))))))
    missing = frame.assign(age=[1.0, np.nan])
    with pytest.raises(ConfigError, match=r"X, row 1, column 'age' is not a finite number"):
        simulate(2, lambda s: LinearRegression().fit(s, missing, [1.0, 2.0]))


def test_numbers_of_anything():
    assert mpc.as_numbers([[1, 2]]).dtype.kind == "i"
    assert np.isnan(mpc.as_numbers(np.array([None, Decimal(2)], object))[0])
    for values in (["a"], [1j], [{}], [10**400], [Decimal("sNaN")]):
        with pytest.raises(PrecisionError, match="numbers are needed"):
            mpc.as_numbers(values)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_columns_and_frames_may_stand_on_either_side_of_a_share(n):
    frame = pd.DataFrame({"a": [1.0, 2.5, -3.0], "b": [4.0, 0.5, 2.0]})
    column, counts = frame["a"], pd.Series([1, 2, 3])

    async def program(s):
        x = s.input([0.5, 1.0, 2.0] if s.index == 0 else None, 0, 3, bound=8.0)
        table = mpc.stack([x, 2 * x], axis=1)
        results = [column + x, x + column, column - x, x - column, counts * x, x * counts, frame + table, frame - table, x[column > 0]]
        return [await s.reveal(each) for each in (*results, await protocols.less_than(s, column, x))]

    x = np.array([0.5, 1.0, 2.0])
    a, table, whole = column.to_numpy(), np.column_stack([x, 2 * x]), np.array([1, 2, 3])
    expected = [a + x, x + a, a - x, x - a, whole * x, x * whole, frame.to_numpy() + table, frame.to_numpy() - table, x[a > 0], a < x]
    for results in simulate(n, program):
        for result, value in zip(results, expected, strict=True):
            assert np.array_equal(result, value)


def test_a_party_that_has_only_the_target_is_told_how_to_say_so():
    x, y = ROWS[:, :2], ROWS[:, 0] + 2.0 * ROWS[:, 1]

    async def program(s):
        mine, target = (x, None) if s.index == 0 else (None, y)
        if s.index == 1:
            with pytest.raises(ConfigError, match=r"not \(\) and \(4,\): a party without columns .* np\.empty\(\(n, 0\)\)"):
                await LinearRegression(split="columns").fit(s, mine, target)
            mine = np.empty((len(y), 0))
        return (await LinearRegression(split="columns").fit(s, mine, target)).coef_

    for coefficients in simulate(2, program):
        assert np.allclose(coefficients, [1.0, 2.0], atol=1e-3)
