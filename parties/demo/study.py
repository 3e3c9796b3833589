"""The study that the hospitals agreed on: the program, the same at each, and its plaintext reference."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import mpc
import protocols
from parties.data import Table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from mpc import Session

TARGET = "target"
PRODUCT_BOUND = 2.0**10
"""Declared bound of a hospital's mean body mass index; a product of two then fits the ring."""
COEFFICIENT_ERROR = 1e-4
"""Tolerance of coefficients, relative to the largest, each times the standard deviation of its column."""


class Holding(NamedTuple):
    """What one hospital has: all columns of its own patients, and for the study by columns some columns of all patients."""

    rows: Table
    columns: Table


async def study(s: Session, own: Holding) -> dict[str, Any]:
    """Compute everything that the demo shows.

    Reveals to everyone: sums and means of every column; the product of two hospitals' mean body mass index; which hospital has the highest
    mean progression; both regressions' coefficients, with what `LinearRegression` says that a fit reveals.
    """
    rows = own.rows
    x, y = _features(rows)
    bmi = float(rows.rows[:, rows.columns.index("bmi")].mean())
    mine, target = _features(own.columns)
    return {
        "sum": await _measured(s, protocols.secure_sum(s, rows.rows.sum(axis=0))),
        "mean": await _measured(s, protocols.mean(s, rows.rows)),
        "product": await _measured(s, _product(s, bmi)),
        "highest": await _measured(s, _highest(s, float(y.mean()))),
        "by rows": await _measured(s, _coefficients(protocols.LinearRegression().fit(s, x, y))),
        "by columns": await _measured(s, _coefficients(protocols.LinearRegression(split="columns").fit(s, mine, target))),
    }


def _features(table: Table) -> tuple[Any, Any]:
    """Return the columns without the target, and the target, or None if it is not among them."""
    others = [number for number, name in enumerate(table.columns) if name != TARGET]
    at = table.columns.index(TARGET) if TARGET in table.columns else None
    return table.rows[:, others], None if at is None else table.rows[:, at]


async def _product(s: Session, bmi: float) -> Any:
    x, y = (s.input(bmi if s.index == owner else None, owner, (), bound=PRODUCT_BOUND) for owner in (0, 1))
    return await s.reveal(await mpc.mul(s, x, y))


async def _highest(s: Session, mean: float) -> Any:
    shares = [s.input([mean] if s.index == owner else None, owner, 1) for owner in range(s.n)]
    return await s.reveal(await protocols.argmax(s, mpc.concatenate(shares)))


async def _coefficients(fit: Awaitable[protocols.LinearRegression]) -> Any:
    model = await fit
    return np.append(model.coef_, float(model.intercept_ or 0.0))


async def _measured(s: Session, work: Awaitable[Any]) -> dict[str, Any]:
    rounds, payload, start = s.cost.rounds, s.cost.payload, time.perf_counter()
    value = np.atleast_1d(await work)
    return {
        "value": value.tolist(),
        "rounds": s.cost.rounds - rounds,
        "bytes": s.cost.payload - payload,
        "seconds": time.perf_counter() - start,
    }


def split(table: Table, shares: Sequence[float]) -> list[Holding]:
    """Return unequal consecutive parts of the rows, by fraction, and the columns dealt out in turn; the last hospital keeps the target."""
    stops = np.round(np.cumsum(shares) / np.sum(shares) * len(table.rows)).astype(int)
    by_rows = [Table(table.columns, rows) for rows in np.split(table.rows, stops[:-1])]
    parts = np.array_split(np.arange(len(table.columns)), len(shares))
    by_columns = [Table([table.columns[number] for number in part], table.rows[:, part]) for part in parts]
    return [Holding(*both) for both in zip(by_rows, by_columns, strict=True)]


def pooled(holdings: Sequence[Holding]) -> dict[str, Any]:
    """Compute the study in the clear on the pooled rows, only for the comparison."""
    tables = [holding.rows for holding in holdings]
    rows = np.concatenate([table.rows for table in tables])
    bmi, target = (tables[0].columns.index(name) for name in ("bmi", TARGET))
    coefficients = _least_squares(Table(tables[0].columns, rows))
    return {
        "sum": rows.sum(axis=0),
        "mean": rows.mean(axis=0),
        "product": np.array([tables[0].rows[:, bmi].mean() * tables[1].rows[:, bmi].mean()]),
        "highest": np.array([np.argmax([table.rows[:, target].mean() for table in tables])]),
        "by rows": coefficients,
        "by columns": coefficients,
    }


def _least_squares(table: Table) -> Any:
    x, y = _features(table)
    return np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]


def tolerance(holdings: Sequence[Holding]) -> dict[str, Any]:
    """Return how far each number may be off: every encoded number is rounded by at most 2^-21, and a regression has its own error."""
    ulp = 2.0**-21
    rows = np.concatenate([holding.rows.rows for holding in holdings])
    x, _ = _features(Table(holdings[0].rows.columns, rows))
    wanted = _least_squares(Table(holdings[0].rows.columns, rows))
    scale = x.std(axis=0)
    largest = np.abs(wanted[:-1] * scale).max()
    apart = COEFFICIENT_ERROR * largest / scale
    coefficients = np.append(apart, apart @ np.abs(x.mean(axis=0)))
    return {
        "sum": len(holdings) * ulp,
        "mean": len(holdings) * ulp / len(rows) + 1e-12,
        "product": 2 * PRODUCT_BOUND * ulp,
        "highest": 0.0,
        "by rows": coefficients,
        "by columns": coefficients,
    }
