"""Ranks and sorted shares: against numpy, their cost, and what an analyst takes from them."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
import protocols
from mpc import ProgramError
from mpc.testing import simulate
from protocols import comparison
from tests.test_protocols_comparison import TRIALS, measured, run, share

TABLE = np.array([[3.5, -1.0, 7.25, -1.0], [0.0, 0.0, 2.0**41, -(2.0**40)], [5.0, 4.0, 3.0, 2.0]])
CASES = [
    (TABLE, -1),
    (TABLE, 0),
    (TABLE.reshape(2, 3, 2), 1),
    (TABLE[0], -1),
    (np.array([1.0, -2.0, 1.0]), 0),
    (np.array([4.5]), 0),
    (np.array([[2.0, -2.0]]), 0),
    (np.empty((0, 3)), 1),
    (np.empty((3, 0)), 1),
    (np.arange(25.0)[::-1] % 7, 0),
]


def places(x, axis):
    return np.argsort(np.argsort(x, axis=axis, kind="stable"), axis=axis, kind="stable")


@pytest.mark.parametrize(("n", "seed"), TRIALS)
@pytest.mark.parametrize("name", ["ranks", "sort"])
def test_against_numpy(name, n, seed):
    async def program(s):
        results = []
        for x, axis in CASES:
            a = share(s, x, bound=2.0**41)
            results += [await measured(s, name, each, axis) for each in (a, await s.mask(a))]
        private = s.input(TABLE if s.index == 1 else None, 1, TABLE.shape, bound=2.0**41)
        return [*results, await measured(s, name, private)]

    reference = places if name == "ranks" else np.sort
    run(n, seed, program, [each for x, axis in CASES for each in [reference(x, axis)] * 2] + [reference(TABLE, -1)])


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_large_openings_cost_what_is_declared(n):
    x = np.random.default_rng(n).integers(-50, 50, (2, 70)).astype(float)

    async def program(s):
        a = s.input(x if s.index == 0 else None, 0, x.shape, bound=64.0)
        return [await measured(s, "ranks", a), await measured(s, "sort", a)]

    run(n, 1, program, [places(x, 1), np.sort(x)])


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_medians_quantiles_and_the_largest_three(n):
    claims = [np.random.default_rng([n, index]).lognormal(3.0, 1.0, 7) for index in range(n)]

    async def program(s):
        x = mpc.concatenate(await s.inputs(claims[s.index], bound=2.0**12))
        ordered, m = await protocols.sort(s, x), 7 * n
        low = int(0.9 * (m - 1))
        weight = 0.9 * (m - 1) - low
        quantile = await mpc.scale(s, ordered[low : low + 2], [1 - weight, weight], 20)
        largest = await mpc.b2a(s, await protocols.less_equal(s, m - 3, await protocols.ranks(s, x)))
        middle = (ordered[(m - 1) // 2] + ordered[m // 2]).ldexp(-1)
        return [await s.reveal(each) for each in (middle, quantile.sum(), ordered[-3:], largest)]

    pool = np.concatenate(claims)
    for median, quantile, three, largest in simulate(n, program, check_bounds=True):
        assert abs(median - np.median(pool)) < 2.0**-20
        assert abs(quantile - np.quantile(pool, 0.9)) < 2.0**-11
        assert np.allclose(three, np.sort(pool)[-3:], rtol=0, atol=2.0**-20)
        assert np.array_equal(largest, places(pool, 0) >= 7 * n - 3)


def test_what_has_no_order_is_refused():
    async def program(s):
        for call, text in (
            (lambda: protocols.sort(s, share(s, 1.0)), r"no axis -1 in shape \(\)"),
            (lambda: protocols.ranks(s, share(s, [1.0]), axis=1), r"no axis 1 in shape \(1,\)"),
            (lambda: protocols.sort(s, [3.0, 1.0]), "sort takes AShare or Masked here, not list"),
        ):
            with pytest.raises(ProgramError, match=text):
                await call()

    simulate(2, program)


def test_lists_of_opponents_are_kept_for_few_elements_only():
    """The list for a thousand elements takes 9 MB, and programs may order any number of elements."""
    for size in (comparison.FEW, comparison.FEW + 1):
        pair, first = comparison.opponents(size)
        assert pair.shape == first.shape == (size - 1, size)
        assert (comparison.opponents(size)[0] is pair) == (size <= comparison.FEW)
