"""Chains of fixed-point products do not wait for their own openings; a read of a product does (decision 0026)."""

from __future__ import annotations

import asyncio
from weakref import WeakSet

import numpy as np
import pytest

import mpc
from mpc import PeerLost, ProgramError
from mpc.estimate import estimate
from mpc.later import FEW
from mpc.messaging.exchange import Exchange
from mpc.naming import scope
from mpc.testing import ExceededBoundError, simulate
from mpc.values.unmade import Applied
from tests.quotients import CLOCKS, above, cost_is_that_of_the_dry_run, exactly, made, own, times, words_of
from tests.references import opened

STEPS = 31


def numbers(elements, steps=STEPS):
    return np.random.default_rng(elements).uniform(-1, 1, (steps, elements))


async def begun(s, elements, frac, steps=STEPS):
    """A quotient, and factors that are masked, what takes two openings."""
    factors = await opened(s, own(s, numbers(elements, steps), 1.0, frac))
    value = await mpc.mul_trunc(s, own(s, numbers(elements)[-1], 101.0, frac), factors[0], frac)
    return value.assume_bound(101.0, "factors are at most 1"), factors


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("elements", "frac", "together", "lifted"), [(1, 16, 6, 1), (8, 16, 5, 1), (20, 16, 2, 0), (20, 20, 1, 0), (FEW, 16, 2, 0)]
)
def test_a_chain_counts_no_round_before_it_is_read(n, elements, frac, together, lifted):
    async def program(s):
        value, factors = await begun(s, elements, frac)
        before, kept = s.cost.rounds, [value]
        for number in range(1, STEPS):
            value = await times(s, value, factors[number], frac)
            if number % together == 0:
                kept.append(value)
        waited = s.cost.rounds - before
        seen = [await made(s, each) for each in (*kept, factors.share())]
        return waited, s.cost.rounds - before, seen

    waited, rounds, seen = zip(*simulate(n, program, clocks=CLOCKS), strict=True)
    assert set(waited) == {0}
    assert set(rounds) == {(STEPS - 1) // together + lifted}
    *kept, factors = words_of(seen)
    for at, (before, after) in enumerate(zip(kept, kept[1:], strict=False)):
        those = factors[1 + at * together : 1 + (at + 1) * together]
        assert above(after, exactly((before, *those), frac * together)) <= {0, 1}


def test_of_large_ones_one_is_under_way():
    async def program(s):
        value, factors = await begun(s, FEW + 1, 20)
        before, rounds = s.cost.rounds, []
        for number in range(1, 4):
            value = await times(s, value, factors[number], 20)
            rounds.append(s.cost.rounds - before)
        return rounds

    assert simulate(2, program, clocks=CLOCKS) == [[1, 2, 3]] * 2


async def two_chains(s, elements=20):
    """Two that need nothing of each other, one after the other; the sum of both."""
    value, factors = await begun(s, elements, 20)
    ends = []
    for start in (1, STEPS // 2):
        end = value
        for number in range(start, start + 4):
            end = await times(s, end, factors[number], 20)
        ends.append(end)
    return ends[0] + ends[1]


async def counted(s):
    total = await two_chains(s)
    await s.made(total)
    return s.cost.rounds, s.cost.payload, s.cost.corrections


@pytest.mark.parametrize("n", [2, 3])
def test_chains_that_need_nothing_of_each_other_take_the_rounds_of_one(n):
    # Masking, the first product, which masks its other operand and is opened, and four for both chains.
    assert cost_is_that_of_the_dry_run(counted, n).rounds == 1 + 2 + 4


@pytest.mark.parametrize("elements", [1, 20, FEW + 1])
def test_bounds_are_checked_of_what_nobody_waits_for(elements):
    async def program(s):
        value, factors = await begun(s, elements, 20)
        for number in range(1, 4):
            value = (await mpc.mul_trunc(s, value, factors[number], 20)).assume_bound(101.0 if number < 3 else 2.0**-14, "a lie")

    with pytest.raises(ExceededBoundError):
        simulate(2, program, clocks=CLOCKS, check_bounds=True)


@pytest.mark.parametrize("others", [0, 1, 2])
def test_trips_of_a_product_count_for_whatever_goes_on_from_it(others):
    """Whichever of several products is first to wait for it."""

    async def program(s):
        value, factors = await begun(s, 20, 20)
        for number in range(1, 4):
            value = await times(s, value, factors[number], 20)
        for number in range(others):
            await times(s, value, factors[10 + number], 20)
        for number in range(4, 7):
            value = await times(s, value, factors[number], 20)
        await s.made(value)

    said = estimate(program, 2)
    # Masking, the first product, and six more, for all of which the dealer is asked when the first is there.
    assert (said.rounds, said.trips) == (1 + 2 + 6, 1 + 2 + 2 + 6)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_what_is_opened_anyway_may_be_read_in_any_order(seed):
    """The order may differ between parties, and several tasks may read."""

    @mpc.protocol
    async def reads(s, values):
        for at in range(len(values)):
            # There are seven, a prime, so that every party comes to all.
            await s.made(values[at * (2 * s.index + 1) % len(values)])

    async def program(s):
        value, factors = await begun(s, 3, 20)
        kept = [value]
        for number in range(1, 29):
            value = await times(s, value, factors[number], 20)
            if number % 4 == 0:
                kept.append(value)
        await asyncio.gather(*(reads(s, kept[1:]) for _ in range(3)))
        return [each.words for each in (*kept, factors.share())]

    *kept, factors = words_of(simulate(3, program, clocks=CLOCKS, seed=seed))
    assert len(kept) == 8
    for at, (before, after) in enumerate(zip(kept, kept[1:], strict=False)):
        assert above(after, exactly((before, *factors[1 + 4 * at : 5 + 4 * at]), 80)) <= {0, 1}


def test_what_nobody_reads_is_opened_all_the_same_and_ends_before_the_session():
    async def program(s):
        value, factors = await begun(s, 20, 20)
        before = s.cost.payload
        for number in range(1, 6):
            value = await times(s, value, factors[number], 20)
        return s.cost, before

    for cost, before in simulate(3, program, clocks=CLOCKS):
        # To each peer.
        assert cost.payload - before == 5 * 8 * 20


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("n", [2, 3])
def test_a_sum_of_what_is_on_its_way_keeps_few_addends(n, planned, monkeypatch):
    """A call may wait for what the calls began themselves: it is on its way at every party that has come so far."""
    monkeypatch.setattr(scope, "OFTEN", 16)
    most, alive, plain = [], WeakSet(), Applied.__init__

    def noted(self, *arguments):
        plain(self, *arguments)
        alive.add(self)

    monkeypatch.setattr(Applied, "__init__", noted)

    async def sums(s, value, factors):
        total = value
        for number in range(1, 120):
            value = await times(s, value, factors[number % STEPS], 20)
            total = (total + value).assume_bound(2000.0, "a test's own numbers")
            if number > 100:
                most.append(sum(each.words is None for each in alive))
        return total

    async def program(s):
        value, factors = await begun(s, 20, 20)
        total = await (s.run(sums, value, factors) if planned else sums(s, value, factors))
        total = await s.reveal(total)
        return s.cost.rounds - 1, total

    wanted, value = np.zeros(20), numbers(20)[-1]
    for number in range(120):
        value = value * numbers(20)[number % STEPS]
        wanted += value
    for rounds, total in simulate(n, program, clocks=CLOCKS):
        # Masking, the first product, and those of the chain, whoever has waited for them.
        assert rounds == 1 + 2 + 119
        assert np.allclose(total, wanted, atol=1e-3)
    assert max(most) <= n * 16


def test_a_chain_that_is_cancelled_while_it_lets_others_have_a_turn_ends_the_session():
    """Like every op that is cancelled while it waits: the peers, which do make this call, are told at once."""
    told = []

    async def program(s):
        value, factors = await begun(s, 20, 20)
        try:
            # It waits for nothing, so the clock is heard when it lets others have a turn.
            async with asyncio.timeout(0 if s.index == 0 else None):
                for number in range(1, 300):
                    value = await times(s, value, factors[number % STEPS], 20)
        except TimeoutError:
            told.append(s.index)
        await s.reveal(value)

    with pytest.raises(ProgramError, match=r"an op was cancelled at mul_trunc.255, so this session ended at every party"):
        simulate(2, program, clocks=CLOCKS)
    assert told == [0]


def test_a_peer_that_is_lost_on_the_way_ends_who_reads_the_end(monkeypatch):
    plain, opened = Exchange.open, []

    async def refused(self, scope, kind, *arguments):
        if kind == "fused" and self.me == "p1":
            opened.append(scope.path)
            if len(opened) == 4:
                raise PeerLost("p0", "a test")
        return await plain(self, scope, kind, *arguments)

    monkeypatch.setattr(Exchange, "open", refused)
    read = []

    async def program(s):
        value, factors = await begun(s, 20, 20)
        for number in range(1, STEPS):
            value = await times(s, value, factors[number], 20)
        try:
            await s.made(value)
        except PeerLost as fault:
            read.append((s.index, fault.text))
            raise

    with pytest.raises(PeerLost):
        simulate(2, program, clocks=CLOCKS)
    assert (1, "a test") in read
