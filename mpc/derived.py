"""Shares that remember how they came about, so that a product with a masked value takes fewer rounds (papers: dalskov20, patra21, turbospeedz).

A truncated product is z = C - (r >> m) + k·(top bit of r), where C and k are public and the mask r is known to the dealer; a product of masked
values is z = (d1 + a1)·(d2 + a2)·..., where every d is public and the dealer knows every a.  Either is masked as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mpc.shares import AShare, fingerprint, lineage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.expressions import Expression
    from mpc.ring import Words
    from mpc.shares import Home


class Rounding(NamedTuple):
    """What a truncation by `drop` bits opened, c = value + 2^62 + r, and the name of the mask r."""

    c: Words
    r: Expression
    drop: int

    def at(self, blank: Callable[[tuple[int, ...]], Words]) -> Rounding:
        """The same without what was opened."""
        return self._replace(c=blank(self.c.shape))


class Factors(NamedTuple):
    """Masked values of one shape, whose product this is: what was opened of each, and the names of their masks."""

    differences: tuple[Words, ...]
    masks: tuple[Expression, ...]

    def at(self, blank: Callable[[tuple[int, ...]], Words]) -> Factors:
        """The same without what was opened."""
        return self._replace(differences=tuple(blank(difference.shape) for difference in self.differences))


class Derived(AShare):
    """An additive share, with the `origin` of its value."""

    __slots__ = ("factors", "is_quotient", "origin")

    def __init__(self, words: Words, origin: Rounding | Factors, *, frac: int, bound: float, home: Home, lineage: int) -> None:
        super().__init__(words, frac=frac, bound=bound, home=home, lineage=lineage)
        self.origin = origin
        self.is_quotient = isinstance(origin, Rounding)
        self.factors = len(origin.masks) if isinstance(origin, Factors) else 0

    def at(self, home: Home, blank: Callable[[tuple[int, ...]], Words]) -> Derived:
        """See Secret."""
        origin = self.origin.at(blank)
        return Derived(blank(self.shape), origin, frac=self.frac, bound=self.bound, home=home, lineage=self.lineage)

    def _read(self, operation: str, frac: int, bound: float) -> Derived:
        lineage = lineage_of(operation, self.lineage, fingerprint((frac, bound)))
        return Derived(self.words, self.origin, frac=frac, bound=bound, home=self.home, lineage=lineage)
