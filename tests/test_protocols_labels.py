"""The index of the rows decides what belongs together: two arguments of one party, and records whose columns parties split."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pandas as pd
import polars as pl
import pytest

import protocols
from mpc import ConfigError, Disagreement
from mpc.testing import simulate, simulate_async
from protocols import LinearRegression

RNG = np.random.default_rng(7)
X = pd.DataFrame(RNG.normal(size=(40, 3)), [f"id{n}" for n in range(40)], ["age", "bmi", "dose"])
Y = (X @ [2.0, -1.0, 0.5] + 3.0).rename("score")

PAIRED = {
    "weighted_mean": lambda s, x, y: protocols.weighted_mean(s, x, y.abs() if isinstance(y, pd.Series) else abs(y)),
    "weights": lambda s, x, y: protocols.weighted_mean(s, y, x["age"].abs()),
    "fit": lambda s, x, y: LinearRegression().fit(s, x, y),
    "secret": lambda s, x, y: LinearRegression(moments="secret").fit(s, x, y),
    "sgd": lambda s, x, y: LinearRegression("sgd").fit(s, x, y),
    "columns": lambda s, x, y: LinearRegression(split="columns").fit(s, *((x, y) if s.index == 0 else (x, None))),
}
OTHERWISE = {
    "order": (X, Y[::-1]),
    "a sort beside what counts from 0": (X.reset_index(drop=True).sort_values("age"), Y.reset_index(drop=True)),
    "one that was reset": (X, Y.reset_index(drop=True)),
    "rows of others": (X[:39], Y[1:]),
    "levels": (X.set_index([X.index, X.index]), Y),
}


@pytest.mark.parametrize("how", OTHERWISE)
@pytest.mark.parametrize("call", PAIRED)
def test_rows_of_two_arguments_that_are_labelled_differently_are_not_paired(call, how):
    rounds = []

    async def program(s):
        try:
            await PAIRED[call](s, *OTHERWISE[how])
        finally:
            rounds.append(s.cost.rounds)

    with pytest.raises(ConfigError, match=r"^the rows of \w are labelled differently from those of \w \(their pandas indexes differ\)"):
        simulate(2, program)
    assert not any(rounds)


async def scored(s, x, y):
    model = await LinearRegression().fit(s, X, Y)
    with pytest.raises(ConfigError, match="^the rows of y are labelled differently from those of X"):
        model.score(x, y)
    reached = s.cost.rounds
    with pytest.raises(ConfigError, match="^the rows of y are labelled differently from those of X"):
        await model.score(s, x, y)
    return s.cost.rounds - reached


@pytest.mark.parametrize("how", OTHERWISE)
def test_nor_are_they_scored(how):
    assert simulate(2, lambda s: scored(s, *OTHERWISE[how])) == [0, 0]


ALIKE = {
    "one index": Y,
    "an equal one": Y.set_axis(list(X.index)),
    "an array": Y.to_numpy(),
    "a list": list(Y),
    "polars": pl.Series("score", Y.to_numpy()),
    "a frame": Y.to_frame(),
}


@pytest.mark.parametrize("what", ALIKE)
def test_rows_of_one_index_and_rows_without_are_paired(what):
    async def program(s):
        model = await LinearRegression().fit(s, X, ALIKE[what])
        return await model.score(s, X, ALIKE[what]), model.score(X, ALIKE[what])

    for joint, alone in simulate(2, program):
        assert joint == pytest.approx(1.0, abs=1e-6)
        assert alone == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pd.RangeIndex(5, 8), pd.Index([5, 6, 7], dtype="int32")),
        (pd.Index([1.0, np.nan, 2.0]), pd.Index([1.0, np.nan, 2.0])),
        (pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]), pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)])),
        (pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]), pd.date_range("2020-01-01", periods=3)),
    ],
)
def test_indexes_are_alike_whatever_they_are_made_of(first, second):
    mine = pd.Series([1.0, 2.0, 3.0], first), pd.Series([1.0, 1.0, 2.0], second)
    assert simulate(2, lambda s: protocols.weighted_mean(s, *mine)) == [2.25, 2.25]


def test_what_an_object_calls_an_index_may_be_no_labels():
    class Measured:
        index = 3

        def __array__(self, dtype=None, copy=None):
            return np.ones(3, dtype)

    assert simulate(2, lambda s: protocols.weighted_mean(s, pd.Series([1.0, 2.0, 3.0], list("abc")), Measured())) == [2.0, 2.0]


async def test_heartbeats_go_on_while_many_labels_are_written_out():
    begun, beat, heard = threading.Event(), threading.Event(), []

    class Label:
        def __init__(self, number):
            self.number = number

        def __str__(self):
            begun.set()
            if self.number == 4999:
                # Where labels are written out in one go on the loop, nothing beats while this waits.
                heard.append(beat.wait(5))
            return f"id{self.number}"

    async def beats():
        while not begun.is_set():
            await asyncio.sleep(0.001)
        beat.set()

    beating = asyncio.create_task(beats())
    sums = await simulate_async(2, lambda s: protocols.secure_sum(s, pd.Series(1.0, index=[Label(n) for n in range(5000)])))
    await beating
    assert (sums[0] == 2.0).all()
    assert heard
    assert all(heard)


def own_columns(s, labels, *, holder=1):
    """A party's columns of X, and y at one of the parties, with these labels."""
    x = X[["age"] if s.index == 0 else ["bmi", "dose"]].set_axis(labels, axis=0)
    return x, (Y.set_axis(labels) if s.index == holder else None)


