"""A fitted model can be kept, copied and used on other rows; wrong settings and rows of another width are refused."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

from mpc import ConfigError, ProgramError
from mpc.testing import simulate
from protocols import LinearRegression
from tests.test_protocols_edges import fitted


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_fitted_model_is_kept_in_a_file_without_its_shares(n):
    x = np.array([[1.0, 2.0], [-3.0, 0.5]])

    async def program(s):
        model = await fitted(s, alpha=0.5)
        shared = await LinearRegression().fit(s, np.eye(4, 2) + s.index, np.arange(4.0), reveal=False)
        with pytest.raises(ProgramError, match="never leaves it"):
            pickle.dumps(shared)
        return model, pickle.dumps(model), copy.deepcopy(model)

    for model, stored, twin in simulate(n, program):
        for kept in (pickle.loads(stored), twin):
            assert kept.get_params() == model.get_params()
            assert np.array_equal(kept.coef_, model.coef_)
            assert np.array_equal(kept.predict(x), model.predict(x))
            assert kept.score(x, [0.0, 1.0]) == model.score(x, [0.0, 1.0])
        with pytest.raises(ProgramError, match="not fitted yet"):
            copy.deepcopy(LinearRegression()).predict(x)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_rows_of_another_width_are_refused_before_anything_is_sent(n):
    async def program(s):
        shared, public = [await fitted(s, alpha=1.0), await LinearRegression().fit(s, np.eye(9, 3), np.arange(9.0), reveal=False)]
        rounds = s.cost.rounds
        for call in (
            lambda: public.predict(s, np.ones((4, 2))),
            lambda: shared.predict(s, np.ones((4, 3))),
            lambda: shared.score(s, np.ones((1, 3)), [1]),
        ):
            with pytest.raises(ConfigError, match=r"X has \d columns, and the fit had \d: pass these"):
                await call()
        for local in (lambda: shared.predict(np.ones((4, 1))), lambda: shared.score(np.ones((2, 4)), [1, 2])):
            with pytest.raises(ConfigError, match=r"X has \d columns, and the fit had 2"):
                local()
        return s.cost.rounds - rounds

    assert simulate(n, program) == [0] * n


@pytest.mark.parametrize("settings", [
    {"alpha": "1"}, {"alpha": [1.0]}, {"alpha": None}, {"learning_rate": "0.1"}, {"epochs": 2.5}, {"batch_size": 32.0},
])  # fmt: skip
def test_settings_that_are_no_numbers_are_refused(settings):
    ((name, value),) = settings.items()

    async def program(s):
        with pytest.raises(ConfigError, match=re.escape(f"{name}={value!r} must be a ")):
            await fitted(s, solver="sgd", **settings)
        return s.cost.rounds

    assert simulate(2, program) == [0, 0]
