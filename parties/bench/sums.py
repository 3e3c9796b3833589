"""Sums and moments of what the parties have: from private floats to the revealed result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
import protocols
from parties.bench.numbers import uniform
from parties.bench.workload import PIECE, Workload, as_integers, in_pieces, pieces

if TYPE_CHECKING:
    from mpc import Floats, Session


class Sum(Workload):
    """W1, a secure sum."""

    key = "W1"
    title = "secure sum of every party's floats, revealed"
    parties = (3,)
    sizes = (1_000_000,)
    allowed = 0.0

    @property
    def moved(self) -> int:
        """See Workload."""
        return 16 * self.size

    def own(self, party: int) -> Floats:
        """See Workload."""
        return self._of(party, slice(0, self.size))

    def _of(self, party: int, cut: slice) -> Floats:
        return uniform(self.key, party, cut.start, cut.stop, 100.0)

    async def run(self, s: Session, data: Floats) -> Floats:
        """See Workload."""
        if self.size <= PIECE:
            return np.asarray(await protocols.secure_sum(s, data))
        total = np.empty(self.size)

        @mpc.protocol
        async def part(s: Session, cut: slice) -> None:
            total[cut] = await protocols.secure_sum(s, data[cut])

        await in_pieces(s, self.size, part)
        return total

    def error(self, revealed: Floats) -> float:
        """Return the error in units in the last place."""
        worst = 0.0
        for cut in pieces(self.size):
            wanted = np.sum([as_integers(self._of(party, cut)) for party in range(self.n)], axis=0)
            worst = max(worst, float(np.abs(as_integers(revealed[cut]) - wanted).max()))
        return worst


class Moments(Workload):
    """W2, mean and variance."""

    key = "W2"
    title = "mean and variance of the pooled floats"
    parties = (3,)
    sizes = (1_000_000,)

    @property
    def allowed(self) -> float:
        """Half a unit in the last place of each party's sum, divided by the number of rows."""
        return max(1e-9, 2.0**-21 / self.size)

    @property
    def moved(self) -> int:
        """See Workload."""
        return 8 * self.size + 16

    def own(self, party: int) -> Floats:
        """See Workload."""
        return uniform(self.key, party, 0, self.size, 10.0)

    async def run(self, s: Session, data: Floats) -> Floats:
        """See Workload."""
        return np.stack(await asyncio.gather(protocols.mean(s, data), protocols.variance(s, data)))

    def error(self, revealed: Any) -> float:
        """See Workload."""
        pooled = np.concatenate([self.own(party) for party in range(self.n)])
        return float(np.abs(revealed - [pooled.mean(), pooled.var()]).max())
