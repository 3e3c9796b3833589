"""Numbers mod 2^128, for values that need more than 64 bits: Python integers for computing with few, else two words each, the low one
first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mpc.ring import BITS, WORD, Words

if TYPE_CHECKING:
    from collections.abc import Iterable

Numbers: TypeAlias = Any
"""An array of Python integers."""
WIDTH = 2 * BITS
LANES, LANE_BITS = 3, 43
"""An opened number travels in LANES words of LANE_BITS bits each, which leaves room for the sums of many parties."""
_NBYTES = WIDTH // 8
_WHOLE, _LANE = (1 << WIDTH) - 1, (1 << LANE_BITS) - 1


def integers(words: Words) -> list[int]:
    """The numbers in `words`."""
    halves = words.reshape(-1).tolist()
    return [low | high << BITS for low, high in zip(halves[::2], halves[1::2], strict=True)]


def numbers(words: Words, shape: tuple[int, ...]) -> Numbers:
    """The numbers in `words`, as an array."""
    return array(integers(words), shape)


def array(values: list[int], shape: tuple[int, ...]) -> Numbers:
    """An array of these integers."""
    return np.array(values, object).reshape(shape)


def words_of(values: Iterable[int]) -> Words:
    """The words of any integers, mod 2^128, one after the other."""
    return np.frombuffer(bytearray(b"".join([(value & _WHOLE).to_bytes(_NBYTES, "little") for value in values])), WORD)


def minus(words: Words, others: Words) -> Words:
    """The words of numbers minus others, mod 2^128."""
    left, right = words.reshape(-1, 2), others.reshape(-1, 2)
    difference = left - right
    difference[:, 1] -= left[:, 0] < right[:, 0]
    return difference.reshape(-1)


def low(values: Iterable[int]) -> Words:
    """Any integers, mod 2^64."""
    return np.array([value & (1 << BITS) - 1 for value in values], WORD)


def hidden(words: Words, mask: Words) -> Words:
    """The lanes of numbers minus a mask."""
    values = integers(minus(words, mask))
    return np.array([value >> LANE_BITS * lane & _LANE for lane in range(LANES) for value in values], WORD)


def opened(lanes: Words) -> list[int]:
    """The numbers, mod 2^128, whose lanes, summed over all parties, are `lanes`."""
    rows = lanes.reshape(LANES, -1).tolist()
    return [sum([lane << LANE_BITS * number for number, lane in enumerate(column)]) & _WHOLE for column in zip(*rows, strict=True)]


def high_and_top(mask: list[int], drop: int) -> tuple[list[int], list[int]]:
    """For r = -mask mod 2^128: r >> drop, and the top bit."""
    r = [-value & _WHOLE for value in mask]
    return [value >> drop for value in r], [value >> (WIDTH - 1) for value in r]
