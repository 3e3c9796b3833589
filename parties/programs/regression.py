"""Linear regression by rows and by columns, as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.errors import ConfigError
from parties.data import Table
from parties.programs.groups import fitted
from parties.programs.program import COLUMN, OnGiven, Program, Result, Setting, Settings, by_column, units
from protocols import LinearRegression
from protocols.given import given_fit
from protocols.hidden import PARTIES
from protocols.inference import NO_ERRORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc import AShare, Session
    from parties.jobs.job import Task

CHUNK = 32
"""Columns whose presence one extent of an announced shape tells."""
MODEL = ("solver", "split", "alpha", "fit_intercept", "moments", "epochs", "batch_size", "learning_rate")


def _model(settings: Settings) -> LinearRegression:
    return LinearRegression(**{name: settings[name] for name in MODEL})


async def _fit(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    others = [number for number, name in enumerate(table.columns) if name != settings["target"]]
    x = Table([table.columns[number] for number in others], table.rows[:, others], table.index)
    y = table.rows[:, table.columns.index(settings["target"])] if settings["target"] in table.columns else None
    names = x.columns
    if settings["split"] == "columns":
        holdings = await _holdings(s, table, task)
        names = [name for held in holdings for name in held if name != settings["target"]]
    model = await _model(settings).fit(s, x, y, to=task.to or None)
    errors = await model.standard_errors(s, to=task.to or None) if settings["standard_errors"] else None
    # The standard errors bring R² already.
    score = errors.r_squared if errors is not None else None
    if settings["score"] and not settings["standard_errors"]:
        score = await _score(s, model, x, y, task, settings)
    if model.intercept_ is None:
        return None
    result: Result = {
        "coefficients": _in_order(task, names, model.coef_),
        "intercept": float(model.intercept_),
        "rows": model.n_samples_seen_,
    }
    if settings["score"]:
        result["r_squared"] = score
    if errors is not None:
        result |= {"standard_errors": _in_order(task, names, errors.coefficients), "intercept_standard_error": errors.intercept}
        result["degrees_of_freedom"] = errors.degrees_of_freedom
    return result


def _in_order(task: Task, names: Sequence[str], values: Any) -> dict[str, float]:
    """Return one number for every column, in the order of the job."""
    each = by_column(names, values)
    return {name: each[name] for name in task.columns if name in each}


async def _fit_given(s: Session, table: Table, given: AShare, task: Task, settings: Settings) -> Result | None:
    at, unit = table.columns.index(settings["target"]), units(task)
    fitted = await given_fit(s, given, table.columns, at, fit_intercept=settings["fit_intercept"], to=task.to or None)
    if fitted is None:
        return None
    names = [name for name in table.columns if name != settings["target"]]
    coefficients = fitted[0] * unit[at] / np.delete(unit, at)
    return {"coefficients": by_column(names, coefficients), "intercept": float(fitted[1] * unit[at]), "rows": task.given}


async def _score(s: Session, model: LinearRegression, x: Table, y: Any, task: Task, settings: Settings) -> float | None:
    """Return R² on the rows of the fit: from the solved system, or if that cannot tell, from the parties' sums of squares."""
    if _has_system(settings):
        return await model.fitted_score(s, to=task.to or None)
    return float(await model.score(s, x, y))


