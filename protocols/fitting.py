"""The fits of `LinearRegression`, for each way in which data can be split."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
from mpc import AShare, BShare, ConfigError, Floats, PrecisionError, Session
from protocols import blockwise, hidden, least_squares
from protocols.descent import FEATURE, FRAC, WEIGHT, Schedule, batches, descend
from protocols.fitted import Apart, Pooled, Secluded
from protocols.inference import Sure
from protocols.layout import column_layout
from protocols.own_data import not_empty, noting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from protocols.least_squares import Moments, Options, Refuse


COLUMNS = 1023
"""Columns up to which the test of a descent fits the ring: FEATURE·WEIGHT·COLUMNS < 2^(62 - 2 FRAC)."""
LEFT = 0.01
"""The part of a descent's error that causes no warning."""
SAMPLE = 64
"""Rows on which a descent is tested: if it diverged, it is far off everywhere."""


def _ridge(moments: Moments, scale: Floats, alpha: float) -> Floats:
    return np.asarray(alpha / moments.rows / np.square(scale[:-1]))


async def on_hidden_rows(s: Session, x: Floats, y: Any, options: Options, labels: Sequence[str]) -> Secluded:
    """Fit own rows with all columns and secret moments."""
    with noting((*options.names, *options.target)):
        return Secluded(*await hidden.by_hidden_rows(s, x, y, options, labels))


async def on_rows(s: Session, x: Floats, y: Any, options: Options, step: Schedule | None, labels: Sequence[str]) -> Pooled:
    """Fit own rows with all columns."""
    if step is not None:
        _few_enough(x.shape[1])
    with noting((*options.names, *options.target)):
        pooled, own = await least_squares.moments(s, x, y, labels, centre=options.centre, terms=_terms(options, step))
    scale = least_squares.standard_scale(pooled, options.alpha, labels)
    if step is None:
        ridge = _ridge(pooled, scale, options.alpha)
        part = least_squares.correlations(own, pooled, scale)
        # What was revealed so far ended the program's plan; from here on the program is planned again.
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
    """Fit shared rows; `refuse` handles columns that hardly vary."""
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


async def on_columns(
    s: Session, x: Floats, y: Any, options: Options, step: Schedule | None, labels: Sequence[str], records: tuple[str, ...]
) -> Apart:
    """Fit own columns of common rows, which an index may label as `records`."""
    layout = await column_layout(s, *x.shape, has_target=y is not None, terms=_terms(options, step), records=records)
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
    """Return the weights of a descent on the rows of owners that have `parts` rows each, and one bit: 1 if it diverged.

    rounds those of descend + 10 · reveals nothing
    """
    _few_enough(x.shape[1])
    _warn_of_little(s, parts or (len(y),), step)
    weights = await descend(s, x, y, step, parts)
    # As many rows as the ring can sum squares of, which are bounded by d·2^12.
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
    """Log that a descent is too short for any columns.

    It is slowest along the least eigenvalue of the columns' correlations, which is at most 1.
    """
    steps = step.epochs * len(list(batches(parts, step.batch)))
    left = max(1 - step.rate, 0.0) ** steps
    if left > LEFT:
        s.log.warning(
            "a descent of %d steps leaves about %.0f %% of its error, more where columns are correlated: give it "
            'more epochs, or use solver="exact"',
            steps,
            100 * left,
        )


def _few_enough(columns: int) -> None:
    """Raise ConfigError for more columns than fit into a descent."""
    if columns > COLUMNS:
        msg = f'solver="sgd" fits the ring for at most {COLUMNS} columns, not {columns}: use solver="exact", or fewer columns'
        raise ConfigError(msg)


def _terms(options: Options, step: Schedule | None) -> tuple[float | str, ...]:
    """Return the settings that all parties must have alike, as plain numbers."""
    return (*options.terms, *map(float, step or ()))


def _standardised_before(x: AShare, y: AShare, options: Options) -> None:
    """Raise an error unless shared data fit a descent: gradients of larger data would wrap around without an error."""
    for name, share in (("X", x), ("y", y)):
        if share.bound > FEATURE:
            msg = (
                f'{name} is shared with bound={share.bound:g}, and solver="sgd" takes standardised data, at most {FEATURE:g}: divide the '
                f'columns by their standard deviations before sharing them, with bound={FEATURE:g}, or use solver="exact"'
            )
            raise PrecisionError(msg)
    if options.centre:
        msg = 'solver="sgd" fits no intercept to shared data: centre the columns before sharing them and pass fit_intercept=False'
        raise ConfigError(msg)


@contextmanager
def _naming(z: Floats, names: Sequence[str]) -> Iterator[None]:
    """Raise a PrecisionError, naming row and column, for an own standardised value in the body that is too large for a descent."""
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
