"""Sealed records under attack are delivered once and in order, or the channel is dead (invariants 14, 17, 18)."""

from __future__ import annotations

import pytest

from mpc import PeerMisbehaved
from mpc.framing.records import MAX_COUNTER, MAX_RECORD, Opener, Sealer, opening_buffer

KEY, OTHER = b"k" * 32, b"o" * 32
SUITES = ["AESGCM", "ChaChaPoly"]


@pytest.fixture(params=SUITES)
def ends(request):
    return Sealer(KEY, request.param), Opener(KEY, request.param, "peer", opening_buffer())


def dead(opener, sealer):
    with pytest.raises(PeerMisbehaved):
        opener.open(sealer.seal(b"next"))


def test_round_trip_of_every_size(ends):
    sealer, opener = ends
    for size in (0, 1, 15, 16, 17, 70_000, MAX_RECORD):
        assert opener.open(sealer.seal(bytes(size))) == bytes(size)
    with pytest.raises(ValueError, match="at most"):
        sealer.seal(bytes(MAX_RECORD + 1))


ATTACKS = {
    "replayed": lambda one, two: [one, one],
    "reordered": lambda one, two: [two],
    "gap": lambda one, two: [two, one],
    "truncated": lambda one, two: [one[:-1]],
    "extended": lambda one, two: [one + b"\0"],
    "empty": lambda one, two: [b""],
    "short": lambda one, two: [one[:15]],
    "huge": lambda one, two: [bytes(MAX_RECORD + 17)],
    "first bit": lambda one, two: [bytes([one[0] ^ 1]) + one[1:]],
    "last bit": lambda one, two: [one[:-1] + bytes([one[-1] ^ 128])],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacked_directions_are_dead_for_ever(ends, attack):
    sealer, opener = ends
    right = sealer.seal(b"one"), sealer.seal(b"two")
    with pytest.raises(PeerMisbehaved, match="peer"):
        for frame in ATTACKS[attack](*right):
            opener.open(frame)
    # What would have been the next one is none any more.
    for record in right:
        with pytest.raises(PeerMisbehaved):
            opener.open(record)
    dead(opener, sealer)


@pytest.mark.parametrize("suite", SUITES)
def test_a_record_opens_under_its_own_key_and_suite_only(suite):
    """Each direction has its own key, so what this side sealed does not open here: `test_channel.py` reflects records."""
    (other,) = set(SUITES) - {suite}
    record = Sealer(KEY, suite).seal(b"mine")
    assert Opener(KEY, suite, "peer", opening_buffer()).open(record) == b"mine"
    for key, cipher in ((OTHER, suite), (KEY, other)):
        with pytest.raises(PeerMisbehaved):
            Opener(key, cipher, "peer", opening_buffer()).open(record)


def test_keys_change_on_both_sides_after_the_same_record(ends):
    suite = ends[0]._suite
    sealer, opener = Sealer(KEY, suite, rekey_after=100), Opener(KEY, suite, "peer", opening_buffer(), rekey_after=100)
    never = Opener(KEY, suite, "peer", opening_buffer())
    for number in range(10):
        raw = sealer.seal(bytes(30))
        assert opener.open(raw) == bytes(30)
        if number < 4:
            never.open(raw)
        elif number == 4:
            with pytest.raises(PeerMisbehaved):
                never.open(raw)


def test_the_counter_ends_before_it_repeats(ends):
    sealer, _ = ends
    sealer._counter = MAX_COUNTER
    sealer.seal(b"the last")
    with pytest.raises(OverflowError, match="used up"):
        sealer.seal(b"one too many")


def test_no_two_records_look_alike(ends):
    sealer, _ = ends
    assert len({sealer.seal(b"same") for _ in range(100)}) == 100


def test_repr_shows_no_key(ends):
    assert all("k" * 32 not in repr(end) for end in ends)
