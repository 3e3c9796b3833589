"""What `LinearRegression.fit` does for each way in which data can be split, and what it keeps for predictions."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import mpc
from mpc import AShare, BShare, ConfigError, Floats, PrecisionError, ProgramError, Session
from protocols import blockwise, hidden, least_squares, prediction
from protocols.aggregation import not_empty, noting
from protocols.descent import FEATURE, FRAC, WEIGHT, Schedule, batches, descend
from protocols.inference import Sure
from protocols.layout import column_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from protocols.declare import Receivers
    from protocols.hidden import Hidden
    from protocols.layout import Layout
    from protocols.least_squares import Local, Moments, Options, Refuse


FAR = 28.0
"""Root mean square of a standardised row up to which z·w fits the ring whatever w is: |z·w| <= |z| 2^11 / sqrt(d) (docs/precision.md)."""
COLUMNS = 1023
"""Columns up to which what a descent is tried by fits the ring: FEATURE·WEIGHT·COLUMNS < 2^(62 - 2 FRAC)."""
LEFT = 0.01
"""Part of the error of a descent that nobody is warned of."""
SAMPLE = 64
"""Rows on which a descent is tried: if it diverged, it is far off everywhere."""


class Fitted(Protocol):
    """Shared standardised weights, and what turns them into coefficients and predictions."""

    @property
    def weights(self) -> AShare:
        """(d,), per standard deviation."""

    @property
    def singular(self) -> BShare:
        """Whether the weights mean nothing: the system is singular, or the descent diverged."""

    @property
    def rows(self) -> float:
        """The number of rows of the fit, of all parties."""

    @property
    def unit(self) -> float:
        """A power of two of about the standard deviation of y, as far as it is public by now: what is revealed in y's units is rounded in it."""

    async def coefficients(self, s: Session, to: Receivers | None = None) -> tuple[Floats, float] | None:
        """Reveal coefficients and intercept of the raw columns to the receivers; None elsewhere."""

    async def explained(self, s: Session) -> AShare:
        """What the model explains of y'y on the rows of the fit, and y'y, as a share (2,); ConfigError where only predictions can tell."""

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None) -> Floats:
        """Joint predictions from own data, by public coefficients or by the shares."""


@dataclass(frozen=True, repr=False)
class Pooled:
    """Rows split, or shared: the moments of all columns are public."""

    weights: AShare
    singular: BShare
    mean: Floats
    scale: Floats
    rows: float
    right: AShare | None = None
    ridge: Floats | None = None
    sure: Sure | None = None
    """What tells how sure the coefficients are, where there is an intercept and no penalty."""

    @property
    def unit(self) -> float:
        """See Fitted."""
        return float(np.ldexp(1.0, np.frexp(self.scale[-1])[1]))

    async def coefficients(self, s: Session, to: Receivers | None = None) -> tuple[Floats, float] | None:
        """See Fitted.  rounds 1"""
        weights = await s.reveal(self.weights, to)
        if weights is None:
            return None
        raw = np.asarray(weights) * self.scale[-1] / self.scale[:-1]
        return raw, float(self.mean[-1] - raw @ self.mean[:-1])

    async def explained(self, s: Session) -> AShare:
        """See Fitted."""
        if self.right is None:
            raise ConfigError(prediction.NO_SYSTEM)
        penalty = None if self.ridge is None else s.zero(self.ridge.shape, frac=prediction.RIDGE_FRAC) + self.ridge
        return await prediction.explained(s, self.weights, self.right, penalty)

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None) -> Floats:
        """See Fitted: each party gets those of its own rows."""
        if public is not None:
            return np.asarray(own @ public[0] + public[1])
        z = await _near(s, own, self.mean[:-1], self.scale[:-1], own.shape[1])
        return np.asarray(await prediction.of_own_rows(s, z, self.weights) * self.scale[-1] + self.mean[-1])


