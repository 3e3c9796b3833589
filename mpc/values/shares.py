"""Secret numbers, and the local linear algebra on additive shares that needs no network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from operator import add, sub
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from mpc.errors import PrecisionError, ProgramError
from mpc.fixed_point import as_bound, as_float, as_numbers, check_fits, encode, fractional_bits, headroom, largest_of, rounded_bound, shown
from mpc.naming.expressions import pair_differences
from mpc.ring import WORD, Words, broadcast, fixed_zeros, frozen, taken
from mpc.values.indexes import basic_index, index_data
from mpc.values.secret import Home, Secret, constant_lineage, lineage_of, new_shape, parameter_lineage, same_home
from mpc.values.unmade import Unmade, applied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def _needs(what: str, call: str) -> Callable[..., NoReturn]:
    def method(*_: object) -> NoReturn:
        msg = f"{what} of secrets needs the network: await {call}"
        raise ProgramError(msg)

    return method


class Fixed(Secret):
    """A secret number in fixed point: `frac` fractional bits and a public `bound`; linear maps are local.

    `+`, `-`, `*` (by public integers), indexing, `reshape`, `transpose`, `sum` and `T` need no network; `bound` propagates.
    """

    __slots__ = ("bound", "frac")
    is_masked = False
    is_quotient = False
    is_liftable = False
    factor_count = since = dropped = 0
    groups: Sequence[int] = ()

    def __init__(self, shape: tuple[int, ...], frac: int, bound: float, home: Home, lineage: int) -> None:
        check_fits(bound, frac, "this value")
        super().__init__(shape, home, lineage)
        self.frac = frac
        # Of numpy's whole numbers a product would wrap around.
        self.bound = float(bound)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, frac={self.frac}, bound={self.bound:.4g}, party={self.home.index})"

    def _linear(self, operation: str, parameters: Any, apply: Callable[[Any], Any], bound: float | None = None) -> Self:
        """`apply` to whatever holds the secret, whose bound stays if none is given.  `parameters` are public data that say what `apply` does."""
        raise NotImplementedError

    def _read(self, operation: str, frac: int, bound: float) -> Self:
        """The same words with another scale or bound."""
        raise NotImplementedError

    def __getitem__(self, key: Any) -> Self:
        return self._linear("index", self._index(key), lambda array: taken(array, key))

    def _index(self, key: Any) -> Any:
        return basic_index(key, self.shape)

    def reshape(self, *shape: int | tuple[int, ...]) -> Self:
        """The same elements in another shape."""
        target = new_shape(self.shape, *shape)
        return self if target == self.shape else self._linear("reshape", target, lambda array: array.reshape(target))

    def transpose(self, *axes: int | tuple[int, ...]) -> Self:
        """The axes in another order, reversed by default."""
        listed = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple) else axes
        order = tuple([self.axis(axis) for axis in listed]) if axes else tuple(reversed(range(self.ndim)))
        if sorted(order) != list(range(self.ndim)):
            msg = f"{listed} names not every axis of shape {self.shape} once"
            raise ProgramError(msg)
        return self._linear("transpose", order, lambda array: array.transpose(order))

    @property
    def T(self) -> Self:  # noqa: N802  numpy's name
        """The transpose."""
        return self.transpose()

    def sum(self, axis: int | None = None, bound: float | None = None) -> Self:
        """Sum over one axis or over all elements; the bound grows by their number, or is the `bound` that mathematics guarantees for the result."""
        if axis is None:
            return self.reshape(self.size).sum(0, bound)
        axis = self.axis(axis)
        reach = self.bound * max(self.shape[axis], 1) if bound is None else _stated(bound)
        total = self._linear("sum", (axis,), lambda array: array.sum(axis=axis, dtype=array.dtype), reach)
        return total if bound is None else total.assume_bound(bound, "the caller of sum says so")

    def axis(self, axis: Any) -> int:
        """The number, from 0 on, of an axis that may be counted from the last back; ProgramError if there is none."""
        if isinstance(axis, Secret):
            msg = f"an axis is a number, not {type(axis).__name__}; of two shares, the larger elements are select(s, await less_than(s, x, y), y, x)"
            raise ProgramError(msg)
        try:
            number: int = range(self.ndim)[axis.__index__()]
        except (AttributeError, IndexError):
            msg = f"there is no axis {axis!r} in shape {self.shape}"
            raise ProgramError(msg) from None
        return number

    def pairs(self) -> Self:
        """x_i - x_j for all i < j along the last axis, in the order of numpy.triu_indices: (..., k) -> (..., k(k - 1)/2)."""
        if not self.ndim:
            msg = "a 0-d secret has no pairs"
            raise ProgramError(msg)
        return self._linear("pairs", (), pair_differences, 2.0 * self.bound)

    if not TYPE_CHECKING:
        # See Secret.
        __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _needs(
            "a quotient", "mpc.scale(s, x, 1 / divisor, drop) by what is public"
        )
        __matmul__ = __rmatmul__ = _needs(
            "a matrix product",
            "mpc.matmul(s, x, y); that of a share and public integers w is (x * w).sum(axis=-1) for a vector, (x[..., None] * w).sum(axis=-2) for a matrix",
        )
        __pow__ = __rpow__ = _needs("a power", "mpc.square(s, x), or mpc.mul(s, x, y) several times")
        __abs__ = _needs("the absolute value", "protocols.absolute(s, x)")

    def __neg__(self) -> Self:
        return self._linear("scale", (-1,), lambda array: -array)

    def assume_bound(self, bound: float, reason: str) -> Self:
        """The same value with the public `bound` that mathematics guarantees; `reason` says why.

        Nothing checks it in production: `simulate(check_bounds=True)` verifies it on the plaintext.
        """
        return self._read("assume", self.frac, _stated(bound, reason))

    def ldexp(self, exponent: int) -> Self:
        """The value times 2^exponent, exactly and at no cost: the same words read with `frac - exponent` fractional bits."""
        exponent = fractional_bits(exponent, "exponent")
        return self._read("ldexp", fractional_bits(self.frac - exponent), self.bound * 2.0**exponent)


def _stated(bound: float, reason: str = "of a sum") -> float:
    """A bound that the ring cannot see."""
    # Written alike at all parties, whatever type it has.
    number, given = as_float(bound), isinstance(reason, str) and reason.strip()
    if not given or not 0 <= number < math.inf:
        msg = f"a stated bound is a finite number, 0 or more, not {shown(bound)}; and assume_bound needs the reason why it holds"
        raise ProgramError(msg)
    return number


class AShare(Fixed):
    """An additive share: the n parties' words sum to the value mod 2^64.

    `owner` is the party that alone holds non-zero words: its private inputs, and what is local of these and public constants; None otherwise.
    """

    __slots__ = ("_words", "owner")

    def __init__(self, words: Held, *, frac: int, bound: float, home: Home, lineage: int, owner: int | None = None) -> None:
        self._words = frozen(words)
        super().__init__(words.shape, frac, bound, home, lineage)
        self.owner = owner
        if home.watch is not None and not (isinstance(words, Unmade) and words.words is None):
            home.watch.makes(home.index, lineage, self.words, frac, bound)

    @property
    def held(self) -> Held:
        """Its words, or what stands for them until somebody reads them."""
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
        # Its elements are taken later, when the caller may have changed the array that said which.
        kept = deepcopy(key)
        return self._linear("index", data, lambda array: taken(array, kept))

    def _index(self, key: Any) -> Any:
        """Also by public arrays, which only a share allows."""
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
                msg = f"shares with {self.frac} and {other.frac} fractional bits cannot be added; {_alike(self.frac, other.frac)}"
                raise ProgramError(msg)
            check_broadcast(self.shape, other.shape)
            bound, lineage = other.bound, other.lineage
            total, owner = applied(apply, self._words, other.held), self.owner if self.owner == other.owner else None
        return self._make(total, lineage_of(operation, self.lineage, lineage), self.bound + bound, owner)

    def add_own(self, mine: Encoded, bound: float | None = None) -> AShare:
        """Add this party's own value.  On a zero sharing the result is the sum of all parties' own values.

        `bound` is what mathematics guarantees for the result, where that is less than this value and n addends at their limits would be.
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
        """The value times public integers, where mathematics guarantees `bound` for the product.  Local."""
        factors = integers(factor)
        check_broadcast(self.shape, factors.shape)
        words = factors.view(WORD)
        product, bound = applied(lambda own: own * words, self._words), as_bound(bound)
        return self._make(product, lineage_of("scale", self.lineage, constant_lineage(words), parameter_lineage(bound)), bound, self.owner)

    __rmul__ = __mul__


