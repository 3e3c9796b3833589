"""Up to six products of quotients of few elements are opened together, as numbers mod 2^128, and rounded once."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

import mpc
from mpc.kernels import wide
from mpc.naming import correlations
from mpc.naming.correlations import MAX_LIFTED, MAX_WIDE, MAX_WIDE_ELEMENTS
from mpc.ops.chains.continued import _wide_folded
from mpc.ops.declare import OPS
from mpc.ops.quotients import truncated
from mpc.testing import simulate
from tests.quotients import CLOCKS, above, chain, cost_is_that_of_the_dry_run, exactly, made, own, times, words_of
from tests.references import opened
from tests.waiting import turns

STEPS = 15
RNG = np.random.default_rng(11)
FACTORS = RNG.uniform(-1.0, 1.0, (STEPS, MAX_WIDE_ELEMENTS))
START = np.array([-100.0, 100.0, 1.0, -1.0, 0.0, 2.0, 0.5, -3.0])


async def begun(s, frac=16, elements=1):
    """A quotient, and factors that are masked."""
    factors = await opened(s, own(s, FACTORS[:, :elements], 1.0, frac))
    value = await mpc.mul_trunc(s, own(s, START[:elements], 101.0, frac), factors[0], frac)
    return value.assume_bound(101.0, "factors are at most 1"), factors


# The numbers themselves


EDGES = [0, 1, 2**64 - 1, 2**64, 2**127, 2**128 - 1, -1, -(2**64), 2**128 + 5, 3 << 200]


def drawn(size):
    return [int.from_bytes(RNG.bytes(16), "little") for _ in range(size)]


def test_numbers_are_two_words_each_low_one_first():
    assert wide.integers(wide.words_of(EDGES)) == [value % 2**128 for value in EDGES]
    assert wide.words_of([2**64 + 7]).tolist() == [7, 1]
    assert wide.low(EDGES).tolist() == [value % 2**64 for value in EDGES]
    assert wide.words_of([]).shape == (0,)
    assert wide.integers(np.zeros((0, 2), np.uint64)) == []


def test_less_borrows_from_the_high_word():
    pairs = [(left, right) for left in EDGES for right in EDGES]
    left, right = zip(*pairs, strict=True)
    found = wide.integers(wide.minus(wide.words_of(left), wide.words_of(right)))
    assert found == [(one - other) % 2**128 for one, other in pairs]


@pytest.mark.parametrize("n", [2, 3, 5, 1000])
def test_lanes_of_many_parties_add_up(n):
    values, masks = [drawn(len(EDGES)) for _ in range(n)], [drawn(len(EDGES)) for _ in range(n)]
    values[0], masks[0] = EDGES, [2**128 - 1] * len(EDGES)
    sent = [wide.hidden(wide.words_of(own), wide.words_of(mask)) for own, mask in zip(values, masks, strict=True)]
    assert all(int(lanes.max()) < 1 << wide.LANE_BITS for lanes in sent)
    total = wide.opened(np.sum(sent, axis=0, dtype=np.uint64))
    columns = zip(zip(*values, strict=True), zip(*masks, strict=True), strict=True)
    assert total == [(sum(own) - sum(mask)) % 2**128 for own, mask in columns]


@pytest.mark.parametrize("drop", [1, 31, 63, 64, 65, 96])
def test_truncated_numbers_are_within_one_unit(drop):
    most = 2**126 - 1
    values = [0, 1, -1, most, -most, 2**drop, -(2**drop), 2**drop - 1, *[value >> 8 for value in drawn(100)]]
    masks = [0, 2**127, 2**128 - 1, 2**127 - 1, *drawn(len(values) - 4)]
    c = wide.array([(value + 2**126 + mask) % 2**128 for value, mask in zip(values, masks, strict=True)], (-1,))
    high, top = wide.low([mask >> drop for mask in masks]), np.array([mask >> 127 for mask in masks], np.uint32)
    other = RNG.integers(0, 2**32, top.size, dtype=np.uint32)
    shares = [
        truncated(c, high - np.uint64(9), top - other, drop, first=True),
        truncated(c, np.full_like(high, 9), other, drop, first=False),
    ]
    errors = [(int(found) - (value >> drop)) % 2**64 for found, value in zip(sum(shares), values, strict=True)]
    assert set(errors) <= {0, 1}


@pytest.mark.parametrize("lost", [0, 1 << 40])
def test_the_kernel_is_the_product_of_the_sums(lost):
    """Shares of two parties of three masks and of what is dealt: together they are (C + K t - h) times all d + a."""
    for _ in range(20):
        whole, shifted, top = drawn(1)[0], drawn(1)[0] >> 88, 1
        differences, masks = drawn(3), drawn(3)
        sets = [math.prod(masks[i] for i in range(3) if number >> i & 1) for number in range(8)]
        dealt = [*[sets[number] for number in (3, 5, 6, 7)], *[of_set * shifted for of_set in sets], *[of_set * top for of_set in sets]]
        others, of_masks = drawn(len(dealt)), drawn(3)
        mine = [value - other for value, other in zip(dealt, others, strict=True)]
        one = _wide_folded((whole, lost), differences, [a - b for a, b in zip(masks, of_masks, strict=True)], mine, first=True)
        two = _wide_folded((whole, lost), differences, of_masks, others, first=False)
        wanted = (whole + lost * top - shifted) * math.prod(d + a for d, a in zip(differences, masks, strict=True))
        assert (one + two - wanted) % 2**128 == 0


# The protocol


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize(("frac", "elements", "together"), [(16, 1, 6), (16, 8, 5), (20, 3, 4), (12, 4, 6)])
def test_many_products_take_one_round_and_are_rounded_once(n, frac, elements, together):
    async def program(s):
        value, factors = await begun(s, frac, elements)
        before, seen = s.cost.rounds, [value.words, factors.share().words]
        for number in range(1, 1 + 2 * together):
            value = await times(s, value, factors[number], frac)
            if number % together == 0:
                seen.append(await made(s, value))
                # And one for all that masks them anew.
                assert s.cost.rounds - before == number // together + 1
            else:
                assert (value.since, value.dropped) == (number % together, frac * (number % together))
        return seen

    value, factors, *steps = words_of(simulate(n, program, clocks=CLOCKS))
    for number, after in enumerate(steps):
        those = factors[1 + number * together : 1 + (number + 1) * together]
        assert above(after, exactly((value, *those), frac * together)) <= {0, 1}
        value = after


@pytest.mark.parametrize("n", [2, 3, 5])
def test_masked_words_of_every_size_are_lifted(n):
    """This includes words at the limits of what is allowed, whether the carry of the mask is lost or not."""
    most = (1 << 60) - 1
    values = np.array([most, -most, 0, -1, 1, 2**32, -(2**32), 5], np.int64)

    async def program(s):
        shares = np.random.default_rng(1).integers(0, 2**64, (s.n, values.size), dtype=np.uint64)
        shares[0] += values.view(np.uint64) - np.sum(shares, axis=0, dtype=np.uint64)
        large = await opened(s, s._ops.share(shares[s.index], frac=0, bound=2.0**60, lineage=1))
        one = await opened(s, own(s, np.ones(8), 1.0, 1))
        small = (await mpc.mul_trunc(s, one, one, 1)).assume_bound(1.0, "ones")
        # Three factors, of which the large one is read as a fraction.
        product = await mpc.mul_trunc(s, await mpc.mul_trunc(s, small, one, 1), one, 1)
        product = await mpc.mul_trunc(s, product.assume_bound(1.0, "ones"), large.ldexp(-60), 32)
        assert product.since in {3, 0}
        return [small.words, one.share().words, large.share().words, product.words if product.since == 0 else await made(s, product)]

    small, one, large, result = words_of(simulate(n, program, clocks=CLOCKS))
    assert large.tolist() == values.tolist()
    assert above(result, exactly((small, one, one, large), 34)) <= {0, 1}


async def views(s, value, factors):
    """Rows, parts of rows, other bounds and scales, in another shape: all of one masked value, which is masked anew once."""
    other = factors.reshape(STEPS * 2, -1)
    for factor in (factors[1], other[4:6].reshape(2).assume_bound(1.0, "the same"), factors[3][::-1], factors.T[:, 4].ldexp(3).ldexp(-3)):
        value = await times(s, value, factor)
    return value


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("planned", [False, True])
def test_views_are_lifted_with_the_whole(n, planned):
    async def program(s):
        value, factors = await begun(s, elements=2)
        before = s.cost.rounds
        result = await (s.run(views, value, factors) if planned else views(s, value, factors))
        await s.made(result)
        assert s.cost.rounds - before == 2
        again = await views(s, value, factors)
        await s.made(again)
        assert s.cost.rounds - before == 3
        return [value.words, factors.share().words, result.words, again.words]

    value, factors, result, again = words_of(simulate(n, program, clocks=CLOCKS))
    chosen = (value, factors[1], factors[2], factors[3][::-1], factors[4])
    for found in (result, again):
        assert above(found, exactly(chosen, 64)) <= {0, 1}


def test_two_tasks_lift_what_they_share_once():
    @mpc.protocol
    async def part(s, value, factors, late):
        if late:
            await turns()
        for number in range(1, 7):
            value = await times(s, value, factors[number])
        return await s.reveal(value)

    async def program(s):
        value, factors = await begun(s)
        # Each party has another task that comes first.
        tasks = [part(s, value, factors, s.index == number) for number in range(2)]
        return [float(found[0]) for found in await asyncio.gather(*tasks)]

    first, second = simulate(2, program, clocks=CLOCKS)
    assert first == second
    assert np.allclose(first, START[0] * FACTORS[:7, 0].prod(), atol=0.02)


@pytest.mark.parametrize("n", [2, 3])
def test_what_cannot_be_lifted_goes_two_by_two(n):
    """Sums of masked values, and rows of too many elements."""

    async def program(s):
        value, factors = await begun(s)
        large = await s.mask(s.zero((MAX_LIFTED + 1,), frac=16).assume_bound(1.0, "zeros"))
        waiting = []
        for factor in (factors[1] + factors[2], large[:1]):
            product = value
            for _ in range(2):
                product = await times(s, product, factor)
                waiting.append(product.since)
        return waiting

    assert simulate(n, program, clocks=CLOCKS) == [[1, 0, 1, 0]] * n


@pytest.mark.parametrize("n", [2, 3])
def test_a_chain_goes_on_from_numbers_to_words_and_back(n):
    """A quotient that was opened in numbers is multiplied by one value that is read, by two, and by many."""

    async def program(s):
        value, factors = await begun(s)
        for number in range(1, 7):
            value = await times(s, value, factors[number])
        seen = [await made(s, value), factors.share().words]
        one = await times(s, value, factors[7])
        await s.made(one)
        two = await times(s, await times(s, value, factors[7]), factors[8])
        await s.made(two)
        after = await times(s, await times(s, two, factors[9]), factors[10])
        await s.made(after)
        many = two
        for number in range(9, 13):
            many = await times(s, many, factors[number])
        await s.made(many)
        return [*seen, one.words, two.words, after.words, many.words]

    value, factors, one, two, after, many = words_of(simulate(n, program, clocks=CLOCKS))
    assert above(one, exactly((value, factors[7]), 16)) <= {0, 1}
    assert above(two, exactly((value, factors[7], factors[8]), 32)) <= {0, 1}
    # What was read on the way has room all the same, and is not rounded for these.
    assert above(after, exactly((value, *factors[7:11]), 64)) <= {0, 1}
    assert above(many, exactly((value, *factors[7:13]), 96)) <= {0, 1}


@pytest.mark.parametrize("n", [2, 3])
def test_whoever_reads_one_on_the_way_opens_that_alone(n):
    async def program(s):
        value, factors = await begun(s)
        seen, kept = [value.words, factors.share().words], []
        for number in range(1, 5):
            value = await times(s, value, factors[number])
            kept.append(value)
        before = s.cost.rounds
        await s.made(*kept)
        assert s.cost.rounds - before == 2
        return [*seen, *[each.words for each in kept]]

    value, factors, *kept = words_of(simulate(n, program, clocks=CLOCKS))
    for number, found in enumerate(kept, 1):
        assert above(found, exactly((value, *factors[1 : number + 1]), 16 * number)) <= {0, 1}


async def counted(s):
    value = await s.run(chain, *await begun(s, elements=2))
    return s.cost.rounds, s.cost.payload, s.cost.corrections, value.words


def test_a_chain_costs_what_its_dry_run_says():
    said = cost_is_that_of_the_dry_run(counted, 3)
    # Three to begin and one to mask anew, one for six products each, and one for the last two.
    assert said.rounds == 3 + 1 + (STEPS - 1) // MAX_WIDE + 1


def test_ops_say_what_each_product_costs():
    """The cost is three lanes to each peer and all corrections for so many factors, in place of what was waiting."""

    async def program(s):
        value, factors = await begun(s, elements=3)
        costs = []
        for number in range(1, 6):
            costs.append(OPS["mul_trunc"].cost(s.n, value, factors[number], 16))
            value = await times(s, value, factors[number])
        return costs

    costs, _ = simulate(2, program, clocks=CLOCKS)
    assert [cost.rounds for cost in costs] == [1] * 5
    assert [cost.payload for cost in costs] == [24, 24, *[72] * 3]
    assert [cost.dealer for cost in costs] == [72, 168, *[3 * (12 + 16 * (3 * 2**k - 1 - k)) for k in (3, 4, 5)]]


@pytest.mark.parametrize("n", [2, 3])
def test_what_drops_too_much_is_opened(n):
    async def program(s):
        value, factors = await begun(s)
        for number in range(1, 4):
            value = await times(s, value, factors[number])
        assert (value.since, value.dropped) == (3, 48)
        # 80 bits are dropped, and 32 more would be too many.
        large = await mpc.mul_trunc(s, value.assume_bound(2.0**13, "a test"), factors[4], 32)
        return [large.since, large.dropped]

    assert simulate(n, program, clocks=CLOCKS) == [[0, 80]] * n


def test_elements_beyond_few_go_two_by_two(monkeypatch):
    monkeypatch.setattr(correlations, "MAX_WIDE_ELEMENTS", 1)

    async def program(s):
        value, factors = await begun(s, elements=2)
        waiting = []
        for number in range(1, 5):
            value = await times(s, value, factors[number])
            waiting.append(value.since)
        return waiting

    assert simulate(2, program, clocks=CLOCKS) == [[1, 0, 1, 0]] * 2


def test_bounds_are_checked_of_what_waits():
    async def program(s):
        value, factors = await begun(s)
        for number in range(1, 5):
            value = (await mpc.mul_trunc(s, value, factors[number], 16)).assume_bound(101.0 if number < 4 else 2.0**-14, "a lie")
        return await s.reveal(value)

    with pytest.raises(mpc.testing.ExceededBoundError):
        simulate(2, program, clocks=CLOCKS, check_bounds=True)
