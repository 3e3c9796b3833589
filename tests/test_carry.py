"""Comparison on shares of bits, against plain Python: whole circuits for n parties, every nibble, and the lanes that swap places."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from mpc.kernels import bits, carry, lanes
from mpc.kernels.bits import BLOCK
from mpc.ring import WORD, signed

EDGES = [0, 1, -1, 2, -2, 2**62, -(2**62), 2**62 - 1, -(2**63), -(2**63) + 1, 2**63 - 1, 2**32, -(2**32)]
SIZES = [1, 63, 64, 65, BLOCK, BLOCK + 1, 4 * BLOCK + 100]


def random_words(rng, size):
    return rng.integers(0, 2**64, size, dtype=np.uint64).astype(WORD)


def share(rng, words, n):
    """n XOR shares."""
    shares = [random_words(rng, words.size).reshape(words.shape) for _ in range(n - 1)]
    return [np.bitwise_xor.reduce([words, *shares]), *shares]


def run(parties, e, dealt, trees):
    """All parties in step: what they return is opened by XOR; the result, and the words opened in each round."""
    once = np.bitwise_xor.reduce([party.start(e, *shares) for party, shares in zip(parties, dealt, strict=True)])
    twice = np.bitwise_xor.reduce([party.merge(once, tree) for party, tree in zip(parties, trees, strict=True)])
    return np.bitwise_xor.reduce([party.finish(twice) for party in parties]), [once.size, twice.size]


CIRCUITS = {
    "ltz": (carry.sign_material, carry.sign_tree, carry.LessThanZero, 233, (27, 6), 96),
    "eqz": (carry.zero_material, carry.zero_tree, carry.EqualsZero, 240, (16, 4), 55),
}


def compare(name, x, n, rng):
    """The circuit on the chunk x under a random mask, with every size checked."""
    material_of, tree_of, circuit, per_bit, opened, per_tree = CIRCUITS[name]
    a = random_words(rng, x.size)
    a[: x.size // 4] = np.resize(np.array(EDGES, np.int64).view(np.uint64), x.size // 4)
    blocks, width = bits.grid(x.size)
    parts = blocks * width
    material = material_of(bits.blocked(a))
    rho = random_words(rng, sum(opened) * parts)
    tree = tree_of(rho, blocks)
    assert (material.size, tree.size) == (per_bit * parts, per_tree * parts)
    e = x - a
    before = e.copy()
    dealt = zip(share(rng, material, n), share(rng, rho, n), strict=True)
    result, sizes = run([circuit(first=party == 0) for party in range(n)], e, dealt, share(rng, tree, n))
    assert sizes == [count * parts for count in opened]
    assert np.array_equal(e, before)
    return result


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("name", CIRCUITS)
def test_circuits(name, n, m):
    rng = np.random.default_rng([n, m])
    x = random_words(rng, m)
    x[m // 3 :] = np.resize(np.array(EDGES, np.int64).view(np.uint64), m - m // 3)
    words = np.concatenate([compare(name, x[start:stop], n, rng) for start, stop in bits.chunks(m, 4 * BLOCK)])
    expected = signed(x) < 0 if name == "ltz" else x == 0
    assert np.array_equal(bits.unpack(words, m), expected)


@pytest.mark.parametrize("name", CIRCUITS)
def test_carries_through_every_run_of_bits(name):
    """e + a = x where a carry starts at bit i and x is 0 or 2^j: each merge decides some of them."""
    rng = np.random.default_rng(1)
    x = np.array(
        [0] * 64 + [1 << j for j in range(64)] + [(1 << 64) - (1 << j) for j in range(64)] + [(1 << j) - 1 for j in range(64)], WORD
    )
    for _ in range(20):
        words = compare(name, x, 2, rng)
        assert np.array_equal(bits.unpack(words, x.size), signed(x) < 0 if name == "ltz" else x == 0)


def test_generate_and_propagate_of_every_nibble():
    """All 256 pairs of four bits at every place, for one party that holds the material itself."""
    pairs = np.arange(256, dtype=WORD)
    ones = 0x1111111111111111
    e, a = np.repeat((pairs >> 4) * ones, 16), np.repeat((pairs & 15) * ones, 16)
    four = carry.sign_nibbles(bits.blocked(e), carry.sign_material(bits.blocked(a)), first=True)
    propagate = carry.zero_nibbles(bits.blocked(e), carry.zero_material(bits.blocked(a)), first=True)
    _, width = bits.grid(e.size)
    for q, (left, right) in enumerate(zip(e.tolist(), a.tolist(), strict=True)):
        row, word = divmod(q, width)
        minus_one = (left - 1) % 2**64
        for k in range(16):
            at = 4 * k + row % 4
            bits_e, bits_a = left >> 4 * k & 15, right >> 4 * k & 15
            if k == 15:
                bits_e, bits_a = bits_e | 8, bits_a & 7
            assert int(four.generate[0, row // 4, word]) >> at & 1 == (bits_e + bits_a) >> 4
            assert int(four.propagate[0, row // 4, word]) >> at & 1 == (bits_e ^ bits_a == 15)
            assert int(propagate[0, row // 4, word]) >> at & 1 == ((minus_one ^ right) >> 4 * k & 15 == 15)
        assert int(four.sign[0, word]) >> row & 1 == (left ^ right) >> 63


@pytest.mark.parametrize("lane", [1, 4, 16])
def test_lanes_trade_places(lane):
    rows = random_words(np.random.default_rng(2), 4 * 3).reshape(4, 3)
    lowest = (1 << lane) - 1
    for r, array in enumerate(lanes.transpose(rows, lane)):
        for word in range(3):
            for index in range(64 // lane):
                k, j = divmod(index, 4)
                assert int(array[word]) >> index * lane & lowest == int(rows[j, word]) >> (4 * k + r) * lane & lowest


@pytest.mark.parametrize(("vacancy", "count", "vacant"), [(lanes.TOP_NIBBLE, 16, 15), (lanes.LOW_QUARTER, 4, 0)])
def test_shortened_rows_come_back(vacancy, count, vacant):
    rng = np.random.default_rng(3)
    width = 64 // count
    assert vacancy.vacant == ((1 << width) - 1) << width * vacant
    rows, others = (random_words(rng, 2 * count * 5).reshape(2, count, 5) for _ in range(2))
    short = vacancy.shorten(rows)
    kept = [lane for lane in range(count) if lane != vacant]
    for x, lane in enumerate(kept):
        moved = rows[:, -1] >> width * lane & ((1 << width) - 1)
        assert np.array_equal(short[:, x], rows[:, x] & vacancy.rest | moved << width * vacant)
    assert np.array_equal(vacancy.lengthen(short), rows & vacancy.rest)
    assert np.array_equal(vacancy.shorten(rows & others), short & vacancy.shorten(others))


@pytest.mark.parametrize("name", CIRCUITS)
def test_what_no_later_step_reads_is_free_while_a_round_takes_long(name):
    rng = np.random.default_rng(7)
    material_of, tree_of, circuit, _, opened, _ = CIRCUITS[name]
    blocks, width = bits.grid(BLOCK)
    masks = random_words(rng, sum(opened) * blocks * width)
    given = [random_words(rng, BLOCK), material_of(bits.blocked(random_words(rng, BLOCK)))]
    read = [weakref.ref(each) for each in given]
    party = circuit(first=True)
    once = party.start(*given, masks)
    del given
    assert [each() for each in read] == [None, None]
    tree = tree_of(masks, blocks)
    read = [weakref.ref(each) for each in (masks, once, tree)]
    twice = party.merge(once, tree)
    del masks, once, tree
    assert [each() for each in read] == [None, None, None]
    kept = sum(each.nbytes for each in vars(party).values() if isinstance(each, np.ndarray))
    assert kept <= 30 * twice.nbytes // opened[1]
