"""Reals to words and back, and what is refused (invariants 28, 34)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc import PrecisionError
from mpc.fixed_point import BOUND, FRAC, decode, encode, headroom


@given(st.floats(-BOUND, BOUND))
def test_round_trip_is_within_half_an_ulp(value):
    assert abs(float(decode(encode(value))) - value) <= 2.0 ** -(FRAC + 1)


@given(st.integers(-(2**62), 2**62))
def test_integers_are_exact_without_fraction(value):
    words = encode(np.array([value]), frac=0, bound=2.0**62)
    assert decode(words, 0)[0] == value
    assert decode(words, 0).dtype == np.int64


@pytest.mark.parametrize("frac", [0, FRAC])
@pytest.mark.parametrize("size", [0, 1, 1 << 14, 100_003])
def test_words_become_their_values_in_place(size, frac):
    words = np.random.default_rng(size).integers(0, 2**64, size, np.uint64)
    wanted = words.view(np.int64) * 2.0**-frac if frac else words.view(np.int64).copy()
    found = decode(words, frac)
    assert np.shares_memory(found, words) == (size > 0)
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3)])
def test_shapes_are_kept(shape):
    assert encode(np.ones(shape)).shape == shape


def test_non_contiguous_and_other_dtypes():
    table = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(decode(encode(table.T[::2])), table.T[::2])
    for dtype in (np.int8, np.uint32, np.float32, bool):
        assert np.array_equal(decode(encode(np.array([0, 1], dtype))), [0, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**21, -(2.0**20) - 1])
def test_bad_values_are_refused_by_place_and_never_shown(bad):
    table = np.zeros((5, 4))
    table[3, 2] = bad
    with pytest.raises(PrecisionError, match="row 3, column 2") as caught:
        encode(table)
    assert str(bad) not in str(caught.value)
    with pytest.raises(PrecisionError, match="row 1"):
        encode([0, bad])
    with pytest.raises(PrecisionError, match="the value"):
        encode(bad)


def test_what_is_no_number_is_refused():
    for values in (["a"], [1 + 2j], [{}]):
        with pytest.raises(PrecisionError, match="numbers are needed"):
            encode(values)
    for values, held in ((["a"], "text"), ([1 + 2j], "complex numbers"), (np.array(["2024-01-31"], "M8[D]"), "dates")):
        with pytest.raises(PrecisionError, match=f": it holds {held}; encode that as numbers, or leave it out"):
            encode(values)


def test_a_bound_that_cannot_fit_is_refused_with_the_remedy():
    with pytest.raises(PrecisionError, match="smaller bound="):
        encode([1.0], bound=2.0**43)
    assert headroom(FRAC, 1) == 2.0**42
    assert headroom(FRAC, 3) * 3 * 2**FRAC <= 2.0**63


def test_a_larger_bound_is_advised_for_what_it_helps():
    table = np.array([[0.0, 3.0], [np.nan, -np.inf], [-4.0, np.nan]])
    remedy = r"put a number in its place, or leave it out$"
    with pytest.raises(PrecisionError, match=rf"^row 1, column 0 is not a finite number \(3 such value\(s\)\); {remedy}"):
        encode(table, bound=3.0)
    with pytest.raises(PrecisionError, match=r"^row 0, column 1 is beyond the declared bound 2 \(2 such value\(s\)\); .* larger bound=$"):
        encode(table, bound=2.0)
