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

SHOWN = 5
"""Violations that an error lists."""


class ReusedRandomnessError(AssertionError):
    """A stream word was spent twice."""


class ExceededBoundError(AssertionError):
    """A value was larger than the public bound of its share."""


class MaskOracle:
    """Watches every stream of every party of one simulation. Any overlap of two uses is a violation."""

    def __init__(self) -> None:
        self._spent: dict[tuple[int, str, str], list[tuple[int, int]]] = {}
        self._violations: list[str] = []

    def spends(self, party: int, usage: str, where: Range) -> None:
        """Record a use of `where`: every second use is a violation, whatever it is for."""
        if not where.blocks:
            return
        start, stop = where.block, where.block + where.blocks
        spent = self._spent.setdefault((party, usage, where.scope), [])
        at = bisect_left(spent, (start, stop))
        if (at and spent[at - 1][1] > start) or (at < len(spent) and spent[at][0] < stop):
            self._violations.append(f"party {party}: stream {usage!r} of scope {where.scope!r}, blocks {start}:{stop}, spent twice")
        insort(spent, (start, stop))

    def check(self) -> None:
        """Raise ReusedRandomnessError if anything was spent twice."""
        if self._violations:
            raise ReusedRandomnessError("; ".join(self._violations[:SHOWN]))


class BoundOracle:
    """Adds up all parties' words of every share of one simulation, and compares the values with their bounds."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._made: Counter[tuple[int, int]] = Counter()
        self._open: dict[tuple[int, int], tuple[int, Words]] = {}
        self._violations: list[str] = []

    def makes(self, party: int, lineage: int, words: Words, frac: int, bound: float) -> None:
        """Keep `words` until the last party has made the same share."""
        # Two own values added to one share have the same lineage: each party's first ones belong together, then the second ones.
        key = lineage, self._made[party, lineage]
        self._made[party, lineage] += 1
        parties, total = self._open.pop(key, (0, np.zeros_like(words)))
        parties, total = parties + 1, np.add(total, words)
        if parties < self._n:
            self._open[key] = parties, total
            return
        largest = float(np.max(np.abs(signed(np.atleast_1d(total)).astype(np.float64)), initial=0.0)) * 2.0**-frac
        if largest > bound * (1 + 2.0**-40):
            self._violations.append(f"a value of shape {words.shape} reaches {largest:.6g}, beyond its bound {bound:.6g}")

    def check(self) -> None:
        """Raise ExceededBoundError if a value was beyond its bound."""
        if self._violations:
            raise ExceededBoundError("; ".join(self._violations[:SHOWN]))
