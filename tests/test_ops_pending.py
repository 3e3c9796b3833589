"""Products that mask their operands beside the program: the call does not wait, and a read of the product does (decision 0025)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
from mpc import PeerLost
from mpc.estimate import estimate
from mpc.messaging.exchange import Exchange
from mpc.network.mesh import Clocks
from mpc.ops.declare import OPS
from mpc.testing import simulate
from tests.references import opened, shared, total

PARTIES = (2, 3, 4, 5)
SHAPES = [(), (3,), (9,), (2, 300)]
"""Whose products may have twelve factors, nine and three."""


def words_at(shape, seed):
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)


def product_of(words):
    return np.multiply.reduce(words, axis=0, dtype=np.uint64)


async def times(s, x, y):
    return (await mpc.mul(s, x, y)).assume_bound(1.0, "a lie")


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_that_are_awaited_one_after_the_other_are_opened_together(n, shape):
    """Three products of two each, then the product of two of these and another share: in one round, if they may have so many factors."""
    words = words_at((7, *shape), n)

    async def program(s):
        x = [shared(s, each, number) for number, each in enumerate(words)]
        products = [await times(s, x[number], x[number + 1]) for number in (0, 2, 4)]
        waited = s.cost.rounds
        last = await times(s, await times(s, products[0], products[1]), x[6])
        await s.made(products, last)
        return [each.words for each in (*products, last)], waited, (s.cost.rounds, s.cost.payload), s.cost.corrections

    results, waited, costs, corrections = zip(*simulate(n, program), strict=True)
    wanted = [product_of(words[at : at + 2]) for at in (0, 2, 4)] + [product_of(words[[0, 1, 2, 3, 6]])]
    for shares, expected in zip(zip(*results, strict=True), wanted, strict=True):
        assert np.array_equal(total(shares), expected)
    assert set(waited) == {0}
    said = estimate(program, n)
    assert set(costs) == {(said.rounds, said.payload)}
    assert sum(corrections) == said.dealer
    # Of three factors at most, a product of four is made of one group, and that of five of another.
    assert said.rounds == (3 if shape == (2, 300) else 1)


@pytest.mark.parametrize("n", PARTIES)
def test_the_dealer_is_not_asked_for_what_nobody_reads(n):
    words = words_at((2, 5), 1)

    async def program(s):
        await times(s, *(shared(s, each, number) for number, each in enumerate(words)))
        return s.cost.relations

    assert set(simulate(n, program)) == {0}
    said = estimate(program, n)
    # The operands are masked all the same.
    assert (said.rounds, said.payload, said.dealer) == (1, 80, 0)


@pytest.mark.parametrize("read", ["sum", "reveal", "mask", "compare"])
def test_whatever_reads_such_a_product_waits_for_it(read):
    rng = np.random.default_rng(5)
    values = rng.integers(-9, 9, (2, 6))

    async def program(s):
        x, y = (s.input(each if s.index == owner else None, owner, (6,), frac=0, bound=9.0) for owner, each in enumerate(values))
        product = await mpc.mul(s, x, y)
        if read == "mask":
            product = (await s.mask(product)).share()
        if read == "compare":
            return await s.reveal(await mpc.ltz(s, product))
        return await s.reveal((product - 3).sum() if read == "sum" else product)

    product = values[0] * values[1]
    wanted = {"sum": (product - 3).sum(), "compare": product < 0}.get(read, product)
    for n in PARTIES:
        assert all(np.array_equal(found, wanted) for found in simulate(n, program))


def test_an_op_costs_what_it_declares_whichever_operand_is_masked():
    words = words_at((2, 4), 2)

    async def program(s):
        x, y = (shared(s, each, number) for number, each in enumerate(words))
        mx, my = await opened(s, x), await opened(s, y)
        results = []
        for left, right in ((x, y), (mx, y), (x, my), (mx, my), (x, x), (await times(s, mx, my), x)):
            before = s.cost.rounds, s.cost.payload
            await s.made(product := await mpc.mul(s, left, right))
            declared = OPS["mul"].cost(s.n, left, right)
            assert (s.cost.rounds - before[0], s.cost.payload - before[1]) == (declared.rounds, declared.payload)
            results.append(product.words)
        return results

    x, y = words
    for n in PARTIES:
        for shares, expected in zip(zip(*simulate(n, program), strict=True), (x * y, x * y, x * y, x * y, x * x, x * y * x), strict=True):
            assert np.array_equal(total(shares), expected)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
@pytest.mark.parametrize("n", [2, 3])
def test_tasks_may_read_such_products_in_any_order(n, seed):
    words = words_at((8, 2), 7)

    @mpc.protocol
    async def reads(s, products, number):
        for at in range(4):
            await s.made(products[(at * (2 * s.index + 1) + number) % 4])

    async def program(s):
        x = [shared(s, each, number) for number, each in enumerate(words)]
        products = [await times(s, x[at], x[at + 1]) for at in range(0, 8, 2)]
        # What masks the sum of two reads both, in a task of its own.
        both = await times(s, (products[0] + products[1]).assume_bound(1.0, "a lie"), x[7])
        await asyncio.gather(*(reads(s, products, number) for number in range(3)))
        await s.made(both)
        return [each.words for each in (*products, both)]

    wanted = [words[at] * words[at + 1] for at in range(0, 8, 2)]
    wanted.append((wanted[0] + wanted[1]) * words[7])
    for shares, expected in zip(zip(*simulate(n, program, seed=seed), strict=True), wanted, strict=True):
        assert np.array_equal(total(shares), expected)


def test_a_peer_that_is_lost_while_the_operands_are_opened_ends_who_reads_the_product(monkeypatch):
    lost, plain = [], Exchange.open

    async def refused(self, scope, *arguments):
        if scope.name == "mul" and self.me == "p1":
            raise PeerLost("p0", "a test")
        return await plain(self, scope, *arguments)

    monkeypatch.setattr(Exchange, "open", refused)

    async def program(s):
        product = await times(s, shared(s, words_at((3,), 1), 1), shared(s, words_at((3,), 2), 2))
        try:
            await s.made(product)
        except PeerLost as fault:
            lost.append((s.index, fault.text))
            raise

    with pytest.raises(PeerLost):
        simulate(2, program, clocks=Clocks(join=5.0, lost=5.0, stall=5.0))
    assert (1, "a test") in lost


@pytest.mark.parametrize(("shape", "rounds"), [((), (2, 3, 4)), ((8,), (2, 3, 4))])
def test_the_rounds_of_a_chain_grow_as_its_logarithm(shape, rounds):
    """A group of groups has groups of one level only, so that early factors are not opened again with late ones."""
    for length, wanted in zip((100, 1000, 5000), rounds, strict=True):

        async def program(s, length=length):
            factors = (await s.mask(shared(s, words_at((length, *shape), 1), 1))).assume_bound(1.0, "a lie")
            value = factors[0]
            for number in range(1, length):
                value = await times(s, value, factors[number])
            await s.made(value)

        # One more masks all factors.
        assert estimate(program, 2).rounds == 1 + wanted
