"""Zero sharings: the words of all pairs, made in pieces, sum to zero, and any n - 1 of them are uniform."""

from __future__ import annotations

import tracemalloc
from functools import reduce

import numpy as np
import pytest

from mpc.naming.expressions import Range
from mpc.naming.streams import FEW, KEPT, PIECE, Seed, Streams
from mpc.ring import WORD, count

SHAPES = [(), (1,), (FEW,), (FEW + 1,), (0, 3), (KEPT + 1,), (3, 5), (PIECE,), (PIECE + 1,), (3, PIECE - 7)]


def parties(n):
    """The streams of n parties, with a separate seed for each pair."""
    seeds = {(low, high): bytes([low, high] * 16) for high in range(n) for low in range(high)}
    return [Streams(i, bytes(32), {j: seeds[min(i, j), max(i, j)] for j in range(n) if j != i}) for i in range(n)]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("usage", "combine"), [("zero", np.add), ("zero-xor", np.bitwise_xor)])
def test_the_words_of_all_pairs_cancel(n, shape, usage, combine):
    where = Range("0.1", 6, shape)
    shares = [streams.zero(where, usage) for streams in parties(n)]
    assert all(share.shape == shape and share.dtype == WORD for share in shares)
    assert not np.any(reduce(combine, shares))
    # Less than all of them are no constant: every pair has words of its own.
    if count(shape) > 1:
        assert len({share.tobytes() for share in shares}) == (2 if n == 2 and usage == "zero" else 1 if n == 2 else n)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pieces_are_the_words_of_the_whole_range(shape):
    where = Range("0.1", 6, shape)
    one, other = bytes([0, 1] * 16), bytes([1, 2] * 16)
    expected = Seed(other).words("zero", where) - Seed(one).words("zero", where)
    assert np.array_equal(Streams(1, bytes(32), {0: one, 2: other}).zero(where), expected)


def test_a_zero_sharing_takes_the_memory_of_its_result_whatever_the_number_of_parties():
    where, streams = Range("0.1", 0, (1 << 18,)), parties(8)[3]
    tracemalloc.start()
    try:
        words = streams.zero(where)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * words.nbytes
