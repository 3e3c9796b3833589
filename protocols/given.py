"""Statistics over rows that someone outside shared among the parties, and over the parties' own rows if they have any.

All columns are in public units, in which every shared value is at most 1.  Each party adds the sums of its own rows, so its rows never
leave it.  Results are revealed only to the receivers `to`; the number of shared rows is public.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import mpc
from mpc import AShare, ConfigError, Floats, PrecisionError, Session, protocol
from protocols.fitting import on_shares
from protocols.least_squares import Options, no_solution
from protocols.own_data import Counted, enough_rows, not_empty, own_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocols.declare import Receivers
    from protocols.least_squares import Flags

SQUARES_FRAC = 40
"""Most fractional bits of sums of squares: the rows of one party, each at its unit, may sum to 2^21 over n."""
TELLING_BITS = 8
"""Bits that a sum of squares about the mean must have above its possible rounding."""
COLUMN_FRAC = 24
"""Fractional bits of the columns of a fit, which scales them itself."""


def square_frac(rows: int) -> int:
    """Return the fractional bits with which so many values of at most 1 can be squared and summed.

    The sum of so many squares, with 2 frac bits each, stays below 2^60.
    """
    return min(28, (59 - rows.bit_length()) // 2)


@protocol
async def given_sum(s: Session, own: Floats, given: AShare, to: Receivers | None = None) -> Floats | None:
    """Sums of all columns.  own: own rows (n_i, d), given: (m, d) -> (d,) at the receivers

    rounds 1 · bytes 8 d per peer · reveals the sums
    """
    return await s.reveal(given.sum(axis=0).add_own(own_sums(s, own.sum(axis=0), own, frac=given.frac)), to)


@protocol
async def given_mean(s: Session, own: Floats, given: AShare, to: Receivers | None = None) -> Counted | None:
    """Means of all columns, and the number of rows.  own: own rows (n_i, d), given: (m, d) -> (d,) and a number at the receivers

    rounds 1 · bytes 8(d + 1) per peer · reveals the means and the number of rows, hence also the sums
    """
    revealed = await s.reveal(_with_count(s, own, given), to)
    if revealed is None:
        return None
    *total, count = revealed
    return Counted(np.divide(total, not_empty(count)), count)


@protocol
async def given_variance(
    s: Session, own: Floats, given: AShare, names: Sequence[str], *, ddof: int = 0, to: Receivers | None = None
) -> Counted | None:
    """Variances of all columns, which have these names, and the number of rows.  own: own rows (n_i, d), given: (m, d) -> (d,) and a number
    at the receivers

    rounds 4 (3 from 2^17 shared rows on) · reveals the number of rows, the means and the variances, hence also Σx and Σx²
    The receivers get a PrecisionError if a column varies too little beside its unit.
    """
    frac = square_frac(len(given))
    coarse = await mpc.trunc(s, given, given.frac - frac)
    squares = (await mpc.square(s, coarse)).sum(axis=0)
    if squares.frac > SQUARES_FRAC:
        squares = await mpc.trunc(s, squares, squares.frac - SQUARES_FRAC)
    mine = own_sums(s, np.square(own).sum(axis=0), own, frac=squares.frac)
    # Both sums are of the same rounded values, so that their difference has only the rounding of the rows themselves.
    first, second = await asyncio.gather(s.reveal(_with_count(s, own, coarse), to), s.reveal(squares.add_own(mine), to))
    if first is None:
        return None
    *total, count = first
    enough_rows(count, ddof)
    apart = second - np.square(total) / count
    # The rounding of the sums of squares, the spread of the rounding of many rows, and the rounding of the sums of own values, if there are
    # any, which counts twice the mean.
    doubt = (s.n + 2) * 2.0**-squares.frac + len(given) * 4.0 ** -(coarse.frac + 1)
    doubt = doubt + (count > len(given)) * s.n * 2.0**-coarse.frac * np.abs(np.divide(total, count))
    unclear = [name for name, small in zip(names, apart < 2.0**TELLING_BITS * doubt, strict=True) if small]
    if unclear:
        msg = (
            f"column(s) {', '.join(map(repr, unclear))} are constant, or vary too little beside the range that the client declares for "
            "them to tell a variance from rounding: declare a tighter range"
        )
        raise PrecisionError(msg)
    return Counted(np.asarray(apart / (count - ddof)), count)


def _with_count(s: Session, own: Floats, given: AShare) -> AShare:
    """Return Σx of every column, and the number of rows, as one share."""
    rows = s.zero((1,), frac=given.frac) + float(len(given))
    mine = own_sums(s, np.append(own.sum(axis=0), len(own)), own, frac=given.frac)
    return mpc.concatenate([given.sum(axis=0), rows]).add_own(mine)


@protocol
async def given_fit(
    s: Session, given: AShare, names: Sequence[str], target: int, *, fit_intercept: bool = True, to: Receivers | None = None
) -> tuple[Floats, float] | None:
    """Coefficients of the other columns, which have these names, and the intercept of column `target`.  given: (m, d + 1) -> (d,) and a
    number at the receivers

    Reveals them to the receivers, and to everyone what a `LinearRegression` of shared rows does: mean and variance of each column.
    Raises ConfigError if a column varies too little beside its unit, or the columns are collinear.
    """
    columns = await mpc.trunc(s, given, given.frac - COLUMN_FRAC)
    others = [number for number in range(given.shape[1]) if number != target]
    options = Options(0.0, fit_intercept, tuple(names[number] for number in others))
    fitted = await on_shares(s, columns[:, others], columns[:, target], options, refuse=partial(_refuse_constant, target=names[target]))
    if await s.reveal(fitted.singular):
        raise ConfigError(no_solution(len(given), len(others), 0.0, intercept=fit_intercept))
    return await fitted.coefficients(s, to)


def _refuse_constant(constant: Flags, names: Sequence[str], least: Floats, alpha: float, *, target: str) -> None:  # noqa: ARG001  as others refuse
    """Raise ConfigError, which names the columns that hardly vary, `target` too, and what their client can do."""
    if any(constant):
        listed = ", ".join(repr(name) for name, flat in zip([*names, target], constant, strict=True) if flat)
        msg = (
            f"column(s) {listed} are constant, or vary too little to fit beside the range that the client declares for them, 2^20 where it "
            "declares none: declare a tighter range, or leave them out"
        )
        raise ConfigError(msg)


__all__ = ["given_fit", "given_mean", "given_sum", "given_variance"]