SORTED, COUNTED = list(X.index), list(range(40))
OTHER_RECORDS = {"order": SORTED[::-1], "records": [*SORTED[:39], "id99"], "none": COUNTED}


@pytest.mark.parametrize("other", OTHER_RECORDS)
@pytest.mark.parametrize("solver", ["exact", "sgd"])
@pytest.mark.parametrize("first", [0, 1])
def test_columns_of_records_that_are_labelled_differently_are_not_fitted(solver, other, first):
    async def program(s):
        try:
            await LinearRegression(solver, split="columns").fit(s, *own_columns(s, OTHER_RECORDS[other] if s.index == first else SORTED))
        finally:
            assert not s.releases

    with pytest.raises(
        Disagreement, match=r"its rows are labelled differently from those of this party \(pandas index, or identifier of a dataset\)"
    ):
        simulate(2, program)


@pytest.mark.parametrize("other", OTHER_RECORDS)
@pytest.mark.parametrize("reveal", [True, False])
def test_nor_are_they_predicted(other, reveal):
    notes = []

    async def program(s):
        model = await LinearRegression(split="columns").fit(s, *own_columns(s, SORTED), reveal=reveal)
        first, _ = own_columns(s, SORTED)
        assert np.allclose(await model.predict(s, first), Y, atol=1e-3)
        try:
            await model.predict(s, own_columns(s, OTHER_RECORDS[other] if s.index else SORTED)[0])
        except Disagreement as fault:
            notes.extend(getattr(fault, "__notes__", ()))
            raise

    with pytest.raises(Disagreement):
        simulate(2, program)
    assert any("an index that does not count from 0" in note for note in notes)


@pytest.mark.parametrize("other", OTHER_RECORDS)
def test_nor_are_they_scored_together(other):
    async def program(s):
        model = await LinearRegression(split="columns").fit(s, *own_columns(s, SORTED))
        before = s.releases.total()
        assert await model.score(s, *own_columns(s, SORTED)) == pytest.approx(1.0, abs=1e-5)
        reached = s.releases.total()
        assert reached > before
        try:
            await model.score(s, *own_columns(s, OTHER_RECORDS[other] if s.index else SORTED))
        finally:
            assert s.releases.total() == reached

    with pytest.raises(Disagreement, match="its rows are labelled differently"):
        simulate(2, program)


def test_the_labels_of_y_count_where_those_of_x_are_none():
    async def program(s):
        x, y = own_columns(s, SORTED[::-1] if s.index else SORTED)
        await LinearRegression(split="columns").fit(s, x.to_numpy() if s.index else x, y)

    with pytest.raises(Disagreement, match="its rows are labelled differently"):
        simulate(2, program)


@pytest.mark.parametrize("labels", [SORTED, COUNTED, pd.date_range("2020-01-01", periods=40)])
def test_columns_of_records_that_are_labelled_alike_are_fitted(labels):
    async def program(s):
        own = own_columns(s, labels)
        model = await LinearRegression(split="columns").fit(s, *own)
        return model.coef_, await model.predict(s, own[0]), await model.score(s, *own)

    for coefficients, predicted, score in simulate(2, program):
        assert np.allclose(coefficients, [2.0, -1.0, 0.5], atol=1e-5)
        assert np.allclose(predicted, Y, atol=1e-4)
        assert score == pytest.approx(1.0, abs=1e-5)


def test_what_counts_from_0_stands_beside_arrays():
    async def program(s):
        x, y = own_columns(s, COUNTED)
        own = (x.to_numpy(), y) if s.index else (x, y)
        model = await LinearRegression(split="columns").fit(s, *own)
        return await model.score(s, *own)

    assert simulate(2, program) == pytest.approx([1.0, 1.0], abs=1e-5)


def test_nothing_but_a_print_of_32_bits_tells_others_of_records():
    announced = []

    async def program(s):
        announce = s.announce
        s.announce = lambda numbers: announced.append(numbers) or announce(numbers)
        await LinearRegression(split="columns").fit(s, *own_columns(s, SORTED if labelled else COUNTED))

    for labelled in (False, True):
        announced.clear()
        simulate(2, program)
        assert {len(shape) for shape in announced} == {5 if labelled else 4}
        assert len({shape[4:] for shape in announced}) == 1
        assert all(0 <= extent < 2**32 for shape in announced for extent in shape)
