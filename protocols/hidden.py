"""Scaling columns whose moments stay secret: only a power of two of each is revealed (papers: catrina10, catrina10b)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import mpc
from mpc import AShare, BShare, ConfigError, Floats, PrecisionError, Session, protocol
from protocols import blockwise
from protocols.least_squares import encoded, refuse_constant
from protocols.linalg import A_FRAC, B_FRAC, solve
from protocols.own_data import not_empty, reveal_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocols.least_squares import Options

MEAN = 2.0**20
"""Bound of a column's mean."""
HIGH_FRAC, LOW_FRAC = 10, 32
"""A mean is sent in two parts, its multiples of 2^-HIGH_FRAC and the rest, since the ring cannot hold the products of both at once."""
PARTIES = 12
"""The largest number of parties: for more, the sizes that scales are found from are too coarse for SPREAD (docs/precision.md)."""
WEIGHT_FRAC = 28
APART_FRAC = 40
SPREAD_FRAC = 16
SPREAD = 1.5
"""Bound of correlations if the scale is a power of two that was found from coarse squares."""
SMALLEST, LARGEST = -10, 42
"""Powers of two between which variances are told apart; a variance that is not well within causes a named error."""
BETWEEN_FRAC = 29


@dataclass(frozen=True, slots=True, repr=False)
class Hidden:
    """The pooled count, and this party's part of the pool: its share of the rows, its means, and its scatter about them over the count."""

    rows: float
    part: float
    mean: Floats
    scatter: Floats


@protocol
async def own_part(s: Session, x: Floats, y: Floats, *, centre: bool, terms: tuple[float | str, ...]) -> tuple[float, Hidden]:
    """Return the pooled count, and what this party contributes.  rounds 1 · bytes 8 per peer · reveals the pooled count"""
    (count,) = await reveal_sum(s, s.encode([len(x)], frac=0), terms=terms)
    not_empty(count, lacks="nothing to fit")
    products = await blockwise.locally(blockwise.products, x, y)
    mean = blockwise.mean(products) * centre
    return float(count), Hidden(float(count), len(x) / count, mean, blockwise.about(products, mean)[:-1, :-1] / count)


@protocol
async def between(s: Session, own: Hidden) -> AShare:
    """Root weights times each party's mean less the pooled one: r (n, k) with APART_FRAC, so that r'r is the scatter between parties.

    rounds 2 · bytes 8(3n + 2 + n / k) per column and peer · reveals nothing
    """
    root = np.rint(np.ldexp(np.sqrt(own.part), WEIGHT_FRAC)) * 2.0**-WEIGHT_FRAC
    high, low = await asyncio.gather(
        _less_pooled(s, root, _high(own.mean), _high(own.part * own.mean), HIGH_FRAC, MEAN + 1.0),
        _less_pooled(s, root, _low(own.mean), _low(own.part * own.mean), LOW_FRAC, 2.0**-HIGH_FRAC),
    )
    more = APART_FRAC - high.frac
    return (high * (1 << more)).ldexp(-more) + await mpc.trunc(s, low, low.frac - APART_FRAC)


def _high(values: Floats) -> Floats:
    return np.asarray(np.ldexp(np.rint(np.ldexp(values, HIGH_FRAC)), -HIGH_FRAC))


def _low(values: Floats) -> Floats:
    rest = values - _high(values)
    return np.asarray(np.ldexp(np.rint(np.ldexp(rest, LOW_FRAC)), -LOW_FRAC))


@protocol
async def _less_pooled(s: Session, root: float, mean: Floats, weighed: Floats, frac: int, bound: float) -> AShare:
    """Return root·(mean - Σ weighed), one row for each party.  rounds 1"""
    pooled = s.zero(mean.shape, frac=frac).add_own(s.encode(weighed, frac=frac, bound=bound))
    if frac == HIGH_FRAC:
        pooled = pooled.assume_bound(bound, "a weighted mean of the parties' means")
    roots = _own_row(s, np.array([root]), WEIGHT_FRAC, 1.0)
    # Both sides have the same rounded weight, so the large common offset cancels.
    return _own_row(s, root * mean, WEIGHT_FRAC + frac, bound) - await mpc.mul(s, roots, pooled)


def _own_row(s: Session, own: Floats, frac: int, bound: float) -> AShare:
    """Return everyone's `own` as the rows of one share."""
    rows = np.zeros((s.n, len(own)))
    rows[s.index] = own
    return s.zero(rows.shape, frac=frac).add_own(s.encode(rows, frac=frac, bound=bound)).assume_bound(bound, "one owner each")


