"""Additive shares and masked values, with the local linear algebra that needs no network.

A share has no readable contents: what would leak or silently mislead (`bool`, `==`, `float`, iteration, pickling) raises
ProgramError and names the right call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mpc.errors import ProgramError
from mpc.fixed_point import check_fits, encode
from mpc.ring import Words, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from mpc.correlations import MaskName

_MERSENNE = (1 << 127) - 1


@dataclass(frozen=True, slots=True)
class Home:
    """Where a share lives: this party's index among the n parties of one session."""

    index: int
    n: int
    session: bytes


def lineage_of(operation: str, *parents: int) -> int:
    """How a value came to be, as a 127-bit fingerprint: equal at all parties exactly if they computed the same thing.

    A polynomial hash: it finds honest programs that differ, and is no defence against a forger (see the threat model).
    """
    value = int.from_bytes(operation.encode()[:15], "little")
    for parent in parents:
        value = (value * 0x1F123BB5_9E3779B9_7F4A7C15 + parent + 1) % _MERSENNE
    return value


def _constant(words: Words) -> int:
    """The lineage of a public constant, at the speed of a sum: unequal constants at two parties are found before a reveal."""
    return lineage_of("constant", int(np.sum(words, dtype=words.dtype)), *words.shape)


@dataclass(frozen=True, slots=True, repr=False)
class Encoded:
    """This party's own value as ring words; not yet shared."""

    words: Words
    frac: int
    bound: float

    def __repr__(self) -> str:
        return f"Encoded(shape={self.words.shape}, frac={self.frac})"


def _refuse(what: str, instead: str) -> Callable[..., NoReturn]:
    def method(self: object, *_: object) -> NoReturn:
        msg = f"{what} of a {type(self).__name__} would need its secret contents; {instead}"
        raise ProgramError(msg)

    return method


class Secret:
    """What AShare and Masked have in common: a shape, a scale, a public bound, and no readable contents."""

    __slots__ = ("bound", "frac", "home", "lineage", "shape")
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, shape: tuple[int, ...], frac: int, bound: float, home: Home, lineage: int) -> None:
        self.shape = shape
        self.frac = frac
        self.bound = bound
        self.home = home
        self.lineage = lineage

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, frac={self.frac}, bound={self.bound:.4g}, party={self.home.index})"

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    __bool__ = _refuse("the truth value", "compare with protocols.less_than and reveal the bit")
    __eq__ = _refuse("equality", "use protocols.equal, or `is` for the same object")
    __ne__ = _refuse("inequality", "use protocols.equal")
    __lt__ = __le__ = __gt__ = __ge__ = _refuse("the order", "use protocols.less_than")
    __float__ = __int__ = __index__ = __complex__ = _refuse("the number", "await s.reveal(x)")
    __iter__ = _refuse("iteration", "index it, or await s.reveal(x)")
    __array__ = _refuse("the array", "await s.reveal(x)")
    __reduce__ = __reduce_ex__ = _refuse("pickling", "a share belongs to one session and never leaves it")


