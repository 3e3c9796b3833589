"""What the hospitals agreed to compute: the program, the same at each, and its plaintext reference."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
import protocols

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from mpc import Session
    from parties.data import Table

PRODUCT_BOUND = 2.0**10
"""Declared bound of a hospital's mean body mass index; a product of two then fits the ring."""


async def study(s: Session, table: Table) -> dict[str, Any]:
    """Sum and mean of every column over all hospitals' rows, and the product of two hospitals' private mean body mass index.

    rounds 3 · reveals the three results to everyone, and nothing else
    """
    bmi = float(table.rows[:, table.columns.index("bmi")].mean())

    async def product() -> Any:
        x, y = (s.input(bmi if s.index == owner else None, owner, (), bound=PRODUCT_BOUND) for owner in (0, 1))
        return await s.reveal(await mpc.mul(s, x, y))

    return {
        "sum": await _measured(s, protocols.secure_sum(s, table.rows.sum(axis=0))),
        "mean": await _measured(s, protocols.mean(s, table.rows)),
        "product": await _measured(s, product()),
    }


async def _measured(s: Session, work: Awaitable[Any]) -> dict[str, Any]:
    rounds, payload, start = s.cost.rounds, s.cost.payload, time.perf_counter()
    value = np.atleast_1d(await work)
    return {
        "value": value.tolist(),
        "rounds": s.cost.rounds - rounds,
        "bytes": s.cost.payload - payload,
        "seconds": time.perf_counter() - start,
    }


def split(table: Table, shares: Sequence[float]) -> list[Table]:
    """Unequal consecutive parts of the rows, by fraction."""
    stops = np.round(np.cumsum(shares) / np.sum(shares) * len(table.rows)).astype(int)
    return [table._replace(rows=rows) for rows in np.split(table.rows, stops[:-1])]


def pooled(tables: Sequence[Table]) -> dict[str, Any]:
    """What the study computes, in the clear on the pooled rows: for the comparison only."""
    rows = np.concatenate([table.rows for table in tables])
    bmi = tables[0].columns.index("bmi")
    return {
        "sum": rows.sum(axis=0),
        "mean": rows.mean(axis=0),
        "product": np.array([tables[0].rows[:, bmi].mean() * tables[1].rows[:, bmi].mean()]),
    }


def tolerance(tables: Sequence[Table]) -> dict[str, float]:
    """How far each result may be off: every encoded number is rounded by at most 2^-21."""
    ulp = 2.0**-21
    count = sum(len(table.rows) for table in tables)
    return {"sum": len(tables) * ulp, "mean": len(tables) * ulp / count + 1e-12, "product": 2 * PRODUCT_BOUND * ulp}
