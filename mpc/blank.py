"""Arrays without contents: a dry run computes with shapes alone, and counts how many bytes would be alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpc.ring import WORD, broadcast, count, outline, reshaped, without

if TYPE_CHECKING:
    from collections.abc import Callable


class Meter:
    """Bytes of all blanks that are alive, and the most there ever were."""

    __slots__ = ("live", "peak")

    def __init__(self) -> None:
        self.live = 0
        self.peak = 0

    def add(self, size: int) -> None:
        """`size` bytes more, or fewer if negative."""
        self.live += size
        self.peak = max(self.peak, self.live)


class Blank:
    """Stands for a word array of `shape`; every operator gives the blank of the result's shape."""

    __slots__ = ("_base", "_meter", "nbytes", "shape", "size")
    __array_ufunc__ = None
    dtype = WORD

    def __init__(self, shape: tuple[int, ...], meter: Meter, base: Blank | None = None) -> None:
        self.shape = shape
        self.size = count(shape)
        self.nbytes = self.size * WORD.itemsize
        self._meter = meter
        self._base = base
        if base is None:
            meter.add(self.nbytes)

    def __del__(self) -> None:
        if self._base is None:
            self._meter.add(-self.nbytes)

    def __repr__(self) -> str:
        return f"Blank({self.shape})"

    @property
    def T(self) -> Blank:  # noqa: N802  numpy's name
        """The transpose."""
        return self._view(lambda shape: shape.T)

    def _view(self, of: Callable[[Any], Any]) -> Blank:
        shape = of(outline(self.shape)).shape
        return Blank(shape, self._meter, self._base or self)

    def __getitem__(self, key: Any) -> Blank:
        return self._view(lambda shape: shape[key])

    def reshape(self, *shape: Any) -> Blank:
        """As numpy's."""
        return Blank(reshaped(self.shape, *shape), self._meter, self._base or self)

    def transpose(self, *axes: Any) -> Blank:
        """As numpy's."""
        return self._view(lambda old: old.transpose(*axes))

    def sum(self, axis: int | None = None, dtype: object = None) -> Blank:  # noqa: ARG002  numpy's signature
        """As numpy's."""
        return Blank(without(self.shape, axis), self._meter)

    def another(self, shape: tuple[int, ...]) -> Blank:
        """A blank of another shape in the same run."""
        return Blank(shape, self._meter)

    def __array_function__(self, function: Callable[..., Any], _: Any, arguments: Any, keywords: Any) -> Blank:
        (arrays, *others) = arguments
        flat = [outline(array.shape) for array in arrays]
        return Blank(function(flat, *others, **keywords).shape, self._meter)

    def _new(self, other: Any) -> Blank:
        return Blank(broadcast(self.shape, getattr(other, "shape", ())), self._meter)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __xor__ = __rxor__ = _new

    def __neg__(self) -> Blank:
        return Blank(self.shape, self._meter)

    __invert__ = __neg__
