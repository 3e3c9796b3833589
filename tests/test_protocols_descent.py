"""A descent comes as near to least squares as the docstring of `LinearRegression` says, with batches of any size.

No step tells of few rows (invariant 26).
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise, product

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression as Pooled

import mpc
from mpc.testing import simulate
from protocols import LinearRegression
from protocols.descent import Schedule, batches, descend, least_of_a_step
from tests.test_protocols_linear import by_rows, error

ABOUT = " ".join(LinearRegression.__doc__.split())


@pytest.mark.parametrize("seed", range(6))
def test_few_rows_need_many_epochs(seed, caplog):
    assert "off by more than 0.2 of the largest (per standard deviation); with epochs=30, by less than 0.02." in ABOUT
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(181, 3))
    y = x @ [2.0, -1.5, 1.0] + 0.5 * rng.normal(size=181)
    wanted = Pooled().fit(x, y).coef_

    def off(**settings):
        return error(by_rows(2, lambda: LinearRegression("sgd", **settings), x, y)[0][0].coef_, wanted, x)

    assert off(epochs=30) < 0.02
    assert not caplog.records
    assert off() > 0.2
    told = "a descent of 10 steps leaves about 26 % of its error, more where columns are correlated"
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [told] * 2


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_less_than_a_hundredth_of_the_error_is_left_after_so_many_steps(rate):
    assert "less than 1 % of the error is left after 5 / (learning_rate·λ) steps" in ABOUT
    rng = np.random.default_rng(3)
    x = rng.normal(size=(120, 3)) + rng.normal(size=(120, 1))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    values, directions = np.linalg.eigh(x.T @ x / len(x))
    assert rate <= 1 / values[-1] <= len(values)
    wanted = directions @ [1.0, -1.0, 0.5]
    steps = math.ceil(5 / (rate * values[0]))

    async def program(s):
        shares = [s.input(own if s.index == 0 else None, 0, own.shape, bound=16.0) for own in (x, x @ wanted)]
        model = LinearRegression("sgd", "shared", fit_intercept=False, epochs=steps, batch_size=len(x), learning_rate=rate)
        return (await model.fit(s, *shares)).coef_

    left = (simulate(2, program)[0] - wanted) @ directions / (-wanted @ directions)
    assert np.allclose(left, (1 - rate * values) ** steps, atol=1e-4)
    assert np.abs(left).max() < 0.01


def test_a_descent_sends_less_from_so_many_columns_on():
    assert "with 1,000 rows at each of 3 parties, 5 epochs take fewer from 41 columns on" in ABOUT

    async def fit(s, x, y, *, solver):
        await LinearRegression(solver).fit(s, x, y)

    for columns, fewer in ((40, False), (41, True)):
        exact, descent = (mpc.estimate(fit, 3, [(1000, columns), (1000,)], solver=solver).payload for solver in ("exact", "sgd"))
        assert (descent < exact) == fewer


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize(
    ("rows", "batch", "cuts"), [(600, 256, (256,)), (600, 600, ()), (511, 4096, ()), (515, 256, (256,)), (640, 256, (256, 512))]
)
def test_a_batch_may_have_any_number_of_rows(n, rows, batch, cuts):
    """The descent equals that of plain floats; no sum overflows with errors as large as the bound allows."""
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, 3))
    y = x @ [2.0, -1.0, 0.25] + rng.normal(size=rows)
    x[:, 2], y[:] = np.where(batch == rows, 60.0, x[:, 2]), np.where(batch == rows, 60.0, y)

    async def program(s):
        shares = [s.input(own if s.index == 0 else None, 0, own.shape, bound=64.0) for own in (x, y)]
        return await s.reveal(await descend(s, *shares, Schedule(2, batch, 2.0**-13)))

    w = np.zeros(3)
    for start, stop in [*pairwise((0, *cuts, rows))] * 2:
        part, target = x[start:stop], y[start:stop]
        w -= 2.0**-13 * part.T @ (part @ w - target) / len(part)
    for found in simulate(n, program):
        assert np.allclose(found, w, atol=1e-4)


@pytest.mark.parametrize(("rate", "rounds"), [(0.125, 2), (0.1, 3)])
def test_a_step_takes_so_many_rounds(rate, rounds):
    async def program(s, batch):
        await descend(s, s.zero((1024, 4)).assume_bound(1.0, "zeros"), s.zero(1024).assume_bound(1.0, "zeros"), Schedule(1, batch, rate))

    # The data are masked beside the weights of the first step.
    small, large = (mpc.estimate(program, 3, batch=batch) for batch in (128, 512))
    assert (small.rounds, large.rounds) == (1 + 8 * rounds, 1 + 2 * rounds)
    assert large.payload == 8 * (1024 * 4 + 4 + 2 * (512 + 4) + (rounds - 2) * 1024)


def test_no_step_has_few_rows_of_anyone():
    for parts, batch in product(product(range(12), repeat=3), range(1, 14)):
        spans = list(batches(parts, batch))
        assert [row for start, stop in spans for row in range(start, stop)] == list(range(sum(parts)))
        assert all(stop - start < 2 * batch for start, stop in spans)
        for rows, end in zip(parts, accumulate(parts), strict=True):
            shared = [min(stop, end) - max(start, end - rows) for start, stop in spans]
            assert all(of_these <= 0 or of_these >= least_of_a_step(rows, batch) for of_these in shared), (parts, batch)


def test_three_descents_do_not_tell_the_last_row():
    """One with a step for that row alone would: with public moments, three results are three equations for it."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 3))
    y = x @ [1.0, -0.5, 0.3] + 0.3 * rng.normal(size=120)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()

    def moves(batch, rate):
        """The weights of one epoch, over the rate."""
        return by_rows(2, lambda: LinearRegression("sgd", epochs=1, batch_size=batch, learning_rate=rate), x, y)[0][0].coef_ / rate

    # Where the last row z, t is a step: m + z (t - rate z·m), with m the mean of the others' products; without: that of all.
    whole, fast, slow = moves(120, 1.0), moves(119, 1.0), moves(119, 0.5)
    assert np.allclose(whole, x.T @ y / 120, atol=1e-3)
    assert np.allclose(fast, whole, atol=1e-3) and np.allclose(slow, whole, atol=1e-3)
