"""Everything that runs as a job: results against numpy, receivers, faults, and estimates that equal real runs; none is left out."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression as Pooled
from sklearn.linear_model import Ridge

import protocols
from mpc import ConfigError, PrecisionError
from mpc.naming.scope import Scope
from mpc.testing import simulate
from parties.data import Table, load_diabetes
from parties.jobs.job import Task
from parties.programs import PROGRAMS, describe, program, table_of_programs
from tests.test_protocols_inference import reference as standard_errors

DATA = load_diabetes()
SOME = ("bmi", "bp", "age")
COLUMNS = ("age", "bmi", "bp", "s5", "target")
DESCENT = {"target": "target", "solver": "sgd", "epochs": 2, "batch_size": 64, "learning_rate": 0.25}


def column(name):
    return DATA.rows[:, DATA.columns.index(name)]


def parts(n):
    """Unequal consecutive parts of the rows."""
    return np.split(np.arange(len(DATA.rows)), [150, 180][: n - 1])


def held(task, index):
    """The columns of one party where columns are split; in another order than the job's."""
    return [name for name in reversed(task.columns) if task.columns.index(name) % len(task.parties) == index]


def table_of(task, index):
    """The data of one party as its node would load it."""
    if task.parameters.get("split") == "columns":
        names = [name for name in task.columns if name in held(task, index)]
        return Table(names, np.column_stack([column(name) for name in names]))
    rows = parts(len(task.parties))[index]
    return Table(list(task.columns), np.column_stack([column(name)[rows] for name in task.columns]))


def job(name, n, columns=SOME, to=(), **parameters):
    return Task(name, "diabetes", tuple(columns), tuple(f"p{index}" for index in range(n)), to, parameters)


def executed(task, tables=None, **options):
    """Everyone's result, and the cost at the busiest party: rounds, payload, dealer bytes in all."""

    async def work(s):
        table = table_of(task, s.index) if tables is None else tables[s.index]
        result = await s.run(PROGRAMS[task.protocol].run, table, task)
        return result, s.cost.rounds, s.cost.payload, s.cost.corrections

    results, rounds, payload, corrections = zip(*simulate(len(task.parties), work, **options), strict=True)
    return list(results), (max(rounds), max(payload), sum(corrections))


def estimated(task, rows=None, holdings=None):
    n = len(task.parties)
    if task.parameters.get("split") == "columns":
        rows, holdings = len(DATA.rows), [[name for name in task.columns if name in held(task, index)] for index in range(n)]
    plan = PROGRAMS[task.protocol].estimate(task, n, rows or [len(part) for part in parts(n)], holdings)
    return plan.rounds, plan.payload, plan.dealer


def by_column(value):
    return {name: value(column(name)) for name in SOME}


def means(n, name):
    return [column(name)[rows].mean() for rows in parts(n)]


CASES = {
    "sum": ({}, SOME, lambda n: {"sum": by_column(np.sum)}),
    "mean": ({}, SOME, lambda n: {"mean": by_column(np.mean), "rows": len(DATA.rows)}),
    "mean of whole numbers": ({"frac": 0}, ("age",), lambda n: {"mean": {"age": column("age").mean()}, "rows": len(DATA.rows)}),
    "weighted_mean": (
        {"weights": "bp"},
        SOME,
        lambda n: {
            "weighted_mean": {name: np.average(column(name), weights=column("bp")) for name in ("bmi", "age")},
            "total_weight": column("bp").sum(),
        },
    ),
    "variance": ({}, SOME, lambda n: {"variance": by_column(np.var), "rows": len(DATA.rows)}),
    "variance of a sample": ({"ddof": 3}, SOME, lambda n: {"variance": by_column(lambda x: x.var(ddof=3)), "rows": len(DATA.rows)}),
    "standard_deviation": ({"ddof": 1}, SOME, lambda n: {"standard_deviation": by_column(lambda x: x.std(ddof=1)), "rows": len(DATA.rows)}),
    "maximum": ({}, SOME, lambda n: {"maximum": by_column(np.max)}),
    "minimum": ({"frac": 30}, SOME, lambda n: {"minimum": by_column(np.min)}),
    "highest": ({}, ("bmi",), lambda n: {"column": "bmi", "highest": f"p{np.argmax(means(n, 'bmi'))}"}),
    "lowest": ({}, ("bmi",), lambda n: {"column": "bmi", "lowest": f"p{np.argmin(means(n, 'bmi'))}"}),
    "less_than": (
        {"first": "p1", "second": "p0"},
        ("bp",),
        lambda n: {"column": "bp", "first": "p1", "second": "p0", "less_than": bool(means(n, "bp")[1] < means(n, "bp")[0])},
    ),
    "equal": ({"first": "p0", "second": "p1"}, ("bp",), lambda n: {"column": "bp", "first": "p0", "second": "p1", "equal": False}),
}