class AShare(Secret):
    """An additive share: the n parties' words sum to the value mod 2^64.

    `+`, `-`, `*` (by public integers), indexing, `reshape`, `sum` and `T` are local.  `bound` is public and propagates.
    """

    __slots__ = ("words",)

    def __init__(self, words: Words, *, frac: int, bound: float, home: Home, lineage: int) -> None:
        check_fits(bound, frac, "this value")
        self.words = frozen(words)
        super().__init__(self.words.shape, frac, bound, home, lineage)

    def _like(self, words: Words, operation: str, *, bound: float | None = None, other: int = 0) -> AShare:
        lineage = lineage_of(operation, self.lineage, other)
        return AShare(words, frac=self.frac, bound=self.bound if bound is None else bound, home=self.home, lineage=lineage)

    def _public(self, value: ArrayLike) -> tuple[Words, float, int]:
        array = np.asarray(value)
        bound = float(np.max(np.abs(array.astype(np.float64)), initial=0.0))
        words = encode(array, frac=self.frac, bound=max(bound, 2.0**-self.frac))
        # A public constant is added at party 0 only, so that the shares still sum to x + constant.
        return (words if self.home.index == 0 else np.zeros_like(words)), bound, _constant(words)

    def _operand(self, other: AShare | ArrayLike) -> tuple[Words, float, int]:
        if isinstance(other, Secret) and not isinstance(other, AShare):
            msg = f"a {type(other).__name__} cannot be added to an AShare"
            raise ProgramError(msg)
        if not isinstance(other, AShare):
            return self._public(other)
        same_home(self, other)
        if other.frac != self.frac:
            msg = f"shares with {self.frac} and {other.frac} fractional bits cannot be added; truncate one first"
            raise ProgramError(msg)
        return other.words, other.bound, other.lineage

    def add_own(self, mine: Encoded) -> AShare:
        """Add this party's own value.  On a zero sharing the result is the sum of all parties' own values."""
        if mine.frac != self.frac:
            msg = f"the value has {mine.frac} fractional bits, the share {self.frac}"
            raise ProgramError(msg)
        if mine.words.shape != self.shape:
            msg = f"the value has shape {mine.words.shape}, the share {self.shape}"
            raise ProgramError(msg)
        return self._like(self.words + mine.words, "add_own", bound=self.bound + self.home.n * mine.bound)

    def __add__(self, other: AShare | ArrayLike) -> AShare:
        words, bound, lineage = self._operand(other)
        return self._like(self.words + words, "add", bound=self.bound + bound, other=lineage)

    __radd__ = __add__

    def __sub__(self, other: AShare | ArrayLike) -> AShare:
        words, bound, lineage = self._operand(other)
        return self._like(self.words - words, "sub", bound=self.bound + bound, other=lineage)

    def __rsub__(self, other: ArrayLike) -> AShare:
        return -self + other

    def __neg__(self) -> AShare:
        return self._like(np.negative(self.words), "neg")

    def __mul__(self, factor: ArrayLike | Secret) -> AShare:
        if isinstance(factor, Secret):
            msg = "a product of two secrets needs the network: await mul(s, x, y)"
            raise ProgramError(msg)
        array = np.asarray(factor)
        if array.dtype.kind not in "iu":
            msg = "only integers multiply a share locally; for reals encode the factor and truncate the product"
            raise ProgramError(msg)
        bound = self.bound * float(np.max(np.abs(array.astype(np.float64)), initial=0.0))
        factors = array.astype(np.int64).view(self.words.dtype)
        return self._like(self.words * factors, "scale", bound=bound, other=_constant(factors))

    __rmul__ = __mul__

    def __getitem__(self, key: Any) -> AShare:
        if isinstance(key, Secret):
            msg = "a secret is never an index; use select or a one-hot product"
            raise ProgramError(msg)
        return self._like(self.words[key], f"index {key!r:.12}")

    def reshape(self, *shape: int) -> AShare:
        """The same elements in another shape."""
        return self._like(self.words.reshape(*shape), "reshape")

    def sum(self, axis: int | None = None) -> AShare:
        """Sum over one axis or over all elements; the bound grows by their number."""
        words = np.asarray(self.words.sum(axis=axis, dtype=self.words.dtype))
        addends = self.words.size // max(words.size, 1)
        return self._like(words, f"sum {axis}", bound=self.bound * max(addends, 1))

    @property
    def T(self) -> AShare:  # noqa: N802  numpy's name
        """The transpose."""
        return self._like(self.words.T, "T")


class Masked(Secret):
    """A secret x whose difference d = x - a from the mask `a` is public; products with it need no further opening.

    `difference` is d; `mask` is this party's share of a; `name` says which mask it is.
    """

    __slots__ = ("difference", "mask", "name")

    def __init__(self, x: AShare, difference: Words, mask: Words, name: MaskName) -> None:
        super().__init__(x.shape, x.frac, x.bound, x.home, lineage_of("masked", x.lineage))
        self.difference = frozen(difference)
        self.mask = frozen(mask)
        self.name = name


def same_home(x: Secret, y: Secret) -> None:
    """Raise ProgramError unless both live at one party of one session."""
    if x.home != y.home:
        msg = "these values belong to different sessions or parties; a share never leaves its session"
        raise ProgramError(msg)
