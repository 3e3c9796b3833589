"""Comparisons, from shares to the revealed result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
import protocols
from parties.bench.workload import OnShares, as_integers, in_pieces, pieces

if TYPE_CHECKING:
    from mpc import AShare, Session


class Comparisons(OnShares):
    """W4, comparisons."""

    key = "W4"
    title = "comparisons a < b of shared vectors, revealed"
    parties = (2, 3)
    sizes = (1_000_000, 100_000)
    limit = 100.0
    allowed = 0.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See OnShares."""
        return {"a": (self.size,), "b": (self.size,)}

    @property
    def moved(self) -> int:
        """See Workload."""
        return 17 * self.size

    async def run(self, s: Session, data: list[AShare]) -> Any:
        """See Workload."""
        return await s.run(_comparisons, *data)

    def error(self, revealed: Any) -> float:
        """Return how many bits are wrong."""
        return float(sum(np.count_nonzero(revealed[cut] != (self._whole("a", cut) < self._whole("b", cut))) for cut in pieces(self.size)))


async def _comparisons(s: Session, a: AShare, b: AShare) -> Any:
    @mpc.protocol
    async def part(s: Session, cut: slice) -> Any:
        return await s.reveal(await protocols.less_than(s, a[cut], b[cut]))

    parts = await in_pieces(s, a.size, part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Maximum(OnShares):
    """W9, a maximum."""

    key = "W9"
    title = "maximum of a shared vector, revealed"
    parties = (2, 3)
    sizes = (10_000,)
    limit = 100.0
    allowed = 0.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See OnShares."""
        return {"x": (self.size,)}

    @property
    def moved(self) -> int:
        """See Workload."""
        return 8 * self.size + 8

    async def run(self, s: Session, data: list[AShare]) -> Any:
        """See Workload."""
        return await s.run(_maximum, *data)

    def error(self, revealed: Any) -> float:
        """Return the error in units in the last place."""
        return float(abs(as_integers(revealed) - self._whole("x", slice(0, self.size)).max()))


async def _maximum(s: Session, x: AShare) -> Any:
    return await s.reveal(await protocols.maximum(s, x))