def _alike(one: int, other: int) -> str:
    """How to give two shares the same number of fractional bits."""
    apart = abs(one - other)
    product = f"; await mpc.mul_trunc(s, x, y, {apart}) is a product with as many as its factors" if apart == min(one, other) else ""
    return f"truncate one, or give the other {apart} more: (x * 2**{apart}).ldexp(-{apart}){product}"


def check_broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """ProgramError where numpy would not add arrays of these shapes."""
    try:
        broadcast(left, right)
    except ValueError:
        msg = f"shapes {left} and {right} do not broadcast"
        raise ProgramError(msg) from None


def constant(value: ArrayLike, frac: int) -> tuple[Words, float]:
    """A public constant as ring words, and the least bound of it; PrecisionError for what is no number, NaN and infinity.

    ProgramError for a fraction beside whole numbers: a bit less 0.5 would be that bit.
    """
    array = as_numbers(value)
    bound = largest_of(array)
    if frac <= 0 and array.dtype.kind == "f" and math.isfinite(bound) and (np.rint(array) != array).any():
        msg = "this share holds whole numbers: give it whole numbers too, rounded the way you mean"
        raise ProgramError(msg)
    bound = rounded_bound(bound, frac)
    # `encode` says where a number is that is none.
    return encode(array, frac=frac, bound=bound if math.isfinite(bound) else headroom(frac)), bound