def receivers(cases, case, n):
    """Everyone with one of 2 and 3 parties and p1 alone with the other: which, changes from case to case."""
    return ("p1",) if (list(cases).index(case) + n) % 2 else ()


def close(found, wanted, rtol=1e-7):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, dict):
            assert list(found[name]) == list(value)
            np.testing.assert_allclose(list(found[name].values()), list(value.values()), rtol=rtol)
        else:
            assert found[name] == (pytest.approx(value) if isinstance(value, float) else value)
            assert isinstance(value, type(found[name]))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_results_are_numpys_and_cost_what_was_estimated(case, n):
    parameters, columns, wanted = CASES[case]
    to = receivers(CASES, case, n)
    task = job(case.split()[0], n, columns, to, **parameters)
    results, cost = executed(task, seed=n, check_bounds=True)
    assert cost == estimated(task)
    for index, result in enumerate(results):
        if to and index != 1:
            assert result is None
        else:
            close(json.loads(json.dumps(result, allow_nan=False)), wanted(n))


REGRESSIONS = {
    "rows": {},
    "rows and score": {"score": True},
    "rows and errors": {"standard_errors": True, "score": True},
    "ridge": {"alpha": 5, "score": True},
    "secret": {"moments": "secret"},
    "columns": {"split": "columns"},
    "columns and score": {"split": "columns", "score": True, "alpha": 2.0},
    "no intercept": {"fit_intercept": False, "split": "columns"},
}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("case", REGRESSIONS)
def test_regressions_are_scikit_learns_and_cost_what_was_estimated(case, n):
    options = REGRESSIONS[case]
    features = [name for name in COLUMNS if name != "target"]
    x, y = np.column_stack([column(name) for name in features]), column("target")
    model = Ridge(options["alpha"]) if "alpha" in options else Pooled(fit_intercept=options.get("fit_intercept", True))
    model.fit(x, y)
    to = receivers(REGRESSIONS, case, n)
    task = job("linear_regression", n, COLUMNS, to, target="target", **options)
    results, cost = executed(task, seed=n, check_bounds=True)
    assert cost == estimated(task)
    for index, result in enumerate(results):
        if to and index != 1:
            assert result is None
            continue
        assert (list(result["coefficients"]), result["rows"]) == (features, len(x))
        np.testing.assert_allclose(list(result["coefficients"].values()), model.coef_, rtol=1e-4, atol=1e-4)
        assert abs(result["intercept"] - model.intercept_) < 1e-2
        assert ("r_squared" in result) == options.get("score", False)
        assert abs(result.get("r_squared", model.score(x, y)) - model.score(x, y)) < 1e-5
        told = {"standard_errors", "intercept_standard_error", "degrees_of_freedom"} & set(result)
        assert len(told) == (3 if "standard_errors" in options else 0)
        if told:
            assert (list(result["standard_errors"]), result["degrees_of_freedom"]) == (features, len(x) - len(features) - 1)
            found = [*result["standard_errors"].values(), result["intercept_standard_error"]]
            np.testing.assert_allclose(found, standard_errors(x, y), rtol=5e-5)
        json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    "options", [DESCENT, {**DESCENT, "score": True}, {**DESCENT, "split": "columns"}, {"target": "bmi", "moments": "secret", "score": True}]
)
def test_scores_from_predictions_and_descents_cost_what_was_estimated(options):
    task = job("linear_regression", 3, COLUMNS, (), **options)
    results, cost = executed(task)
    assert cost == estimated(task)
    assert results[0] == results[1] == results[2]
    assert results[0]["rows"] == len(DATA.rows)
    x = np.column_stack([column(name) for name in COLUMNS if name != options["target"]])
    wanted = Pooled().fit(x, column(options["target"])).score(x, column(options["target"]))
    assert abs(results[0].get("r_squared", wanted) - wanted) < (0.05 if "solver" in options else 1e-5)


def test_a_party_that_has_the_target_only():
    task = job("linear_regression", 3, ("bmi", "target", "bp"), target="target", split="columns")
    results, cost = executed(task)
    assert cost == estimated(task)
    x = np.column_stack([column("bmi"), column("bp")])
    np.testing.assert_allclose(list(results[1]["coefficients"].values()), Pooled().fit(x, column("target")).coef_, rtol=1e-4)


def test_an_estimate_deals_columns_out_and_takes_equal_rows():
    task = job("linear_regression", 2, COLUMNS, target="target", split="columns")
    entry = PROGRAMS["linear_regression"]
    assert entry.estimate(task, 2, 50).payload == entry.estimate(task, 2, [50, 50], [COLUMNS[:2], COLUMNS[2:]]).payload
    assert entry.estimate(task, 2, 50).peak > 0
    with pytest.raises(ConfigError, match="takes rows and columns of each, not of 3 and 2"):
        entry.estimate(task, 2, [1, 2, 3])
    assert program("mean").estimate(job("mean", 2), 2, 0).rounds == 1


