"""Least squares on pooled data: each owner reduces its own rows or columns, and only products of columns enter the computation.

Columns are centred and scaled before anything is encoded, so that no digits cancel.  The system that is solved has correlations as its
matrix.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import mpc
from mpc import AShare, BShare, ConfigError, Encoded, Floats, PrecisionError, Session, protocol
from protocols import blockwise
from protocols.descriptive import DIGITS, unit
from protocols.linalg import A_FRAC, B_FRAC, W_FRAC, solve
from protocols.own_data import not_empty, reveal_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from protocols.layout import Layout

    Flags = Sequence[bool] | np.ndarray[Any, Any]
    Refuse = Callable[[Flags, Sequence[str], Floats, float], None]

SUM_FRAC, SQUARE_FRAC = 16, -4
"""Fractional bits of the first sums: neither a centre nor a size need be exact, and sums of 10^6 large rows must fit."""
COLUMN_FRAC = 30
"""Fractional bits of standardised columns over sqrt(rows): products of two columns are at most 1."""
FACTOR_FRAC = 24
COARSE = 8
"""Bits dropped before squares of shared values, whose sum only scales a column."""
SLACK = 1.25
CONSTANT = 1e-7


def no_solution(rows: float, columns: int, alpha: float, *, intercept: bool) -> str:
    """Return what is wrong with a singular system of so many pooled rows, and what to do."""
    if not alpha and rows < columns + intercept:
        what = f"{columns} coefficients{' and an intercept' if intercept else ''}"
        return f"{rows:.0f} pooled rows are too few for {what}: use more rows, fewer columns, or alpha > 0"
    return (
        "the columns are collinear over the pooled rows, or nearly so, and have no unique coefficients: drop one of those that depend "
        f"on each other, or fit with {'a larger alpha' if alpha else 'alpha > 0'}"
    )


class Moments(NamedTuple):
    """The pooled number of rows; and of every column the mean, the variance (about 0 if nothing is centred), and its possible rounding."""

    rows: float
    mean: Floats
    variance: Floats
    doubt: Floats


class Options(NamedTuple):
    """The penalty, whether there is an intercept (columns are centred), and the names of columns, and of y, that all parties have."""

    alpha: float
    centre: bool
    names: tuple[str, ...] = ()
    target: tuple[str, ...] = ()

    @property
    def terms(self) -> tuple[float | str, ...]:
        """The options as plain numbers, so that their digest is the same whatever types they were given in, and the names."""
        return float(self.alpha), float(self.centre), float(len(self.names)), *self.names, *self.target


@protocol
async def moments(
    s: Session, x: Floats, y: Floats, labels: Sequence[str], *, centre: bool = True, terms: tuple[float | str, ...] = ()
) -> tuple[Moments, Floats]:
    """Return pooled moments of own rows with y as the last of k columns, whatever their offset and unit; and own `blockwise.products`,
    which stay here.

    rounds 2 · bytes 8(4k + 1) per peer · reveals count, sums of columns and of their squares (coarsely, then about the mean)
    """
    own = await _own_products(s, x, y)
    raw = blockwise.about(own, np.zeros(x.shape[1] + 1))
    # Both are encoded before either is sent: a value that does not fit leaves no call that nobody awaits.
    first, second = encoded(s, raw[-1], SUM_FRAC, labels), encoded(s, np.diag(raw)[:-1], SQUARE_FRAC, labels)
    (*total, count), coarse = await asyncio.gather(reveal_sum(s, first, terms=terms), reveal_sum(s, second))
    not_empty(count, lacks="nothing to fit")
    about = np.divide(total, count) if centre else np.zeros(len(total))
    size = unit(coarse / count, about, s.n * 2.0**-SQUARE_FRAC / count)
    apart = blockwise.about(own, about)
    rest = np.concatenate([apart[-1, :-1] / size, np.diag(apart)[:-1] / np.square(size)]) / count
    left, squares = np.split(await reveal_sum(s, s.encode(rest, frac=DIGITS)), 2)
    left *= centre
    doubt = s.n * 2.0 ** (3 - DIGITS) * np.square(size)
    return Moments(float(count), about + left * size, np.maximum(squares - np.square(left), 0.0) * np.square(size), doubt), own


async def _own_products(s: Session, x: Floats, y: Floats) -> Floats:
    """Return what `blockwise.products` gives.  A dry run, which knows only its shape, does not read the data and gets zeros."""
    kernel: Any = blockwise.products
    own: Any = await s.compute(kernel, (x.shape[1] + 3, x.shape[1] + 2), x, y, work=blockwise.WORK * x.size)
    return own if isinstance(own, np.ndarray) else np.zeros(own.shape)


def correlations(own: Floats, pooled: Moments, scale: Floats) -> Floats:
    """Return this party's part of the correlations of the pool (k, k), if the columns are divided by these scales."""
    return np.asarray(blockwise.about(own, pooled.mean)[:-1, :-1] / np.outer(scale, scale) / pooled.rows)