def integers(factor: ArrayLike | Secret) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A public factor of a local product; ProgramError, with the right call, for a secret or a real."""
    if isinstance(factor, Secret):
        call = "mul(s, x, y)" if isinstance(factor, Fixed) else "select(s, bits, x)"
        msg = f"a product of two secrets needs the network: await {call}"
        raise ProgramError(msg)
    array = as_numbers(factor)
    if array.dtype.kind not in "iub":
        msg = "only integers multiply a share locally; for reals await mpc.scale(s, x, factor)"
        raise ProgramError(msg)
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 1 << 63:
        msg = "a factor of 2^63 or more wraps around in a word of 64 bits; use a smaller one"
        raise PrecisionError(msg)
    return array.astype(np.int64)


def concatenate(shares: Iterable[AShare], axis: int = 0) -> AShare:
    """Shares of one scale joined along `axis`, as numpy does.  Local."""
    first, *more = parts = _joinable(shares)
    number = first.axis(axis)
    around = first.shape[:number], first.shape[number + 1 :]
    for share in more:
        same_home(first, share)
        if share.frac != first.frac:
            msg = f"shares with {first.frac} and {share.frac} fractional bits cannot be joined; {_alike(first.frac, share.frac)}"
            raise ProgramError(msg)
        if share.ndim != first.ndim or (share.shape[:number], share.shape[number + 1 :]) != around:
            msg = f"shapes {first.shape} and {share.shape} do not join along axis {number}"
            raise ProgramError(msg)
    owner = first.owner if all(share.owner == first.owner for share in more) else None
    joined = applied(lambda *arrays: np.concatenate(arrays, axis=number), *(share.held for share in parts))
    lineage = lineage_of("concatenate", number, *(share.lineage for share in parts))
    return AShare(joined, frac=first.frac, bound=max(share.bound for share in parts), home=first.home, lineage=lineage, owner=owner)


def stack(shares: Iterable[AShare], axis: int = 0) -> AShare:
    """Shares of one shape and scale along a new axis, as numpy does.  Local."""
    first, *more = parts = _joinable(shares)
    for share in more:
        if share.shape != first.shape:
            msg = f"shapes {first.shape} and {share.shape} do not stack: all must be the same"
            raise ProgramError(msg)
    place = first.reshape(*first.shape, 1).axis(axis)
    return concatenate([share.reshape(*share.shape[:place], 1, *share.shape[place:]) for share in parts], place)


def _joinable(shares: object) -> list[AShare]:
    """One share or more; ProgramError for anything else."""
    if isinstance(shares, Secret) or not isinstance(shares, Iterable):
        msg = f"what is joined comes as a list of AShares, not as one {type(shares).__name__}"
        raise ProgramError(msg)
    parts = []
    for share in shares:
        if not isinstance(share, AShare):
            msg = f"only AShares are joined, not {type(share).__name__}; x.share() of a Masked is one"
            raise ProgramError(msg)
        parts.append(share)
    if not parts:
        msg = "there are no shares to join: a share of no elements is s.zero(0)"
        raise ProgramError(msg)
    return parts
