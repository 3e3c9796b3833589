"""The peak memory of an op beside its operands and result, as bytes of arrays for each word of an operand and each party."""

import tracemalloc

import numpy as np

import mpc
import protocols
from mpc.fixed_point import FRAC
from mpc.messaging.sinks import Awaited, Sum
from mpc.testing import simulate

SIZE = 1 << 20
PARTIES = 2


def peak_of(program):
    """Words for each element and party that `program(s, x, y)` has at most, of shares x and y of SIZE elements and beside them."""
    peaks = []

    async def measured(s):
        x, y = (s.zero((SIZE,)).add_own(s.encode(np.full(SIZE, number), bound=4.0)) for number in (1.5, -0.5))
        await s.reveal(s.zero(()))
        if s.index == 0:
            tracemalloc.reset_peak()
            peaks.append(tracemalloc.get_traced_memory()[0])
        await s.reveal(s.zero(()))
        outcome = await program(s, x, y)
        await s.reveal(s.zero(()))
        if s.index == 0:
            peaks.append(tracemalloc.get_traced_memory()[1])
        await s.reveal(s.zero(()))
        return outcome

    tracemalloc.start()
    try:
        outcomes = simulate(PARTIES, measured)
    finally:
        tracemalloc.stop()
    before, most = peaks
    return outcomes, (most - before) / (8 * SIZE * PARTIES)


def test_a_reveal_takes_what_it_sends_and_what_it_gives():
    (revealed, _), words = peak_of(lambda s, x, _: s.reveal(x))
    assert np.array_equal(revealed, np.full(SIZE, 1.5 * PARTIES))
    assert words < 2.5


def test_a_sum_keeps_no_share_beside_what_it_sends_and_what_it_gives():
    own = np.full(SIZE, 1.5)
    (total, _), words = peak_of(lambda s, x, y: protocols.secure_sum(s, own))
    assert np.array_equal(total, own * PARTIES)
    assert words < 2.5


def test_zeros_of_a_share_take_no_memory():
    async def others_input(s, x, y):
        return s.zero((SIZE,)), s.input(None, 1 - s.index, (SIZE,))

    (zeros, _), words = peak_of(others_input)
    assert [zero.shape for zero in zeros] == [(SIZE,)] * 2
    assert words < 0.1


def test_a_product_of_chunks_keeps_no_more_than_one_opening():
    (product, _), words = peak_of(lambda s, x, y: mpc.mul_trunc(s, x, y, FRAC))
    assert product.shape == (SIZE,)
    assert words < 6.6


def test_a_comparison_of_chunks_frees_what_its_first_step_alone_needs():
    (bits, _), words = peak_of(protocols.less_than)
    assert bits.shape == (SIZE,)
    assert words < 8.5


def test_what_is_awaited_takes_no_memory_before_it_begins_to_come():
    own = np.ones(SIZE, np.uint64)
    tracemalloc.start()
    try:
        sums, kept = [Sum(own) for _ in range(8)], [Awaited(SIZE) for _ in range(8)]
        before = tracemalloc.get_traced_memory()[1]
        sums[0].write(0, own.data.cast("B")[:64])
        kept[0].write(0, own.data.cast("B")[:64])
        after = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert before < own.nbytes
    assert 2 * own.nbytes <= after < 3 * own.nbytes
    assert (sums[0].total[:8].tolist(), kept[0].words[:8].tolist()) == ([2] * 8, [1] * 8)
    assert (sums[1].total.shape, kept[1].words.shape) == ((SIZE,), (SIZE,))
