"""Additive shares, and the linear algebra on them that needs no network."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from operator import add, sub
from typing import TYPE_CHECKING, Any

from mpc.errors import ProgramError
from mpc.fixed_point import as_bound, largest_of
from mpc.ring import WORD, Words, fixed_zeros, frozen, taken
from mpc.values.fixed import Fixed, check_broadcast, constant, integers
from mpc.values.indexes import index_data
from mpc.values.secret import Home, Secret, constant_lineage, lineage_of, parameter_lineage, same_home
from mpc.values.unmade import Unmade, applied

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from mpc.values.secret import Blanks
    from mpc.values.unmade import Held


@dataclass(frozen=True, slots=True, repr=False)
class Encoded:
    """This party's own value as ring words; not yet shared."""

    words: Words
    frac: int
    bound: float

    def __repr__(self) -> str:
        return f"Encoded(shape={self.words.shape}, frac={self.frac})"


class AShare(Fixed):
    """An additive share: the n parties' words sum to the value mod 2^64.

    `owner` is the only party with non-zero words: for its private inputs, and local results of these and public constants; None otherwise.
    """

    __slots__ = ("_words", "owner")
    is_share = True

    def __init__(self, words: Held, *, frac: int, bound: float, home: Home, lineage: int, owner: int | None = None) -> None:
        self._words = frozen(words)
        super().__init__(words.shape, frac, bound, home, lineage)
        self.owner = owner
        if home.watch is not None and not (isinstance(words, Unmade) and words.words is None):
            home.watch.makes(home.index, lineage, self.words, frac, bound)

    @property
    def held(self) -> Held:
        """The words, or their placeholder until somebody reads them."""
        return self._words

    @property
    def words(self) -> Words:
        """This party's share, uniform by itself; ProgramError if it is a product that nobody has read (`Session.made`)."""
        return self._words.there() if isinstance(self._words, Unmade) else self._words

    def at(self, home: Home, blank: Blanks) -> AShare:
        """See Secret."""
        return AShare(blank(self.shape), frac=self.frac, bound=self.bound, home=home, lineage=self.lineage, owner=self.owner)

    def _make(self, words: Held, lineage: int, bound: float, owner: int | None) -> AShare:
        return AShare(words, frac=self.frac, bound=bound, home=self.home, lineage=lineage, owner=owner)

    def _linear(self, operation: str, parameters: Any, apply: Callable[[Any], Any], bound: float | None = None) -> AShare:
        lineage = lineage_of(operation, self.lineage, parameter_lineage(parameters))
        return self._make(applied(apply, self._words), lineage, self.bound if bound is None else bound, self.owner)

    def _read(self, operation: str, frac: int, bound: float) -> AShare:
        lineage = lineage_of(operation, self.lineage, parameter_lineage((frac, bound)))
        return AShare(self._words, frac=frac, bound=bound, home=self.home, lineage=lineage, owner=self.owner)

    def __getitem__(self, key: Any) -> AShare:
        if not isinstance(self._words, Unmade):
            return super().__getitem__(key)
        data = self._index(key)
        # The elements are taken later, when the caller may have changed the index array.
        kept = deepcopy(key)
        return self._linear("index", data, lambda array: taken(array, kept))

    def _index(self, key: Any) -> Any:
        """The index as data; unlike other secrets, shares also accept public arrays."""
        return index_data(key, self.shape)

    def _constant(self, value: ArrayLike) -> tuple[Words, float, int]:
        words, bound = constant(value, self.frac)
        # Added at one party only, so that the shares still sum to x + constant; at the owner of a private input, which stays private.
        mine = self.home.index == (self.owner or 0)
        return (words if mine else fixed_zeros(words.shape)), bound, constant_lineage(words)

    def _sum(self, operation: str, apply: Callable[[Any, Any], Any], other: Secret | ArrayLike) -> AShare:
        if isinstance(other, Secret) and not isinstance(other, AShare):
            instead = "x.share() of it can" if isinstance(other, Fixed) else "await mpc.b2a(s, bits) makes numbers of bits"
            msg = f"{type(other).__name__} cannot be added to an AShare; {instead}"
            raise ProgramError(msg)
        if not isinstance(other, AShare):
            words, bound, lineage = self._constant(other)
            check_broadcast(self.shape, words.shape)
            total, owner = applied(lambda own: apply(own, words), self._words), self.owner
        else:
            same_home(self, other)
            if other.frac != self.frac:
                msg = f"shares with {self.frac} and {other.frac} fractional bits cannot be added; {rescaling(self.frac, other.frac)}"
                raise ProgramError(msg)
            check_broadcast(self.shape, other.shape)
            bound, lineage = other.bound, other.lineage
            total, owner = applied(apply, self._words, other.held), self.owner if self.owner == other.owner else None
        return self._make(total, lineage_of(operation, self.lineage, lineage), self.bound + bound, owner)

    def cumsum(self, axis: int | None = None) -> AShare:
        """The cumulative sums along one axis, or of all elements in a row; the bound grows as for `sum`. Local."""
        if axis is None:
            return self.ravel().cumsum(0)
        number = self.axis(axis)
        reach = self.bound * max(self.shape[number], 1)
        return self._linear("cumsum", (number,), lambda array: array.cumsum(axis=number, dtype=array.dtype), reach)

    def add_own(self, mine: Encoded, bound: float | None = None) -> AShare:
        """Add this party's own value. On a zero sharing the result is the sum of all parties' own values.

        `bound` is what mathematics guarantees for the result, if that is less than this value and n addends at their limits would be.
        """
        given: object = mine
        if not isinstance(given, Encoded):
            msg = f"add_own takes Encoded here, not {type(given).__name__}; s.encode(values) gives one"
            raise ProgramError(msg)
        if mine.frac != self.frac:
            msg = f"the value has {mine.frac} fractional bits, the share {self.frac}"
            raise ProgramError(msg)
        if mine.words.shape != self.shape:
            msg = f"the value has shape {mine.words.shape}, the share {self.shape}"
            raise ProgramError(msg)
        reach = self.bound + self.home.n * mine.bound if bound is None else as_bound(bound)
        total = applied(lambda own: own + mine.words, self._words)
        return self._make(total, lineage_of("add_own", self.lineage, parameter_lineage(reach)), reach, None)

    def __add__(self, other: AShare | ArrayLike) -> AShare:
        return self._sum("add", add, other)

    __radd__ = __add__

    def __sub__(self, other: AShare | ArrayLike) -> AShare:
        return self._sum("sub", sub, other)

    def __rsub__(self, other: ArrayLike) -> AShare:
        return -self + other

    def __mul__(self, factor: ArrayLike | Secret) -> AShare:
        factors = integers(factor)
        return self.times(factors, self.bound * largest_of(factors))

    def times(self, factor: ArrayLike, bound: float) -> AShare:
        """The value times public integers, where mathematics guarantees `bound` for the product. Local."""
        factors = integers(factor)
        check_broadcast(self.shape, factors.shape)
        words = factors.view(WORD)
        product, bound = applied(lambda own: own * words, self._words), as_bound(bound)
        return self._make(product, lineage_of("scale", self.lineage, constant_lineage(words), parameter_lineage(bound)), bound, self.owner)

    __rmul__ = __mul__


def rescaling(one: int, other: int) -> str:
    """How to give two shares the same number of fractional bits."""
    apart = abs(one - other)
    product = f"; await mpc.mul_trunc(s, x, y, {apart}) is a product with as many as its factors" if apart == min(one, other) else ""
    return f"truncate one, or give the other {apart} more: (x * 2**{apart}).ldexp(-{apart}){product}"