@dataclass(frozen=True, repr=False)
class Secluded:
    """Rows split, moments secret: only a power of two of every column is public."""

    weights: AShare
    singular: BShare
    own: Hidden
    powers: Any

    @property
    def rows(self) -> float:
        """See Fitted."""
        return self.own.rows

    @property
    def unit(self) -> float:
        """See Fitted."""
        return float(np.ldexp(1.0, self.powers[-1]))

    async def coefficients(self, s: Session, to: Receivers | None = None) -> tuple[Floats, float] | None:
        """See Fitted.  rounds 2, or 3 where not everyone receives"""
        if not s.everyone(to):
            return await self._to_some(s, s.receivers(to))
        raw = np.ldexp(np.asarray(await s.reveal(self.weights)), self.powers[-1] - self.powers[:-1])
        # The pooled means stay secret: each party adds what its own rows contribute to the intercept.
        mine = self.own.part * (self.own.mean[-1] - raw @ self.own.mean[:-1]) / self.unit
        return raw, float(await s.reveal(s.zero(()).add_own(s.encode(mine)))) * self.unit

    async def _to_some(self, s: Session, to: tuple[int, ...]) -> tuple[Floats, float] | None:
        # Who does not know the coefficients cannot say what its means add to the intercept.
        *means, target = self.own.part * np.ldexp(self.own.mean, -self.powers)
        offset = await prediction.intercept(s, self.weights, np.asarray(means), float(target), addends=s.n)
        weights, constant = await asyncio.gather(s.reveal(self.weights, to), s.reveal(offset, to))
        if weights is None or constant is None:
            return None
        return np.ldexp(np.asarray(weights), self.powers[-1] - self.powers[:-1]), float(constant) * self.unit

    async def explained(self, s: Session) -> AShare:  # noqa: ARG002  see Fitted
        """See Fitted: the scale of y is known to within a factor of two only."""
        raise ConfigError(prediction.NO_SYSTEM)

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None) -> Floats:
        """See Fitted: each party gets those of its own rows; by public coefficients only."""
        if public is None:
            msg = (
                f'{s.names[s.index]}: reveal=False needs moments="reveal", since a prediction from shared weights needs the columns\' means'
            )
            raise ProgramError(msg)
        return np.asarray(own @ public[0] + public[1])


@dataclass(repr=False)
class Apart:
    """Columns split: every owner knows the moments of its own columns only."""

    weights: AShare
    singular: BShare
    local: Local
    layout: Layout
    unit: float = 1.0
    right: AShare | None = None
    ridge: Floats | None = None

    @property
    def rows(self) -> float:
        """See Fitted."""
        return float(self.layout.rows)

    async def coefficients(self, s: Session, to: Receivers | None = None) -> tuple[Floats, float] | None:
        """See Fitted.  rounds 6, or 7 where not everyone receives"""
        chosen = s.receivers(to)
        raw, (powers, self.unit) = await asyncio.gather(
            least_squares.unscaled(s, self.weights, self.local, self.layout), least_squares.powers(s, self.local, self.layout)
        )
        start, stop = self.layout.span(s.index)
        if not s.everyone(chosen):
            return await self._to_some(s, raw, powers, chosen)
        coefficients = np.asarray(await s.reveal(raw)) * powers
        own = -coefficients[start:stop] @ self.local.mean[: stop - start]
        own += self.local.mean[-1] if s.index == self.layout.target else 0.0
        intercept = await s.reveal(s.zero(()).add_own(s.encode(own / self.unit)))
        return coefficients, float(intercept) * self.unit

    async def _to_some(self, s: Session, raw: AShare, powers: Floats, to: tuple[int, ...]) -> tuple[Floats, float] | None:
        # Who does not know the coefficients cannot say what its means add to the intercept.
        start, stop = self.layout.span(s.index)
        means = np.zeros(len(powers))
        _, exponents = np.frexp(self.local.scale)
        means[start:stop] = np.ldexp(self.local.mean, 1 - exponents)[: stop - start]
        target = np.ldexp(self.local.mean[-1], -exponents[-1]) if s.index == self.layout.target else 0.0
        offset = await prediction.intercept(s, raw, means, float(target), addends=1)
        coefficients, constant = await asyncio.gather(s.reveal(raw, to), s.reveal(offset, to))
        if coefficients is None or constant is None:
            return None
        return np.asarray(coefficients) * powers, float(constant) * self.unit

    async def explained(self, s: Session) -> AShare:
        """See Fitted."""
        if self.right is None:
            raise ConfigError(prediction.NO_SYSTEM)
        penalty = None
        if self.ridge is not None:
            own = s.encode(self.ridge, frac=prediction.RIDGE_FRAC, bound=1.0)
            penalty = s.zero(self.ridge.shape, frac=prediction.RIDGE_FRAC).add_own(own).assume_bound(1.0, "one owner each")
        return await prediction.explained(s, self.weights, self.right, penalty)

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None) -> Floats:
        """See Fitted: everyone gets those of the common rows."""
        start, stop = self.layout.span(s.index)
        if own.shape[1] != stop - start:
            msg = f"{s.names[s.index]} fitted with {stop - start} columns and predicts with {own.shape[1]}"
            raise ConfigError(msg)
        if public is not None:
            partial = own @ public[0][start:stop] + (public[1] if s.index == 0 else 0.0)
            return np.asarray(await prediction.add_up(s, partial / self.unit) * self.unit)
        z = await _near(s, own, self.local.mean[: stop - start], self.local.scale[: stop - start], self.layout.offsets[-1])
        standard = await prediction.of_own_columns(s, z, self.weights, self.layout.spans, len(own))
        result, self.unit = await least_squares.unstandardised(s, standard, self.local, self.layout)
        return result


