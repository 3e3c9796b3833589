"""Column names and row labels of frames and series are compared before anything is revealed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import mpc
import protocols
from mpc import Disagreement
from mpc.testing import simulate

FRAME = pd.DataFrame({"age": [40.0, 50.0, 60.0], "cost": [1.0, 2.0, 4.0], "region": ["north", "south", "north"]})


class Stored:
    """An array that is called by its place in a file, as those of h5py are."""

    name = "/measured"

    def __array__(self, dtype=None, copy=None):
        return np.ones(3, dtype)


def test_a_series_has_the_name_of_its_column():
    assert mpc.column_names(FRAME["age"]) == mpc.column_names(pl.Series("age", [1.0])) == ("age",)
    without = [
        FRAME["age"].rename(None),
        FRAME["age"].rename(3),
        FRAME[["age"]].iloc[0],
        pl.Series([1.0]),
        np.ones(3),
        pa.array([1.0]),
        [1.0],
    ]
    assert [mpc.column_names(each) for each in [*without, Stored()]] == [()] * (len(without) + 1)


OTHERS = {
    "another name": FRAME["cost"],
    "an array": FRAME["age"].to_numpy(),
    "no name": FRAME["age"].rename(None),
    "polars": pl.Series("cost", [1.0, 2.0, 3.0]),
}
CALLS = {
    "sum": protocols.secure_sum,
    "mean": protocols.mean,
    "variance": protocols.variance,
    "weighted mean": lambda s, x: protocols.weighted_mean(s, x, np.ones(3)),
    "weights": lambda s, x: protocols.weighted_mean(s, np.ones(3), x),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("call", CALLS)
def test_series_of_other_names_disagree(call, other):
    with pytest.raises(Disagreement):
        simulate(2, lambda s: CALLS[call](s, OTHERS[other] if s.index else FRAME["age"]))


@pytest.mark.parametrize("call", CALLS)
def test_series_of_one_name_agree_whatever_library_they_are_of(call):
    mine = FRAME["age"], pl.Series("age", [40.0, 50.0, 60.0])
    first, second = simulate(2, lambda s: CALLS[call](s, mine[s.index]))
    assert np.array_equal(first, second)


def test_what_does_not_fit_is_named_by_its_place():
    """The error does not advise a larger bound, which none of these calls takes."""
    for call, x, told in (
        (protocols.secure_sum, pd.Series([1.0, 1e15], name="cost"), r"^a value \(row 1\) exceeds"),
        (protocols.secure_sum, 1e15, "^a value exceeds"),
        (partial(protocols.secure_sum, frac=0), np.array([1, 2**61 + 1]), r"^a value \(row 1\) exceeds"),
        (partial(protocols.secure_sum, frac=0), np.array([-(2**63)]), r"^a value \(row 0\) exceeds"),
        (protocols.secure_sum, FRAME[["age", "cost"]] * [1.0, 1e13], r"^a value \(row 0, column 'cost'\) exceeds"),
        (protocols.secure_sum, np.array([[1.0, 1e15]]), r"^a value \(row 0, column 1\) exceeds"),
        (protocols.secure_sum, np.array([[[1.0, 1e15]]]), r"^a value \(index \(0, 0, 1\)\) exceeds"),
        (protocols.mean, FRAME["cost"] * 1e13, r"^a sum over this party's rows \(column 'cost'\) exceeds"),
        (protocols.mean, [1e15], "^a sum over this party's rows exceeds"),
        (protocols.mean, [[1.0, 1e15]], r"^a sum over this party's rows \(column 1\) exceeds"),
    ):
        with pytest.raises(mpc.PrecisionError, match=told) as caught:
            simulate(2, lambda s, call=call, x=x: call(s, x))
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_the_column_of_a_series_is_named_by_what_is_wrong_with_it():
    with pytest.raises(mpc.PrecisionError, match=r"^column\(s\) 'age' do not vary"):
        simulate(2, lambda s: protocols.variance(s, pd.Series([0.1, 0.1], name="age")))


def counts(*regions):
    return pd.Series(regions).value_counts()


LABELLED = {
    "value_counts": (counts("north", "south", "north"), counts("east", "south", "south")),
    "order": (pd.Series([1.0, 2.0], ["a", "b"]), pd.Series([2.0, 1.0], ["b", "a"])),
    "an array": (pd.Series([1.0, 2.0], ["a", "b"]), np.ones(2)),
    "levels": [pd.Series([1.0, 2.0], pd.MultiIndex.from_tuples([("a", 1), ("a", last)])) for last in (2, 3)],
    "a filter": (FRAME["age"][1:], FRAME["age"][:2]),
    "columns of a row": (FRAME[["age", "cost"]].iloc[0], FRAME[["cost", "age"]].iloc[0]),
}


@pytest.mark.parametrize("what", LABELLED)
def test_rows_that_an_index_calls_otherwise_are_not_added(what):
    notes = [[], []]

    async def program(s):
        try:
            await protocols.secure_sum(s, LABELLED[what][s.index])
        except Disagreement as fault:
            notes[s.index] = [note for note in getattr(fault, "__notes__", ()) if "an index that does not count from 0" in note]
            raise

    with pytest.raises(Disagreement):
        simulate(2, program)
    assert len(notes[0] + notes[1]) in {1, 2}


NAMED = {
    "pandas": FRAME[["age", "cost"]],
    "a series": FRAME["age"],
    "without a name": FRAME["age"].rename(None),
    "polars": pl.DataFrame({"age": [1.0]}),
    "a series of polars": pl.Series([1.0]),
    "arrow": pa.table({"age": [1.0]}),
}


@pytest.mark.parametrize("what", NAMED)
def test_inputs_of_all_take_no_names_that_nobody_compares(what):
    async def program(s):
        with pytest.raises(mpc.ProgramError, match=r"^s\.inputs takes an array, not a \w+: nobody would compare its names and index"):
            await s.inputs(NAMED[what])
        assert s.cost.rounds == 0
        return [await s.reveal(each) for each in await s.inputs(np.asarray(NAMED[what]))]

    assert np.array_equal(*simulate(2, program))


def test_groups_of_other_numbers_are_not_added():
    mine = [FRAME.groupby("region")[["cost"]].sum(), FRAME.assign(region=["south", "east", "south"]).groupby("region")[["cost"]].sum()]
    with pytest.raises(Disagreement):
        simulate(2, lambda s: protocols.secure_sum(s, mine[s.index]))


@pytest.mark.parametrize(
    "index", [["a", "b"], [1, 2], pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]), pd.to_datetime(["2020-01-01", "2020-01-02"])]
)
def test_rows_of_one_index_are_added(index):
    kinds = (np.float64, np.int32)
    for found in simulate(2, lambda s: protocols.secure_sum(s, pd.Series([1, 2], index, kinds[s.index]))):
        assert np.allclose(found, [2.0, 4.0])


def test_an_index_that_counts_from_0_is_as_good_as_none():
    mine = pd.Series([1.0, 2.0]), np.ones(2), pd.Series([1.0, 2.0], [0, 1]), [1.0, 2.0], pl.Series([3.0, 4.0])
    for found in simulate(5, lambda s: protocols.secure_sum(s, mine[s.index])):
        assert np.allclose(found, [7.0, 11.0])


def test_rows_of_individuals_may_have_any_index():
    for found in simulate(2, lambda s: protocols.mean(s, FRAME["age"][s.index :])):
        assert found == pytest.approx(52.0)


@pytest.mark.parametrize("call", [protocols.secure_sum, protocols.mean, protocols.variance, protocols.standard_deviation])
def test_settings_that_are_no_numbers_are_told(call):
    with pytest.raises(mpc.ProgramError, match="^there are a whole number of fractional bits, not frac='20'"):
        simulate(2, lambda s: call(s, [1.0, 2.0], frac="20"))
    with pytest.raises(mpc.PrecisionError, match=r"^frac=100 leaves no room for numbers beyond 1\.819e-12 among 2 parties"):
        simulate(2, lambda s: call(s, [1.0, 2.0], frac=100))
    if call in {protocols.variance, protocols.standard_deviation}:
        for ddof in ("1", -1, -0.5, float("nan")):
            with pytest.raises(mpc.ConfigError, match=f"^ddof={ddof!r} must be a number, 0 or more"):
                simulate(2, lambda s, ddof=ddof: call(s, [1.0, 2.0], ddof=ddof))


def test_a_name_of_the_weights_is_none_of_the_rows():
    with pytest.raises(Disagreement):
        simulate(2, lambda s: protocols.weighted_mean(s, *((FRAME["age"], np.ones(3)) if s.index else (np.ones(3), FRAME["age"]))))
