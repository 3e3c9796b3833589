"""Sums and means over the parties' own data: one round, and nothing but the result is revealed.

Everything local stays local: a party's rows enter as their sums, so a million rows cost what one costs.  `frac` is the public number of
fractional bits of a sum: n parties have 62 - log2(n) - frac bits before the point, and are off by at most n / 2^(frac + 1) together.
`to` names who gets the result (everyone by default); the others get None and learn nothing.  If a party passes a frame, all pass frames
with columns of the same names in one order; if it passes a series with a name, all pass series of that name.  Anything else is a
Disagreement, which has this party's columns in a note, and nothing is revealed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mpc import ConfigError, Cost, Floats, PrecisionError, ProgramError, Session, column_names
from protocols.declare import Receivers, declared, reveal_cost
from protocols.labels import check_paired, row_labels
from protocols.own_data import (
    Counted,
    checked_frac,
    column,
    element,
    encoded,
    not_empty,
    not_shared,
    noting,
    own_rows,
    own_sums,
    reveal_sum,
    width,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

WEIGHT_BITS = 9
"""Bits that the total weight of a pool must have above its rounding."""


def sum_cost(n: int, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Cost:  # noqa: ARG001
    """Return the cost of `secure_sum`."""
    return reveal_cost(np.size(x))


@overload
async def secure_sum(s: Session, /, x: ArrayLike, *, frac: int = 20, to: Receivers) -> NDArray[Any] | None: ...
@overload
async def secure_sum(s: Session, /, x: ArrayLike, *, frac: int = 20, to: None = None) -> NDArray[Any]: ...
@declared(sum_cost, reveals="the sum")
async def secure_sum(s: Session, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> NDArray[Any] | None:
    """Sum over the parties, elementwise.  x: own floats of equal shape -> the same shape, at the receivers: float64, int64 for frac=0

    With frac=0 each addend is rounded to a whole number, halves to the even one; with frac=-1 to an even number, and so on.  Rows are added
    by their place.  If the index of a party's frame or series is not 0, 1, ..., such as the groups of a `groupby`, all parties have the
    same index in one order; anything else is a Disagreement.
    rounds 1 · bytes 8 per element and peer · reveals the sum (among n = 2 each learns the other's addend) · takes no correlation
    """
    not_shared(x)
    names, labels = column_names(x), await row_labels(x)
    # A job passes the sums of its rows, one for each column.
    place = partial(column, of=x) if names and np.shape(x) == (len(names),) else partial(element, names=names)
    with noting(names, labels):
        return await reveal_sum(s, encoded(s, x, "a value", frac=frac, place=place), to, ("secure_sum", *names, *labels))


def mean_cost(n: int, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Cost:  # noqa: ARG001
    """Return the cost of `mean`."""
    return reveal_cost(width(x) + 1)


@overload
async def mean(s: Session, /, x: ArrayLike, *, frac: int = 20, to: Receivers) -> Floats | None: ...
@overload
async def mean(s: Session, /, x: ArrayLike, *, frac: int = 20, to: None = None) -> Floats: ...
@declared(mean_cost, reveals="the mean and the number of rows")
async def mean(s: Session, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Floats | None:
    """Mean over the pooled rows of all parties.  x: own rows (n_i, d) or (n_i,) -> (d,) or a number, at the receivers

    rounds 1 · bytes 8(d + 1) per peer · reveals Σx / n and n, hence also Σx · takes no correlation
    A party may have no rows, np.empty((0, d)) or np.empty(0) in the form of the others' data.  Raises ConfigError if nobody has any rows.
    Σx is rounded to multiples of 2^-frac at every party.  Numbers too small for that raise no error, since an error would tell of them.
    """
    found = await counted_mean(s, x, frac, to)
    return None if found is None else found.value


async def counted_mean(s: Session, x: ArrayLike, frac: int, to: Receivers | None) -> Counted | None:
    """Return the `mean`, with the number of rows."""
    rows = own_rows(x)
    with noting(names := column_names(x)):
        revealed = await reveal_sum(
            s, own_sums(s, np.append(rows.sum(axis=0), len(rows)), x, frac=checked_frac(frac)), to, (f"mean {rows.shape[1:]}", *names)
        )
    if revealed is None:
        return None
    *total, count = revealed
    # For single numbers this is numpy's scalar, which works like a 0-d array, and is a float too.
    return Counted(np.divide(np.reshape(total, rows.shape[1:]), not_empty(count)), count)


def weighted_mean_cost(n: int, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Cost:  # noqa: ARG001
    """Return the cost of `weighted_mean`."""
    return reveal_cost(width(x) + 1)


@overload
async def weighted_mean(s: Session, /, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: Receivers) -> Floats | None: ...
@overload
async def weighted_mean(s: Session, /, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: None = None) -> Floats: ...
@declared(weighted_mean_cost, reveals="the weighted mean and the total weight")
async def weighted_mean(s: Session, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Floats | None:
    """Mean over the pooled rows, each with its own weight.  x: (n_i, d) or (n_i,), w: (n_i,) or (n_i, 1), not negative -> (d,) or a number,
    at the receivers

    rounds 1 · bytes 8(d + 1) per peer · reveals Σwx / Σw and Σw, hence also Σwx · takes no correlation
    If x and w both have an index (pandas), both must be the same in one order.  Otherwise this raises ConfigError before anything is sent.
    Raises ConfigError if the pool has no weight, PrecisionError if Σw is so small that `frac` leaves fewer than three digits of it.
    """
    found = await counted_weighted_mean(s, x, w, frac, to)
    return None if found is None else found.value


async def counted_weighted_mean(s: Session, x: ArrayLike, w: ArrayLike, frac: int, to: Receivers | None) -> Counted | None:
    """Return the `weighted_mean`, with the sum of all weights."""
    rows, weights = own_rows(x), own_rows(w)
    # A frame of one column has this shape.
    weights = weights.reshape(len(weights)) if weights.shape[1:] == (1,) else weights
    if weights.shape != (len(rows),):
        msg = f"{len(rows)} rows need weights of shape ({len(rows)},), not {weights.shape}"
        raise ProgramError(msg)
    check_paired("x", x, "w", w)
    # NaN compares as false.
    if (bad := ~((weights >= 0) & (weights < np.inf))).any():
        row = int(np.argmax(bad))
        msg = f"weight {row} is {'negative' if weights[row] < 0 else 'not a finite number'}; weights say how often a row counts"
        raise ConfigError(msg)
    sums = np.append(np.tensordot(weights, rows, axes=1), weights.sum())
    with noting(names := (*(of_rows := column_names(x)), *column_names(w))):
        revealed = await reveal_sum(
            s, own_sums(s, sums, x, w, frac=frac), to, (f"weighted_mean {rows.shape[1:]}", float(len(of_rows)), *names)
        )
    if revealed is None:
        return None
    *total, weight = revealed
    least = s.n * 2.0 ** (WEIGHT_BITS - frac)
    if 0 < weight < least:
        msg = (
            f"all weights together are less than {least:.2g}, too little for frac={frac}: multiply every weight by a "
            "constant, or pass a larger frac="
        )
        raise PrecisionError(msg)
    return Counted(np.divide(np.reshape(total, rows.shape[1:]), not_empty(weight, f"weight that frac={frac} tells from 0")), weight)
