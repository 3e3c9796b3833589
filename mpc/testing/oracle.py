"""The mask oracle: fails a run in which one stream word hides two secrets or serves two relations (invariant 7)."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpc.correlations import Range
    from mpc.ring import Words


class ReusedRandomnessError(AssertionError):
    """A stream word was spent twice."""


class MaskOracle:
    """Watches every stream of every party of one simulation.  Any overlap of two uses is a violation."""

    def __init__(self) -> None:
        self._spent: dict[tuple[int, str, str], list[tuple[int, int]]] = {}
        self.violations: list[str] = []
        self.ranges = 0

    def spends(self, party: int, usage: str, where: Range, on: Words | bytes) -> None:  # noqa: ARG002  every second use is wrong
        """Record a use of `where`."""
        if not where.blocks:
            return
        self.ranges += 1
        start, stop = where.block, where.block + where.blocks
        spent = self._spent.setdefault((party, usage, where.scope), [])
        at = bisect_left(spent, (start, stop))
        if (at and spent[at - 1][1] > start) or (at < len(spent) and spent[at][0] < stop):
            self.violations.append(f"party {party}: stream {usage!r} of scope {where.scope!r}, blocks {start}:{stop}, spent twice")
        insort(spent, (start, stop))

    def check(self) -> None:
        """Raise ReusedRandomnessError if anything was spent twice."""
        if self.violations:
            raise ReusedRandomnessError("; ".join(self.violations[:5]))
