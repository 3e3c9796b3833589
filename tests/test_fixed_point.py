"""Reals become words and come back; what has no word is refused (invariants 28, 34)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import protocols
from mpc import PrecisionError, as_numbers
from mpc.fixed_point import BOUND, FRAC, decode, encode, headroom, largest_of
from mpc.testing import simulate


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


@given(st.integers(-(2**62), 2**62), st.sampled_from([0, 1, 20, 61, -1, -2, -9, -40, -62, -63, -64, -500]))
@example(2**53 + 1, 0)
@example(2**58 + 16, 4)
@example(2**62 - 255, -1)
def test_whole_numbers_are_words_to_the_last_bit(value, frac):
    """As floats they would keep only 53 bits."""
    bits = 62 - max(frac, 0)
    value >>= max(frac, 0)
    wanted = round(value * Fraction(2) ** frac)
    for values in (value, [value], np.array([[value, 0]]), np.array([value, True], object), np.ma.array([value])):
        words = encode(values, frac=frac, bound=2.0**bits)
        assert words.view(np.int64).reshape(-1)[0] == wanted
        assert words.shape == np.shape(values)


@pytest.mark.parametrize("value", [2**63, 2**63 + 8, 2**63 + 24, 2**64 - 1, 7])
def test_whole_numbers_without_a_sign_may_be_larger_than_a_word_before_they_are_shifted(value):
    words = encode(np.array([[value]], np.uint64), frac=-4, bound=2.0**64)
    assert words.view(np.int64).tolist() == [[round(Fraction(value, 16))]]


def test_objects_that_are_whole_numbers_stay_whole_and_others_become_floats():
    assert as_numbers(np.array([2**53 + 1, True, np.int8(-3)], object)).tolist() == [2**53 + 1, 1, -3]
    assert as_numbers(np.array([2**53 + 1, True], object)).dtype == np.int64
    for other in (None, 0.5, 2**63):
        assert as_numbers(np.array([2, other], object)).dtype == np.float64


EXACT = 2**53


@pytest.mark.parametrize("value", [EXACT + 1, -EXACT - 1, 2**60 + 1, 7])
def test_decimals_that_are_whole_keep_all_of_their_digits(value):
    places = Decimal(value).quantize(Decimal("0.00")), Decimal(value).normalize()
    for values in ([Decimal(value)], [places[0]], [places[1], 3], np.array([[Decimal(value)], [True]], object)):
        assert encode(values, frac=0, bound=2.0**62).view(np.int64).reshape(-1)[0] == value
        assert as_numbers(values).dtype == np.int64


def test_decimals_that_are_whole_are_summed_to_the_last_digit():
    for found in simulate(2, lambda s: protocols.secure_sum(s, [Decimal(EXACT + 1), Decimal(1)], frac=0)):
        assert found.tolist() == [2 * EXACT + 2, 2]


@pytest.mark.parametrize("large", [Decimal(EXACT + 1), EXACT + 1, np.int64(-EXACT - 1), Decimal(f"{EXACT + 1}.0")])
@pytest.mark.parametrize("other", [Decimal("0.5"), 0.5, None])
def test_a_whole_number_that_others_would_change_is_refused(large, other):
    told = "is a whole number that would be changed beside numbers that are not whole"
    with pytest.raises(PrecisionError, match=rf"^row 1, column 0 {told}"):
        as_numbers(np.array([[0, other], [large, 0]], object))
    with pytest.raises(PrecisionError, match=rf"^row 1, column 'a' {told}"):
        as_numbers(pd.DataFrame({"a": [0, large], "b": [other, 0]}, dtype=object))


def test_decimals_that_are_not_whole_are_rounded_as_floats_are():
    large = Decimal("9007199254740993.5"), Decimal(EXACT), Decimal("1e30"), Decimal("0.1")
    assert as_numbers(np.array(large, object)).tolist() == [float(each) for each in large]
    assert np.isnan(as_numbers(np.array([Decimal("NaN"), Decimal(1)], object))[0])
    assert as_numbers(np.array([Decimal("-Infinity"), Decimal("1e999999")], object)).tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize("beyond", [2**62 + 1, 2**62 + 512, -(2**62) - 1, 2**63, 2**64 - 1])
def test_a_whole_number_beyond_its_bound_is_refused_if_no_float_tells_the_two_apart(beyond):
    for values in ([[0, 3], [0, beyond]], np.array([[0, 3], [0, beyond]], object)):
        with pytest.raises(PrecisionError, match=r"^row 1, column 1 is beyond the declared bound 4.61169e\+18 \(1 such value\(s\)\)"):
            encode(values, frac=0, bound=2.0**62)


@given(st.integers(-(2**63), 2**64 - 1))
def test_the_reach_of_whole_numbers_is_the_least_float_that_is_not_below_them(value):
    assert largest_of(np.array([value, 0])) >= abs(value)
    assert int(np.nextafter(largest_of(np.array([value, 1])), 0.0)) < max(abs(value), 1)


@pytest.mark.parametrize("n", [2, 3])
def test_whole_numbers_of_inputs_and_constants_keep_all_of_their_bits(n):
    large = 2**55 + 1

    async def program(s):
        def own(frac):
            return s.input(np.array([large, 3], object) if s.index == 0 else None, 0, 2, frac=frac, bound=2.0**57)

        x, y, zero = own(0), own(4), s.zero(2, frac=4)
        less = [x - large, y - 2**55, zero + np.array([large, 0]) - y, (await s.mask(y)) - large]
        return [(await s.reveal(each.share() if each.is_masked else each)).tolist() for each in [x, *less]]

    for found in simulate(n, program, check_bounds=True):
        # What is revealed with fractional bits is float64.
        assert found == [[large, 3], [0, 3 - large], [1, float(3 - 2**55)], [0, -3], [0, float(3 - large)]]