@protocol
async def exponents(s: Session, x: AShare) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the least E with x < 4^E, from SMALLEST / 2 to LARGEST / 2.  x: (k,) -> (k,) public

    rounds 5 · reveals the power of four of each x
    """
    # Only every second power of two: the others would tell more than a scale needs.
    steps = np.arange(SMALLEST, LARGEST, 2)
    below = await mpc.ltz(s, _column(x, len(steps)) - np.ldexp(1.0, steps))
    counts = await s.reveal((await mpc.b2a(s, below)).sum(axis=1))
    return np.asarray(LARGEST // 2 - counts, np.int64)


def _column(x: AShare, width: int) -> AShare:
    return x[np.repeat(np.arange(len(x)), width)].reshape(len(x), width)


@protocol
async def spreads(
    s: Session, own: Hidden, apart: AShare, ridge: float, labels: Sequence[str]
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the E for which every column over 2^E has a variance below 1, ridge included (at least 1/4 unless the variance is below
    2^SMALLEST).

    rounds 7 · reveals the power of two of each column's standard deviation
    """
    coarse = await mpc.trunc(s, apart, 32)
    squares = (await mpc.square(s, coarse)).sum(axis=0)
    within = np.diag(own.scatter) + np.append(np.full(len(own.mean) - 1, ridge), 0.0) * own.part
    mine = encoded(s, within, SPREAD_FRAC, labels, 2.0**LARGEST)
    variance = squares.add_own(mine)
    return await exponents(s, variance)


@protocol
async def by_hidden_rows(
    s: Session, x: Floats, y: Floats, options: Options, labels: Sequence[str]
) -> tuple[AShare, BShare, Hidden, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Rows split, moments secret: own rows with y last -> weights per 2^E, the singular bit, the own part, and E.

    rounds 13 + those of solve · reveals the pooled count and the power of two of each column's standard deviation
    """
    count, own = await own_part(s, x, y, centre=options.centre, terms=options.terms)
    _check_means(s, own.mean, labels)
    apart = await between(s, own)
    powers = await spreads(s, own, apart, options.alpha / count, labels)
    _refuse_sizes(powers, labels, options.alpha)
    scale = np.ldexp(1.0, powers)
    up = 20
    scaled = apart.times(np.ldexp(1.0, up - powers).astype(np.int64), bound=2.0 * 2.0**up).ldexp(-up)
    rows = await s.mask(await mpc.trunc(s, scaled, 60 - BETWEEN_FRAC))
    full = await mpc.matmul(s, rows.T, rows, bound=SPREAD)
    within = own.scatter / np.outer(scale, scale)
    ridge = np.diag(options.alpha / count / np.square(scale[:-1]))
    a = await _added(s, full[:-1, :-1], within[:-1, :-1] + ridge * own.part, 2 * BETWEEN_FRAC - A_FRAC)
    b = _finest(s, full[:-1, -1], within[:-1, -1])
    weights, singular, _ = await solve(s, a, b)
    return weights, singular, own, powers


@protocol
async def _added(s: Session, between_parties: AShare, within: Floats, drop: int) -> AShare:
    frac = between_parties.frac
    total = between_parties.add_own(s.encode(within, frac=frac, bound=SPREAD))
    return await mpc.trunc(s, total.assume_bound(SPREAD, "correlations of the pooled columns, by Cauchy and Schwarz"), drop)


def _finest(s: Session, between_parties: AShare, within: Floats) -> AShare:
    total = between_parties.add_own(s.encode(within, frac=between_parties.frac, bound=SPREAD))
    extra = B_FRAC - total.frac
    scaled = total if not extra else (total * (1 << extra)).ldexp(-extra)
    return scaled.assume_bound(SPREAD, "correlations of the pooled columns, by Cauchy and Schwarz")


def _check_means(s: Session, mean: Floats, labels: Sequence[str]) -> None:
    """Raise PrecisionError, which names the columns whose own means do not fit."""
    try:
        s.encode(mean, frac=HIGH_FRAC, bound=MEAN)
    except PrecisionError as fault:
        far = ", ".join(repr(name) for name, value in zip([*labels, "y"], mean, strict=True) if not abs(value) <= MEAN)
        msg = (
            f'column(s) {far} have means beyond {MEAN:.0f} here, the most for moments="secret": subtract a '
            "constant from them, or scale them"
        )
        raise PrecisionError(msg) from fault


def _refuse_sizes(powers: np.ndarray[tuple[int, ...], np.dtype[np.int64]], labels: Sequence[str], alpha: float) -> None:
    """Raise ConfigError for columns that are constant, or outside the range in which sizes are told apart."""
    huge = [repr(name) for name, power in zip([*labels, "y"], powers, strict=True) if power >= LARGEST // 2]
    if huge:
        msg = f"column(s) {', '.join(huge)} have standard deviations above {2.0 ** (LARGEST // 2 - 1):.2g}: scale them"
        raise ConfigError(msg)
    refuse_constant(powers <= SMALLEST // 2, labels, np.full(len(powers), 2.0 ** (SMALLEST / 2)), alpha)
