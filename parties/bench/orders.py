"""Who is larger: from shares to the revealed result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import mpc
import protocols
from parties.bench.numbers import uniform
from parties.bench.workload import PIECE, Workload, as_integers, in_pieces, share_of

if TYPE_CHECKING:
    from mpc import AShare, Floats, Session

LIMIT = 100.0


class _Ordered(Workload):
    allowed = 0.0
    names: ClassVar[str]
    """Of its shared vectors."""

    def _of(self, name: str, party: int, start: int, stop: int) -> Floats:
        return uniform(f"{self.key} {name}", party, start, stop, LIMIT / self.n)

    def own(self, party: int) -> list[Floats]:
        """See Workload."""
        return [self._of(name, party, 0, self.size) for name in self.names]

    def load(self, s: Session, own: list[Floats]) -> list[AShare]:
        """See Workload."""
        return [share_of(s, mine, LIMIT / s.n) for mine in own]

    def _whole(self, name: str, start: int, stop: int) -> Any:
        return np.sum([as_integers(self._of(name, party, start, stop)) for party in range(self.n)], axis=0)


class Comparisons(_Ordered):
    """W4."""

    key = "W4"
    names = "ab"
    title = "comparisons a < b of shared vectors, revealed"
    parties = (2, 3)
    sizes = (1_000_000, 100_000)

    @property
    def moved(self) -> int:
        """See Workload."""
        return 17 * self.size

    async def run(self, s: Session, data: list[AShare]) -> Any:
        """See Workload."""
        return await s.run(_comparisons, *data)

    def error(self, revealed: Any) -> float:
        """How many are wrong."""
        cuts = [(start, min(start + PIECE, self.size)) for start in range(0, self.size, PIECE)]
        return float(sum(np.count_nonzero(revealed[slice(*cut)] != (self._whole("a", *cut) < self._whole("b", *cut))) for cut in cuts))


async def _comparisons(s: Session, a: AShare, b: AShare) -> Any:
    @mpc.protocol
    async def part(s: Session, cut: slice) -> Any:
        return await s.reveal(await protocols.less_than(s, a[cut], b[cut]))

    parts = await in_pieces(s, a.size, part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Maximum(_Ordered):
    """W9."""

    key = "W9"
    names = "x"
    title = "maximum of a shared vector, revealed"
    parties = (2, 3)
    sizes = (10_000,)

    @property
    def moved(self) -> int:
        """See Workload."""
        return 8 * self.size + 8

    async def run(self, s: Session, data: list[AShare]) -> Any:
        """See Workload."""
        return await s.run(_maximum, *data)

    def error(self, revealed: Any) -> float:
        """Units in the last place."""
        return float(abs(as_integers(revealed) - self._whole("x", 0, self.size).max()))


async def _maximum(s: Session, x: AShare) -> Any:
    return await s.reveal(await protocols.maximum(s, x))
