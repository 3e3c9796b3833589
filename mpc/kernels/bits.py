"""Bits in words: how an array of bits is packed, spread and cut into chunks.

A flat array of m bits is cut into blocks of BLOCK elements; the last one may be shorter. A block of k elements is W = ceil(k / 64) words,
and its element q is bit q // W of word q % W. The 64 elements of a word are W apart, so that spreading a word out is one shift per row,
never a loop over bytes. While its elements are words, one element per entry, a block has the shape (64, W).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc.ring import BITS, WORD, Words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BLOCK = 1 << 14
BYTE = 8
PLACES: Words = np.arange(BITS, dtype=WORD)[:, None]
IN_BYTE: NDArray[np.uint8] = np.array([[1 << place] for place in range(BYTE)], np.uint8)
"""1, 2, 4, ..., 128."""


def word_count(m: int) -> int:
    """Number of words that hold m bits."""
    return m // BLOCK * (BLOCK // BITS) + -(-(m % BLOCK) // BITS)


def grid(m: int) -> tuple[int, int]:
    """(B, W) of one chunk of m elements: B whole blocks, or one shorter block, of W words each."""
    if m % BLOCK == 0:
        return m // BLOCK, BLOCK // BITS
    if m < BLOCK:
        return 1, word_count(m)
    message = f"{m} elements are no chunk: neither a multiple of {BLOCK} nor fewer"
    raise ValueError(message)


def chunks(m: int, at_most: int) -> list[tuple[int, int]]:
    """The ranges (start, stop) of chunks of 0..m: whole blocks, `at_most` elements (a multiple of BLOCK) each; then the shorter last block
    alone.

    Every chunk has one W, and the words of the chunks in order are the words of the whole.
    """
    if at_most < BLOCK or at_most % BLOCK:
        message = f"a chunk is a positive multiple of {BLOCK} elements, not {at_most}"
        raise ValueError(message)
    whole = m - m % BLOCK
    cuts = [(start, min(start + at_most, whole)) for start in range(0, whole, at_most)]
    return cuts if whole == m else [*cuts, (whole, m)]


def blocked(elements: Words) -> Words:
    """The elements (m,) of one chunk as (B, 64, W), element q of a block at [q // W, q % W], zeros after the last; a view if possible."""
    blocks, width = grid(elements.size)
    size = blocks * BITS * width
    if size != elements.size:
        padded = np.zeros(size, elements.dtype)
        padded[: elements.size] = elements
        elements = padded
    return elements.reshape(blocks, BITS, width)


def pack(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Words:
    """Bits (m,), each 0 or 1, as `word_count(m)` words; the bits after the last one are 0."""
    words = np.empty(word_count(bits.size), WORD)
    for start, stop, part in _parts(bits.size, words):
        width = part.size
        block = np.zeros(BITS * width, np.uint8) if stop - start < BITS * width else bits[start:stop]
        if block.size != stop - start:
            block[: stop - start] = bits[start:stop]
        # Row 8 c + i is bit i of byte c: byte rows are packed first, and only an eighth is left to transpose.
        # A product and a reduction, since numpy's packbits takes eight times as long if the bits of a byte are not contiguous.
        rows = np.bitwise_or.reduce(block.view(np.uint8).reshape(BYTE, BYTE, width) * IN_BYTE, axis=1)
        part.view(np.uint8).reshape(width, BYTE)[...] = rows.T
    return words


def unpack(words: Words, m: int) -> NDArray[np.uint8]:
    """The m bits of `words`, one byte each, 0 or 1."""
    out = np.empty(m, np.uint8)
    for start, stop, part in _parts(m, words):
        rows = np.ascontiguousarray(part.view(np.uint8).reshape(part.size, BYTE).T)
        # A boolean is a byte, 0 or 1.
        out[start:stop] = ((rows[:, None] & IN_BYTE) != 0).reshape(-1)[: stop - start]
    return out


def spread(words: Words, m: int) -> Words:
    """The m bits of `words`, one word each, 0 or 1."""
    out = np.empty(m, WORD)
    for start, stop, part in _parts(m, words):
        # Block by block, so that the shifted words stay in cache.
        rows = part >> PLACES
        rows &= 1
        out[start:stop] = rows.reshape(-1)[: stop - start]
    return out


def _parts(m: int, words: Words) -> Iterator[tuple[int, int, Words]]:
    """(start, stop, words) of every block."""
    for start, stop in chunks(m, BLOCK):
        yield start, stop, words[word_count(start) : word_count(stop)]
