"""Shares that remember how they came about, so that a product with a masked value takes fewer rounds (papers: dalskov20, patra21, turbospeedz).

A truncated product is a quotient z = C - (r >> m) + K·(msb r), where C and K are public and the dealer knows the mask r; a product of masked values is
z = (d1 + a1)·(d2 + a2)·..., where every d is public and the dealer knows every a.  Either is hidden already by masks that the dealer knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from mpc.ring import count
from mpc.values.secret import lineage_of, parameter_lineage
from mpc.values.shares import AShare

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.ring import Words
    from mpc.values.masked import Masked
    from mpc.values.secret import Blanks, Home
    from mpc.values.unmade import Held

    Factor: TypeAlias = "Masked | Pending"
    Opened: TypeAlias = tuple[Words, Words]

R = TypeVar("R")


class Done(NamedTuple, Generic[R]):
    """Work whose result is there."""

    outcome: R

    def __repr__(self) -> str:
        # Shares, mostly: what a product remembers is shown with it.
        return "Done(...)"

    async def result(self, _: Scope) -> R:
        """What it gave."""
        return self.outcome


class Opening(Protocol):
    """An opening that may be under way."""

    async def result(self, scope: Scope) -> Opened:
        """What is open, and this party's share of what is not; raises the fault that ended it."""


class Pending:
    """A factor whose opening may be under way: what a product masked that did not wait for it, or a group."""

    __slots__ = ("_opening", "_place", "_scope", "level", "lineage", "name")

    def __init__(self, name: Expression, lineage: int, scope: Scope, opening: Opening, place: tuple[Any, ...], level: int = 0) -> None:
        self.name = name
        self.lineage = lineage
        self._scope = scope
        self._opening = opening
        self._place = place
        """Its index in what is opened together."""
        self.level = level
        """Of a group, which is one factor in place of several, whose product is opened under a mask of its own: one more than theirs."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every factor."""
        return self.name.shape

    async def opened(self, scope: Scope) -> Opened:
        """See Masked; here whoever asks, in `scope`, may have to wait."""
        difference, mask = await self._opening.result(scope)
        scope.follow(self._scope)
        return difference[self._place], mask[self._place]

    def at(self, _: Home, blank: Blanks) -> Pending:
        """The same without contents."""
        opening = Done((blank(self.shape), blank(self.shape)))
        return Pending(self.name, self.lineage, self._scope, opening, (...,), self.level)


class Factors(NamedTuple):
    """Values of one shape, whose product this is."""

    values: tuple[Factor, ...]
    call: tuple[int, ...]
    """The path of the call that gave it."""

    def at(self, home: Home, blank: Blanks) -> Factors:
        """The same without contents."""
        return self._replace(values=tuple(value.at(home, blank) for value in self.values))


class Quotient(NamedTuple):
    """A value that lost `drop` bits: C - (r >> drop) + K·(msb r), where r = -mask, and C and K follow from the public c = value + 2^62 + r.

    `mpc.ops.quotients` has the formulas; of numbers mod 2^128, 2^126 stands in place of 2^62.
    """

    naming: Callable[[], Expression]
    """Gives its `name`: a mask that no relation needs is never named."""
    drop: int
    opening: Opening
    """Of c, flat; and this party's share of the quotient."""

    @property
    def name(self) -> Expression:
        """That of its mask."""
        return self.naming()

    def at(self, blank: Blanks) -> Quotient:
        """The same without contents."""
        shape = self.name.shape
        return self._replace(opening=Done((blank((count(shape),)), blank(shape))))


class Truncation(NamedTuple):
    """A quotient; and if it may be opened together with the next product, the earlier quotient and the masked values whose product it is."""

    quotient: Quotient
    base: Quotient | None = None
    factors: tuple[Masked, ...] = ()
    liftable: bool = False
    """Whether all of these can be masked anew as numbers mod 2^128."""
    is_wide: bool = False
    """Whether it is opened as such a number, if it is opened."""

    def at(self, home: Home, blank: Blanks) -> Truncation:
        """The same without contents."""
        base = self.base.at(blank) if self.base is not None else None
        return self._replace(quotient=self.quotient.at(blank), base=base, factors=tuple(value.at(home, blank) for value in self.factors))


class Derived(AShare):
    """An additive share, with the `origin` of its value."""

    __slots__ = ("dropped", "factor_count", "is_quotient", "origin", "since")

    def __init__(self, words: Held, origin: Truncation | Factors, *, frac: int, bound: float, home: Home, lineage: int) -> None:
        super().__init__(words, frac=frac, bound=bound, home=home, lineage=lineage)
        self.origin = origin
        self.is_quotient = isinstance(origin, Truncation)
        self.factor_count = len(origin.values) if isinstance(origin, Factors) else 0
        self.since, self.dropped = (len(origin.factors), origin.quotient.drop) if isinstance(origin, Truncation) else (0, 0)

    @property
    def groups(self) -> list[int]:  # type: ignore[override]  # of other shares it is said once
        """The levels of its factors that are groups."""
        return [value.level for value in self.origin.values if value.level] if isinstance(self.origin, Factors) else []

    @property
    def is_liftable(self) -> bool:  # type: ignore[override]  # of other shares it is said once
        """See Truncation."""
        return isinstance(self.origin, Truncation) and self.origin.liftable

    def at(self, home: Home, blank: Blanks) -> Derived:
        """See Secret."""
        origin = self.origin.at(home, blank)
        return Derived(blank(self.shape), origin, frac=self.frac, bound=self.bound, home=home, lineage=self.lineage)

    def _read(self, operation: str, frac: int, bound: float) -> Derived:
        lineage = lineage_of(operation, self.lineage, parameter_lineage((frac, bound)))
        return Derived(self._words, self.origin, frac=frac, bound=bound, home=self.home, lineage=lineage)
