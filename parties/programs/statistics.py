"""Sums, means and spread of columns over the rows of all parties, as jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import protocols
from mpc.errors import ConfigError
from parties.data import Table
from parties.programs.groups import weighted, with_weight
from parties.programs.program import COLUMN, OnGiven, Program, Result, Setting, Settings, by_column, fraction, units
from protocols import counted
from protocols.given import given_mean, given_sum, given_variance
from protocols.own_data import enough_rows

if TYPE_CHECKING:
    from mpc import AShare, Floats, Session
    from parties.jobs.job import Task
    from protocols.counted import Counted


def _of_rows(name: str, table: Table, found: Counted | None, unit: Floats | float = 1.0) -> Result | None:
    """Return a statistic of every column, in these units, and how many rows it is of."""
    return None if found is None else {name: by_column(table.columns, found.value * unit), "rows": round(found.size)}


async def _sum(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    total = await protocols.secure_sum(s, Table(table.columns, table.rows.sum(axis=0)), frac=settings["frac"], to=task.to or None)
    return None if total is None else {"sum": by_column(table.columns, total)}


async def _mean(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    return _of_rows("mean", table, await counted.mean(s, table, frac=settings["frac"], to=task.to or None))


async def _weighted_mean(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    at = table.columns.index(settings["weights"])
    weights = table.rows[:, at]
    if (weights < 0).any():
        msg = (
            f"column {settings['weights']!r}, row {int(np.argmax(weights < 0))} is negative; weights say how often a row "
            "counts: mend or drop such rows"
        )
        raise ConfigError(msg)
    names = [name for name in table.columns if name != settings["weights"]]
    others = Table(names, np.delete(table.rows, at, axis=1))
    mean = await counted.weighted_mean(s, others, weights, frac=settings["frac"], to=task.to or None)
    return None if mean is None else {"weighted_mean": by_column(names, mean.value), "total_weight": float(mean.size)}


async def _variance(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    return _of_rows("variance", table, await counted.variance(s, table, ddof=settings["ddof"], frac=settings["frac"], to=task.to or None))


async def _standard_deviation(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    spread = await counted.standard_deviation(s, table, ddof=settings["ddof"], frac=settings["frac"], to=task.to or None)
    return _of_rows("standard_deviation", table, spread)


async def _sum_given(s: Session, table: Table, given: AShare, task: Task, settings: Settings) -> Result | None:  # noqa: ARG001  a body's arguments
    unit = units(task)
    total = await given_sum(s, table.rows / unit, given, task.to or None)
    return None if total is None else {"sum": by_column(table.columns, total * unit)}


async def _mean_given(s: Session, table: Table, given: AShare, task: Task, settings: Settings) -> Result | None:  # noqa: ARG001  a body's arguments
    unit = units(task)
    mean = await given_mean(s, table.rows / unit, given, task.to or None)
    return _of_rows("mean", table, mean, unit)


async def _variance_given(s: Session, table: Table, given: AShare, task: Task, settings: Settings) -> Result | None:
    unit = units(task)
    spread = await given_variance(s, table.rows / unit, given, table.columns, ddof=settings["ddof"], to=task.to or None)
    return _of_rows("variance", table, spread, np.square(unit))


async def _deviation_given(s: Session, table: Table, given: AShare, task: Task, settings: Settings) -> Result | None:
    spread = await _variance_given(s, table, given, task, settings)
    if spread is None:
        return None
    return {"standard_deviation": {name: float(np.sqrt(value)) for name, value in spread["variance"].items()}, "rows": spread["rows"]}


def _rule(task: Task, settings: Settings) -> None:
    # Nobody knows yet how many rows the parties add.
    if task.given and not task.dataset:
        enough_rows(task.given, settings["ddof"])


_DDOF = Setting("ddof", int, 0, "divide by the number of rows less this", least=0, most=10**6)
_ALSO = "and to everyone the number of rows of all parties together and, of each column, the mean and a rounded sum of squares"

STATISTICS = (
    Program(
        "sum",
        1,
        "the sum of each column over the rows of all parties",
        "to the receivers the sum of each column, from which one of two parties learns the other's",
        _sum,
        ("secure_sum",),
        (fraction(),),
        given=OnGiven(_sum_given),
    ),
    Program(
        "mean",
        1,
        "the mean of each column over the rows of all parties",
        "to the receivers the mean of each column and the number of rows of all parties together, hence also the sum",
        _mean,
        ("mean",),
        (fraction(),),
        given=OnGiven(_mean_given),
    ),
    Program(
        "weighted_mean",
        1,
        "the mean of each column over the rows of all parties, each row with its own weight",
        "to the receivers the weighted mean of each column and the sum of all weights, hence also the weighted sum",
        _weighted_mean,
        ("weighted_mean",),
        (Setting("weights", str, None, "which of the job's columns holds the weights", names=COLUMN), fraction()),
        at_least=2,
        counting=with_weight,
        groups=weighted,
    ),
    Program(
        "variance",
        1,
        "the variance of each column over the rows of all parties",
        f"to the receivers the variance of each column, {_ALSO}",
        _variance,
        ("variance",),
        (_DDOF, fraction()),
        rule=_rule,
        irrelevant={"ddof": 0},
        given=OnGiven(_variance_given, ("ddof",)),
        tells_all=True,
    ),
    Program(
        "standard_deviation",
        1,
        "the standard deviation of each column over the rows of all parties",
        f"to the receivers the standard deviation of each column, {_ALSO}",
        _standard_deviation,
        ("standard_deviation", "variance"),
        (_DDOF, fraction()),
        rule=_rule,
        irrelevant={"ddof": 0},
        given=OnGiven(_deviation_given, ("ddof",)),
        tells_all=True,
    ),
)
