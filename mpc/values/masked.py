"""Masked values: a secret x of which x - a is public, for a mask a that has a name (paper: turbospeedz)."""

from __future__ import annotations

from operator import add, sub
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpc.errors import ProgramError
from mpc.naming import expressions
from mpc.naming.correlations import SHORT_NODES
from mpc.ring import Words, broadcast, frozen
from mpc.values.secret import Home, constant_lineage, fingerprint, fingerprint_of_integers, lineage_of, same_home
from mpc.values.shares import AShare, Fixed, check_broadcast, constant, integers

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.values.secret import Secret

_MAPS: dict[str, Callable[..., Expression]] = {
    "index": expressions.index,
    "reshape": expressions.reshape,
    "transpose": expressions.transpose,
    "sum": lambda name, axes: expressions.add_up(name, *axes),
    "scale": lambda name, factors: expressions.scale(name, *factors),
    "pairs": lambda name, _: expressions.pairs(name),
}


class View(NamedTuple):
    """What a masked value shows of another one: its words where `operation` is empty."""

    whole: Masked
    operation: str
    parameters: Any
    apply: Callable[[Any], Any]

    def name(self, of: Expression) -> Expression:
        """That of the same part of a mask of this name."""
        return _MAPS[self.operation](of, self.parameters) if self.operation else of


