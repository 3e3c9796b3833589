"""Variance and standard deviation of the pooled rows, by two passes over local data (paper: chan83)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mpc import Cost, Floats, PrecisionError, Session, column_names
from protocols.declare import Receivers, declared, reveal_cost
from protocols.own_data import Counted, checked_ddof, checked_frac, enough_rows, noting, own_rows, own_sums, reveal_sum, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

BLOCK = 1 << 16
"""Rows whose deviations are held at a time."""

DIGITS = 52
"""Fractional bits of a variance that was scaled to at most 1."""

TELLING_BITS = 10
"""Bits that a variance must have above its error, which is about half a unit of its DIGITS for each party."""


REVEALS = "the variance; to everyone, whomever `to` names, the number of rows, the mean and a rounded sum of squares"
"""What both protocols reveal: the first of their rounds goes to everyone."""


def variance_cost(n: int, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers | None = None) -> Cost:  # noqa: ARG001
    """Return the cost of `variance` and `standard_deviation`."""
    return reveal_cost(width(x) + 1).beside(reveal_cost(width(x))).then(reveal_cost(2 * width(x)))


@overload
async def variance(s: Session, /, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers) -> Floats | None: ...
@overload
async def variance(s: Session, /, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: None = None) -> Floats: ...
@declared(variance_cost, reveals=REVEALS, source="chan83")
async def variance(s: Session, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers | None = None) -> Floats | None:
    """Variance over the pooled rows of all parties.  x: own rows (n_i, d) or (n_i,) -> (d,) or a number, at the receivers

    rounds 2 · bytes 8(4d + 1) per peer · reveals n, the mean and the variance, hence also Σx and Σx² · takes no correlation
    The first round reveals n, Σx and, coarsely, Σx².  The second reveals Σ(x - m) and Σ(x - m)² about the mean m from the first round,
    computed locally and scaled by the size that the first round shows: neither offsets nor the rounding of m count.  Divides by n - ddof;
    raises ConfigError unless that is positive.
    The result is right to 2^-10 of itself, or the receivers get a PrecisionError that names the column: for standard deviations below about
    parties · 2^(6 - frac) / √n, or √parties · 2^-38 of the mean.  If every row is equal to m, the variance is 0.
    `to` names who gets the last round (everyone by default), and with it the rounding of m.  The first round always goes to everyone, who
    so learns n, Σx, and Σx² rounded to multiples of 2^(52 - 2 frac), which is 4096 by default: if Σx² is much larger than that, roughly the
    variance too.
    """
    found = await counted_variance(s, x, ddof, frac, to)
    return None if found is None else found.value


async def counted_variance(s: Session, x: ArrayLike, ddof: int, frac: int, to: Receivers | None) -> Counted | None:
    """Return the `variance`, with the number of rows."""
    rows = own_rows(x)
    sums, squares = _about(rows, np.zeros(rows.shape[1:]))
    first = own_sums(s, np.append(sums, len(rows)), x, frac=checked_frac(frac))
    second = own_sums(s, squares, x, frac=2 * frac - DIGITS, what="a sum of squares over this party's rows", asked=frac)
    with noting(names := column_names(x)):
        (*total, count), coarse = await asyncio.gather(
            reveal_sum(s, first, terms=(f"variance {rows.shape[1:]}", checked_ddof(ddof), *names)), reveal_sum(s, second)
        )
    enough_rows(count, ddof)
    centre = np.reshape(total, rows.shape[1:]) / count
    size = unit(coarse / count, centre, s.n * 2.0 ** (DIGITS - 2 * frac) / count)
    left, apart = _about(rows, centre) / [size, np.square(size)] / count
    # No deviation is rounded to nothing: a revealed variance of 0 is exact.
    mine = np.stack([left, np.maximum(apart, (apart > 0) * 2.0**-DIGITS)])
    scaled = await reveal_sum(s, own_sums(s, mine, frac=DIGITS), to)
    if scaled is None:
        return None
    spread = np.where(scaled[1] > 0, scaled[1] - np.square(scaled[0]), 0.0)
    _refuse_doubtful((scaled[1] > 0) & (spread < s.n * 2.0 ** (TELLING_BITS - DIGITS)), names, frac)
    return Counted(np.multiply(spread, np.square(size) * (count / (count - ddof))), float(count))


@overload
async def standard_deviation(s: Session, /, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers) -> Floats | None: ...
@overload
async def standard_deviation(s: Session, /, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: None = None) -> Floats: ...
@declared(variance_cost, reveals=REVEALS, source="chan83")
async def standard_deviation(s: Session, x: ArrayLike, *, ddof: int = 0, frac: int = 20, to: Receivers | None = None) -> Floats | None:
    """The square root of `variance`, with its arguments and cost; it reveals the same.

    rounds 2 · bytes 8(4d + 1) per peer
    """
    spread = await variance(s, x, ddof=ddof, frac=frac, to=to)
    root: Floats | None = None if spread is None else np.sqrt(spread)
    return root


def _about(rows: Floats, centre: Floats) -> Floats:
    """Σ(x - centre) and Σ(x - centre)² over this party's rows: (2, ...)."""
    total = np.zeros((2, *rows.shape[1:]))
    for start in range(0, len(rows), BLOCK):
        apart = rows[start : start + BLOCK] - centre
        total += [apart.sum(axis=0), np.square(apart).sum(axis=0)]
    return total


def unit(mean_square: Floats, centre: Floats, step: float) -> Floats:
    """Return powers of two above the standard deviations, from mean squares that are known to within `step` and about eleven digits."""
    doubtful = 2.0**-36 * (mean_square + np.square(centre)) + step
    _, exponents = np.frexp(np.maximum(mean_square - np.square(centre), 0.0) + doubtful)
    return np.asarray(np.ldexp(1.0, -(-exponents // 2)))


def _refuse_doubtful(doubtful: np.ndarray[Any, np.dtype[np.bool_]], names: Sequence[str], frac: int) -> None:
    """Raise PrecisionError, which names the columns whose variance is little more than its error."""
    if doubtful.any():
        at = [",".join(map(str, index)) for index in np.argwhere(doubtful)]
        # A column by itself has no place among others.
        listed = ", ".join(repr(names[int(each or 0)] if names else f"x{each}") for each in at)
        msg = (
            f"column(s) {listed} do not vary over the pooled rows, or too little beside their mean or the rounding at frac={frac} to tell "
            "by how much: leave them out, subtract a constant, scale the data to larger numbers, or pass a larger frac="
        )
        raise PrecisionError(msg)
