"""Shares that remember how they came about, so that a product with a masked value takes fewer rounds (papers: dalskov20, patra21, turbospeedz).

A truncated product is z = C - (r >> m) + k·(top bit of r), where C and k are public and the mask r is known to the dealer; a product of masked
values is z = (d1 + a1)·(d2 + a2)·..., where every d is public and the dealer knows every a.  Either is masked as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from mpc.shares import AShare, Fixed, fingerprint, lineage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.expressions import Expression
    from mpc.masked import Masked
    from mpc.ring import Words
    from mpc.shares import Home

    Blanks = Callable[[tuple[int, ...]], Words]


class Rounding(NamedTuple):
    """What a truncation by `drop` bits opened, c = value + 2^62 + r, and the name of the mask r."""

    c: Words
    r: Expression
    drop: int

    def at(self, _: Home, blank: Blanks) -> Rounding:
        """The same without what was opened."""
        return self._replace(c=blank(self.c.shape))


class Deferred(Protocol):
    """Stands for the words of a product, which are not there."""

    def read(self) -> None:
        """Somebody reads them."""

    def extend(self) -> None:
        """The product is multiplied further, for which its factors are enough."""


class Factors(NamedTuple):
    """Masked values of one shape, whose product this is; its words may be deferred."""

    values: tuple[Masked, ...]
    deferred: Deferred | None

    def extend(self) -> tuple[Masked, ...]:
        """The values, for a product with more."""
        if self.deferred is not None:
            self.deferred.extend()
        return self.values

    def at(self, home: Home, blank: Blanks) -> Factors:
        """The same without contents."""
        return Factors(tuple(value.at(home, blank) for value in self.values), None)


class Derived(AShare):
    """An additive share, with the `origin` of its value.  Of words that are deferred only the shape counts."""

    __slots__ = ("_deferred", "factors", "is_quotient", "origin")

    def __init__(self, words: Words, origin: Rounding | Factors, *, frac: int, bound: float, home: Home, lineage: int) -> None:
        self.origin = origin
        self.is_quotient = isinstance(origin, Rounding)
        self.factors, self._deferred = (len(origin.values), origin.deferred) if isinstance(origin, Factors) else (0, None)
        if self._deferred is None:
            super().__init__(words, frac=frac, bound=bound, home=home, lineage=lineage)
        else:
            Fixed.__init__(self, words.shape, frac, bound, home, lineage)
            self._words, self.owner = words, None

    @property
    def words(self) -> Words:
        """See AShare."""
        if self._deferred is not None:
            self._deferred.read()
        return self._words

    def at(self, home: Home, blank: Blanks) -> Derived:
        """See Secret."""
        origin = self.origin.at(home, blank)
        return Derived(blank(self.shape), origin, frac=self.frac, bound=self.bound, home=home, lineage=self.lineage)

    def _read(self, operation: str, frac: int, bound: float) -> Derived:
        lineage = lineage_of(operation, self.lineage, fingerprint((frac, bound)))
        return Derived(self._words, self.origin, frac=frac, bound=bound, home=self.home, lineage=lineage)
