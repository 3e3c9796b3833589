"""The oracles of the simulator: no stream word hides two secrets or serves two relations (invariant 7), and no value exceeds its bound."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from mpc.ring import signed

if TYPE_CHECKING:
    from mpc.naming.expressions import Range
    from mpc.ring import Words


class ReusedRandomnessError(AssertionError):
    """A stream word was spent twice."""


class MaskOracle:
    """Watches every stream of every party of one simulation.  Any overlap of two uses is a violation."""

    def __init__(self, *, every_word: bool = False) -> None:
        self.every_word = every_word
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

    def makes(self, party: int, lineage: int, words: Words, frac: int, bound: float) -> None:
        """Bounds are not this oracle's business."""


class ExceededBoundError(AssertionError):
    """A value was larger than the public bound of its share."""


class Oracle(MaskOracle):
    """The mask oracle, which with `check_bounds` also adds up all parties' words of every share and compares them with its bound."""

    def __init__(self, n: int, *, check_bounds: bool = False) -> None:
        super().__init__(every_word=check_bounds)
        self._n = n
        self._made: Counter[tuple[int, int]] = Counter()
        self._open: dict[tuple[int, int], tuple[int, Words]] = {}

    def makes(self, party: int, lineage: int, words: Words, frac: int, bound: float) -> None:
        """Keep `words` until the last party has made the same share."""
        if not self.every_word:
            return
        # Two own values added to one share have one lineage: the first of each party belong together, then the second.
        key = lineage, self._made[party, lineage]
        self._made[party, lineage] += 1
        parties, total = self._open.pop(key, (0, np.zeros_like(words)))
        parties, total = parties + 1, np.add(total, words)
        if parties < self._n:
            self._open[key] = parties, total
            return
        largest = float(np.max(np.abs(signed(np.atleast_1d(total)).astype(np.float64)), initial=0.0)) * 2.0**-frac
        if largest > bound * (1 + 2.0**-40):
            self.violations.append(f"a value of shape {words.shape} reaches {largest:.6g}, beyond its bound {bound:.6g}")

    def check(self) -> None:
        """Raise what was found, the reuse of randomness first."""
        if any("reaches" in violation for violation in self.violations) and not any("spent" in violation for violation in self.violations):
            raise ExceededBoundError("; ".join(self.violations[:5]))
        super().check()
