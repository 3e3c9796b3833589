"""The ring Z_2^64: little-endian uint64 arrays whose arithmetic wraps."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD = np.dtype("<u8")
BITS = 64
MOST_COPIED, MOST_KEPT = 1 << 16, 1 << 13
"""Words of a part up to which it is copied rather than keep its whole array in memory; words of a whole array that any part may keep."""

MAX_NDIM = 32
"""Axes of an array that has a name; also of a shape that a party announces."""

_NUMPY = (np.ndarray, np.generic)

Words = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]

_ZERO = bytes(WORD.itemsize)


def zeros(shape: tuple[int, ...]) -> Words:
    """All-zero words of `shape`."""
    return np.zeros(shape, WORD)


def fixed_zeros(shape: tuple[int, ...]) -> Words:
    """Read-only all-zero words of `shape`, which take the memory of one word."""
    # np.broadcast_to does the same and takes six times as long.
    return np.ndarray(shape, WORD, _ZERO, strides=(0,) * len(shape))


def frozen(words: Any) -> Words:
    """Make `words` read-only and return it: a share or mask never changes under its name.

    numpy turns the results of 0-d arithmetic into scalars, which warn where arrays wrap; here they become arrays again.
    """
    if not isinstance(words, _NUMPY):
        return words  # type: ignore[no-any-return]  # a blank of a dry run has no contents to protect
    array = np.asarray(words)
    array.setflags(write=False)
    return array


def raw(words: NDArray[Any]) -> memoryview:
    """The bytes of `words`, without a copy if they are contiguous."""
    return np.ascontiguousarray(words).reshape(-1).view(np.uint8).data


def signed(words: Words) -> NDArray[np.signedinteger[Any]]:
    """The same bits read as two's complement, without a copy. The dtype decides the width, since tests try all 8-bit words."""
    return words.view(np.dtype(f"i{words.dtype.itemsize}"))


@lru_cache(maxsize=1 << 10)
def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of arrays of `shapes` as numpy finds it; ValueError if there is none."""
    return np.broadcast_shapes(*shapes)


@lru_cache(maxsize=1 << 10)
def outline(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array of `shape` that takes one byte, since its strides are 0: it answers questions about shapes at no cost."""
    return np.broadcast_to(np.uint8(0), shape)


@lru_cache(maxsize=1 << 10)
def reshaped(shape: tuple[int, ...], *target: int | tuple[int, ...]) -> tuple[int, ...]:
    """The shape that numpy's reshape(*target) gives; ValueError if it does not fit."""
    return outline(shape).reshape(*target).shape  # type: ignore[arg-type]


def is_little_of(part: int, whole: int) -> bool:
    """Whether a part of `part` words is copied, since a view would keep the whole in memory; never if it is as large as a chunk of an
    op.
    """
    return part <= MOST_COPIED and 16 * part <= whole and whole > MOST_KEPT


def taken(array: Any, key: Any) -> Any:
    """array[key]; a small part of a large array is copied, so that it does not keep the array in memory."""
    part = array[key]
    return part.copy() if isinstance(part, np.ndarray) and is_little_of(part.size, array.size) else part


def without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """The shape of a sum over one axis, or over all."""
    # Not asked of numpy, as other shapes are: it would add up the whole outline.
    if axis is None:
        return ()
    axis = range(len(shape))[axis]
    return (*shape[:axis], *shape[axis + 1 :])


def count(shape: tuple[int, ...]) -> int:
    """Number of words in an array of `shape`; 1 for a 0-d array."""
    return math.prod(shape)
