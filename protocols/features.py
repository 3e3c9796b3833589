"""X and y as a party has them: tables of finite numbers, or errors that name what is wrong, without a value."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpc import AShare, ConfigError, Floats, PrecisionError, ProgramError, as_numbers, column_names, column_of
from protocols import blockwise
from protocols.labels import check_paired


def flat(y: Any) -> Any:
    """Return y as (n,) if it is one column of a table, as in a frame of one column."""
    return y.reshape(len(y)) if y.shape[1:] == (1,) else y


def as_shares(x: Any, y: Any) -> tuple[AShare, AShare]:
    """Return X as (n, d) and y as (n,).  Raises ProgramError for anything that is no share, or has another shape."""
    if not isinstance(x, AShare) or not isinstance(y, AShare) or x.ndim != 2 or flat(y).shape != x.shape[:1]:
        msg = 'split="shared" takes AShares: X of shape (n, d) and y of shape (n,)'
        raise ProgramError(msg)
    return x, flat(y)


def numbers(name: str, values: Any) -> Floats:
    """Return `values` in float64, without a copy if they have that type.

    Raises ConfigError, which names the columns, for anything but numbers.
    """
    try:
        return as_numbers(values).astype(np.float64, copy=False)
    except PrecisionError as fault:
        msg = f"{name} must be numbers: {fault}"
        raise ConfigError(msg) from None


def observed(y: Any, x: Any) -> Floats:
    """Return own observations (n,): a finite number for each row of x, labelled alike.  Raises ConfigError otherwise."""
    observed: Floats = flat(numbers("y", y))
    if observed.shape != np.shape(x)[:1]:
        msg = f"y must have shape (n,) for X of shape (n, d), not {observed.shape} for {np.shape(x)}"
        raise ConfigError(msg)
    check_paired("X", x, "y", y)
    _check_target(observed)
    return observed


def needed(y: Any, split: str) -> Any:
    """Return `y`.  Raises ConfigError for None if every party has rows of its own."""
    if y is None and split != "columns":
        msg = f'with split="{split}" every party passes y for its own rows'
        raise ConfigError(msg)
    return y


def own_table(x: Any) -> Floats:
    """Return X as (n, d) in float64.  Raises ConfigError, which names row and column but never a value, for anything but finite numbers."""
    table, _ = as_table(x, None)
    check_finite(table, None, column_names(x))
    return table


def as_table(x: Any, y: Any) -> tuple[Floats, Floats | None]:
    """Return X and y in float64, with the same rows."""
    table = numbers("X", x)
    target = None if y is None else flat(numbers("y", y))
    if table.ndim != 2 or (target is not None and target.shape != table.shape[:1]):
        wanted, given = ("", "") if target is None else (" and y (n,)", f" and {target.shape}")
        msg = f"X must have shape (n, d){wanted}, not {table.shape}{given}{_as_two_axes(x, table)}"
        raise ConfigError(msg)
    check_paired("X", x, "y", y)
    return table, target


def _as_two_axes(x: Any, table: Floats) -> str:
    """Return how X gets both axes if it has no rows or columns, or is one column."""
    if x is None or not table.size:
        return ": a party without columns or rows passes an array with 0 of them, such as np.empty((n, 0)) or np.empty((0, d))"
    if table.ndim != 1:
        return ""
    # A row of a frame, or a column of it.
    if hasattr(x, "to_frame"):
        return ': one column is frame[["age"]], and one row frame.iloc[[0]]'
    return ": one column is X.reshape(-1, 1), and one row X.reshape(1, -1)"


def check_finite(table: Floats, target: Floats | None, names: tuple[str, ...]) -> None:
    """Raise ConfigError, which names row and column, for a number that is not finite."""
    if bad := blockwise.not_finite(table):
        (row, column), many = bad
        msg = f"X, row {row}, {column_of(column, names)} is not a finite number ({many} such value(s)); mend or drop these rows"
        raise ConfigError(msg)
    if target is not None:
        _check_target(target)


def _check_target(target: Floats) -> None:
    if bad := blockwise.not_finite(target):
        msg = f"y, row {bad[0][0]} is not a finite number ({bad[1]} such value(s)); mend or drop these rows"
        raise ConfigError(msg)