def encoded(s: Session, own: Floats, frac: int, labels: Sequence[str], bound: float | None = None) -> Encoded:
    """Return own sums or scatter of all columns, y last, as ring words.  PrecisionError names the columns that do not fit."""
    try:
        return s.encode(own, frac=frac, bound=bound)
    except PrecisionError:
        limit = s.encode(0, frac=frac, bound=bound).bound
        far = ", ".join(repr(name) for name, value in zip([*labels, "y"], own, strict=False) if not abs(value) <= limit)
        msg = f"column(s) {far}, or their squares, sum to more than the ring holds at this party: scale them to smaller numbers"
        raise PrecisionError(msg) from None


@protocol
async def by_rows(s: Session, products: Floats, ridge: Floats) -> tuple[AShare, BShare, AShare, AShare]:
    """Rows split: own part of the correlations, y last, (d + 1, d + 1).  For any number of rows, d·d + d numbers are shared.

    Returns what `solve` does, and b with y'y as its last element.

    rounds those of solve · reveals nothing
    """
    a = _sum_of(s, products[:-1, :-1], A_FRAC) + np.diag(ridge)
    right = _sum_of(s, products[:, -1], B_FRAC)
    return *await solve(s, a, right[:-1]), right


@protocol
async def by_shares(s: Session, z: AShare, ridge: Floats) -> tuple[AShare, BShare]:
    """Solve for shared standardised rows (n, d + 1) with COLUMN_FRAC.  Returns w and the singular bit.

    rounds 2 + those of solve · bytes 8 per element and peer · reveals nothing
    """
    masked = await s.mask(z)
    full = await mpc.matmul_trunc(s, masked.T, masked, 2 * COLUMN_FRAC - A_FRAC, bound=SLACK)
    weights, singular, _ = await solve(s, full[:-1, :-1] + np.diag(ridge), _finer(full[:-1, -1]))
    return weights, singular


def _sum_of(s: Session, own: Floats, frac: int) -> AShare:
    # This holds for any number of parties: by Cauchy and Schwarz the sum is a correlation of the pooled columns, and so is each party's
    # part.
    return s.zero(own.shape, frac=frac).add_own(s.encode(own, frac=frac, bound=SLACK), bound=SLACK)


def standard_scale(pooled: Moments, alpha: float, names: Sequence[str], refuse: Refuse | None = None) -> Floats:
    """Return the divisors, y last, that give the system to solve diagonal 1.  Raises ConfigError for constant columns."""
    variance = pooled.variance
    least = np.maximum(CONSTANT * np.abs(pooled.mean), np.sqrt(pooled.doubt))
    constant = np.sqrt(variance) <= least
    ridge = np.append(np.full(len(variance) - 1, alpha / pooled.rows), 0.0)
    # A penalty below the possible rounding would be all that such a column is divided by.
    (refuse or refuse_constant)(constant & (ridge <= np.square(least)), names, least, alpha)
    return np.asarray(np.sqrt(np.where(constant, 0.0, variance) + ridge))


def refuse_constant(constant: Flags, names: Sequence[str], least: Floats, alpha: float) -> None:
    """Raise ConfigError, which names the constant columns, and the penalty that helps if `alpha` does not; y is the last column."""
    *columns, target = [bool(flat) for flat in constant]
    if any(columns):
        listed = ", ".join(repr(name) for name, flat in zip(names, columns, strict=True) if flat)
        floor = max(size for size, flat in zip(least, columns, strict=False) if flat)
        msg = (
            f"column(s) {listed} are constant over the pooled rows, or have standard deviations below {floor:.2g}, too small to tell: drop "
            f"or scale them, or fit with {f'a larger alpha than {alpha:g}' if alpha else 'alpha > 0'}"
        )
        raise ConfigError(msg)
    if target:
        msg = (
            f"y is constant over the pooled rows, or has a standard deviation below {least[len(names)]:.2g}, too small to tell: there is "
            "nothing to fit, unless it is scaled"
        )
        raise ConfigError(msg)


@dataclass(frozen=True, slots=True, repr=False)
class Local:
    """Moments and scale of own columns; y, if this party has it, is the last."""

    mean: Floats
    scale: Floats


