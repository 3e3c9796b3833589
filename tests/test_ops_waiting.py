"""Products of many factors wait until somebody reads them (decision 0024)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
from mpc import PeerLost
from mpc.estimate import estimate
from mpc.messaging.exchange import Exchange
from mpc.network.mesh import Clocks
from mpc.ops.chains.groups import most_factors, most_waiting
from mpc.testing import simulate
from tests.references import Turns, added_up, opened, shared, total

EDGES = np.array([0, 1, 2**64 - 1, 2**63, 2**63 - 1, 2**32, 3, 2**64 - 5], np.uint64)


def words_at(shape, seed, *, odd=True):
    """Odd words, of which no product is 0, or any."""
    words = np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)
    return words | np.uint64(1) if odd else words


async def times(s, value, factor):
    return (await mpc.mul(s, value, factor)).assume_bound(1.0, "a lie")


async def masked(s, words):
    """All of them under one mask."""
    return (await opened(s, shared(s, words, 1))).assume_bound(1.0, "a lie")


async def chain(s, factors, length):
    value = factors[0]
    for number in range(1, length):
        value = await times(s, value, factors[number])
    return value


LENGTHS = (13, 14, 20, 97, 257, 600)
ROUNDS = {(): (1, 1, 1, 2, 2, 2), (2,): (1, 1, 1, 2, 2, 3), (8,): (1, 1, 1, 2, 2, 3)}
"""Of a chain of each of these lengths, by the shape of its values: groups of eight take one, groups of such groups another, and so on."""


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("shape", ROUNDS)
@pytest.mark.parametrize("n", [2, 3])
def test_a_chain_that_is_read_at_its_end_is_exact_and_takes_few_rounds(n, shape, length):
    words = words_at((length, *shape), length)

    async def program(s):
        factors = await masked(s, words)
        before, multiplies = s.cost.rounds, Turns(chain(s, factors, length))
        value = await multiplies
        await s.made(value)
        return value.words, multiplies.waited, s.cost.rounds - before, (s.cost.rounds, s.cost.payload), s.cost.corrections

    shares, waited, rounds, costs, corrections = zip(*simulate(n, program), strict=True)
    assert np.array_equal(total(shares), np.multiply.reduce(words, axis=0, dtype=np.uint64))
    assert not any(waited)
    assert set(rounds) == {ROUNDS[shape][LENGTHS.index(length)]}
    said = estimate(program, n)
    assert set(costs) == {(said.rounds, said.payload)}
    assert sum(corrections) == said.dealer


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_prefix_of_a_chain_is_that_of_the_plain_one_whatever_is_read_when(n):
    """Edge words under masks of their own, unmasked ones between, products of products; the last products are read first."""
    words = np.concatenate([np.tile(EDGES, 4), words_at((28,), n, odd=False)])

    async def program(s):
        factors = [(await opened(s, shared(s, word, number))).assume_bound(1.0, "a lie") for number, word in enumerate(words)]
        value, products = factors[0], []
        for number in range(1, len(words)):
            factor = factors[number].share() if number == 25 else factors[number]
            value = await times(s, value, factor)
            products.append(value)
        products.append(await times(s, products[40], products[-1]))
        for product in reversed(products):
            await s.made(product)
        return [product.words for product in products]

    wanted = list(np.multiply.accumulate(words, dtype=np.uint64)[1:])
    wanted.append(wanted[40] * wanted[-1])
    for shares, expected in zip(zip(*simulate(n, program), strict=True), wanted, strict=True):
        assert total(shares) == expected


async def both(s, factors, length):
    """Two chains that are multiplied in turn: neither follows its own call before, so groups are made with every few factors."""
    there, back = factors[0], factors[-1]
    for number in range(1, length):
        there, back = await times(s, there, factors[number]), await times(s, back, factors[-1 - number])
    return there, back


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_chains_that_are_multiplied_in_turn_wait_for_nothing(n):
    words = words_at((120,), 4)

    async def program(s):
        multiplies = Turns(both(s, await masked(s, words), len(words)))
        products = await multiplies
        await s.made(products)
        return [product.words for product in products], multiplies.waited, (s.cost.rounds, s.cost.payload), s.cost.corrections

    shares, waited, costs, corrections = zip(*simulate(n, program), strict=True)
    product = np.multiply.reduce(words, dtype=np.uint64)
    assert [total(parts) for parts in zip(*shares, strict=True)] == [product] * 2
    assert not any(waited)
    said = estimate(program, n)
    assert set(costs) == {(said.rounds, said.payload)}
    assert said.rounds == 3
    assert sum(corrections) == said.dealer


@pytest.mark.parametrize(("shape", "rounds"), [((), (4, 5)), ((8,), (5, 6))])
def test_the_rounds_of_chains_that_are_multiplied_in_turn_grow_as_their_logarithm(shape, rounds):
    """This holds as long as newer products do not go into older ones."""
    for length, wanted in zip((1000, 3000), rounds, strict=True):

        async def program(s, length=length):
            await s.made(await both(s, await masked(s, words_at((length, *shape), 5)), length))

        assert estimate(program, 2).rounds == wanted


def test_how_long_a_product_waits_depends_on_its_size():
    assert [most_waiting((m,)) for m in (1, 2, 8)] == [256, 128, 32]
    assert all(most_waiting((m,)) == most_factors((m,)) for m in (9, 16, 300, 3000))
    assert most_waiting(()) == most_waiting((0,)) == 256


@pytest.mark.parametrize("between", [None, "a call", "another chain"])
def test_what_another_call_may_have_read_does_not_wait(between, monkeypatch):
    """Only between calls in sequence has surely nothing read the product; otherwise its groups are opened when it is multiplied."""
    asked, plain = [], Exchange.open

    async def noted(self, scope, *arguments):
        if scope.name == "group":
            asked.append(self.me)
        return await plain(self, scope, *arguments)

    monkeypatch.setattr(Exchange, "open", noted)
    words = words_at((40,), 3)

    async def program(s):
        factors = await masked(s, words)
        values = [factors[0], factors[0]]
        for number in range(1, 40):
            values[0] = await times(s, values[0], factors[number])
            if between == "a call":
                await s.reveal(s.zero(()))
            elif between == "another chain":
                values[1] = await times(s, values[1], factors[number])
        await s.reveal(s.zero(()))
        before = len(asked)
        await s.made(values)
        return [value.words if isinstance(value, mpc.AShare) else None for value in values], before

    shares, before = zip(*simulate(2, program), strict=True)
    product = np.multiply.reduce(words, dtype=np.uint64)
    chains = 2 if between == "another chain" else 1
    assert [total([each[number] for each in shares]) for number in range(chains)] == [product] * chains
    if between is None:
        # Five groups of eight, opened together when the product is read.
        assert max(before) < 2
        assert len(asked) == 2
    else:
        # Of every seventh product, while the chain goes on.
        assert len(asked) == 2 * 4 * chains
        assert min(before) > 0


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
@pytest.mark.parametrize("n", [2, 3])
def test_several_tasks_may_read_what_waits(n, seed):
    """The first reader begins the opening, a different task at every party; the rounds are at most the estimated ones."""
    words = words_at((50,), 5)

    @mpc.protocol
    async def reads(s, product, number):
        if s.id != b"dry run" and (s.index + number) % n:
            await asyncio.sleep(0)
            await s.reveal(s.zero(()))
        else:
            await s.reveal(s.zero(()))
        twice = await mpc.mul(s, product.assume_bound(1.0, "a lie"), product.assume_bound(1.0, "a lie"))
        await s.made(product, twice)
        return product.words, twice.words

    async def program(s):
        product = await chain(s, await masked(s, words), 50)
        results = await asyncio.gather(*(reads(s, product, number) for number in range(3)))
        return results, s.cost.payload

    product = np.multiply.reduce(words, dtype=np.uint64)
    results, payloads = zip(*simulate(n, program, seed=seed), strict=True)
    assert set(payloads) == {estimate(program, n).payload}
    for of_one_task in zip(*results, strict=True):
        assert total([once for once, _ in of_one_task]) == product
        assert int(total([twice for _, twice in of_one_task])) == int(product) ** 2 % 2**64


@pytest.mark.parametrize("planned", [True, False])
def test_sums_of_products_that_wait(planned):
    words = words_at((60,), 6)

    async def sums(s, factors):
        value = added = factors[0].share()
        value = factors[0]
        for number in range(1, 60):
            value = await times(s, value, factors[number])
            added = (added + value).assume_bound(1.0, "a lie")
        return added

    async def program(s):
        factors = await masked(s, words)
        added = await (s.run(sums, factors) if planned else sums(s, factors))
        await s.made(added)
        return added.words

    assert total(simulate(3, program)) == np.sum(np.multiply.accumulate(words, dtype=np.uint64), dtype=np.uint64)


@pytest.mark.parametrize("outside", [5, 12, 13, 20, 100])
def test_a_planned_program_goes_on_with_a_product_that_waits(outside):
    """Its dry run knows of which call the product is, without its words."""
    words = words_at((outside + 30,), 8)

    async def more(s, value, factors):
        for number in range(outside, outside + 30):
            value = await times(s, value, factors[number])
        return value

    async def program(s):
        factors = await masked(s, words)
        product = await s.run(more, await chain(s, factors, outside), factors)
        return product.words

    assert total(simulate(2, program)) == np.multiply.reduce(words, dtype=np.uint64)


def test_a_party_that_fails_while_others_read_ends_the_session_there():
    words, told = words_at((100,), 7), []

    async def program(s):
        product = await chain(s, await masked(s, words), 100)
        if s.index == 0:
            raise KeyError("mine")
        try:
            await s.reveal(product)
        except PeerLost as fault:
            told.append(fault.party)
            raise

    with pytest.raises(KeyError, match="mine"):
        simulate(3, program, clocks=Clocks(join=5.0, lost=5.0, stall=5.0))
    assert told == ["p0", "p0"]


@pytest.mark.parametrize("n", [2, 3])
def test_long_names_wait_too_and_every_relation_fits_into_a_message(n):
    """Thirty factors, each a sum of 20 masked values, in a deep scope: one group in a relation."""

    async def program(s, depth=60):
        if depth:
            return await mpc.protocol(program)(s, depth - 1)
        factor = added_up([(await opened(s, shared(s, EDGES[1:2], number))).assume_bound(1.0, "it is 1") for number in range(20)])
        value, before = factor, s.cost.rounds
        for _ in range(29):
            value = await times(s, value, factor)
        await s.made(value)
        return value.words, s.cost.rounds - before

    shares, rounds = zip(*simulate(n, program), strict=True)
    assert total(shares) == np.uint64(20**30 % 2**64)
    assert set(rounds) == {1}


@pytest.mark.parametrize("n", [2, 3])
def test_a_long_chain_in_a_call_far_inside_of_others(n):
    """The names of 32 groups of eight factors, each masked by itself, do not fit into one message; nor do those of twelve sums of 20."""
    words = words_at((300,), 9)

    async def program(s, depth=150):
        if depth:
            return await mpc.protocol(program)(s, depth - 1)
        factors = [(await s.mask(shared(s, word, number))).assume_bound(1.0, "a lie") for number, word in enumerate(words)]
        value = await chain(s, factors, 300)
        sums = added_up(factors[:20]).assume_bound(1.0, "a lie")
        power = await chain(s, [sums] * 12, 12)
        await s.made(value, power)
        return value.words, power.words, (s.cost.rounds, s.cost.payload)

    values, powers, costs = zip(*simulate(n, program), strict=True)
    assert total(values) == np.multiply.reduce(words, dtype=np.uint64)
    assert total(powers) == np.multiply.reduce(np.full(12, np.sum(words[:20], dtype=np.uint64)), dtype=np.uint64)
    said = estimate(program, n)
    assert set(costs) == {(said.rounds, said.payload)}
