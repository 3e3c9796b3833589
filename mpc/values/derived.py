"""Shares that remember their origin, so that a product with a masked value takes fewer rounds (papers: dalskov20, patra21, turbospeedz).

A truncated product is a quotient z = C - (r >> m) + K·(msb r), where C and K are public and the dealer knows the mask r; a product of
masked values is z = (d1 + a1)·(d2 + a2)·..., where every d is public and the dealer knows every a. Masks that the dealer knows hide either
already.
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
    """Work that is done."""

    outcome: R

    def __repr__(self) -> str:
        # The outcome holds shares, and a product's repr includes what it remembers.
        return "Done(...)"

    async def result(self, _: Scope) -> R:
        """The outcome of the work."""
        return self.outcome


class Opening(Protocol):
    """An opening that may be pending."""

    async def result(self, scope: Scope) -> Opened:
        """The opened words, and this party's share of their masks; raises the fault that ended the opening."""


class Pending:
    """A factor whose opening may be pending: one masked by a product that did not wait for it, or a group."""

    __slots__ = ("_opening", "_place", "_scope", "level", "lineage", "name")

    def __init__(self, name: Expression, lineage: int, scope: Scope, opening: Opening, place: tuple[Any, ...], level: int = 0) -> None:
        self.name = name
        self.lineage = lineage
        self._scope = scope
        self._opening = opening
        self._place = place
        """The factor's index in what is opened together."""
        self.level = level
        """0 for a single factor. A group, which replaces several factors and whose product is opened under its own mask, is one above
        its factors.
        """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every factor."""
        return self.name.shape

    async def opened(self, scope: Scope) -> Opened:
        """See Masked; here a caller in `scope` may have to wait."""
        difference, mask = await self._opening.result(scope)
        scope.follow(self._scope)
        return difference[self._place], mask[self._place]

    def at(self, _: Home, blank: Blanks) -> Pending:
        """This factor without contents."""
        opening = Done((blank(self.shape), blank(self.shape)))
        return Pending(self.name, self.lineage, self._scope, opening, (...,), self.level)


class Factors(NamedTuple):
    """The values of one shape whose product this is."""

    values: tuple[Factor, ...]
    call: tuple[int, ...]
    """The path of the call that made the product."""

    def at(self, home: Home, blank: Blanks) -> Factors:
        """These factors without contents."""
        return self._replace(values=tuple(value.at(home, blank) for value in self.values))


class Quotient(NamedTuple):
    """A value that lost `drop` bits: C - (r >> drop) + K·(msb r), where r = -mask, and C and K follow from the public c = value + 2^62 + r.

    `mpc.ops.quotients` has the formulas; for numbers mod 2^128, 2^126 takes the place of 2^62.
    """

    naming: Callable[[], Expression]
    """Returns its `name`: a mask that no relation needs is never named."""
    drop: int
    opening: Opening
    """The opening of c, flat, with this party's share of the quotient."""

    @property
    def name(self) -> Expression:
        """The name of its mask."""
        return self.naming()

    def at(self, blank: Blanks) -> Quotient:
        """This quotient without contents."""
        shape = self.name.shape
        return self._replace(opening=Done((blank((count(shape),)), blank(shape))))


class Truncation(NamedTuple):
    """A quotient. If it may be opened together with the next product, also the earlier quotient and the masked values whose product it
    is.
    """

    quotient: Quotient
    base: Quotient | None = None
    factors: tuple[Masked, ...] = ()
    liftable: bool = False
    """Whether all of these can be masked again as numbers mod 2^128."""
    is_wide: bool = False
    """Whether it is opened as a number mod 2^128, if it is opened."""

    def at(self, home: Home, blank: Blanks) -> Truncation:
        """This truncation without contents."""
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
    def groups(self) -> list[int]:  # type: ignore[override]  # a class attribute in other shares
        """The levels of those factors that are groups."""
        return [value.level for value in self.origin.values if value.level] if isinstance(self.origin, Factors) else []

    @property
    def is_liftable(self) -> bool:  # type: ignore[override]  # a class attribute in other shares
        """See Truncation."""
        return isinstance(self.origin, Truncation) and self.origin.liftable

    def at(self, home: Home, blank: Blanks) -> Derived:
        """See Secret."""
        origin = self.origin.at(home, blank)
        return Derived(blank(self.shape), origin, frac=self.frac, bound=self.bound, home=home, lineage=self.lineage)

    def _read(self, operation: str, frac: int, bound: float) -> Derived:
        lineage = lineage_of(operation, self.lineage, parameter_lineage((frac, bound)))
        return Derived(self._words, self.origin, frac=frac, bound=bound, home=self.home, lineage=lineage)