async def _near(s: Session, own: Floats, mean: Floats, scale: Floats, columns: int) -> Floats:
    """Own rows, standardised, of so many columns in all; an estimate, which has no data, has zeros."""
    kernel: Any = _standard_rows
    z: Any = await s.compute(kernel, own.shape, own, mean, scale, columns, work=blockwise.WORK * own.size)
    return z if isinstance(z, np.ndarray) else np.zeros(z.shape)


def _standard_rows(own: Floats, mean: Floats, scale: Floats, columns: int) -> Floats:
    """PrecisionError for a row that is too far out to predict from shared weights."""
    z = (own - mean) / scale
    far = np.flatnonzero(np.square(z).sum(axis=1) > FAR**2 * columns)
    if len(far):
        msg = f"row {far[0]} is further than {FAR:g} standard deviations out, too far for shared coefficients: reveal them, or drop the row"
        raise PrecisionError(msg)
    return z


def _ridge(moments: Moments, scale: Floats, alpha: float) -> Floats:
    return np.asarray(alpha / moments.rows / np.square(scale[:-1]))


async def on_hidden_rows(s: Session, x: Floats, y: Any, options: Options, labels: Sequence[str]) -> Secluded:
    """Own rows, all columns, secret moments."""
    with noting((*options.names, *options.target)):
        return Secluded(*await hidden.by_hidden_rows(s, x, y, options, labels))


async def on_rows(s: Session, x: Floats, y: Any, options: Options, step: Schedule | None, labels: Sequence[str]) -> Pooled:
    """Own rows, all columns."""
    if step is not None:
        _few_enough(x.shape[1])
    with noting((*options.names, *options.target)):
        pooled, own = await least_squares.moments(s, x, y, labels, centre=options.centre, terms=_terms(options, step))
    scale = least_squares.standard_scale(pooled, options.alpha, labels)
    if step is None:
        ridge = _ridge(pooled, scale, options.alpha)
        part = least_squares.correlations(own, pooled, scale)
        # What was revealed so far ended the plan of the program; from here on it goes on again.
        weights, singular, inverse, right = await s.run(least_squares.by_rows, part, ridge)
        if not options.centre:
            return Pooled(weights, singular, pooled.mean, scale, pooled.rows)
        if options.alpha:
            return Pooled(weights, singular, pooled.mean, scale, pooled.rows, right, ridge)
        return Pooled(weights, singular, pooled.mean, scale, pooled.rows, right, sure=Sure(inverse, int(pooled.rows) - len(scale)))
    z = await blockwise.locally(blockwise.scaled, x, y, pooled.mean, scale, FRAC)
    with _naming(z, [*labels, "y"]):
        each = await s.inputs(z, frac=FRAC, bound=FEATURE)
    shared = mpc.concatenate(each)
    return Pooled(*await _descended(s, shared[:, :-1], shared[:, -1], step, [len(own) for own in each]), pooled.mean, scale, pooled.rows)


async def on_shares(
    s: Session, x: AShare, y: AShare, options: Options, step: Schedule | None = None, refuse: Refuse | None = None
) -> Pooled:
    """Shared rows; `refuse` says what to do with columns that hardly vary."""
    not_empty(len(x), lacks="nothing to fit")
    labels = options.names or [f"x{number}" for number in range(x.shape[1])]
    if step is not None:
        _standardised_before(x, y, options)
        return Pooled(*await _descended(s, x, y, step), np.zeros(len(labels) + 1), np.ones(len(labels) + 1), float(len(x)))
    columns = mpc.concatenate([x, y.reshape(len(y), 1)], axis=1)
    pooled, centred = await least_squares.shared_moments(s, columns, centre=options.centre)
    scale = least_squares.standard_scale(pooled, options.alpha, labels, refuse)
    z, divisor = await least_squares.standardised(s, centred, scale * np.sqrt(pooled.rows))
    scale = divisor / np.sqrt(pooled.rows)
    return Pooled(*await least_squares.by_shares(s, z, _ridge(pooled, scale, options.alpha)), pooled.mean, scale, pooled.rows)


