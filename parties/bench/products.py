"""Products of shares: from shares to shares, truncated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
from mpc.fixed_point import FRAC
from mpc.ring import count
from parties.bench.numbers import uniform
from parties.bench.workload import OnShares, Workload, as_integers, in_pieces, pieces, share_of

if TYPE_CHECKING:
    from mpc import AShare, Floats, Session


class _Truncated(OnShares):
    """A product of shared x and y that loses FRAC bits: rounded down, or up by one unit in the last place."""

    allowed = 1.0
    limit = 1.0

    async def reveal(self, s: Session, outcome: AShare) -> Any:
        """See Workload."""

        @mpc.protocol
        async def part(s: Session, cut: slice) -> Any:
            return await s.reveal(flat[cut])

        flat = outcome.reshape(outcome.size)
        return np.concatenate(await in_pieces(s, outcome.size, part)).reshape(outcome.shape)


def _over(found: Any, product: Any) -> float:
    """Return how far truncated values lie above the rounded-down product, in units in the last place; infinity if one lies below."""
    above = as_integers(found) - np.floor(product * 2.0**-FRAC)
    return float("inf") if above.min() < 0 else float(above.max())


class Products(_Truncated):
    """W3, products of vectors."""

    key = "W3"
    title = "fixed-point products of shared vectors, truncated"
    parties = (2, 3)
    sizes = (1_000_000, 100_000)
    limit = 8.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See OnShares."""
        return {"x": (self.size,), "y": (self.size,)}

    @property
    def moved(self) -> int:
        """See Workload."""
        return 24 * self.size

    async def run(self, s: Session, data: list[AShare]) -> AShare:
        """See Workload."""
        return await _products(s, *data)

    def error(self, revealed: Floats) -> float:
        """See Workload.  A product is below 2^53 as an integer."""
        return max(_over(revealed[cut], self._whole("x", cut) * self._whole("y", cut)) for cut in pieces(self.size))


async def _products(s: Session, x: AShare, y: AShare) -> AShare:
    @mpc.protocol
    async def part(s: Session, cut: slice) -> AShare:
        return await mpc.mul_trunc(s, x[cut], y[cut], FRAC)

    parts = await in_pieces(s, x.size, part)
    return parts[0] if len(parts) == 1 else mpc.concatenate(parts)


class MatrixProduct(_Truncated):
    """W5, square matrices."""

    key = "W5"
    title = "fixed-point matrix product, truncated"
    parties = (2, 3)
    sizes = (1024,)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See OnShares."""
        return {"x": (self.size, self.size), "y": (self.size, self.size)}

    @property
    def dimensions(self) -> str:
        """See Workload."""
        left, right = self.shapes.values()
        return f"{left[0]}x{left[1]} by {right[0]}x{right[1]}"

    @property
    def moved(self) -> int:
        """See Workload."""
        (rows, inner), (_, columns) = self.shapes.values()
        return 8 * (rows * inner + inner * columns + rows * columns)

    async def run(self, s: Session, data: list[AShare]) -> AShare:
        """See Workload."""
        left, right = data
        return await mpc.matmul_trunc(s, left, right, FRAC)

    def error(self, revealed: Floats) -> float:
        """See Workload.  Sums of products below 2^53 are exact in float64 in any order."""
        left, right = (self._whole(name, slice(0, count(shape))).reshape(shape) for name, shape in self.shapes.items())
        return _over(revealed, left @ right)


class MatrixVectorProduct(MatrixProduct):
    """W5, a batch of rows times one column."""

    key = "W5-vector"
    title = "fixed-point matrix times vector, truncated"
    sizes = (1000,)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See OnShares."""
        return {"x": (128, self.size), "y": (self.size, 1)}