@protocol
async def by_columns(s: Session, z: Floats, block: Floats, ridge: Floats, layout: Layout) -> tuple[AShare, BShare, AShare]:
    """Columns split: own `standard_columns`, with their products, and `own_ridge`.  Blocks of one owner are local, only cross blocks are
    secure.

    Returns w and the bit of `solve`, and b with y'y, here the public 1, as its last element.

    rounds 2 + those of solve · bytes 8 n per own column and peer · reveals nothing
    """
    widths = [width for _, width in layout.shapes]
    shares = [_owned(s, z, party, shape) for party, shape in enumerate(layout.shapes)]
    masked = await asyncio.gather(*(s.mask(share) for share in shares))
    pairs = [(p, q) for p in range(s.n) for q in range(p + 1, s.n)]
    crossed = await asyncio.gather(*(_cross(s, masked[p].T, masked[q]) for p, q in pairs))
    blocks = dict(zip(pairs, crossed, strict=True))
    for party, width in enumerate(widths):
        blocks[party, party] = _owned_product(s, block, party, width)
    rows = [
        mpc.concatenate([blocks[p, q] if p <= q else blocks[q, p].T for q in range(s.n)], axis=1).assume_bound(
            SLACK, "correlations of the pooled columns"
        )
        for p in range(s.n)
    ]
    full = mpc.concatenate(rows)
    at = layout.target_column
    others = [column for column in range(sum(widths)) if column != at]
    b = _finer(full[others][:, at])
    a = full[others][:, others] + _ridge(s, ridge)
    weights, singular, _ = await solve(s, a, b)
    return weights, singular, mpc.concatenate([b, s.zero((1,), frac=b.frac) + 1.0])


def _owned(s: Session, z: Floats, party: int, shape: tuple[int, ...]) -> AShare:
    return s.input(z if party == s.index else None, party, shape, frac=COLUMN_FRAC, bound=1.0 + 2.0**-20)


def _owned_product(s: Session, block: Floats, party: int, width: int) -> AShare:
    return s.input(block if party == s.index else None, party, (width, width), frac=A_FRAC, bound=SLACK)


@protocol
async def _cross(s: Session, left: mpc.Masked, right: mpc.Masked) -> AShare:
    return await mpc.matmul_trunc(s, left, right, 2 * COLUMN_FRAC - A_FRAC, bound=SLACK)


def own_ridge(s: Session, scale: Floats, alpha: float, layout: Layout) -> Floats:
    """Return the penalty, alpha / (n scale²), of own columns, and 0 for the others'."""
    start, stop = layout.span(s.index)
    diagonal = np.zeros(layout.offsets[-1])
    # The scale includes the penalty: above 1, for a column that hardly varies beside it, is only rounding.
    diagonal[start:stop] = np.minimum(alpha / layout.rows / np.square(scale[: stop - start]), 1.0)
    return diagonal


def _ridge(s: Session, own: Floats) -> AShare:
    return s.zero((len(own),) * 2, frac=A_FRAC).add_own(s.encode(np.diag(own), frac=A_FRAC, bound=1.0))


def _finer(b: AShare) -> AShare:
    """Return the same values with more fractional bits, exactly."""
    extra = B_FRAC - b.frac
    return (b * (1 << extra)).ldexp(-extra)


def local_moments(x: Floats, y: Floats | None, options: Options, names: Sequence[str]) -> Local:
    """Return mean and scale of own columns, in the clear at their owner.  Raises ConfigError for a constant column."""
    rows = float(len(x))
    own = blockwise.products(x, y)
    mean = blockwise.mean(own) * options.centre
    variance = np.diag(blockwise.about(own, mean))[:-1] / rows
    if y is not None:
        return Local(mean, standard_scale(Moments(rows, mean, variance, np.zeros_like(mean)), options.alpha, names))
    padded = Moments(rows, np.append(mean, 0.0), np.append(variance, 1.0), np.zeros(len(mean) + 1))
    return Local(mean, standard_scale(padded, options.alpha, names)[:-1])


def standard_columns(x: Floats, y: Floats | None, local: Local) -> tuple[Floats, Floats]:
    """Return own columns over their norms (n, k), and their products (k, k).

    The columns are rounded before products are made of them, so that all blocks are products of the same columns and none is indefinite.
    """
    z = blockwise.scaled(x, y, local.mean, local.scale * np.sqrt(len(x)), COLUMN_FRAC)
    return z, blockwise.about(blockwise.products(z, None), np.zeros(len(local.mean)))[:-1, :-1]


