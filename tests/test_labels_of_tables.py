"""A table that is made of a frame keeps the labels of its rows, so that parties that split columns cannot mix up records."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import protocols
from mpc import ConfigError, Disagreement
from mpc.testing import simulate
from parties.data import Identifiers, Table
from parties.datasets import NO_VALUE, REPEATED, table_of
from parties.schema import ColumnSettings
from protocols import LinearRegression

RNG = np.random.default_rng(3)
AGES = RNG.normal(size=30)
NAMES = [f"p{number:02}" for number in range(30)]
FRAME = pd.DataFrame({"age": AGES, "score": 2.0 * AGES + 1.0}, NAMES)
DECLARED = {"age": ColumnSettings(), "score": ColumnSettings()}
DROPPING = DECLARED | {"age": ColumnSettings(missing="drop")}


def fitted(frames, **named):
    """The first one has the ages, and the second one the scores."""

    async def program(s):
        name = ("age", "score")[s.index]
        column = table_of(frames[s.index], DECLARED, [name], **named)
        x, y = (column, None) if s.index == 0 else (Table([], np.empty((len(column.rows), 0)), column.index), column)
        return (await LinearRegression(split="columns").fit(s, x, y)).coef_

    return simulate(2, program)


def test_records_in_another_order_are_refused_as_those_of_the_frame_are():
    for coefficients in fitted([FRAME, FRAME]):
        assert np.allclose(coefficients, 2.0, atol=1e-3)
    for other in (FRAME[::-1], FRAME.rename({"p03": "somebody else"}), FRAME.reset_index(drop=True), pl.from_pandas(FRAME)):
        with pytest.raises(Disagreement, match="its rows are labelled differently"):
            fitted([FRAME, other])


@pytest.mark.parametrize("make", [lambda frame: frame, pl.from_pandas, pa.Table.from_pandas])
def test_an_identifier_puts_the_rows_of_both_in_its_order(make):
    named = FRAME.rename_axis("patient").reset_index()
    for coefficients in fitted([make(named), make(named.sample(frac=1.0, random_state=1))], identifier="patient"):
        assert np.allclose(coefficients, 2.0, atol=1e-3)
    table = table_of(make(named[::-1]), DROPPING, ["age"], identifier="patient")
    assert (table.rows[:, 0].tolist(), table.index) == (AGES.tolist(), tuple(NAMES))
    with pytest.raises(ConfigError, match=NO_VALUE):
        table_of(make(named.assign(age=[None, *AGES[1:]])), DROPPING, identifier="patient")
    with pytest.raises(ConfigError, match=f"^the frame, row 31, column 'patient': {REPEATED}"):
        table_of(make(pd.concat([named, named])), DECLARED, identifier="patient")


def test_an_identifier_may_be_the_index():
    table = table_of(FRAME[::-1].rename_axis("patient"), DECLARED, identifier="patient")
    assert (table.rows.tolist(), table.index) == (FRAME.to_numpy().tolist(), tuple(NAMES))


def test_rows_keep_their_labels_where_others_are_dropped():
    many = 70_000
    for labels in (pd.RangeIndex(many), pd.Index([f"p{number}" for number in range(many)]), pd.RangeIndex(many)[::-1]):
        frame = pd.DataFrame({"age": np.arange(float(many)), "score": 1.0}, labels)
        frame.loc[[labels[1], labels[69_000]], "age"] = np.nan
        table = table_of(frame, DROPPING)
        assert table.index.equals(frame.dropna().index)
        assert np.array_equal(table.rows, frame.dropna().to_numpy())
    assert len(table_of(FRAME[:0], DROPPING).index) == 0


def test_what_counts_from_0_and_what_has_no_index_belong_together_by_their_place():
    plain = FRAME.reset_index(drop=True)
    for other in (pl.from_pandas(FRAME), pa.Table.from_pandas(plain), plain):
        for coefficients in fitted([plain, other]):
            assert np.allclose(coefficients, 2.0, atol=1e-3)


@pytest.mark.parametrize("records", [["p1", "p2", "p10"], [10, 9, 11], pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)])])
def test_records_of_a_dataset_and_the_index_of_a_frame_are_compared_by_their_text(records):
    """Either may be the first argument."""
    labels = pd.Index(records)
    table = Table(["age"], np.ones((3, 1)), Identifiers(map(str, labels)))
    column = pd.Series([1.0, 2.0, 3.0], labels, name="score")
    for pair, mean in (((table, column), [1.0]), ((column, table), 2.0)):
        for found in simulate(2, lambda s, pair=pair: protocols.weighted_mean(s, *pair)):
            assert np.allclose(found, mean, atol=1e-4)
    for pair in ((table, column[::-1]), (column[::-1], table), (table, column.reset_index(drop=True))):
        with pytest.raises(ConfigError, match="are labelled differently from those of"):
            simulate(2, lambda s, pair=pair: protocols.weighted_mean(s, *pair))
    assert not table.index.equals(labels[:2])