class Chain(Workload):
    """W6, integers: the sign of a number changes with every product."""

    key = "W6"
    title = "dependent scalar products, integer"
    parties = (2, 3)
    sizes = (1000,)
    allowed = 0.0

    @property
    def moved(self) -> int:
        """See Workload."""
        return 8 * self.size + 16

    def own(self, party: int) -> list[Floats]:
        """Return party i's part of the value and of every factor: i, or at the first party what is missing to the total."""
        others = self.n * (self.n - 1) / 2
        return [np.asarray(float(party or total - others)) for total in (3, -1)]

    def load(self, s: Session, own: list[Floats]) -> list[AShare]:
        """See Workload."""
        mine, sign = own
        bound = s.n**2 + 4.0
        value, factors = (share_of(s, numbers, bound, frac=0) for numbers in (mine, np.full(self.size, sign)))
        return [value.assume_bound(4.0, "it is 3"), factors.assume_bound(1.0, "all are -1")]

    async def run(self, s: Session, data: list[AShare]) -> AShare:
        """See Workload."""
        value = await _chain(s, *data)
        await s.made(value)
        return value

    async def reveal(self, s: Session, outcome: AShare) -> Any:
        """See Workload."""
        return np.asarray(await s.reveal(outcome))

    def error(self, revealed: Any) -> float:
        """See Workload."""
        return float(abs(revealed - 3 * (-1) ** self.size))


async def _chain(s: Session, value: AShare, factors: AShare) -> AShare:
    masked = await s.mask(factors)
    for number in range(len(factors)):
        value = await mpc.mul(s, value, masked[number])
    return value


class FixedChain(Workload):
    """W6, fixed point: a value near 1, and factors near 1."""

    key = "W6-fixed"
    title = "dependent scalar products, fixed point of 16 bits"
    frac = 16
    """As in MP-SPDZ and CrypTen."""
    parties = (2, 3)
    sizes = (1000,)

    @property
    def allowed(self) -> float:
        """One unit in the last place for every product; later factors change it little."""
        return 2.0 * self.size

    @property
    def moved(self) -> int:
        """See Workload."""
        return 8 * self.size + 16

    def own(self, party: int) -> list[Floats]:
        """Return 1.5 and numbers near 1 at the first party, and small numbers at the others."""
        first = float(party == 0)
        return [np.asarray(1.5 * first + party / 64), first + uniform(self.key, party, 0, self.size, 2.0**-10 / self.n)]

    def load(self, s: Session, own: list[Floats]) -> list[AShare]:
        """See Workload."""
        value, factors = (share_of(s, numbers, 4.0, self.frac) for numbers in own)
        return [value.assume_bound(4.0, "n is below 18"), factors.assume_bound(1.001, "all are within 2^-10 of 1")]

    async def run(self, s: Session, data: list[AShare]) -> AShare:
        """See Workload."""
        value = await _fixed_chain(s, *data)
        await s.made(value)
        return value

    async def reveal(self, s: Session, outcome: AShare) -> Any:
        """See Workload."""
        return np.asarray(await s.reveal(outcome))

    def error(self, revealed: Any) -> float:
        """Return the error in units in the last place."""
        value, factors = (np.sum(parts, axis=0) for parts in zip(*map(self.own, range(self.n)), strict=True))
        return float(np.abs(as_integers(revealed, self.frac) - as_integers(value * factors.prod(), self.frac)))


class FineChain(FixedChain):
    """W6, fixed point with Beaver's default of fractional bits."""

    key = "W6-fine"
    title = "dependent scalar products, fixed point of 20 bits"
    frac = FRAC


async def _fixed_chain(s: Session, value: AShare, factors: AShare) -> AShare:
    masked = await s.mask(factors)
    for number in range(len(factors)):
        if not number % 1000:
            # With a bound of 1.001, a thousand factors make less than 11 of a value of 4.
            value = value.assume_bound(4.0, "at most 1.5 and n / 64 times factors that are as often above 1 as below")
        value = await mpc.mul_trunc(s, value, masked[number], value.frac)
    return value
