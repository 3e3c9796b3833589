"""What `LinearRegression.fit` does for each way in which data can be split, and what it keeps for predictions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import mpc
from mpc import AShare, BShare, ConfigError, Floats, ProgramError, Session
from protocols import hidden, least_squares, prediction
from protocols.descent import FEATURE, FRAC, Schedule, descend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocols.hidden import Hidden
    from protocols.least_squares import Layout, Local, Moments, Options


class Fitted(Protocol):
    """Shared standardised weights, and what turns them into coefficients and predictions."""

    @property
    def weights(self) -> AShare:
        """(d,), per standard deviation."""

    @property
    def singular(self) -> BShare | None:
        """Whether the weights mean nothing; None where the solver cannot tell."""

    @property
    def unit(self) -> float:
        """A power of two of about the standard deviation of y, as far as it is public by now: what is revealed in y's units is rounded in it."""

    async def coefficients(self, s: Session) -> tuple[Floats, float]:
        """Reveal coefficients and intercept of the raw columns."""

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None) -> Floats:
        """Joint predictions from own data, by public coefficients or by the shares."""


@dataclass(frozen=True)
class Pooled:
    """Rows split, or shared: the moments of all columns are public."""

    weights: AShare
    singular: BShare | None
    mean: Floats
    scale: Floats

    @property
    def unit(self) -> float:
        """See Fitted."""
        return float(np.ldexp(1.0, np.frexp(self.scale[-1])[1]))

    async def coefficients(self, s: Session) -> tuple[Floats, float]:
        """See Fitted.  rounds 1"""
        raw = np.asarray(await s.reveal(self.weights)) * self.scale[-1] / self.scale[:-1]
        return raw, float(self.mean[-1] - raw @ self.mean[:-1])

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None) -> Floats:
        """See Fitted: each party gets those of its own rows."""
        if public is not None:
            return np.asarray(own @ public[0] + public[1])
        z = (own - self.mean[:-1]) / self.scale[:-1]
        return np.asarray(await prediction.of_own_rows(s, z, self.weights) * self.scale[-1] + self.mean[-1])


@dataclass(frozen=True)
class Secluded:
    """Rows split, moments secret: only a power of two of every column is public."""

    weights: AShare
    singular: BShare | None
    own: Hidden
    powers: Any

    @property
    def unit(self) -> float:
        """See Fitted."""
        return float(np.ldexp(1.0, self.powers[-1]))

    async def coefficients(self, s: Session) -> tuple[Floats, float]:
        """See Fitted.  rounds 2"""
        raw = np.ldexp(np.asarray(await s.reveal(self.weights)), self.powers[-1] - self.powers[:-1])
        # The pooled means stay secret: each party adds what its own rows contribute to the intercept.
        mine = self.own.part * (self.own.mean[-1] - raw @ self.own.mean[:-1]) / self.unit
        return raw, float(await s.reveal(s.zero(()).add_own(s.encode(mine)))) * self.unit

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None) -> Floats:
        """See Fitted: each party gets those of its own rows; by public coefficients only."""
        if public is None:
            msg = (
                f'{s.names[s.index]}: reveal=False needs moments="reveal", since a prediction from shared weights needs the columns\' means'
            )
            raise ProgramError(msg)
        return np.asarray(own @ public[0] + public[1])


@dataclass
class Apart:
    """Columns split: every owner knows the moments of its own columns only."""

    weights: AShare
    singular: BShare | None
    local: Local
    layout: Layout
    unit: float = 1.0

    async def coefficients(self, s: Session) -> tuple[Floats, float]:
        """See Fitted.  rounds 6"""
        raw, (powers, self.unit) = await asyncio.gather(
            least_squares.unscaled(s, self.weights, self.local, self.layout), least_squares.powers(s, self.local, self.layout)
        )
        coefficients = np.asarray(await s.reveal(raw)) * powers
        start, stop = self.layout.span(s.index)
        own = -coefficients[start:stop] @ self.local.mean[: stop - start]
        own += self.local.mean[-1] if s.index == self.layout.target else 0.0
        intercept = await s.reveal(s.zero(()).add_own(s.encode(own / self.unit)))
        return coefficients, float(intercept) * self.unit

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None) -> Floats:
        """See Fitted: everyone gets those of the common rows."""
        start, stop = self.layout.span(s.index)
        if own.shape[1] != stop - start:
            msg = f"{s.names[s.index]} fitted with {stop - start} columns and predicts with {own.shape[1]}"
            raise ConfigError(msg)
        if public is not None:
            partial = own @ public[0][start:stop] + (public[1] if s.index == 0 else 0.0)
            return np.asarray(await prediction.add_up(s, partial / self.unit) * self.unit)
        z = (own - self.local.mean[: stop - start]) / self.local.scale[: stop - start]
        standard = await prediction.of_own_columns(s, z, self.weights, self.layout.spans, len(own))
        result, self.unit = await least_squares.unstandardised(s, standard, self.local, self.layout)
        return result


