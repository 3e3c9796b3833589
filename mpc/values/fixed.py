"""Secret numbers in fixed point, shared or masked, and the public numbers that are added to them or multiply them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from mpc.errors import PrecisionError, ProgramError
from mpc.fixed_point import as_float, check_fits, encode, fractional_bits, headroom, largest_of, rounded_bound, shown
from mpc.naming.expressions import pair_differences
from mpc.ring import Words, broadcast, taken
from mpc.tabular import as_numbers
from mpc.values.indexes import basic_index
from mpc.values.secret import Home, Secret, new_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike


def _needs(what: str, call: str) -> Callable[..., NoReturn]:
    def method(*_: object) -> NoReturn:
        msg = f"{what} of secrets needs the network: await {call}"
        raise ProgramError(msg)

    return method


def _absent(what: str, instead: str) -> Callable[..., NoReturn]:
    def method(*_: object) -> NoReturn:
        msg = f"{what} has no protocol here; {instead}"
        raise ProgramError(msg)

    return method


_by_public = _needs("a quotient", "mpc.scale(s, x, 1 / divisor) by what is public")
_by_secret = _absent("a quotient by a secret", "by what is public: await mpc.scale(s, x, 1 / divisor)")


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
        # A product of numpy integers would wrap around.
        self.bound = float(bound)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, frac={self.frac}, bound={self.bound:.4g}, party={self.home.index})"

    def _linear(self, operation: str, parameters: Any, apply: Callable[[Any], Any], bound: float | None = None) -> Self:
        """Apply `apply` to the words of the secret; the bound stays unless one is given. `parameters` are public data that identify
        `apply`.
        """
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

    def sum(self, axis: int | tuple[int, ...] | None = None, bound: float | None = None, *, keepdims: bool = False) -> Self:
        """The sum over one axis, several, or all. The bound grows by the number of addends, or is the `bound` that mathematics
        guarantees.
        """
        if keepdims:
            gone = range(self.ndim) if axis is None else self._axes(axis)
            return self.sum(axis, bound).reshape(tuple(1 if at in gone else extent for at, extent in enumerate(self.shape)))
        if axis is None:
            return self.reshape(self.size).sum(0, bound)
        if isinstance(axis, tuple):
            gone = self._axes(axis)
            kept = [at for at in range(self.ndim) if at not in gone]
            extents = [self.shape[at] for at in gone]
            return self.transpose(*gone, *kept).reshape(math.prod(extents), *(self.shape[at] for at in kept)).sum(0, bound)
        axis = self.axis(axis)
        reach = self.bound * max(self.shape[axis], 1) if bound is None else _stated(bound)
        total = self._linear("sum", (axis,), lambda array: array.sum(axis=axis, dtype=array.dtype), reach)
        return total if bound is None else total.assume_bound(bound, "the caller of sum says so")

    def _axes(self, axis: int | tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.axis(each) for each in (axis if isinstance(axis, tuple) else (axis,)))

    def pairs(self) -> Self:
        """x_i - x_j for all i < j along the last axis, in the order of numpy.triu_indices: (..., k) -> (..., k(k - 1)/2)."""
        if not self.ndim:
            msg = "a 0-d secret has no pairs"
            raise ProgramError(msg)
        return self._linear("pairs", (), pair_differences, 2.0 * self.bound)

    if not TYPE_CHECKING:
        # See Secret.
        __rtruediv__ = _by_secret
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = _absent(
            "division with a remainder", "await mpc.scale(s, x, 1 / divisor) divides by what is public, without one"
        )
        __round__ = _absent("rounding", "await mpc.trunc(s, x, bits) drops the last bits, and may give one unit more")
        __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _absent(
            "a shift", "x * 2**k is x << k, and x.ldexp(-k) is x / 2**k, exactly: both are local"
        )
        __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _absent(
            "logic on the bits of numbers", "mpc.ltz and mpc.eqz give BShares, and mpc.and_, or_, xor and not_ take those"
        )

        def __truediv__(self, divisor: object) -> NoReturn:
            refuse = _by_secret if isinstance(divisor, Secret) else _by_public
            refuse()

        __matmul__ = _needs(
            "a matrix product",
            "mpc.matmul(s, x, y); x @ w with public integers w is (x * w).sum(axis=-1) for a vector w, (x[..., "
            "None] * w).sum(axis=-2) for a matrix w",
        )
        __rmatmul__ = _needs(
            "a matrix product",
            "mpc.matmul(s, x, y); w @ x with public integers w is (x * w).sum(axis=-1) for a vector x, (x * w[..., "
            "None]).sum(axis=-2) for a matrix x",
        )
        __pow__ = _needs("a power", "mpc.square(s, x), or mpc.mul(s, x, y) several times")
        __rpow__ = _absent("a power with a secret exponent", "docs/protocols.md says what else there is not")
        __abs__ = _needs("the absolute value", "protocols.absolute(s, x)")

    def __pos__(self) -> Self:
        return self

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
    """Check a bound that the ring cannot see, and return it as a float."""
    # A float is written alike at all parties, whatever type it had.
    number, given = as_float(bound), isinstance(reason, str) and reason.strip()
    if not given or not 0 <= number < math.inf:
        msg = f"a stated bound is a finite number, 0 or more, not {shown(bound)}; and assume_bound needs the reason why it holds"
        raise ProgramError(msg)
    return number


def check_broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """ProgramError unless numpy can add arrays of these shapes."""
    try:
        broadcast(left, right)
    except ValueError:
        msg = f"shapes {left} and {right} do not broadcast"
        raise ProgramError(msg) from None


def constant(value: ArrayLike, frac: int) -> tuple[Words, float]:
    """A public constant as ring words, and its least bound; PrecisionError if it is no number, NaN or infinity.

    ProgramError for a fraction beside integers: a bit minus 0.5 would be that bit.
    """
    array = as_numbers(value)
    bound = largest_of(array)
    if frac <= 0 and array.dtype.kind == "f" and math.isfinite(bound) and (np.rint(array) != array).any():
        msg = "this share holds whole numbers: give it whole numbers too, rounded the way you mean"
        raise ProgramError(msg)
    bound = rounded_bound(bound, frac)
    # `encode` says which element is not a number.
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
