"""Packed bits: the layout, element by element; packing, spreading and cutting into chunks agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.kernels import bits
from mpc.kernels.bits import BLOCK
from mpc.ring import WORD

SIZES = [0, 1, 2, 63, 64, 65, 127, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 4 * BLOCK + 100]
sizes = st.one_of(st.integers(0, 300), st.sampled_from(SIZES), st.integers(0, 3 * BLOCK))


def random_bits(m, seed=0):
    return np.random.default_rng(seed).integers(0, 2, m, dtype=np.uint8)


def place(q, m):
    """(word, bit) of element q of m, straight from the definition."""
    block, inside = divmod(q, BLOCK)
    width = -(-min(BLOCK, m - block * BLOCK) // 64)
    return block * (BLOCK // 64) + inside % width, inside // width


@pytest.mark.parametrize("m", SIZES)
def test_every_element_has_its_place(m):
    expected = [0] * bits.word_count(m)
    for q, bit in enumerate(random_bits(m).tolist()):
        word, at = place(q, m)
        expected[word] |= bit << at
    assert bits.pack(random_bits(m)).tolist() == expected


@pytest.mark.parametrize("m", SIZES)
def test_word_count_is_exact(m):
    assert bits.word_count(m) == (1 + max(place(q, m)[0] for q in range(m)) if m else 0)
    assert bits.word_count(m) <= m // 64 + 1


@settings(max_examples=60, deadline=None)
@given(m=sizes, seed=st.integers(0, 99))
def test_packing_round_trip(m, seed):
    plain = random_bits(m, seed)
    words = bits.pack(plain)
    assert words.dtype == WORD
    assert words.size == bits.word_count(m)
    assert np.array_equal(bits.pack(plain.astype(np.bool_)), words)
    unpacked, spread = bits.unpack(words, m), bits.spread(words, m)
    assert (unpacked.dtype, spread.dtype) == (np.uint8, WORD)
    assert np.array_equal(unpacked, plain)
    assert np.array_equal(spread, plain)


@settings(max_examples=60, deadline=None)
@given(m=sizes, blocks=st.integers(1, 4))
def test_chunks_cover_everything_and_keep_the_layout(m, blocks):
    cuts = bits.chunks(m, blocks * BLOCK)
    assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts)][: len(cuts)]
    assert (cuts[-1][1] if cuts else 0) == m
    for start, stop in cuts:
        assert 0 < stop - start <= blocks * BLOCK
        assert (stop - start) % BLOCK == 0 or (stop == m and stop - start < BLOCK)
        assert np.prod(bits.grid(stop - start)) == bits.word_count(stop - start)
    plain = random_bits(m)
    parts = [bits.pack(plain[start:stop]) for start, stop in cuts]
    assert np.array_equal(np.concatenate([np.zeros(0, WORD), *parts]), bits.pack(plain))


@pytest.mark.parametrize("m", [1, 63, 64, 65, BLOCK - 1, BLOCK, 4 * BLOCK])
def test_blocked_elements(m):
    elements = np.arange(1, m + 1, dtype=WORD)
    blocks = bits.blocked(elements)
    count, width = bits.grid(m)
    assert blocks.shape == (count, 64, width)
    assert blocks.reshape(-1)[:m].tolist() == elements.tolist()
    assert not blocks.reshape(-1)[m:].any()
    assert np.shares_memory(blocks, elements) == (blocks.size == m)


def test_what_is_no_chunk_is_refused():
    with pytest.raises(ValueError, match="no chunk"):
        bits.grid(BLOCK + 1)
    for wrong in (0, -BLOCK, BLOCK + 64):
        with pytest.raises(ValueError, match="multiple"):
            bits.chunks(10, wrong)
