"""Truncated products that remember how their shares came about (papers: dalskov20, turbospeedz).

z = C - (r >> m) + k·(top bit of r), where C and k are public and the mask r is known to the dealer: z is masked as it is, and a product of it
with a masked value needs no opening before that of the product.
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


class Quotient(AShare):
    """An additive share, with the `rounding` that it came from."""

    __slots__ = ("rounding",)
    is_quotient = True

    def __init__(self, words: Words, rounding: Rounding, *, frac: int, bound: float, home: Home, lineage: int) -> None:
        super().__init__(words, frac=frac, bound=bound, home=home, lineage=lineage)
        self.rounding = rounding

    def at(self, home: Home, blank: Callable[[tuple[int, ...]], Words]) -> Quotient:
        """See Secret."""
        rounding = Rounding(blank((self.size,)), self.rounding.r, self.rounding.drop)
        return Quotient(blank(self.shape), rounding, frac=self.frac, bound=self.bound, home=home, lineage=self.lineage)

    def _read(self, operation: str, frac: int, bound: float) -> Quotient:
        lineage = lineage_of(operation, self.lineage, fingerprint((frac, bound)))
        return Quotient(self.words, self.rounding, frac=frac, bound=bound, home=self.home, lineage=lineage)
