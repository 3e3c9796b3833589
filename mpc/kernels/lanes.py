"""Lanes of bits in packed words: how rows of words exchange lanes, and how a row fills an unused lane.

Arrays are rows of W words, as `bits.blocked` gives them, with the lanes of a comparison: single bits, nibbles of 4, quarters of 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpc.ring import BITS, WORD, Words

if TYPE_CHECKING:
    from collections.abc import Iterable

ONES = (1 << BITS) - 1
EVEN_LANES = {lane: np.array(ONES // ((1 << lane) + 1), WORD) for lane in (1, 2, 4, 8, 16, 32)}  # 0x5555..., 0x3333..., 0x0F0F..., ...


@dataclass(frozen=True)
class Vacancy:
    """A lane that is unused in every one of R rows of R lanes: the last row moves into it, and R - 1 rows are left.

    Lanes of a row stay lanes of one row, so this commutes with XOR and with AND: products of shortened rows are shortened products. `enter`
    by `shifts` brings the lanes of the last row to the vacant lane, one for each row; `leave` brings them back.
    """

    vacant: int
    """The bits of the vacant lane in a word."""
    rest: int
    """All other bits."""
    shifts: Words
    enter: np.ufunc
    leave: np.ufunc

    def shorten(self, rows: Words) -> Words:
        """(..., R, W) as (..., R - 1, W)."""
        kept = rows[..., :-1, :]
        out: Words = self.enter(rows[..., -1:, :], self.shifts)
        out ^= kept
        out &= self.vacant
        out ^= kept
        return out

    def lengthen(self, rows: Words) -> Words:
        """Undo `shorten`, with 0 in the vacant lane."""
        out = np.empty((*rows.shape[:-2], rows.shape[-2] + 1, rows.shape[-1]), WORD)
        np.bitwise_and(rows, self.rest, out=out[..., :-1, :])
        self.gather(rows, out[..., -1, :])
        return out

    def gather(self, rows: Words, out: Words) -> None:
        """The vacant lanes of (..., R - 1, W), each at its own place in one row (..., W)."""
        lanes = rows & self.vacant
        self.leave(lanes, self.shifts, out=lanes)
        np.bitwise_xor.reduce(lanes, axis=-2, out=out)


def _column(numbers: Iterable[int]) -> Words:
    return np.array(list(numbers), WORD)[:, None]


TOP_NIBBLE = Vacancy(0xF << 60, ONES >> 4, _column(60 - 4 * row for row in range(15)), np.left_shift, np.right_shift)
LOW_QUARTER = Vacancy(0xFFFF, ONES ^ 0xFFFF, _column(16 + 16 * row for row in range(3)), np.right_shift, np.left_shift)


def transpose(rows: Words, lane: int) -> Words:
    """(..., 4, W) as (4, ..., W): lane 4k + j of array r is lane 4k + r of row j; lanes are of 1, 4 or 16 bits."""
    # A copy first: numpy takes twice as long for rows that are not contiguous.
    out: Words = np.array(np.moveaxis(rows, -2, 0), order="C")
    _swap(out[:2], out[2:], 2 * lane)
    _swap(out[0], out[1], lane)
    _swap(out[2], out[3], lane)
    return out


def _swap(left: Words, right: Words, lane: int) -> None:
    """Exchange the odd lanes of `left` with the even lanes of `right`."""
    moved = left >> lane
    moved ^= right
    moved &= EVEN_LANES[lane]
    right ^= moved
    moved <<= lane
    left ^= moved


def nibbles(x: Words) -> Words:
    """(..., 64, W) as (4, ..., 16, W): bit 4k + j of row n of array r is bit 4k + r of element row 4n + j."""
    return transpose(x.reshape(*x.shape[:-2], 16, 4, x.shape[-1]), 1)


def regroup(v: Words) -> Words:
    """(..., 16, W) as (4, ..., 4, W): bits 16k + 4i ... + 3 of row n of array q are nibble 4k + q of row 4n + i."""
    return transpose(v.reshape(*v.shape[:-2], 4, 4, v.shape[-1]), 4)


def regroup2(v: Words) -> Words:
    """(..., 4, W) as (4, ..., W): bits 16i ... + 15 of array k are quarter k of row i."""
    return transpose(v, 16)
