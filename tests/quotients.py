"""Products of quotients for tests: operands, and how far the words found lie above exact products."""

from __future__ import annotations

import math

import numpy as np

import mpc
from mpc.estimate import estimate
from mpc.network.mesh import Clocks
from mpc.testing import simulate

CLOCKS = Clocks(join=60.0, lost=60.0, stall=60.0)
"""Guards against hanging only: no test waits for one of them."""


def own(s, values, bound, frac=20):
    """`values` at party 0, noise that cancels at all others."""
    shares = np.random.default_rng(7).normal(0, 1, (s.n, *np.shape(values)))
    shares[0] += values - shares.sum(axis=0)
    return s.zero(np.shape(values), frac=frac).add_own(s.encode(shares[s.index], frac=frac)).assume_bound(bound, "a test's own numbers")


def words_of(results):
    """The sums of the parties' shares of each step."""
    return [sum(words).view(np.int64) for words in zip(*results, strict=True)]


async def times(s, value, factor, drop=16):
    return (await mpc.mul_trunc(s, value, factor, drop)).assume_bound(101.0, "factors are at most 1")


async def made(s, share):
    """The words of the value, once they are there."""
    await s.made(share)
    return share.words


def exactly(words, dropped):
    """The products of these words as Python integers, without their lowest `dropped` bits."""
    return [math.prod(map(int, element)) >> dropped for element in zip(*words, strict=True)]


def above(found, wanted):
    return {int(word) - exact for word, exact in zip(found, wanted, strict=True)}


async def chain(s, value, factors):
    """The value times every factor but the first, one after the other."""
    for number in range(1, factors.shape[0]):
        value = await times(s, value, factors[number])
    return value


def cost_is_that_of_the_dry_run(program, n):
    """Check the cost of a program that returns (rounds, payload, corrections, ...), and return its dry run's estimate."""
    costs, said = simulate(n, program, clocks=CLOCKS), estimate(program, n)
    assert [cost[:2] for cost in costs] == [(said.rounds, said.payload)] * n
    assert sum(cost[2] for cost in costs) == said.dealer
    return said
