"""Shares of bits: XOR shares in packed words, 64 bits to a word (layout: mpc.kernels.bits)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from mpc.errors import ProgramError
from mpc.kernels import bits
from mpc.kernels.blank import Blank
from mpc.ring import Words, broadcast, count, frozen, outline
from mpc.values.indexes import index_data
from mpc.values.secret import Secret, check_axes, extent_of, integers_lineage, lineage_of, new_shape, parameter_lineage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mpc.values.secret import Blanks, Extent, Home

KEPT = 1 << 16
"""Bits up to which an indexed share is kept unpacked: programs often take several parts, one after the other."""


def _awaited(what: str, call: str) -> Callable[..., NoReturn]:
    def method(*_: object, **__: object) -> NoReturn:
        msg = f"{what} is a call: await {call}"
        raise ProgramError(msg)

    return method


_arithmetic = _awaited("arithmetic on bits", "mpc.b2a(s, bits), which gives numbers 0 and 1")


class BShare(Secret):
    """XOR shares of an array of bits: the n parties' words XOR to the packed bits.

    Reshaping is free; indexing and broadcasting unpack this party's share and pack it again. The bits after the last one are undefined.
    """

    __slots__ = ("_bytes", "words")
    is_masked = False
    how_to_share = "await mpc.b2a(s, bits) gives one"
    owner: int | None = None

    def __init__(self, words: Words, shape: tuple[int, ...], *, home: Home, lineage: int) -> None:
        if words.shape != (bits.word_count(count(shape)),):
            msg = f"{words.shape} words do not hold the bits of shape {shape}"
            raise ProgramError(msg)
        super().__init__(shape, home, lineage)
        self.words = frozen(words)
        self._bytes: NDArray[np.uint8] | None = None

    def at(self, home: Home, blank: Blanks) -> BShare:
        """See Secret."""
        return BShare(blank(self.words.shape), self.shape, home=home, lineage=self.lineage)

    if not TYPE_CHECKING:
        # See Secret.
        __and__ = __rand__ = _awaited("AND of bits", "mpc.and_(s, x, y)")
        __or__ = __ror__ = _awaited("OR of bits", "mpc.or_(s, x, y)")
        __xor__ = __rxor__ = _awaited("XOR of bits", "mpc.xor(s, x, y)")
        __invert__ = _awaited("NOT of bits", "mpc.not_(s, x)")
        __add__ = __radd__ = __sub__ = __rsub__ = __neg__ = __pos__ = sum = _arithmetic
        __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = _arithmetic
        __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _arithmetic
        __abs__ = __round__ = cumsum = _arithmetic
        __mul__ = __rmul__ = _awaited("a product with bits", "mpc.select(s, bits, x), or mpc.b2a(s, bits) for numbers 0 and 1")

    def reshape(self, *shape: int | tuple[int, ...]) -> BShare:
        """The same bits in another shape."""
        target = new_shape(self.shape, *shape)
        return BShare(self.words, target, home=self.home, lineage=lineage_of("reshape", self.lineage, parameter_lineage(target)))

    def _linear(self, operation: str, parameters: Any, apply: Callable[[Any], Any]) -> BShare:
        given = integers_lineage(parameters) if isinstance(parameters, tuple) else parameter_lineage(parameters)
        return rearranged(lineage_of(operation, self.lineage, given), apply, self)

    def unpacked(self) -> NDArray[np.uint8]:
        """The bits of this party's share, one byte each."""
        if self._bytes is None:
            unpacked = bits.unpack(self.words, self.size).reshape(self.shape)
            if self.size > KEPT:
                return unpacked
            self._bytes = unpacked
        return self._bytes

    def __getitem__(self, key: Any) -> BShare:
        if self.ndim == 1 and isinstance(key, slice) and (cut := self._whole_blocks(*key.indices(self.size))) is not None:
            words = self.words[bits.word_count(cut.start) : bits.word_count(cut.stop)]
            lineage = lineage_of("index", self.lineage, parameter_lineage(index_data(key, self.shape)))
            return BShare(words, (len(cut),), home=self.home, lineage=lineage)
        return self._linear("index", index_data(key, self.shape), lambda array: np.asarray(array[key]))

    def _whole_blocks(self, start: int, stop: int, step: int) -> range | None:
        """The elements of a slice whose words are consecutive, such as an op's chunk; None for other slices."""
        ends = stop == self.size or not stop % bits.BLOCK
        return range(start, stop) if step == 1 and start < stop and ends and not start % bits.BLOCK else None

    def broadcast_to(self, shape: Extent) -> BShare:
        """The bits repeated to `shape`, as numpy does."""
        # Python integers: numpy's are equal but written differently, so that parties would seem to differ.
        extent = extent_of(shape)
        check_repeats(self.shape, extent)
        return self if extent == self.shape else self._linear("broadcast", extent, lambda array: np.broadcast_to(array, extent))


def rearranged(lineage: int, apply: Callable[..., Any], *parts: BShare) -> BShare:
    """The bits that `apply` selects from arrays of the bits of `parts`."""
    first, words = parts[0], cast("Any", parts[0].words)
    if isinstance(words, Blank):
        shape = apply(*(outline(part.shape) for part in parts)).shape
        return BShare(cast("Any", words.another((bits.word_count(count(shape)),))), shape, home=first.home, lineage=lineage)
    own = np.asarray(apply(*(part.unpacked() for part in parts)))
    return BShare(bits.pack(np.ascontiguousarray(own).reshape(-1)), own.shape, home=first.home, lineage=lineage)


def check_repeats(shape: tuple[int, ...], extent: tuple[int, ...]) -> None:
    """ProgramError unless numpy can broadcast an array of `shape` to `extent`."""
    check_axes(extent)
    with suppress(ValueError):
        if broadcast(shape, extent) == extent:
            return
    msg = f"shape {shape} does not become {extent}: only axes of length 1, and new ones in front, are repeated"
    raise ProgramError(msg)
