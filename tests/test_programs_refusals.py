"""A job is refused for what it may not be, be given or see; every refusal says what to mend."""

from __future__ import annotations

import numpy as np
import pytest

from mpc import ConfigError, PrecisionError
from parties.data import Table
from parties.programs import PROGRAMS, program
from tests.test_programs import COLUMNS, SOME, executed, job

REGRESSION = {"name": "linear_regression", "columns": COLUMNS, "target": "target"}
REFUSED = {
    "unknown parameter": ({"name": "variance", "ddoff": 1}, "variance: no parameter 'ddoff'; did you mean 'ddof'?"),
    "far from any": ({"name": "variance", "gamma": 1}, "variance: no parameter 'gamma'; known are: ddof, frac"),
    "not whole": ({"name": "variance", "ddof": 1.0}, "variance: parameter ddof=1.0 must be a whole number from 0 to 1000000"),
    "truth value": ({"name": "variance", "ddof": True}, "variance: parameter ddof=True must be a whole number"),
    "negative": ({"name": "mean", "frac": -1}, "mean: parameter frac=-1 must be a whole number from 0 to 40"),
    "text": ({"name": "mean", "frac": "20"}, "mean: parameter frac='20' must be a whole number"),
    "missing": (
        {"name": "weighted_mean"},
        "weighted_mean: parameter 'weights' is missing: the name of a column, which of the job's columns",
    ),
    "no such column": (
        {"name": "weighted_mean", "weights": "bpp"},
        "weighted_mean: parameter weights='bpp' names no column of the job; did you mean 'bp'?",
    ),
    "weights alone": ({"name": "weighted_mean", "columns": ["bp"], "weights": "bp"}, r"takes at least 2 column\(s\), not 1 \(bp\)"),
    "no column": ({"name": "mean", "columns": []}, r"mean: takes at least 1 column\(s\), not 0 \(none\)"),
    "two columns": ({"name": "highest"}, r"highest: takes exactly 1 column\(s\), not 3 \(bmi, bp, age\)"),
    "column twice": ({"name": "mean", "columns": ["bp", "bp"]}, "mean: 'bp' is named twice among the columns"),
    "receiver": (
        {"name": "mean", "to": ("p9",)},
        "mean: receiver 'p9' is no party of the job; did you mean 'p1'|mean: receiver 'p9' is no party",
    ),
    "receiver twice": ({"name": "mean", "to": ("p1", "p1")}, "mean: 'p1' is named twice among the receivers"),
    "alone": ({"name": "mean", "n": 1}, "mean: a job needs two parties or more"),
    "no such party": (
        {"name": "equal", "columns": ["bp"], "first": "p0", "second": "clinic"},
        "equal: parameter second='clinic' names no party of the job; known are: p0, p1",
    ),
    "same party": (
        {"name": "less_than", "columns": ["bp"], "first": "p0", "second": "p0"},
        "less_than: parameters first and second both name 'p0': name two different parties",
    ),
    "one column": ({**REGRESSION, "columns": ["target"]}, r"linear_regression: takes at least 2 column\(s\), not 1"),
    "choice": ({**REGRESSION, "split": "rowz"}, "linear_regression: parameter split='rowz' must be rows or columns"),
    "alpha": ({**REGRESSION, "alpha": -1.0}, "linear_regression: parameter alpha=-1.0 must be a number from 0.0"),
    "infinite": ({**REGRESSION, "alpha": float("inf")}, "linear_regression: parameter alpha=inf must be a number"),
    "batch": ({**REGRESSION, "batch_size": 0}, "linear_regression: parameter batch_size=0 must be a whole number from 1"),
    "no epochs": ({**REGRESSION, "epochs": 0}, "linear_regression: parameter epochs=0 must be a whole number from 1"),
    "penalised descent": ({**REGRESSION, "solver": "sgd", "alpha": 1.0}, 'linear_regression: solver="sgd" has no penalty'),
    "secret columns": ({**REGRESSION, "split": "columns", "moments": "secret"}, 'linear_regression: moments="secret" is for split="rows"'),
    "score of columns": (
        {**REGRESSION, "split": "columns", "solver": "sgd", "score": True},
        "would tell everyone the predictions of all records: leave score out",
    ),
    "errors of columns": (
        {**REGRESSION, "split": "columns", "standard_errors": True},
        "linear_regression: standard errors need",
    ),
    "errors of a penalty": ({**REGRESSION, "alpha": 0.5, "standard_errors": True}, "standard errors need"),
    "errors of a descent": ({**REGRESSION, "solver": "sgd", "standard_errors": True}, "standard errors need"),
    "score to one": (
        {**REGRESSION, "moments": "secret", "score": True, "to": ("p0",)},
        "so all parties, and nobody else, must be receivers: leave score out, or let the result go to the parties",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_wrong_jobs_are_refused_with_what_to_mend(what):
    task, message = REFUSED[what]
    task = dict(task)
    n = task.pop("n", 2)
    task = job(task.pop("name"), n, **task)
    for refuse in (lambda: PROGRAMS[task.protocol].check(task, n), lambda: PROGRAMS[task.protocol].estimate(task, n, 10)):
        with pytest.raises(ConfigError, match=message):
            refuse()


def test_the_number_of_parties_must_be_theirs():
    with pytest.raises(ConfigError, match="3 take part, 2 are named; correct --parties"):
        PROGRAMS["mean"].check(job("mean", 2), 3)


def test_written_parameters():
    entry = program("linear_regression")
    given = ["target=bmi", "alpha = 2", "fit_intercept=False", "epochs=3", "split=columns", "score=true"]
    read = {"target": "bmi", "alpha": 2.0, "fit_intercept": False, "epochs": 3, "split": "columns", "score": True}
    assert entry.parse(given) == read
    assert [type(value) for value in entry.parse(given).values()] == [type(value) for value in read.values()]
    for text, message in {
        "alpha": "parameter 'alpha' must be written NAME=VALUE",
        "alhpa=1": "no parameter 'alhpa'; did you mean 'alpha'?",
        "alpha=much": "parameter alpha='much' must be a number from 0.0",
        "epochs=2.5": "parameter epochs='2.5' must be a whole number from 1",
        "score=maybe": "parameter score='maybe' must be true or false",
        "target=age": "parameter 'target' is given twice",
    }.items():
        with pytest.raises(ConfigError, match=message):
            entry.parse(["target=bmi", text])


def test_an_unknown_program_is_named_with_the_closest():
    assert program("mean") is PROGRAMS["mean"]
    with pytest.raises(ConfigError, match="'maen' is no protocol of this version; did you mean 'mean'"):
        program("maen")


TALL = Table(list(SOME), np.array([[1.0, 1e15, 2.0]]))
BAD_DATA = {
    "other columns": (
        "mean",
        {},
        Table(["bmi", "age", "bp"], np.ones((3, 3))),
        ConfigError,
        "has columns bmi, age, bp, the job bmi, bp, age",
    ),
    "nan": ("mean", {}, Table(list(SOME), np.diag([1.0, np.nan, 1.0])), PrecisionError, "column 'bp', row 1 is not a finite number"),
    "negative weight": ("weighted_mean", {"weights": "bp"}, Table(list(SOME), -np.eye(3)), ConfigError, "column 'bp', row 1 is negative"),
    "no rows": ("maximum", {}, Table(list(SOME), np.empty((0, 3))), ConfigError, "p[01] has no rows"),
    "too large": (
        "maximum",
        {"frac": 40},
        Table(list(SOME), np.full((1, 3), 2e6)),
        PrecisionError,
        "column 'bmi' exceeds .* smaller frac=",
    ),
    "sum too large": ("sum", {}, TALL, PrecisionError, r"\(column 'bp'\) exceeds .* smaller frac="),
    "mean too large": ("mean", {}, TALL, PrecisionError, r"\(column 'bp'\) exceeds .* smaller frac="),
    "weighted too large": ("weighted_mean", {"weights": "bmi"}, TALL, PrecisionError, r"\(column 'bp'\) exceeds .* smaller frac="),
    "variance too large": ("variance", {}, TALL, PrecisionError, r"\(column 'bp'\) exceeds .* smaller frac="),
    "constant": (
        "linear_regression",
        {"target": "age"},
        Table(list(SOME), np.ones((9, 3))),
        ConfigError,
        r"column\(s\) 'bmi', 'bp' are constant",
    ),
}


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_data_is_named(what):
    name, parameters, table, fault, message = BAD_DATA[what]
    with pytest.raises(fault, match=message):
        executed(job(name, 2, **parameters), [table, table])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (("bmi", "bp"), ("bp", "age"), "column 'bp' must be in the dataset of exactly one party; it is in that of p0, p1"),
        (("bmi",), ("bp",), "column 'age' must be in the dataset of exactly one party; it is in that of none"),
        (SOME, (), "p1 has none of the job's columns"),
    ],
)
def test_split_columns_have_one_holder_each(first, second, message):
    tables = [Table(list(names), np.random.default_rng(1).normal(size=(9, len(names)))) for names in (first, second)]
    with pytest.raises(ConfigError, match=message):
        executed(job("linear_regression", 2, target="age", split="columns"), tables)
