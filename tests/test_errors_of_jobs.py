"""Rows of docs/errors.md about what a job says, and about data that do not fit the job."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mpc import BeaverError
from parties.data import Table
from parties.door import handler
from parties.jobs.job import Task, unpack_task
from parties.programs import PROGRAMS
from tests.error_rows import row_of
from tests.test_programs import executed, job
from tests.test_programs_refusals import BAD_DATA, REFUSED

PACKED = Task("mean", "patients", ("age",), ("a", "b")).pack()


def refused(what):
    """A job that no party would be asked for."""
    task = dict(REFUSED[what][0])
    n = task.pop("n", 2)
    task = job(task.pop("name"), n, **task)
    return lambda: PROGRAMS[task.protocol].check(task, n)


def with_data(what):
    """A job on data that is none for it."""
    name, parameters, table, *_ = BAD_DATA[what]
    return lambda: executed(job(name, 2, **parameters), [table, table])


def of_split_columns(*names):
    """A job on data of which two parties have these columns."""
    tables = [Table(list(each), np.random.default_rng(1).normal(size=(9, len(each)))) for each in names]
    return lambda: executed(job("linear_regression", 2, target="age", split="columns"), tables)


def told(**changes):
    """A proposal that is changed on its way."""
    return lambda: unpack_task({**PACKED, **changes})


JOBS = {
    "both name 'NAME'": refused("same party"),
    "would tell everyone the predictions": refused("score of columns"),
    "and nobody else, must be receivers": refused("score to one"),
    "the data has columns": with_data("other columns"),
    "takes rows and columns of each": lambda: PROGRAMS["mean"].estimate(job("mean", 2), 2, [10, 10, 10]),
    "has none of the job's columns": of_split_columns(("bmi", "bp", "age"), ()),
    "in the dataset of exactly one party": of_split_columns(("bmi", "bp"), ("bp", "age")),
    "and so nothing to compare": with_data("no rows"),
    "column 'NAME', row N is negative": with_data("negative weight"),
    "column 'NAME', row N is not a finite number": with_data("nan"),
    "the most at frac=N: scale": with_data("too large"),
    "does not know how to": lambda: asyncio.run(handler(None, object())({"do": "dance"}, print)),
    "a proposed job is none": told(more=1),
    "bytes together, not N": told(columns=[f"{'x' * 200}{number}" for number in range(400)]),
}
"""Rows, and a call that provokes each."""
BESIDE = [
    ("a proposed job is none", told(parameters={"frac": [1]})),
    ("a proposed job is none", told(pool=-1)),
    ("a proposed job is none", told(parameters={"ddof": 2**64})),
    ("a proposed job is none", told(dataset="\ud800")),
    ("a proposed job is none", told(columns=["age", "age"])),
    ("in the dataset of exactly one party", of_split_columns(("bmi",), ("bp",))),
]
"""Other calls that a row is about."""


@pytest.mark.parametrize(("case", "call"), [*JOBS.items(), *BESIDE])
def test_a_job_provokes_the_row(case, call):
    row = row_of(case)
    with pytest.raises(BeaverError) as caught:
        call()
    assert (type(caught.value).__name__, row.shows(str(caught.value))) == (row.kind, True), caught.value
