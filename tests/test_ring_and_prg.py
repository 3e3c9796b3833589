"""Ring words, AES-CTR streams, and the allocation of their ranges (invariants 1, 3, 4, 5)."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mpc.naming.expressions import Range
from mpc.naming.streams import FEW, KEPT, Ranges, Seed, Streams, pair_seed
from mpc.prg import Stream, blocks_for, derive, fields
from mpc.ring import WORD, count, frozen, signed, zeros

SEED = bytes(range(32))


def test_frozen_words_cannot_change():
    words = frozen(zeros((3,)))
    with pytest.raises(ValueError, match="read-only"):
        words[0] = 1
    assert frozen(np.uint64(7)).shape == ()


def test_signed_reads_twos_complement_at_every_width():
    for kind in ("u1", "u2", "u4", "u8"):
        top = np.array([np.iinfo(kind).max], kind)
        assert signed(top)[0] == -1
    assert count(()) == 1
    assert count((3, 0, 5)) == 0


def test_stream_is_aes_ctr_of_the_counter():
    label = ("mask", "1.2")
    key = derive(SEED, *label)[:16]
    expected = Cipher(algorithms.AES(key), modes.CTR((5).to_bytes(16, "big"))).encryptor().update(bytes(48))
    assert Stream(SEED, label).words(5, (6,)).tobytes() == expected
    # Short reads and long ones take different ways to the same words.
    stream = Stream(SEED, label)
    whole = stream.words(0, (200,))
    for start in range(20):
        for size in range(40):
            words = stream.slice(3, start, start + size)
            assert np.array_equal(words, whole[6 + start : 6 + start + size])
            assert words.flags.writeable


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, (1 << 15) - 1, 1 << 15, (1 << 16) + 7])
def test_any_slice_can_be_made_again(size):
    stream = Stream(SEED, ("x",))
    whole = stream.words(0, (size + 8,))
    assert np.array_equal(stream.words(4, (size,)), whole[8 : 8 + size])
    assert whole.dtype == WORD


def test_every_key_bit_changes_the_stream():
    plain = Stream(SEED, ("mask", "0")).words(0, (4,))
    for bit in range(256):
        flipped = bytearray(SEED)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not np.array_equal(Stream(bytes(flipped), ("mask", "0")).words(0, (4,)), plain)


def test_every_part_of_the_pair_seed_counts():
    base = {"exporter": b"e" * 64, "transcript": b"t" * 64, "session": b"s" * 32, "job": b"j" * 32, "one": "a", "other": "b"}
    plain = pair_seed(**base)
    assert plain == pair_seed(**{**base, "one": "b", "other": "a"})
    for name, value in base.items():
        other = "z" if isinstance(value, str) else bytes([value[0] ^ 1]) + value[1:]
        assert pair_seed(**{**base, name: other}) != plain, name


def test_labels_and_fields_are_unambiguous():
    assert fields("ab", "c") != fields("a", "bc")
    assert fields("1") != fields(1)
    assert derive(SEED, "ab", "c") != derive(SEED, "a", "bc")
    for size in (0, 15, 65):
        with pytest.raises(ValueError, match="between 16 and 64"):
            derive(bytes(size))


def test_masks_are_uniform_and_reach_both_ends():
    """Chi-squared on bytes with 255 degrees of freedom: beyond 400 happens once in 10^7 keys, and the key is fixed."""
    octets = Stream(SEED, ("chi",)).words(0, (1 << 17,)).view(np.uint8)
    counts = np.bincount(octets, minlength=256)
    expected = octets.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 400
    narrow = Stream(SEED, ("chi",)).words(0, (1 << 16,)).view(np.uint16)
    assert narrow.min() == 0
    assert narrow.max() == 65535


def test_ranges_never_overlap():
    ranges = Ranges("3.1")
    spans = []
    for size in (1, 2, 3, 0, 1000, 7):
        taken = ranges.take("mask", (size,))
        spans.append((taken.block, taken.block + taken.blocks))
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False))
    assert ranges.take("share", (1,)).block == 0
    assert blocks_for(3) == 2


def test_usages_scopes_and_pairs_have_separate_streams():
    seeds = [derive(SEED, "seed", number) for number in range(3)]
    streams = Streams(0, seeds[0], {1: seeds[1], 2: seeds[2]})
    made = []
    for where in (Range("0", 0, (64,)), Range("1", 0, (64,))):
        made += [streams.mask(where, usage) for usage in ("mask", "bit-mask")]
        made += [streams.share(usage, where) for usage in ("share", "bit-share")]
        made += [streams.zero(where, usage) for usage in ("zero", "zero-xor")]
    words = np.concatenate(made)
    assert len(set(words.tolist())) == words.size


@pytest.mark.parametrize("words", [0, 1, FEW - 1, FEW, FEW + 1, FEW + 2])
def test_parts_of_a_range_are_those_of_the_whole(words):
    seed, where = Seed(SEED), Range("3.1", 7, (words,))
    whole = seed.words("mask", where)
    assert whole.shape == (words,)
    assert whole.flags.writeable
    for start in range(words):
        for stop in range(start, words + 1):
            assert np.array_equal(seed.slice("mask", where, start, stop), whole[start:stop])


@pytest.mark.parametrize("words", [1000, KEPT, KEPT + 1])
def test_rows_of_several_ranges_in_turn_are_those_of_each(words):
    seed = Seed(SEED)
    places = [("mask", Range("3", 0, (words,))), ("share", Range("3", 0, (words,))), ("mask", Range("3", words, (words // 2, 2)))]
    wholes = [Seed(SEED).words(usage, where).reshape(-1) for usage, where in places]
    for start, stop in ((0, 1), (5, 9), (words - 2, words), (4, 4), (0, words), (7, 8)):
        for (usage, where), whole in zip(places, wholes, strict=True):
            row, expected = seed.slice(usage, where, start, stop), whole[start:stop]
            assert np.array_equal(row, expected)
            # Whoever adds other parties' words to it changes nothing for the next.
            row += np.uint64(1)


def test_short_ranges_are_those_of_blake2b_and_all_differ():
    places = [
        (usage, scope, block) for usage in ("mask", "share", "zero") for scope in ("", "1", "1 2", "11") for block in (0, 1, 2, 11, 12)
    ]
    made = {place: Seed(SEED).words(place[0], Range(place[1], place[2], (FEW,))).tobytes() for place in places}
    assert len(set(made.values())) == len(places)
    for (usage, scope, block), words in made.items():
        assert words == blake2b(f"{usage} {block} {scope}".encode(), key=SEED, person=b"beaver/few/v1").digest()
    assert Seed(bytes(32)).words("mask", Range("1", 0, (FEW,))).tobytes() not in made.values()
    octets = np.concatenate([Seed(SEED).words("mask", Range("5", block, (FEW,))) for block in range(4096)]).view(np.uint8)
    counts = np.bincount(octets, minlength=256)
    # 255 degrees of freedom: mean 255, standard deviation 22.6.
    assert ((counts - octets.size / 256) ** 2 / (octets.size / 256)).sum() < 400


def test_every_bit_of_the_seed_counts_in_short_ranges_too():
    where, made = Range("1", 0, (2,)), {Seed(SEED).words("mask", Range("1", 0, (2,))).tobytes()}
    for bit in range(8 * len(SEED)):
        flipped = bytearray(SEED)
        flipped[bit // 8] ^= 1 << bit % 8
        made.add(Seed(bytes(flipped)).words("mask", where).tobytes())
    assert len(made) == 8 * len(SEED) + 1


def test_zero_shares_of_all_pairs_cancel_and_no_proper_subset_does():
    n = 4
    seeds = {(i, j): derive(SEED, min(i, j), max(i, j)) for i in range(n) for j in range(n) if i != j}
    where = Range("9", 3, (50,))
    shares = [Streams(i, SEED, {j: seeds[i, j] for j in range(n) if j != i}).zero(where) for i in range(n)]
    assert not np.any(sum(shares))
    for subset in range(1, (1 << n) - 1):
        assert np.all(sum(shares[i] for i in range(n) if subset >> i & 1))