@protocol
async def unscaled(s: Session, weights: AShare, local: Local, layout: Layout) -> AShare:
    """Return coefficients of the raw columns, from those per standard deviation and the owners' private scales.

    A scale is sent as a private mantissa and a public power of two.  w: (d,) -> (d,) with W_FRAC, to be multiplied by `powers`.
    rounds 4 · reveals nothing
    """
    start, stop = layout.span(s.index)
    mantissa, _ = np.frexp(local.scale)
    inverse = np.zeros(layout.offsets[-1])
    inverse[start:stop] = 0.5 / mantissa[: stop - start]
    ones = s.zero(inverse.shape, frac=W_FRAC).add_own(s.encode(inverse, frac=W_FRAC, bound=1.0)).assume_bound(1.0, "one owner each")
    target = s.input(mantissa[-1:] if s.index == layout.target else None, layout.target, (1,), frac=W_FRAC, bound=1.0)
    factors = await mpc.mul_trunc(s, ones, target, 2 * W_FRAC - FACTOR_FRAC)
    return await mpc.mul_trunc(s, weights, factors, FACTOR_FRAC)


@protocol
async def powers(s: Session, local: Local, layout: Layout) -> tuple[Floats, float]:
    """Return the factors of `unscaled` coefficients, a power of two for each column by the owners' scales; and the power of two of y's
    scale.

    rounds 1 · reveals the power of two of every column's standard deviation
    """
    start, stop = layout.span(s.index)
    _, exponents = np.frexp(local.scale)
    own = np.zeros(layout.offsets[-1] + 1, np.int64)
    own[start:stop] = -exponents[: stop - start]
    if s.index == layout.target:
        own[-1] = exponents[-1]
    *columns, target = await reveal_sum(s, s.encode(own, frac=0, bound=2.0**11))
    factors: Floats = np.ldexp(2.0, np.asarray(columns, np.int64) + target)
    return factors, float(np.ldexp(1.0, target))


@protocol
async def unstandardised(s: Session, predictions: AShare, local: Local, layout: Layout) -> tuple[Floats, float]:
    """Return standardised predictions (n,) in the units of y, for all, and the power of two of y's scale.  The mean and scale of y stay
    with its owner.

    rounds 4 · reveals the predictions, and the power of two of y's standard deviation
    """
    mine = s.index == layout.target
    mantissa, exponent = np.frexp(local.scale[-1] if mine else 1.0)
    power = int(await reveal_sum(s, s.encode(int(exponent) if mine else 0, frac=0, bound=2.0**11)))
    scale = s.input(mantissa if mine else None, layout.target, (), frac=FACTOR_FRAC, bound=1.0)
    offset = s.input(local.mean[-1] / np.ldexp(1.0, power) if mine else None, layout.target, (), frac=predictions.frac, bound=2.0**30)
    scaled = await mpc.mul_trunc(s, predictions, scale, FACTOR_FRAC)
    result: Floats = np.ldexp(np.asarray(await s.reveal(scaled + offset)), power)
    return result, float(np.ldexp(1.0, power))


@protocol
async def shared_moments(s: Session, columns: AShare, *, centre: bool = True) -> tuple[Moments, AShare]:
    """Return moments of shared rows (n, k), and the rows about their means.

    rounds 4 · bytes 8 per element and peer twice · reveals sums of columns and of their squares about the mean
    """
    count = len(columns)
    mean = np.asarray(await s.reveal(columns.sum(axis=0))) / max(count, 1) if centre else np.zeros(columns.shape[1])
    apart = columns - mean
    coarse = await mpc.trunc(s, apart, COARSE)
    squares = await s.reveal((await mpc.square(s, coarse)).sum(axis=0))
    # Sixteen steps of the coarse values: below that, their rounding shows in the scale.
    doubt = np.full(len(mean), 2.0 ** (8 - 2 * coarse.frac))
    return Moments(float(count), mean, np.asarray(squares) / max(count, 1), doubt), apart


@protocol
async def standardised(s: Session, columns: AShare, divisor: Floats) -> tuple[AShare, Floats]:
    """Return shared columns (n, k) over public divisors of about their norms, with COLUMN_FRAC, and the divisors as the ring has them.

    rounds 1 · reveals nothing · raises PrecisionError for a penalty beside which the columns would be lost
    """
    up = 61 - columns.frac
    factors = np.rint(np.ldexp(1.0 / divisor, up))
    # The norms alone leave far more: their squares were revealed as words with fewer fractional bits.  A penalty is added to them, and may
    # have any size.
    if factors.min() < 2**10:
        msg = f"alpha is too large beside columns that are shared with {columns.frac} fractional bits: pass a smaller alpha"
        raise PrecisionError(msg)
    # An element over the norm of its column is at most 1.
    unit = columns.times(factors.astype(np.int64), bound=1.125 * 2.0**up).ldexp(-up)
    return await mpc.trunc(s, unit, 61 - COLUMN_FRAC), np.ldexp(1.0, up) / factors