async def on_columns(s: Session, x: Floats, y: Any, options: Options, step: Schedule | None, labels: Sequence[str]) -> Apart:
    """Own columns of common rows."""
    layout = await column_layout(s, *x.shape, has_target=y is not None, terms=_terms(options, step))
    local = await blockwise.locally(least_squares.local_moments, x, y, options, labels)
    if step is None:
        z, block = await blockwise.locally(least_squares.standard_columns, x, y, local)
        ridge = least_squares.own_ridge(s, local.scale, options.alpha, layout)
        weights, singular, right = await s.run(least_squares.by_columns, z, block, ridge, layout)
        if not options.centre:
            return Apart(weights, singular, local, layout)
        return Apart(weights, singular, local, layout, right=right, ridge=ridge if options.alpha else None)
    z = await blockwise.locally(blockwise.scaled, x, y, local.mean, local.scale, FRAC)
    with _naming(z, [*labels, "y"]):
        shares = [
            s.input(z if party == s.index else None, party, shape, frac=FRAC, bound=FEATURE) for party, shape in enumerate(layout.shapes)
        ]
    full = mpc.concatenate(shares, axis=1)
    at = layout.target_column
    features = full[:, [column for column in range(full.shape[1]) if column != at]]
    return Apart(*await _descended(s, features, full[:, at], step), local, layout)


@mpc.protocol
async def _descended(s: Session, x: AShare, y: AShare, step: Schedule, parts: Sequence[int] = ()) -> tuple[AShare, BShare]:
    """The weights of a descent on the rows of owners that have `parts` of them, and one bit: 1 where it diverged.

    rounds those of descend + 10 · reveals nothing
    """
    _few_enough(x.shape[1])
    _warn_of_little(s, parts or (len(y),), step)
    weights = await descend(s, x, y, step, parts)
    # As many rows as squares that are bounded by d·2^12 leave room for.
    count = min(SAMPLE, max((1 << 22) // x.shape[1] ** 2, 1))
    every = max(len(y) // count, 1)
    rows, target = x[::every][:count], y[::every][:count]
    coarse = FRAC - 8
    predicted, observed = await asyncio.gather(mpc.matmul_trunc(s, rows, weights, FRAC + coarse), mpc.trunc(s, target, coarse))
    apart, still = await asyncio.gather(mpc.square(s, predicted - observed), mpc.square(s, observed))
    # Standardised y has variance 1: from weights 0, a descent that does not diverge gets no worse than a few times that.
    better = (still.sum() + float(len(target))) * 4 - apart.sum()
    within = mpc.concatenate([weights + WEIGHT, -weights + WEIGHT])
    outside, worse = await asyncio.gather(mpc.ltz(s, within), mpc.ltz(s, better))
    counts = await asyncio.gather(mpc.b2a(s, outside), mpc.b2a(s, worse))
    return weights, await mpc.ltz(s, -(counts[0].sum() + counts[1]))


def _warn_of_little(s: Session, parts: Sequence[int], step: Schedule) -> None:
    """Log that a descent is too short, whatever the columns: the least eigenvalue of their correlations, along which it is slowest, is at most 1."""
    steps = step.epochs * len(list(batches(parts, step.batch)))
    left = max(1 - step.rate, 0.0) ** steps
    if left > LEFT:
        s.log.warning(
            'a descent of %d steps leaves about %.0f %% of its error, more where columns are correlated: give it more epochs, or use solver="exact"',
            steps,
            100 * left,
        )


def _few_enough(columns: int) -> None:
    """ConfigError for more columns than a descent has room for."""
    if columns > COLUMNS:
        msg = f'solver="sgd" fits the ring for at most {COLUMNS} columns, not {columns}: use solver="exact", or fewer columns'
        raise ConfigError(msg)


def _terms(options: Options, step: Schedule | None) -> tuple[float | str, ...]:
    """What all parties must have alike, as plain numbers."""
    return (*options.terms, *map(float, step or ()))


def _standardised_before(x: AShare, y: AShare, options: Options) -> None:
    """Raise unless shared data are fit for a descent: gradients of larger ones would wrap, and it would end well all the same."""
    for name, share in (("X", x), ("y", y)):
        if share.bound > FEATURE:
            msg = (
                f'{name} is shared with bound={share.bound:g}, and solver="sgd" takes standardised data, at most {FEATURE:g}: divide the columns by '
                f'their standard deviations before sharing them, with bound={FEATURE:g}, or use solver="exact"'
            )
            raise PrecisionError(msg)
    if options.centre:
        msg = 'solver="sgd" fits no intercept to shared data: centre the columns before sharing them and pass fit_intercept=False'
        raise ConfigError(msg)


@contextmanager
def _naming(z: Floats, names: Sequence[str]) -> Iterator[None]:
    """PrecisionError, naming row and column, for an own standardised value that is shared within and that a descent has no room for."""
    try:
        yield
    except PrecisionError as fault:
        far = blockwise.beyond(z, FEATURE)
        if far is None:
            raise
        (row, column), many = far
        msg = (
            f"column {names[column]!r}, row {row} is more than {FEATURE:g} standard deviations from the mean ({many} such value(s)), and "
            'solver="sgd" has no room for that: use solver="exact", or leave the column or these rows out'
        )
        raise PrecisionError(msg) from fault
