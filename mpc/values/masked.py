"""Masked values: secrets x for which x - a is public, for a mask a that has a name (paper: turbospeedz)."""

from __future__ import annotations

from operator import add, sub
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpc.errors import ProgramError
from mpc.naming import expressions
from mpc.naming.correlations import SHORT, SHORT_NODES
from mpc.ring import Words, broadcast, frozen
from mpc.values.fixed import Fixed, check_broadcast, constant, integers
from mpc.values.secret import Home, constant_lineage, integers_lineage, lineage_of, parameter_lineage, same_home
from mpc.values.shares import AShare
from mpc.values.unmade import Unmade, applied, combined, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.values.secret import Blanks, Secret
    from mpc.values.unmade import Held

_MAPS: dict[str, Callable[..., Expression]] = {
    "index": expressions.index,
    "reshape": expressions.reshape,
    "transpose": expressions.transpose,
    "sum": lambda name, axes: expressions.add_up(name, *axes),
    "scale": lambda name, factors: expressions.scale(name, *factors),
    "pairs": lambda name, _: expressions.pairs(name),
}


class View(NamedTuple):
    """A part of another masked value; the same words if `operation` is empty."""

    whole: Masked
    operation: str
    parameters: Any
    apply: Callable[[Any], Any]

    def name(self, of: Expression) -> Expression:
        """The name of the same part of the mask `of`."""
        return _MAPS[self.operation](of, self.parameters) if self.operation else of