class Masked(Fixed):
    """A secret x whose difference d = x - a from the mask `a` is public; products with it need no further opening.

    `difference` is d; `mask` is this party's share of a; `name` says which mask it is.  Closed under public linear maps: slices,
    transposes, sums, integer multiples and sums of masked values refer to the mask that was opened once.
    """

    __slots__ = ("difference", "factors", "lifting", "mask", "name", "place", "view")
    is_masked = True
    level = 0
    """It is no group of factors."""
    owner: int | None = None
    place: tuple[int, ...] | None
    """The scope in which it can be masked anew, where an op of its own has masked it and it is small enough."""

    def __init__(self, difference: Words, mask: Words, name: Expression, *, frac: int, bound: float, home: Home, lineage: int) -> None:
        if difference.shape != name.shape or mask.shape != name.shape:
            msg = f"a masked value of shape {difference.shape} under a mask of shape {name.shape}"
            raise ProgramError(msg)
        super().__init__(name.shape, frac, bound, home, lineage)
        expressions.check_named(name)
        # Of a long name no relation between several would fit into a message.
        self.factors = int(name.nodes <= SHORT_NODES)
        self.difference = frozen(difference)
        self.mask = frozen(mask)
        self.name = name
        self.place = None
        self.view: View | None = None
        self.lifting: Any = None
        """That masking anew, once somebody has begun it."""
        if home.watch is not None:
            home.watch.makes(home.index, lineage, self._words(), frac, bound)

    @classmethod
    def of(cls, x: AShare, difference: Words, mask: Words, name: Expression) -> Masked:
        """`x` after x - a was opened."""
        return cls(difference, mask, name, frac=x.frac, bound=x.bound, home=x.home, lineage=masked_lineage(x, name))

    @property
    def is_liftable(self) -> bool:  # type: ignore[override]  # of a share it is said once
        """Whether it can be masked anew as numbers mod 2^128."""
        return self.view is not None or self.place is not None

    async def opened(self, _: Scope) -> tuple[Words, Words]:
        """Its difference and this party's share of its mask."""
        return self.difference, self.mask

    def at(self, home: Home, blank: Callable[[tuple[int, ...]], Words]) -> Masked:
        """See Secret."""
        if id(self) in home.twins:
            return home.twins[id(self)][1]
        parts = (blank(self.shape), blank(self.shape))
        masked = Masked(*parts, self.name, frac=self.frac, bound=self.bound, home=home, lineage=self.lineage)
        masked.place = self.place
        if self.view is not None:
            masked.view = self.view._replace(whole=self.view.whole.at(home, blank))
        if self.lifting is not None:
            masked.lifting = self.lifting.at(blank)
        home.twins[id(self)] = (self, masked)
        return masked

    def _make(self, difference: Words, mask: Words, name: Expression, bound: float, lineage: int) -> Masked:
        return Masked(difference, mask, name, frac=self.frac, bound=bound, home=self.home, lineage=lineage)

    def _linear(self, operation: str, parameters: Any, apply: Callable[[Any], Any], growth: float = 1.0) -> Masked:
        name = _MAPS[operation](self.name, parameters)
        lineage = lineage_of(operation, self.lineage, fingerprint_of_integers(parameters))
        masked = self._make(apply(self.difference), apply(self.mask), name, self.bound * growth, lineage)
        if operation in expressions.VIEWS and self.is_liftable:
            masked.view = self._same() if name is self.name else View(self, operation, parameters, apply)
        return masked

    def _same(self) -> View:
        """Of the same words: however often they are read anew, that is one view."""
        return View(self, "", (), lambda words: words) if self.view is None else self.view

    def _read(self, operation: str, frac: int, bound: float) -> Masked:
        lineage = lineage_of(operation, self.lineage, fingerprint((frac, bound)))
        masked = Masked(self.difference, self.mask, self.name, frac=frac, bound=bound, home=self.home, lineage=lineage)
        if self.is_liftable:
            masked.view = self._same()
        return masked

    def _index(self, key: Any) -> Any:
        try:
            return super()._index(key)
        except ValueError:
            msg = "a masked value is indexed by integers and slices only, so that its mask keeps a name; index the share before masking it"
            raise ProgramError(msg) from None

    def __add__(self, other: Masked | ArrayLike) -> Masked:
        return self._sum("add", add, other)

    __radd__ = __add__

    def __sub__(self, other: Masked | ArrayLike) -> Masked:
        return self._sum("sub", sub, other)

    def __rsub__(self, other: ArrayLike) -> Masked:
        return -self + other

    def _sum(self, operation: str, apply: Callable[[Any, Any], Any], other: Masked | ArrayLike) -> Masked:
        if isinstance(other, Masked):
            same_home(self, other)
            if other.frac != self.frac:
                msg = f"masked values with {self.frac} and {other.frac} fractional bits cannot be added"
                raise ProgramError(msg)
            difference, mask = apply(self.difference, other.difference), apply(self.mask, other.mask)
            name = expressions.combine(operation, self.name, other.name)
            return self._make(difference, mask, name, self.bound + other.bound, lineage_of(operation, self.lineage, other.lineage))
        if isinstance(other, Fixed):
            msg = "a masked value and a share: use x.share() to add them, or mask the share"
            raise ProgramError(msg)
        words, bound = constant(other, self.frac)
        check_broadcast(self.shape, words.shape)
        if broadcast(self.shape, words.shape) != self.shape:
            msg = f"a constant of shape {words.shape} would change the shape {self.shape} of this masked value"
            raise ProgramError(msg)
        # A constant moves the public difference; the mask, and so its name, stay.
        lineage = lineage_of(operation, self.lineage, constant_lineage(words))
        return self._make(apply(self.difference, words), self.mask, self.name, self.bound + bound, lineage)

    def __mul__(self, factor: ArrayLike | Secret) -> Masked:
        array = integers(factor)
        if array.ndim:
            msg = "a masked value is multiplied by one integer only, so that its mask keeps a name; use x.share()"
            raise ProgramError(msg)
        number = int(array)
        return self._linear("scale", (number,), lambda words: words * np.full((), number % (1 << 64), words.dtype), abs(number))

    __rmul__ = __mul__

    def share(self) -> AShare:
        """The same secret as an additive share: x = a + d, and d is added at party 0."""
        lineage = lineage_of("share", self.lineage)
        return AShare(self._words(), frac=self.frac, bound=self.bound, home=self.home, lineage=lineage)

    def _words(self) -> Words:
        return self.mask + self.difference if self.home.index == 0 else self.mask


def masked_lineage(x: AShare, name: Expression) -> int:
    """That of x, masked under this name."""
    return lineage_of("masked", x.lineage, fingerprint(name.key))