async def _holdings(s: Session, table: Table, task: Task) -> list[list[str]]:
    """Return which of the job's columns each party has.  rounds 1 · reveals exactly that"""
    have = [name in table.columns for name in task.columns]
    mine = tuple([sum(bit << number for number, bit in enumerate(have[start : start + CHUNK])) for start in range(0, len(have), CHUNK)])
    told = await s.announce(mine)
    holdings = [[name for number, name in enumerate(task.columns) if bits[number // CHUNK] >> number % CHUNK & 1] for bits in told]
    for party, held in zip(s.names, holdings, strict=True):
        if not held:
            msg = f"{party} has none of the job's columns: leave it out, or name one of its columns"
            raise ConfigError(msg)
    for name in task.columns:
        holders = [party for party, held in zip(s.names, holdings, strict=True) if name in held]
        if len(holders) != 1:
            msg = (
                f"split=columns: column {name!r} must be in the dataset of exactly one party; it is in that of "
                f"{', '.join(holders) or 'none'}"
            )
            raise ConfigError(msg)
    return holdings


def _has_system(settings: Settings) -> bool:
    """Return whether a fit leaves a system that gives R²."""
    return bool(settings["solver"] == "exact" and settings["fit_intercept"] and settings["moments"] == "reveal")


def _rule(task: Task, settings: Settings) -> None:
    _model(settings).check(len(task.parties))
    _check_numbers(task, settings)
    if task.told and not task.given and (settings["split"] == "columns" or settings["solver"] == "sgd"):
        msg = "a client gets the result of split=rows with solver=exact only: it cannot follow what depends on each party's rows"
        raise ConfigError(msg)
    if settings["standard_errors"] and not (_has_system(settings) and settings["split"] == "rows" and settings["alpha"] == 0):
        raise ConfigError(NO_ERRORS)
    if settings["score"] and not _has_system(settings):
        why = 'score=true with solver="sgd", fit_intercept=false or moments="secret" is computed from predictions'
        if settings["split"] == "columns":
            msg = f"{why}, which would tell everyone the predictions of all records: leave score out"
            raise ConfigError(msg)
        if task.to and set(task.to) != set(task.parties):
            msg = f"{why}, so all parties, and nobody else, must be receivers: leave score out, or let the result go to the parties"
            raise ConfigError(msg)


def _check_numbers(task: Task, settings: Settings) -> None:
    """Raise ConfigError if the numbers of columns, parties and given rows alone show that there is no fit."""
    columns, parties = len(task.columns), len(task.parties)
    if settings["split"] == "columns" and columns < parties:
        msg = (
            f'split="columns" takes a column of every party, and {columns} are too few for {parties} parties: name more columns, or fewer '
            "parties"
        )
        raise ConfigError(msg)
    least = columns - 1 + settings["fit_intercept"]
    if 0 < task.given < least:
        msg = f"{task.given} rows of a client are too few for a fit of {columns} columns: give at least {least} rows, or name fewer columns"
        raise ConfigError(msg)


def _sample(columns: Sequence[str], rows: int, settings: Settings) -> Table:
    """Return data that is not constant.

    The number of rows matters where rows are shared one by one, and not where only their products are.
    """
    count = rows if settings["split"] == "columns" or settings["solver"] == "sgd" else 1
    return Table(list(columns), np.tile(np.arange(float(count))[:, None], len(columns)))


REGRESSION = (
    Program(
        "linear_regression",
        1,
        "least squares of one column on the others, over the rows of all parties or over the columns of all parties for common records, "
        "which an identifier of each dataset puts in the same order",
        "to the receivers the coefficients, the intercept and with score=true R² (with standard_errors=true R² and each column's and "
        "the intercept's variance inflation factor), and to everyone whether the columns are collinear or the descent diverged, and "
        "for split=rows the number of rows, mean and variance of each column (with moments=secret the number of rows and the power of "
        "two of each standard deviation), with solver=sgd also of each party the number of rows, and with a score from predictions "
        "(solver=sgd, moments=secret or no intercept) the mean and both sums of squares of the target; for split=columns the number "
        "of rows, who has which columns, the power of two of each standard deviation, and where datasets declare an identifier, a "
        "print of 32 bits of all records",
        _fit,
        ("LinearRegression",),
        (
            Setting("target", str, None, "which of the job's columns to predict", names=COLUMN),
            Setting("split", str, "rows", "whether parties have other rows, or other columns of the same records", ("rows", "columns")),
            Setting("solver", str, "exact", "normal equations, or mini-batch descent in the order of the rows", ("exact", "sgd")),
            Setting("alpha", float, 0.0, "penalty alpha·|w|² on the coefficients, for exact", least=0.0, most=1e12),
            Setting("fit_intercept", bool, True, "false for a line through the origin"),
            Setting(
                "moments", str, "reveal", f"secret hides means and variances: rows, exact, up to {PARTIES} parties", ("reveal", "secret")
            ),
            Setting("epochs", int, 5, "passes over the rows, for sgd", least=1, most=10**6),
            Setting("batch_size", int, 128, "rows of a step, for sgd", least=1),
            Setting("learning_rate", float, 0.125, "length of a step, for sgd", least=1e-6, most=1000.0),
            Setting("score", bool, False, "true to compute R² on the rows of the fit as well"),
            Setting("standard_errors", bool, False, "true to compute those of the coefficients as well, for rows, exact and alpha=0"),
        ),
        at_least=2,
        at_most=CHUNK * CHUNK,
        rule=_rule,
        sample=_sample,
        groups=fitted,
        given=OnGiven(_fit_given, ("target", "fit_intercept"), pools=False),
        tells_all=True,
    ),
)