class Masked(Fixed):
    """A secret x whose difference d = x - a from the mask `a` is public; products with it need no further opening.

    `difference` is d, once it is open; `mask` is this party's share of a; `name` identifies the mask. Public linear maps give masked values
    again: slices, transposes, sums, integer multiples and sums of masked values refer to the mask that was opened once.
    """

    __slots__ = ("_held", "factor_count", "lifting", "mask", "name", "place", "view")
    is_masked = True
    how_to_share = "x.share() of it is one"
    level = 0
    """A masked value is no group of factors."""
    owner: int | None = None
    place: tuple[int, ...] | None
    """The scope in which the value can be masked again, if an op of its own has masked it and it is small enough."""

    def __init__(
        self, difference: Held | View, mask: Words, name: Expression, *, frac: int, bound: float, home: Home, lineage: int
    ) -> None:
        if mask.shape != name.shape or not (isinstance(difference, View) or difference.shape == name.shape):
            msg = f"a masked value of shape {mask.shape} under a mask of shape {name.shape}"
            raise ProgramError(msg)
        super().__init__(name.shape, frac, bound, home, lineage)
        expressions.check_named(name)
        # With a long name, no relation between several masked values would fit into a message.
        self.factor_count = int(name.nodes <= SHORT_NODES and name.length <= SHORT)
        self._held: Held | View = difference if isinstance(difference, View) else frozen(difference)
        self.view = difference if isinstance(difference, View) else None
        """The part of another masked value that this is, if known."""
        self.mask = frozen(mask)
        self.name = name
        self.place = None
        self.lifting: Any = None
        """Masking it again, once somebody has begun that."""
        # Only here: every other run takes a view when it is read.
        if home.watch is not None and not (isinstance(self.held, Unmade) and self.held.words is None):
            home.watch.makes(home.index, lineage, self._words(self.difference), frac, bound)

    @classmethod
    def of(cls, x: AShare, difference: Held, mask: Words, name: Expression) -> Masked:
        """`x`, for which x - a is open or will be."""
        return cls(difference, mask, name, frac=x.frac, bound=x.bound, home=x.home, lineage=masked_lineage(x, name))

    @property
    def is_liftable(self) -> bool:  # type: ignore[override]  # a class attribute in shares
        """Whether it can be masked again as numbers mod 2^128."""
        return self.view is not None or self.place is not None

    @property
    def held(self) -> Held:
        """The difference, or its placeholder until it is open."""
        if isinstance(self._held, View):
            # Taken on first use, which is seldom before the whole is open. No deeper than a name is.
            self._held = frozen(combined(self._held.apply, self._held.whole.held, shape=self.shape))
        return self._held

    @property
    def difference(self) -> Words:
        """The public difference; ProgramError if it is not open yet (`Session.made`)."""
        return self.held.there() if isinstance(self.held, Unmade) else self.held

    async def opened(self, scope: Scope) -> tuple[Words, Words]:
        """The difference, for which a caller in `scope` may have to wait, and this party's share of its mask."""
        held = self._held
        if isinstance(held, View):
            # Nothing is stored for a view that is read once, as the many factors of a product are.
            whole, _ = await held.whole.opened(scope)
            return held.apply(whole), self.mask
        if isinstance(held, Unmade):
            if held.words is None:
                await make(scope, [held])
            scope.follow(held)
            held = held.there()
        return held, self.mask

    def at(self, home: Home, blank: Blanks) -> Masked:
        """See Secret."""
        if id(self) in home.twins:
            return home.twins[id(self)][1]
        difference = blank(self.shape) if self.view is None else self.view._replace(whole=self.view.whole.at(home, blank))
        masked = Masked(difference, blank(self.shape), self.name, frac=self.frac, bound=self.bound, home=home, lineage=self.lineage)
        masked.place = self.place
        if self.lifting is not None:
            masked.lifting = self.lifting.at(blank)
        home.twins[id(self)] = (self, masked)
        return masked

    def _make(self, difference: Held | View, mask: Words, name: Expression, bound: float, lineage: int) -> Masked:
        return Masked(difference, mask, name, frac=self.frac, bound=bound, home=self.home, lineage=lineage)

    def _linear(self, operation: str, parameters: Any, apply: Callable[[Any], Any], bound: float | None = None) -> Masked:
        name = _MAPS[operation](self.name, parameters)
        lineage = lineage_of(operation, self.lineage, integers_lineage(parameters))
        difference: Held | View
        if operation in expressions.VIEWS and self.is_liftable:
            difference = self._same() if name is self.name else View(self, operation, parameters, apply)
        else:
            difference = combined(apply, self.held, shape=name.shape)
        return self._make(difference, apply(self.mask), name, self.bound if bound is None else bound, lineage)

    def _same(self) -> View:
        """A view of the same words: however often they are read with another scale, it stays one view."""
        return View(self, "", (), lambda words: words) if self.view is None else self.view

    def _read(self, operation: str, frac: int, bound: float) -> Masked:
        lineage = lineage_of(operation, self.lineage, parameter_lineage((frac, bound)))
        difference = self._same() if self.is_liftable else self.held
        return Masked(difference, self.mask, self.name, frac=frac, bound=bound, home=self.home, lineage=lineage)

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
            check_broadcast(self.shape, other.shape)
            name = expressions.combine(operation, self.name, other.name)
            difference, mask = combined(apply, self.held, other.held, shape=name.shape), apply(self.mask, other.mask)
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
        difference = combined(lambda own: apply(own, words), self.held, shape=self.shape)
        return self._make(difference, self.mask, self.name, self.bound + bound, lineage)

    def __mul__(self, factor: ArrayLike | Secret) -> Masked:
        array = integers(factor)
        if array.ndim:
            msg = "a masked value is multiplied by one integer only, so that its mask keeps a name; use x.share()"
            raise ProgramError(msg)
        number = int(array)
        bound = self.bound * abs(number)
        return self._linear("scale", (number,), lambda words: words * np.full((), number % (1 << 64), words.dtype), bound)

    __rmul__ = __mul__

    def share(self) -> AShare:
        """The same secret as an additive share: x = a + d, and d is added at party 0."""
        lineage = lineage_of("share", self.lineage)
        return AShare(applied(self._words, self.held), frac=self.frac, bound=self.bound, home=self.home, lineage=lineage)

    def _words(self, difference: Words) -> Words:
        return self.mask + difference if self.home.index == 0 else self.mask


def masked_lineage(x: AShare, name: Expression) -> int:
    """The lineage of x masked under this name."""
    return lineage_of("masked", x.lineage, parameter_lineage(name.key))
