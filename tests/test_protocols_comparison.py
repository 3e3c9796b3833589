"""Comparisons, choices and the largest of many: against numpy, their cost, and what they reveal."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

import mpc
import protocols
from mpc import Cost, Like, PrecisionError, ProgramError
from mpc.testing import simulate
from protocols import PROTOCOLS, comparison

TRIALS = [(2, None), (2, 1), (3, 1), (3, 2), (4, None), (4, 2), (5, 1), (5, 2)]
"""Every number of parties under two orders of events, every order at two numbers at least."""
BOUND = 2.0**41  # 2^61 as a word
EDGES = np.array([0, 2.0**-20, -(2.0**-20), 1, -1, 2.5, BOUND, -BOUND, BOUND - 1, 1 - BOUND, 7, 7])


def share(s, values, *, frac=20, bound=BOUND):
    """The values, known to party 0, as a share of which no party owns anything."""
    values = np.asarray(values)
    own = values if s.index == 0 else None
    return s.input(own, 0, values.shape, frac=frac, bound=bound) + s.zero(values.shape, frac=frac)


async def measured(s, name, *arguments, **parameters):
    """The revealed result, what it cost this party, and what it should have cost."""
    sent, rounds, dealt = dict(s.cost.sent), s.cost.rounds, s.cost.corrections
    declared = PROTOCOLS[name].cost(s.n, *arguments, **parameters)
    result = await PROTOCOLS[name].call(s, *arguments, **parameters)
    payload = max((size - sent.get(peer, 0) for peer, size in s.cost.sent.items()), default=0)
    cost = Cost(s.cost.rounds - rounds, payload, s.cost.corrections - dealt)
    return await s.reveal(result), cost, declared


def check(outcomes, expected):
    """Every party has exactly `expected`, of its type, at the declared cost (corrections: of all parties together)."""
    for result, cost, declared in outcomes:
        assert cost.rounds == declared.rounds
        assert np.shape(result) == np.shape(expected)
        assert np.array_equal(result, expected)
        assert np.asarray(result).dtype == np.asarray(expected).dtype
    assert max(cost.payload for _, cost, _ in outcomes) == outcomes[0][2].payload
    assert sum(cost.dealer for _, cost, _ in outcomes) == outcomes[0][2].dealer


def run(n, seed, program, expected):
    """A program that returns a list of measured results, against the list of what they are."""
    outcomes = simulate(n, program, seed=seed, check_bounds=True)
    for results, value in zip(zip(*outcomes, strict=True), expected, strict=True):
        check(results, value)


COMPARISONS = {"less_than": np.less, "less_equal": np.less_equal, "equal": np.equal}


@pytest.mark.parametrize(("n", "seed"), TRIALS)
def test_comparisons(n, seed):
    pairs = [
        (EDGES[:, None], EDGES),
        (np.float64(2.5), np.float64(2.5)),
        (np.empty((0, 3)), np.ones(3)),
        (EDGES.reshape(3, 4), np.float64(1)),
    ]
    public = [(EDGES, 1), (EDGES.reshape(4, 3), [1.0, 7.0, -1.0])]

    async def program(s):
        results = []
        for name in COMPARISONS:
            for a, b in pairs:
                left, right = share(s, a), share(s, b)
                results.append(await measured(s, name, left, right))
                masks = await asyncio.gather(s.mask(left), s.mask(right))
                results.append(await measured(s, name, *masks))
                results.append(await measured(s, name, masks[0], right))
            for a, c in public:
                x = share(s, a)
                results += [await measured(s, name, x, c), await measured(s, name, c, x), await measured(s, name, await s.mask(x), c)]
        return results

    expected = []
    for reference in COMPARISONS.values():
        for a, b in pairs:
            expected += [reference(a, b)] * 3
        for a, c in public:
            expected += [reference(a, c), reference(c, a), reference(a, c)]
    run(n, seed, program, expected)


@pytest.mark.parametrize(("n", "seed"), TRIALS)
def test_choices(n, seed):
    x = EDGES.reshape(4, 3)
    y = np.roll(x, 2)
    low, high = np.array([-3.0, -1.0, 2.5]), 7.0

    async def program(s):
        a, b = share(s, x), share(s, y)
        masks = await asyncio.gather(s.mask(a), s.mask(b))
        bit = await protocols.less_than(s, a, b)
        row = await protocols.less_than(s, a[0], b[0])
        nothing = share(s, np.empty((0, 2)))
        results = [
            await measured(s, "select", bit, a, b),
            await measured(s, "select", bit, *masks),
            await measured(s, "select", bit, masks[0], b),
            await measured(s, "select", bit, a, 1.5),
            await measured(s, "select", bit, low, masks[1]),
            await measured(s, "select", row, a, b),
            await measured(s, "select", bit, a[0], b[1]),
            await measured(s, "select", bit, masks[0][0], masks[1][1]),
            await measured(s, "select", await protocols.equal(s, a[0, 0], 0), a[1, 1], b[2, 2]),
        ]
        for name, parameters in (("absolute", ()), ("relu", ()), ("clip", (low, high))):
            results += [await measured(s, name, each, *parameters) for each in (a, masks[0])]
        results += [await measured(s, "clip", a[2, 1], -1, 1), await measured(s, "absolute", nothing), await measured(s, "relu", nothing)]
        return results

    less = x < y
    expected = [np.where(less, x, y)] * 3
    expected += [np.where(less, x, 1.5), np.where(less, low, y), np.where(less[0], x, y)]
    expected += [np.where(less, x[0], y[1])] * 2 + [x[1, 1]]
    for value in (np.abs(x), np.maximum(x, 0), np.clip(x, low, high)):
        expected += [value] * 2
    expected += [np.clip(x[2, 1], -1, 1), np.empty((0, 2)), np.empty((0, 2))]
    run(n, seed, program, expected)


LARGEST = {"maximum": np.max, "minimum": np.min, "argmax": np.argmax, "argmin": np.argmin}


@pytest.mark.parametrize(("n", "seed"), TRIALS)
def test_the_largest_of_many(n, seed):
    rng = np.random.default_rng(n)
    cases = [
        (EDGES, None),
        (np.array([3.0]), None),
        (np.float64(-2), None),
        (np.array([1.0, 1.0]), 0),
        (rng.integers(-3, 3, 97).astype(float), None),
        (rng.integers(0, 2, (5, 4)).astype(float), 0),
        (rng.integers(-2, 2, (2, 3, 4)).astype(float), 1),
        (rng.integers(-5, 5, (3, 2)).astype(float), -1),
        (rng.integers(-5, 5, (3, 3)).astype(float), None),
        (np.empty((0, 3)), 1),
    ]

    async def program(s):
        return [await measured(s, name, share(s, x), axis=axis) for x, axis in cases for name in LARGEST]

    run(n, seed, program, [reference(x, axis=axis) for x, axis in cases for reference in LARGEST.values()])


@pytest.mark.parametrize("weight", [1, 100, 1 << 20])
def test_every_way_to_group_finds_the_first_of_the_largest(weight, monkeypatch):
    monkeypatch.setattr(comparison, "ROUND", weight)
    comparison._levels.cache_clear()
    rng = np.random.default_rng(weight)
    cases = [rng.integers(0, 1 + m // 3, (2, m)).astype(float) for m in (2, 3, 4, 6, 7, 11, 23, 38)]

    async def program(s):
        return [await measured(s, name, share(s, x), axis=1) for x in cases for name in ("maximum", "argmax")]

    try:
        run(2, 3, program, [reference(x, axis=1) for x in cases for reference in (np.max, np.argmax)])
    finally:
        comparison._levels.cache_clear()


def test_levels_shrink_to_one_and_cover_everything():
    for rows in (1, 3):
        for length in [*range(2, 300), 10_000, 1_000_000]:
            left = length
            for groups, size in comparison._levels(rows, length):
                assert groups % rows == 0
                left, before = groups // rows, left
                assert before <= left * size < before + left
                assert size >= 2
            assert left == 1
    assert comparison._levels(1, 1) == comparison._levels(0, 5) == ()
    declared = {m: PROTOCOLS["maximum"].cost(2, Like((m,))) for m in (2, 10, 100, 10_000, 1_000_000)}
    assert [cost.rounds for cost in declared.values()] == [4, 6, 8, 22, 47]
    assert declared[10_000].payload < 28 * 10_000


@pytest.mark.parametrize("n", [2, 4])
def test_the_maximum_of_ten_thousand_with_a_plan(n):
    x = np.random.default_rng(0).normal(size=10_000) * 100
    x[77] = x[99] = x.max() + 1

    async def program(s):
        a = share(s, x)
        return [await measured(s, "maximum", a), await measured(s, "argmax", a)]

    async def planned(s):
        return await s.run(program)

    for results, value in zip(zip(*simulate(n, planned), strict=True), (np.rint(x.max() * 2**20) / 2**20, np.int64(77)), strict=True):
        check(results, value)


def test_whole_numbers_stay_whole():
    x = np.array([3, -4, 2**61, -(2**61)])

    async def program(s):
        a = share(s, x, frac=0, bound=2.0**61)
        return [
            await measured(s, "absolute", a),
            await measured(s, "clip", a, -3, 2),
            await measured(s, "less_than", a, 3),
            await measured(s, "maximum", a),
            await measured(s, "argmin", a),
        ]

    run(3, 1, program, [np.abs(x), np.clip(x, -3, 2), x < 3, x.max(), x.argmin()])


def test_nothing_is_revealed(caplog):
    caplog.set_level(logging.INFO)

    async def program(s):
        a, b = share(s, EDGES), share(s, EDGES[::-1])
        bit = await protocols.less_than(s, a, b)
        await asyncio.gather(protocols.less_equal(s, a, b), protocols.equal(s, a, b), protocols.select(s, bit, a, b))
        await asyncio.gather(protocols.absolute(s, a), protocols.relu(s, a), protocols.clip(s, a, -1, 1))
        await asyncio.gather(*(PROTOCOLS[name].call(s, a) for name in LARGEST))
        await s.reveal(bit, to=0)

    simulate(2, program)
    revealed = [record.getMessage() for record in caplog.records if record.getMessage().startswith("revealed ")]
    assert len(revealed) == 2
    assert all(line.endswith("shape=(12,) to=p0") for line in revealed)


def test_independent_calls_share_their_rounds():
    async def program(s):
        a, b = share(s, EDGES), share(s, EDGES[::-1])
        before = s.cost.rounds
        await asyncio.gather(protocols.less_than(s, a, b), protocols.equal(s, a, b), protocols.absolute(s, a), protocols.maximum(s, b))
        return s.cost.rounds - before

    assert simulate(3, program, seed=1) == [6] * 3


async def chosen_of_another_shape(s):
    return await protocols.select(s, await protocols.less_than(s, share(s, [1.0, 2.0, 3.0]), 2), share(s, [1.0, 2.0]), 0.0)


@pytest.mark.parametrize(
    ("call", "fault", "text"),
    [
        (lambda s: protocols.less_than(s, 1.0, 2.0), ProgramError, "neither side is a share"),
        (lambda s: protocols.less_than(s, share(s, [1.0]), share(s, [1], frac=0)), ProgramError, "20 and 0 fractional bits"),
        (
            lambda s: protocols.less_than(s, share(s, [1.0, 2.0]), share(s, [1.0, 2.0, 3.0])),
            ProgramError,
            r"\(2,\) and \(3,\) do not broadcast",
        ),
        (lambda s: protocols.less_than(s, share(s, [1], frac=0), 2.5), ProgramError, "whole numbers"),
        (lambda s: protocols.equal(s, share(s, 1.0, bound=2.0**42), share(s, 1.0, bound=2.0**42)), PrecisionError, "smaller bound="),
        (lambda s: protocols.less_than(s, share(s, 1.0), np.nan), PrecisionError, "is not a finite number"),
        (lambda s: protocols.clip(s, share(s, 1.0), 2, 1), ProgramError, "low <= high"),
        (lambda s: protocols.clip(s, share(s, 1.0), share(s, 0.0), 1), ProgramError, "public numbers"),
        (lambda s: protocols.maximum(s, share(s, np.empty(0))), ProgramError, "no largest or smallest element"),
        (lambda s: protocols.argmin(s, share(s, np.empty((3, 0))), axis=1), ProgramError, "along axis 1"),
        (lambda s: protocols.maximum(s, share(s, [1.0, 2.0], bound=2.0**42)), PrecisionError, "smaller bound="),
        (lambda s: protocols.maximum(s, share(s, [1.0, 2.0]), axis=1), ProgramError, r"no axis 1 in shape \(2,\)"),
        (lambda s: protocols.argmin(s, share(s, [[1.0, 2.0]]), axis=(0, 1)), ProgramError, r"no axis \(0, 1\) in shape"),
        (lambda s: protocols.maximum(s, np.ones(3)), ProgramError, "maximum takes AShare or Masked here, not ndarray"),
        (lambda s: protocols.minimum(s, [share(s, 1.0)]), ProgramError, "minimum takes AShare or Masked here, not list"),
        (lambda s: protocols.argmax(s, [1.0]), ProgramError, "argmax takes AShare or Masked here, not list"),
        (lambda s: protocols.argmin(s, 1.0), ProgramError, "argmin takes AShare or Masked here, not float"),
        (lambda s: protocols.absolute(s, np.ones(3)), ProgramError, "absolute takes AShare or Masked here, not ndarray"),
        (lambda s: protocols.relu(s, np.ones(3)), ProgramError, "relu takes AShare or Masked here, not ndarray"),
        (lambda s: protocols.clip(s, np.ones(3), 0, 1), ProgramError, "clip takes AShare or Masked here, not ndarray"),
        (
            lambda s: protocols.clip(s, share(s, [1.0, 2.0]), np.zeros((3, 2)), 1),
            ProgramError,
            r"\(3, 2\) and \(\) do not broadcast to \(2,\)",
        ),
        (lambda s: protocols.clip(s, share(s, [1.0, 2.0]), 0, np.ones(3)), ProgramError, r"\(\) and \(3,\) do not broadcast to \(2,\)"),
        (lambda s: protocols.clip(s, share(s, 1.0), np.nan, 1), ProgramError, "low <= high"),
        (lambda s: protocols.clip(s, share(s, 1.0), "a", 1), PrecisionError, "numbers are needed"),
        (lambda s: protocols.less_than(s, share(s, [1], frac=0), "a"), PrecisionError, "numbers are needed"),
        (lambda s: protocols.equal(s, None, share(s, [1], frac=0)), PrecisionError, "is not a finite number"),
        (lambda s: protocols.select(s, share(s, 1.0), share(s, 1.0), 2.0), ProgramError, "select takes BShare here, not AShare"),
        (chosen_of_another_shape, ProgramError, r"\(3,\) and \(2,\) do not broadcast"),
    ],
)
def test_what_cannot_be_right_is_refused_before_it_is_sent(call, fault, text):
    async def program(s):
        with pytest.raises(fault, match=text):
            await call(s)

    simulate(2, program)


def test_a_secret_is_never_an_index():
    async def program(s):
        where = await protocols.argmax(s, share(s, [1.0, 2.0]))
        with pytest.raises(ProgramError, match="never an index"):
            share(s, [1.0, 2.0])[where]
        with pytest.raises((ProgramError, TypeError)):
            [1, 2][where]

    simulate(2, program)


def test_pairs_of_masked_values_and_public_bits():
    x = np.arange(12.0).reshape(3, 4) ** 2
    left, right = np.triu_indices(4, 1)
    flips = np.array([True, False, True, False])

    async def program(s):
        a = share(s, x, bound=128)
        masked = await s.mask(a)
        bits = await protocols.less_than(s, a, 20)
        with pytest.raises(ProgramError, match="bool"):
            await mpc.xor(s, bits, [1, 0, 1, 0])
        with pytest.raises(ProgramError, match="no pairs"):
            a[0, 0].pairs()
        product = await mpc.mul_trunc(s, masked.pairs(), masked.pairs(), 20)
        return [await s.reveal(each) for each in (a.pairs(), masked.pairs().share(), await mpc.xor(s, bits, flips), product)]

    difference = x[:, left] - x[:, right]
    for a, b, flipped, product in simulate(3, program, check_bounds=True):
        assert np.array_equal(a, difference)
        assert np.array_equal(b, difference)
        assert np.array_equal(flipped, (x < 20) ^ flips)
        np.testing.assert_allclose(product, difference**2, atol=2.0**-19)


@pytest.mark.parametrize(("n", "seed"), TRIALS)
def test_masked_values_against_more_public_numbers(n, seed):
    """A histogram: values that are masked once, against all edges."""
    x, edges = np.array([0.5, -1.5, 2.0, 0.0]), np.array([-1.0, 0.0, 2.0])

    async def program(s):
        masked = await s.mask(share(s, x, bound=8))
        column, row = masked.reshape(4, 1), masked[:1]
        bit = await protocols.less_than(s, column, 0)
        results = [await measured(s, name, column, edges) for name in COMPARISONS]
        results += [await measured(s, name, edges, row) for name in COMPARISONS]
        results += [await measured(s, "less_than", column, masked.reshape(1, 4)), await measured(s, "select", bit, column, edges)]
        return results

    column, row = x[:, None], x[:1]
    expected = [reference(column, edges) for reference in COMPARISONS.values()]
    expected += [reference(edges, row) for reference in COMPARISONS.values()]
    run(n, seed, program, [*expected, column < x, np.where(column < 0, column, edges)])


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_private_input_costs_what_is_declared(n):
    """Its words go from its owner to each other party at once, however large it is."""
    x = np.arange(5000.0)

    async def program(s):
        a = s.input(x if s.index == 1 else None, 1, 5000)
        bit = await protocols.less_than(s, a[:1], 3)
        return [
            *[await measured(s, name, a, 7.0) for name in COMPARISONS],
            await measured(s, "less_than", 3 * a, a + 10),
            await measured(s, "select", bit, a, 1.0),
            await measured(s, "select", await protocols.less_than(s, a, 3), a, -a),
            *[await measured(s, name, a) for name in LARGEST],
            await measured(s, "clip", a, 2, 30),
            await measured(s, "relu", a),
        ]

    expected = [reference(x, 7.0) for reference in COMPARISONS.values()]
    expected += [3 * x < x + 10, x, np.where(x < 3, x, -x), *(reference(x) for reference in LARGEST.values()), np.clip(x, 2, 30), x]
    run(n, 1, program, expected)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_side_without_a_limit_is_not_clipped(n):
    x = np.array([[1.25, -3.0], [7.5, -8.0]])
    limits = [(0, None), (None, 2.0), (-np.inf, [0.0, -4.0]), ([-np.inf, -1.0], np.inf), (None, None), (-0.3, 0.3), (None, -20.0)]

    async def program(s):
        a, whole = share(s, x, bound=8.5), share(s, np.rint(x), frac=0, bound=8.5)
        clipped = [await measured(s, "clip", each, *pair) for each in (a, await s.mask(a)) for pair in limits]
        return [*clipped, *[await measured(s, "clip", whole, low, high) for low, high in ((0, None), (None, 3))]]

    expected = [np.rint(np.clip(x, low, high) * 2**20) / 2**20 for low, high in limits * 2]
    run(n, 1, program, [*expected, np.clip(np.rint(x).astype(int), 0, None), np.clip(np.rint(x).astype(int), None, 3)])
