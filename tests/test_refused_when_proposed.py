"""A job that its text, its members or public numbers rule out is refused before anybody is asked or reads data.

A job that passes is not refused for any of these later.
"""

from __future__ import annotations

import string
from dataclasses import replace

import numpy as np
import pytest

from mpc import ConfigError
from mpc.testing import simulate
from parties.auditing.history import History
from parties.config import load_node_config
from parties.jobs.job import Client, Task
from parties.policy import admit
from parties.programs import PROGRAMS
from parties.programs.listing import example
from protocols.given import given_fit
from protocols.hidden import PARTIES
from tests.nodes import Nodes

FIT = PROGRAMS["linear_regression"]


def of_a_client(task, rows):
    """The same job on this many rows of a client alone, which gets the result."""
    portions = dict.fromkeys(task.parties, "0" * 64)
    return replace(task, dataset="", to=("lab",), client=Client("lab", rows, (0,) * len(task.columns), portions))


def test_a_party_refuses_secret_moments_of_too_many_before_it_reads(tmp_path):
    names = tuple(string.ascii_lowercase[: PARTIES + 1])
    Nodes(tmp_path, names=names)
    (tmp_path / "a.csv").unlink()
    config = load_node_config(tmp_path / "a.toml")
    task = Task(FIT.name, "patients", ("age", "bmi"), names, parameters={"target": "bmi", "moments": "secret"})
    for asker in ("a", "b"):
        with pytest.raises(
            ConfigError, match=r'linear_regression: moments="secret" is for at most 12 parties, not 13: use moments="reveal"'
        ):
            admit(config, History(), task, asker)
    assert not admit(config, History(), replace(task, parties=names[:-1]), "a")


def test_columns_of_more_parties_than_there_are_columns():
    task = example(FIT, 3, 2)
    split = replace(task, parameters={**task.parameters, "split": "columns"})
    for refuse in (lambda: FIT.check(split, 3), lambda: FIT.estimate(split, 3, 10)):
        with pytest.raises(ConfigError, match='split="columns" takes a column of every party, and 2 are too few for 3 parties'):
            refuse()


@pytest.mark.parametrize("name", ["variance", "standard_deviation"])
def test_a_variance_of_fewer_rows_of_a_client_than_it_needs(name):
    task = of_a_client(replace(example(PROGRAMS[name]), parameters={"ddof": 7}), 7)
    with pytest.raises(ConfigError, match=f"{name}: 7 pooled rows are too few for ddof=7: pass a smaller ddof, or more rows"):
        PROGRAMS[name].check(task, 3)
    PROGRAMS[name].check(of_a_client(task, 8), 3)
    # How many rows the parties have, nobody knows yet.
    PROGRAMS[name].check(replace(task, dataset="patients"), 3)


@pytest.mark.parametrize("intercept", [True, False])
def test_a_fit_of_fewer_rows_of_a_client_than_it_has_unknowns(intercept):
    least = 3 + intercept
    rows = np.random.default_rng(7).uniform(-1, 1, (least, 4))

    def fitted(count):
        async def program(s):
            given = s.input(rows[:count] if s.index == 0 else None, 0, (count, 4), frac=32, bound=1.0)
            return await given_fit(s, given, "abcd", 3, fit_intercept=intercept)

        return simulate(2, program)[0]

    task = example(FIT, 2, 4)
    task = replace(task, parameters={**task.parameters, "fit_intercept": intercept})
    FIT.check(of_a_client(task, least), 2)
    table = np.column_stack([rows[:, :3], np.ones(least)])[:, :least]
    assert np.allclose([*fitted(least)[0], fitted(least)[1]][:least], np.linalg.solve(table, rows[:, 3]), atol=1e-3)
    with pytest.raises(ConfigError, match=f"{least - 1} rows of a client are too few for a fit of 4 columns: give at least {least} rows"):
        FIT.check(of_a_client(task, least - 1), 2)
    # Nor would it have come to anything.
    with pytest.raises(ConfigError, match=f"^{least - 1} pooled rows are too few for 3 coefficients"):
        fitted(least - 1)


WAYS = [
    {},
    {"alpha": 1e12, "score": True},
    {"fit_intercept": False, "score": True},
    {"moments": "secret"},
    {"split": "columns"},
    {"solver": "sgd", "epochs": 1, "learning_rate": 1000.0, "batch_size": 1},
    {"solver": "sgd", "epochs": 1, "learning_rate": 1e-6, "batch_size": 255, "split": "columns"},
]


def runs_dry(task, n, rows=3):
    """Whether the check lets a job pass; a dry run of it then ends well, or this fails."""
    try:
        PROGRAMS[task.protocol].check(task, n)
    except ConfigError:
        return False
    PROGRAMS[task.protocol].plans(task, n, rows)
    return True


@pytest.mark.parametrize(("n", "columns", "passed"), [(2, 12, 7), (13, 12, 4)])
def test_a_fit_that_is_not_refused_at_once_has_room_to_the_end(n, columns, passed):
    task = example(FIT, n, columns)
    ways = [replace(task, parameters={**task.parameters, **way}, to=task.parties[: number % 2]) for number, way in enumerate(WAYS)]
    assert sum(runs_dry(way, n) for way in ways) == passed


@pytest.mark.parametrize("n", [2, 13])
def test_nor_is_anything_else_refused_that_shapes_tell(n):
    for program in PROGRAMS.values():
        task = example(program, n, 2)
        assert runs_dry(task, n)
        for frac in (20, 40) if any(setting.name == "frac" for setting in program.parameters) else ():
            assert runs_dry(replace(task, parameters={**task.parameters, "frac": frac}), n)
        assert not program.given or runs_dry(of_a_client(task, 1 << 16), n)


def test_as_many_columns_as_a_job_may_have_fit_a_descent():
    task = example(FIT, 2, FIT.at_most)
    assert len(task.columns) == FIT.at_most and runs_dry(replace(task, parameters={**task.parameters, "solver": "sgd", "epochs": 1}), 2)


@pytest.mark.parametrize(
    ("spread", "told"), [((1e-6, 1.0, 1.0), "'age' are"), ((1e-6, 0.0, 1.0), "'age', 'bmi' are"), ((1.0, 1.0, 1e-6), "'cost' are")]
)
def test_columns_of_a_client_that_hardly_vary_in_their_range_are_named(spread, told):
    rows = np.random.default_rng(7).uniform(-1, 1, (20, 3)) * spread

    async def program(s):
        given = s.input(rows if s.index == 0 else None, 0, rows.shape, frac=32, bound=1.0)
        return await given_fit(s, given, ["age", "bmi", "cost"], 2)

    with pytest.raises(ConfigError, match=rf"^column\(s\) {told} constant, .* 2\^20 where it declares none: declare a tighter range"):
        simulate(2, program)
