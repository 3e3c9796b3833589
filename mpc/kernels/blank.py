"""Arrays without contents: a dry run computes with shapes alone, and a meter can count how many bytes would be alive."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mpc.ring import WORD, broadcast, count, is_little_of, outline, reshaped, without

if TYPE_CHECKING:
    from collections.abc import Callable


class Blank:
    """Stands for a word array of `shape`; every operator gives the blank of the result's shape."""

    __slots__ = ("nbytes", "shape", "size")
    __array_ufunc__ = None
    dtype = WORD

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.size = count(shape)
        self.nbytes = self.size * WORD.itemsize

    def __repr__(self) -> str:
        return f"Blank({self.shape})"

    @property
    def T(self) -> Blank:  # noqa: N802  numpy's name
        """The transpose."""
        return self._view(outline(self.shape).T.shape)

    def another(self, shape: tuple[int, ...]) -> Blank:
        """A blank of another shape in the same run."""
        return blank(shape)

    def _view(self, shape: tuple[int, ...]) -> Blank:
        """A blank of another shape that is a view of this one."""
        return blank(shape)

    def __getitem__(self, key: Any) -> Blank:
        shape = outline(self.shape)[key].shape
        return self.another(shape) if is_little_of(count(shape), self.size) else self._view(shape)

    def reshape(self, *shape: Any) -> Blank:
        """As numpy's."""
        return self._view(reshaped(self.shape, *shape))

    def transpose(self, *axes: Any) -> Blank:
        """As numpy's."""
        return self._view(outline(self.shape).transpose(*axes).shape)

    def sum(self, axis: int | None = None, dtype: object = None) -> Blank:  # noqa: ARG002  numpy's signature
        """As numpy's."""
        return self.another(without(self.shape, axis))

    def cumsum(self, axis: int, dtype: object = None) -> Blank:  # noqa: ARG002  numpy's signature
        """As numpy's."""
        return self.another(self.shape)

    def __array_function__(self, function: Callable[..., Any], _: Any, arguments: Any, keywords: Any) -> Blank:
        (arrays, *others) = arguments
        flat = [outline(array.shape) for array in arrays]
        return self.another(function(flat, *others, **keywords).shape)

    def _new(self, other: Any) -> Blank:
        return self.another(broadcast(self.shape, getattr(other, "shape", ())))

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __xor__ = __rxor__ = _new

    def __neg__(self) -> Blank:
        return self.another(self.shape)

    __invert__ = __neg__


@lru_cache(maxsize=1 << 10)
def blank(shape: tuple[int, ...]) -> Blank:
    """The blank of this shape: without contents, all are alike."""
    return Blank(shape)


class Metered(Blank):
    """A blank whose bytes are counted while it is alive."""

    __slots__ = ("_base", "_meter")

    def __init__(self, shape: tuple[int, ...], meter: Meter, base: Metered | None = None) -> None:
        super().__init__(shape)
        self._meter = meter
        self._base = base
        if base is None:
            meter.add(self.nbytes)

    def __del__(self) -> None:
        if self._base is None:
            self._meter.add(-self.nbytes)

    def another(self, shape: tuple[int, ...]) -> Metered:
        """See Blank."""
        return Metered(shape, self._meter)

    def _view(self, shape: tuple[int, ...]) -> Metered:
        return Metered(shape, self._meter, self._base or self)


class Meter:
    """Bytes of all its living blanks, and their maximum so far."""

    __slots__ = ("live", "peak")

    def __init__(self) -> None:
        self.live = 0
        self.peak = 0

    def blank(self, shape: tuple[int, ...]) -> Blank:
        """A new blank of this shape."""
        return Metered(shape, self)

    def add(self, size: int) -> None:
        """`size` bytes more, or fewer if negative."""
        self.live += size
        self.peak = max(self.peak, self.live)


class Uncounted:
    """Replaces a Meter if nobody asks for bytes: blanks cost next to nothing."""

    peak = 0
    blank = staticmethod(blank)