@pytest.mark.parametrize("name", ["variance", "standard_deviation"])
def test_a_job_names_the_columns_that_vary_too_little(name):
    table = Table(["age", "bmi"], np.column_stack([np.arange(3.0), np.full(3, 0.1)]))
    with pytest.raises(PrecisionError, match=r"column\(s\) 'bmi' do not vary over the pooled rows"):
        executed(job(name, 2, table.columns), [table] * 2)


def test_equal_means_are_equal_and_the_first_of_equals_is_the_highest():
    rows = Table(["bmi"], np.arange(5.0)[:, None])
    tables = [rows, rows, Table(rows.columns, rows.rows - 1)]
    assert executed(job("equal", 3, ["bmi"], first="p0", second="p1"), tables)[0][2]["equal"] is True
    assert executed(job("less_than", 3, ["bmi"], first="p2", second="p1"), tables)[0][0]["less_than"] is True
    assert executed(job("highest", 3, ["bmi"]), tables)[0][0]["highest"] == "p0"
    assert executed(job("lowest", 3, ["bmi"]), tables)[0][0]["lowest"] == "p2"


@pytest.mark.parametrize(("name", "words"), [("maximum", "(1,)"), ("highest", "()"), ("less_than", "()"), ("equal", "()")])
def test_comparisons_reveal_one_number_or_bit(name, words, caplog):
    caplog.set_level(logging.INFO)
    parameters = {"first": "p0", "second": "p1"} if name in {"less_than", "equal"} else {}
    executed(job(name, 3, ["bmi"], ("p2",), **parameters))
    revealed = [line for line in caplog.messages if line.startswith("revealed ")]
    assert len(revealed) == 3
    assert all(f"shape={words} to=p2" in line for line in revealed)


# -- nothing is left out ---------------------------------------------------------------------------------------

BUILDING_BLOCKS = {
    "less_equal": "the job less_than with both parties exchanged says the opposite of it",
    "select": "takes a shared bit and gives a share: there is nothing that a party could ask for by itself",
    "absolute": "a function of one's own values, which their owner computes in the clear",
    "relu": "a function of one's own values, which their owner computes in the clear",
    "clip": "a function of one's own values, which their owner computes in the clear",
    "ranks": "gives a share: what is taken of it, a median or the largest, is the program's to say",
    "sort": "gives a share: what is taken of it, a median or the largest, is the program's to say",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_whoever_is_no_receiver_learns_something_only_where_a_program_says_so(name):
    """The rules `receivers` and `min_difference` rely on this (invariants 24 and 26)."""
    chosen = ("bmi", "bp", "age")[: PROGRAMS[name].at_most]
    given = {"weights": "age", "target": "bp", "first": "p0", "second": "p2"}
    task = job(name, 3, chosen, ("p1",), **{each.name: given[each.name] for each in PROGRAMS[name].parameters if each.default is None})

    async def work(s):
        # Weights are not negative.
        table = table_of(task, s.index)
        await PROGRAMS[name].run(s, Table(table.columns, np.abs(table.rows)), task)
        return {receiver for release in s.releases for receiver in release.to}

    assert simulate(3, work)[0] == ({"p0", "p1", "p2"} if PROGRAMS[name].tells_all else {"p1"})


def test_every_protocol_is_a_job_or_a_building_block():
    reached = {name for entry in PROGRAMS.values() for name in entry.uses}
    assert reached.isdisjoint(BUILDING_BLOCKS)
    assert reached | set(BUILDING_BLOCKS) == {*protocols.PROTOCOLS, "LinearRegression"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_job_calls_what_it_says(name, monkeypatch):
    called = set()
    child = Scope.child

    def remembering(scope, label):
        called.add(label)
        return child(scope, label)

    monkeypatch.setattr(Scope, "child", remembering)
    parameters, columns, _ = next((case for key, case in CASES.items() if key.split()[0] == name), ({"target": "target"}, COLUMNS, None))
    PROGRAMS[name].estimate(job(name, 2, columns, **parameters), 2, 10)
    assert set(PROGRAMS[name].uses) - {"LinearRegression"} == called & set(protocols.PROTOCOLS) - set(BUILDING_BLOCKS)


def test_the_list_of_programs(capsys):
    rows = describe()
    assert [row["name"] for row in rows] == list(PROGRAMS)
    assert all(row["version"] >= 1 and row["summary"] and row["reveals"].startswith("to the receivers ") for row in rows)
    assert all(row["example"]["rounds"] >= 1 and row["example"]["bytes_to_each_peer"] > 0 for row in rows)
    table_of_programs()
    shown = capsys.readouterr().out
    assert all(f"{name}@1\n" in shown for name in PROGRAMS) and all(len(line) <= 110 for line in shown.splitlines())
    json.dumps(rows, allow_nan=False)
