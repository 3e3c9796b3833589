"""What a fit keeps for coefficients, R² and predictions, for each way in which data can be split."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mpc import AShare, BShare, ConfigError, Floats, PrecisionError, ProgramError, Session
from protocols import blockwise, least_squares, prediction
from protocols.own_data import noting, reveal_sum

if TYPE_CHECKING:
    from protocols.declare import Receivers
    from protocols.hidden import Hidden
    from protocols.inference import Sure
    from protocols.layout import Layout
    from protocols.least_squares import Local

FAR = 28.0
"""Root mean square of a standardised row up to which z·w fits the ring for any w: |z·w| <= |z| 2^11 / sqrt(d) (docs/precision.md)."""


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
        """A power of two of about the standard deviation of y, as far as that is public by now.

        What is revealed in y's units is rounded in it.
        """

    async def coefficients(self, s: Session, to: Receivers | None = None) -> tuple[Floats, float] | None:
        """Reveal coefficients and intercept of the raw columns to the receivers; None elsewhere."""

    async def explained(self, s: Session) -> AShare:
        """Return, as a share (2,), what the model explains of y'y on the rows of the fit, and y'y.

        Raises ConfigError if only predictions can tell.
        """

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None, records: tuple[str, ...] = ()) -> Floats:
        """Return joint predictions from own data, by public coefficients or by the shares.

        `records` are the labels that an index gives common rows.
        """


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
    """What the standard errors of the coefficients need, if there is an intercept and no penalty."""

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

    async def predictions(
        self,
        s: Session,
        own: Floats,
        public: tuple[Floats, float] | None,
        records: tuple[str, ...] = (),  # noqa: ARG002  rows are nobody else's
    ) -> Floats:
        """See Fitted: each party gets the predictions of its own rows."""
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
        """See Fitted.  rounds 2, or 3 if not everyone receives"""
        if not s.everyone(to):
            return await self._to_some(s, s.receivers(to))
        raw = np.ldexp(np.asarray(await s.reveal(self.weights)), self.powers[-1] - self.powers[:-1])
        # The pooled means stay secret: each party adds what its own rows contribute to the intercept.
        mine = self.own.part * (self.own.mean[-1] - raw @ self.own.mean[:-1]) / self.unit
        return raw, float(await reveal_sum(s, s.encode(mine))) * self.unit

    async def _to_some(self, s: Session, to: tuple[int, ...]) -> tuple[Floats, float] | None:
        # A party that does not know the coefficients cannot say what its means add to the intercept.
        *means, target = self.own.part * np.ldexp(self.own.mean, -self.powers)
        offset = await prediction.intercept(s, self.weights, np.asarray(means), float(target), addends=s.n)
        weights, constant = await asyncio.gather(s.reveal(self.weights, to), s.reveal(offset, to))
        if weights is None or constant is None:
            return None
        return np.ldexp(np.asarray(weights), self.powers[-1] - self.powers[:-1]), float(constant) * self.unit

    async def explained(self, s: Session) -> AShare:  # noqa: ARG002  see Fitted
        """See Fitted: the scale of y is known only to within a factor of two."""
        raise ConfigError(prediction.NO_SYSTEM)

    async def predictions(
        self,
        s: Session,
        own: Floats,
        public: tuple[Floats, float] | None,
        records: tuple[str, ...] = (),  # noqa: ARG002  rows are nobody else's
    ) -> Floats:
        """See Fitted: each party gets the predictions of its own rows, by public coefficients only."""
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
        """See Fitted.  rounds 6, or 7 if not everyone receives"""
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
        intercept = await reveal_sum(s, s.encode(own / self.unit))
        return coefficients, float(intercept) * self.unit

    async def _to_some(self, s: Session, raw: AShare, powers: Floats, to: tuple[int, ...]) -> tuple[Floats, float] | None:
        # A party that does not know the coefficients cannot say what its means add to the intercept.
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

    async def predictions(self, s: Session, own: Floats, public: tuple[Floats, float] | None, records: tuple[str, ...] = ()) -> Floats:
        """See Fitted: everyone gets the predictions of the common rows."""
        start, stop = self.layout.span(s.index)
        if own.shape[1] != stop - start:
            msg = f"{s.names[s.index]} fitted with {stop - start} columns and predicts with {own.shape[1]}"
            raise ConfigError(msg)
        if public is not None:
            partial = own @ public[0][start:stop] + (public[1] if s.index == 0 else 0.0)
            with noting((), records):
                return np.asarray(await prediction.add_up(s, partial / self.unit, records) * self.unit)
        z = await _near(s, own, self.local.mean[: stop - start], self.local.scale[: stop - start], self.layout.offsets[-1])
        with noting((), records):
            standard = await prediction.of_own_columns(s, z, self.weights, self.layout.spans, len(own), records)
            result, self.unit = await least_squares.unstandardised(s, standard, self.local, self.layout)
        return result


async def _near(s: Session, own: Floats, mean: Floats, scale: Floats, columns: int) -> Floats:
    """Return own rows, standardised, where there are `columns` columns in all.  An estimate, which has no data, gets zeros."""
    kernel: Any = _standard_rows
    z: Any = await s.compute(kernel, own.shape, own, mean, scale, columns, work=blockwise.WORK * own.size)
    return z if isinstance(z, np.ndarray) else np.zeros(z.shape)


def _standard_rows(own: Floats, mean: Floats, scale: Floats, columns: int) -> Floats:
    """Return standardised rows.  Raises PrecisionError for a row that is too far out to predict from shared weights."""
    z = (own - mean) / scale
    far = np.flatnonzero(np.square(z).sum(axis=1) > FAR**2 * columns)
    if len(far):
        msg = f"row {far[0]} is further than {FAR:g} standard deviations out, too far for shared coefficients: reveal them, or drop the row"
        raise PrecisionError(msg)
    return z