def _ridge(moments: Moments, scale: Floats, alpha: float) -> Floats:
    return np.asarray(alpha / moments.rows / np.square(scale[:-1]))


async def on_hidden_rows(s: Session, x: Floats, y: Any, options: Options, labels: Sequence[str]) -> Secluded:
    """Own rows, all columns, secret moments."""
    return Secluded(*await hidden.by_hidden_rows(s, np.column_stack([x, y]), options, labels))


async def on_rows(s: Session, x: Floats, y: Any, options: Options, step: Schedule | None, labels: Sequence[str]) -> Pooled:
    """Own rows, all columns."""
    columns = np.column_stack([x, y])
    pooled = await least_squares.moments(s, columns, centre=options.centre)
    scale = least_squares.standard_scale(pooled, options.alpha, labels)
    z = (columns - pooled.mean) / scale
    if step is None:
        solved = await least_squares.by_rows(s, z / np.sqrt(pooled.rows), _ridge(pooled, scale, options.alpha))
        return Pooled(*solved, pooled.mean, scale)
    _without_penalty(options)
    shared = mpc.concatenate(await s.inputs(z, frac=FRAC, bound=FEATURE))
    return Pooled(await descend(s, shared[:, :-1], shared[:, -1], step), None, pooled.mean, scale)


async def on_shares(s: Session, x: AShare, y: AShare, options: Options, step: Schedule | None) -> Pooled:
    """Shared rows."""
    labels = [f"x{number}" for number in range(x.shape[1])]
    if step is not None:
        # As they are: who shares data for a descent has scaled it.
        _without_penalty(options)
        bounded = [share.assume_bound(FEATURE, "standardised before it was shared") if share.bound > FEATURE else share for share in (x, y)]
        weights = await descend(s, bounded[0], bounded[1], step)
        return Pooled(weights, None, np.zeros(len(labels) + 1), np.ones(len(labels) + 1))
    columns = mpc.concatenate([x, y.reshape(len(y), 1)], axis=1)
    pooled, centred = await least_squares.shared_moments(s, columns, centre=options.centre)
    scale = least_squares.standard_scale(pooled, options.alpha, labels)
    z, divisor = await least_squares.standardised(s, centred, scale * np.sqrt(pooled.rows))
    scale = divisor / np.sqrt(pooled.rows)
    return Pooled(*await least_squares.by_shares(s, z, _ridge(pooled, scale, options.alpha)), pooled.mean, scale)


async def on_columns(s: Session, x: Floats, y: Any, options: Options, step: Schedule | None, labels: Sequence[str]) -> Apart:
    """Own columns of common rows."""
    layout = await least_squares.column_layout(s, *x.shape, has_target=y is not None)
    own = x if y is None else np.column_stack([x, y])
    local = least_squares.local_moments(own, options.alpha, labels, centre=options.centre, has_target=y is not None)
    if step is None:
        return Apart(*await least_squares.by_columns(s, own, local, options.alpha, layout), local, layout)
    _without_penalty(options)
    z = (own - local.mean) / local.scale
    shares = [s.input(z if party == s.index else None, party, shape, frac=FRAC, bound=FEATURE) for party, shape in enumerate(layout.shapes)]
    full = mpc.concatenate(shares, axis=1)
    at = layout.target_column
    features = full[:, [column for column in range(full.shape[1]) if column != at]]
    return Apart(await descend(s, features, full[:, at], step), None, local, layout)


def _without_penalty(options: Options) -> None:
    if options.alpha:
        msg = 'solver="sgd" has no penalty: use solver="exact" with alpha, or alpha=0'
        raise ConfigError(msg)
