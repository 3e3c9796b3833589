"""Sums, means and spread over pooled rows: against numpy on the pool, their cost, what they reveal, and numbers that do not fit."""

from __future__ import annotations

import itertools
import logging
import re

import numpy as np
import pandas as pd
import pytest

import protocols
from mpc import ConfigError, Cost, Disagreement, PrecisionError, ProgramError, estimate
from mpc.network.mesh import Clocks
from mpc.testing import simulate
from protocols import PROTOCOLS

PARTIES = [2, 3, 4, 5]
SEEDS = [None, 1, 2]


def pooled_rows(n, d, *, rows=7, offset=3.0, scale=10.0, seed=0):
    """Own rows for each of n parties, the last of which has none, and the pool; d is () for single numbers."""
    rng = np.random.default_rng([n, seed])
    parts = [offset + scale * rng.normal(size=(rows + i if i < n - 1 else 0, *d)) for i in range(n)]
    return parts, np.concatenate(parts)


async def measured(s, name, *arguments, **parameters):
    """The result, what it cost this party, and what it should have cost."""
    sent, rounds, dealt = dict(s.cost.sent), s.cost.rounds, s.cost.corrections
    declared = PROTOCOLS[name].cost(s.n, *arguments, **parameters)
    result = await PROTOCOLS[name].call(s, *arguments, **parameters)
    payload = max((size - sent.get(peer, 0) for peer, size in s.cost.sent.items()), default=0)
    return result, Cost(s.cost.rounds - rounds, payload, s.cost.corrections - dealt), declared


def check(outcomes, expected, tolerance):
    """Every party has the same result, which is `expected`, at the declared cost."""
    for result, cost, declared in outcomes:
        assert cost == declared
        assert np.shape(result) == np.shape(expected)
        np.testing.assert_allclose(result, expected, **tolerance)
        assert np.array_equal(result, outcomes[0][0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", PARTIES)
def test_against_numpy_on_the_pool(n, seed):
    cases = [((), 20), ((1,), 20), ((3,), 20), ((2, 2), 20), ((0,), 20), ((3,), 30)]
    data = [pooled_rows(n, d, seed=number) for number, (d, _) in enumerate(cases)]

    async def program(s):
        outcomes = []
        for (parts, _), (_, frac) in zip(data, cases, strict=True):
            x = parts[s.index]
            w = np.arange(len(x)) / 4
            outcomes += [
                await measured(s, "secure_sum", np.sum(x, axis=0), frac=frac),
                await measured(s, "mean", x, frac=frac),
                await measured(s, "weighted_mean", x, w, frac=frac),
                await measured(s, "variance", x, frac=frac),
                await measured(s, "variance", x, ddof=1, frac=frac),
                await measured(s, "standard_deviation", x, ddof=1, frac=frac),
            ]
        return outcomes

    results = zip(*simulate(n, program, seed=seed, check_bounds=True), strict=True)
    for (parts, pool), (_, frac) in zip(data, cases, strict=True):
        weights = np.concatenate([np.arange(len(x)) / 4 for x in parts])
        rounded = {"rtol": 0, "atol": (n + 1) * 2.0**-frac}
        check(next(results), pool.sum(axis=0), rounded)
        check(next(results), pool.mean(axis=0), rounded)
        check(next(results), np.average(pool, axis=0, weights=weights), {"rtol": 0, "atol": 40 * (n + 1) * 2.0**-frac})
        for expected in (pool.var(axis=0), pool.var(axis=0, ddof=1), pool.std(axis=0, ddof=1)):
            check(next(results), expected, {"rtol": 1e-12, "atol": 0})


@pytest.mark.parametrize(
    ("scale", "offset", "rows", "frac", "rtol"),
    [
        (1, 1e6, 1000, 20, 1e-13),
        (1, -1e6, 500_000, 20, 1e-12),
        (1e-3, 0, 1000, 20, 1e-8),
        (0.1, 1e3, 1000, 20, 1e-12),
        (1e-6, 0, 1000, 40, 1e-12),
        (1e4, 1e5, 500_000, 20, 1e-12),
        (1e9, 0, 500, 20, 1e-12),
        (1e9, 1e9, 500_000, 0, 1e-12),
        (1, 1e9, 1000, 20, 1e-8),
    ],
)
def test_spread_is_stable_for_any_offset_unit_and_number_of_rows(scale, offset, rows, frac, rtol):
    parts, pool = pooled_rows(3, (2,), rows=rows, offset=offset, scale=scale)

    async def program(s):
        return await protocols.standard_deviation(s, parts[s.index], frac=frac)

    for result in simulate(3, program):
        np.testing.assert_allclose(result, pool.std(axis=0), rtol=rtol)


def test_columns_of_very_different_units_keep_their_digits():
    units = np.array([1e-3, 1.0, 1e6])
    parts, pool = pooled_rows(2, (3,), rows=1000)
    results = simulate(2, lambda s: protocols.variance(s, parts[s.index] * units))
    np.testing.assert_allclose(results[0], (pool * units).var(axis=0), rtol=1e-9)


def test_constant_columns_have_no_spread():
    results = simulate(2, lambda s: protocols.variance(s, np.full((4, 2), [3.0, -1e6])))
    assert results[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("offset", [0.0, 1e-7, 3.0, 1e6])
@pytest.mark.parametrize("rows", [4, 1000])
@pytest.mark.parametrize("n", [2, 3])
def test_a_spread_is_right_or_refused_however_small_it_is(n, rows, offset):
    outcomes = []
    for scale in np.geomspace(1e-10, 1e-3, 8):
        parts, pool = pooled_rows(n, (1,), rows=rows, offset=offset, scale=scale)
        try:
            (found,) = simulate(n, lambda s, parts=parts: protocols.variance(s, parts[s.index]))[0]
            outcomes.append(abs(found / pool.var() - 1) < 2.0**-10)
        except PrecisionError:
            outcomes.append(None)
    assert outcomes[0] is None
    assert set(outcomes) <= {None, True}
    assert outcomes[-1] or offset == 1e6


def test_what_varies_too_little_is_named_at_the_receivers():
    x = np.array([[1.0, 0.1, 2.0], [2.0, 0.1, 2.0]])

    async def program(s):
        if s.index == 0:
            assert await protocols.variance(s, x, to="p1") is None
            return
        with pytest.raises(PrecisionError, match=r"column\(s\) 'x1' do not vary .* at frac=20 .* or pass a larger frac="):
            await protocols.variance(s, x, to="p1")

    simulate(2, program)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("secure_sum", ["(2,)"]), ("mean", ["(3,)"]), ("weighted_mean", ["(3,)"]), ("variance", ["(3,)", "(2,)", "(2, 2)"])],
)
def test_nothing_else_is_revealed(name, shapes, caplog):
    caplog.set_level(logging.INFO)

    async def program(s):
        x = np.ones(2) if name == "secure_sum" else np.ones((5, 2))
        await PROTOCOLS[name].call(s, x, *([np.ones(5)] if name == "weighted_mean" else []))

    simulate(2, program)
    revealed = [record.getMessage() for record in caplog.records if record.getMessage().startswith("revealed ")]
    assert len(revealed) == 2 * len(shapes)
    for shape in shapes:
        assert sum(f"shape={shape} to=p0,p1" in line for line in revealed) == 2 * shapes.count(shape)


@pytest.mark.parametrize("call", [protocols.mean, protocols.variance, protocols.standard_deviation])
def test_an_empty_pool_is_named(call):
    with pytest.raises(ConfigError, match="no party has any row"):
        simulate(2, lambda s: call(s, np.empty((0, 3))))


def test_a_pool_without_weight_or_with_too_few_rows_is_named():
    with pytest.raises(ConfigError, match="no party has any weight"):
        simulate(2, lambda s: protocols.weighted_mean(s, [1.0, 2.0], [0.0, 0.0]))
    with pytest.raises(ConfigError, match="2 pooled rows are too few for ddof=2"):
        simulate(2, lambda s: protocols.variance(s, [1.0], ddof=2))


@pytest.mark.parametrize(
    ("call", "fault", "text"),
    [
        (lambda s: protocols.mean(s, 1.0), ProgramError, "rows of shape"),
        (lambda s: protocols.mean(s, [[1.0, 2.0], [3.0, np.nan]]), PrecisionError, "row 1, column 1 is not a finite number"),
        (lambda s: protocols.variance(s, [1.0, np.inf]), PrecisionError, "row 1 is not a finite number"),
        (lambda s: protocols.mean(s, np.full(100, 1e12)), PrecisionError, "the most for 2 parties at frac=20: scale .* smaller frac="),
        (lambda s: protocols.variance(s, np.full(100, 1e12)), PrecisionError, "smaller frac="),
        (lambda s: protocols.secure_sum(s, [1.0, 1e15]), PrecisionError, r"a value \(row 1\) exceeds .* smaller frac="),
        (lambda s: protocols.weighted_mean(s, [1.0, 2.0], [1.0]), ProgramError, r"2 rows need weights of shape \(2,\)"),
        (lambda s: protocols.weighted_mean(s, [1.0, 2.0], [1.0, -1.0]), ConfigError, "weight 1 is negative"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(call, fault, text):
    async def program(s):
        with pytest.raises(fault, match=text):
            await call(s)
        return s.cost.rounds, s.cost.payload

    assert simulate(2, program) == [(0, 0)] * 2


@pytest.mark.parametrize("d", [(), (1,), (3,)])
def test_weights_may_be_a_column_as_of_a_frame(d):
    """They were once refused, although y of a model may be such a column."""
    rng = np.random.default_rng(7)
    x, w = rng.normal(size=(2, 5, *d)), rng.uniform(size=(2, 5, 1))

    async def program(s):
        frame = await protocols.weighted_mean(s, x[s.index], pd.DataFrame(w[s.index], columns=["w"]))
        return await measured(s, "weighted_mean", x[s.index], w[s.index]), frame

    outcomes, frames = zip(*simulate(2, program), strict=True)
    expected = np.average(np.concatenate(x), axis=0, weights=w.reshape(10))
    check(outcomes, expected, {"rtol": 0, "atol": 1e-4})
    assert all(np.array_equal(frame, outcomes[0][0]) for frame in frames)


@pytest.mark.parametrize("shape", [(5, 3), (1, 5), (5, 1, 1), (4, 1), ()])
def test_other_weights_are_no_column(shape):
    async def program(s):
        with pytest.raises(ProgramError, match="need"):
            await protocols.weighted_mean(s, np.ones((5, 3)), np.ones(shape))

    simulate(2, program)


@pytest.mark.parametrize("d", [(), (3,)])
def test_statistics_are_numbers_of_single_numbers_and_else_arrays_of_float64(d):
    async def program(s):
        x, w = np.ones((5, *d)), np.ones(5)
        return [
            await protocols.mean(s, x),
            await protocols.weighted_mean(s, x, w),
            await protocols.variance(s, x),
            await protocols.standard_deviation(s, x),
        ]

    for result in simulate(2, program)[0]:
        # A float, too, which can be rounded and written as JSON.
        assert isinstance(result, np.ndarray if d else np.float64) and result.dtype == np.float64 and result.shape == d


@pytest.mark.filterwarnings("ignore:overflow")
def test_no_bound_is_advised_to_a_protocol_that_takes_none():
    """This includes a party whose own sum is more than a float64 holds."""
    for x, text in (
        (np.full(9, 1e308), r"a value \(row 0\) exceeds .* pass a smaller frac=\n"),
        ([np.nan], r"in its place, or leave it out\n"),
    ):
        for call in (protocols.mean, protocols.variance, protocols.secure_sum):
            with pytest.raises(PrecisionError, match=text):
                simulate(2, lambda s, call=call, x=x: call(s, x))


def test_a_larger_value_fits_with_fewer_fractional_bits():
    assert simulate(2, lambda s: protocols.mean(s, np.full(100, 1e12), frac=10))[0] == 1e12
    assert simulate(2, lambda s: protocols.variance(s, np.full(100, 1e12), frac=0))[0] == 0


@pytest.mark.parametrize("call", [protocols.secure_sum, protocols.mean, protocols.variance])
def test_parties_with_other_columns_disagree_and_learn_nothing(call):
    with pytest.raises(Disagreement, match=r"p\d: runs a different program at .*(32 bytes offered, 24 expected|24 .*, 32 )"):
        simulate(3, lambda s: call(s, np.ones(3 + (s.index == 1)) if call is protocols.secure_sum else np.ones((5, 2 + (s.index == 1)))))


def test_the_estimate_agrees_with_the_declaration():
    for name in ("secure_sum", "mean", "variance", "standard_deviation"):
        plan, declared = estimate(PROTOCOLS[name].call, 3, [(5, 2)]), PROTOCOLS[name].cost(3, np.empty((5, 2)))
        assert (plan.rounds, plan.payload, plan.dealer) == (declared.rounds, declared.payload, declared.dealer)


@pytest.mark.parametrize("name", ["mean", "weighted_mean", "variance", "standard_deviation"])
def test_the_head_of_a_protocol_says_what_it_costs(name):
    head = re.search(r"rounds (\d) · bytes 8\((\d?)d \+ 1\) per peer", PROTOCOLS[name].call.__doc__)
    rounds, columns = int(head[1]), int(head[2] or 1)
    for d in (1, 2, 7):
        arguments = (np.empty((5, d)), *([np.empty(5)] if name == "weighted_mean" else []))
        assert PROTOCOLS[name].cost(3, *arguments) == Cost(rounds, 8 * (columns * d + 1))


@pytest.mark.parametrize(
    ("weight", "fault", "text"),
    [
        (1e-5, PrecisionError, r"all weights together are less than 0\.00098, too little for frac=20: .* a larger frac="),
        (1e-9, ConfigError, "no party has any weight that frac=20 tells from 0"),
    ],
)
def test_weights_too_small_to_tell_are_refused(weight, fault, text):
    with pytest.raises(fault, match=text):
        simulate(2, lambda s: protocols.weighted_mean(s, [1.0, 2.0], [weight, weight]))
    assert simulate(2, lambda s: protocols.weighted_mean(s, [1.0, 2.0], [weight, weight], frac=50))[0] == pytest.approx(1.5, abs=1e-4)


CALLS = {
    "secure_sum": lambda s: protocols.secure_sum(s, [10.0, 5.0]),
    "mean": lambda s: protocols.mean(s, [1.0, 2.0, 3.0]),
    "mean of one column": lambda s: protocols.mean(s, [[1.0], [2.0]]),
    "weighted_mean": lambda s: protocols.weighted_mean(s, [1.0, 2.0], [1.0, 1.0]),
    "variance": lambda s: protocols.variance(s, [1.0, 2.0, 5.0]),
    "variance of a sample": lambda s: protocols.variance(s, [1.0, 2.0, 5.0], ddof=1),
    "standard_deviation": lambda s: protocols.standard_deviation(s, [1.0, 2.0, 5.0]),
}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(CALLS, 2)))
def test_parties_that_sum_for_different_ends_disagree(one, other):
    """Each opens a sum of as many words: a total of one kind, read as another, would be a wrong result without an error."""
    with pytest.raises(Disagreement):
        simulate(2, lambda s: CALLS[other if s.index else one](s), clocks=Clocks(stall=3.0))
