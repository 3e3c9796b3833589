"""Masked matrices times quotients: one round, and as exact as the two that it replaces; what is added to a product before it is truncated."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc.errors import PrecisionError, ProgramError
from mpc.naming.correlations import MAX_MAPPED, SHORT_NODES
from mpc.ops.declare import OPS
from mpc.testing import simulate
from tests.quotients import above, cost_is_that_of_the_dry_run, made, own, times, words_of

ROWS, COLUMNS = 7, 5
RNG = np.random.default_rng(5)
MATRIX = RNG.uniform(-1, 1, (ROWS, COLUMNS))
START = np.array([-1000.0, -(2.0**-20), 0.0, 0.5, 1000.0])


async def rounds_of(s, product):
    before = s.cost.rounds
    result = await product
    await s.made(result)
    return result, s.cost.rounds - before


def exact(matrix, vector, drop, plus=None):
    """In Python's integers, rounded down."""
    added = np.zeros(len(matrix), object) if plus is None else plus.astype(object)
    return [int(word) >> drop for word in matrix.astype(object) @ vector.astype(object) + added]


async def descent(s):
    """Back and forth, with something added each time."""
    x = await s.mask(own(s, MATRIX, 1.0))
    y = own(s, np.linspace(-50, 50, ROWS), 64.0)
    z = await mpc.mul_trunc(s, own(s, START, 1001.0), await s.mask(own(s, np.ones(COLUMNS), 1.0)), 20)
    steps, rounds = [z.words], []
    for _ in range(4):
        finer = (y * 2**20).ldexp(-20)
        errors, taken = await rounds_of(s, mpc.matmul_trunc(s, x, z, 20, bound=2.0**13, plus=finer))
        added = (z * 2**23).ldexp(-23)
        z, others = await rounds_of(s, mpc.matmul_trunc(s, -x.T.ldexp(-3), errors, 23, bound=2.0**14, plus=added))
        assert errors.is_quotient
        assert z.is_quotient
        steps += [finer.words, errors.words, added.words, z.words]
        rounds += [taken, others]
    assert rounds == [1] * 8
    return [x.share().words, *steps]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_step_is_within_one_unit(n):
    matrix, z, *steps = words_of(simulate(n, descent))
    seen = set()
    for finer, errors, added, after in zip(*[iter(steps)] * 4, strict=True):
        seen |= above(errors, exact(matrix, z, 20, finer))
        seen |= above(after, exact(-matrix.T, errors, 23, added))
        z = after
    assert seen == {0, 1}


@pytest.mark.parametrize("drop", [1, 20, 32])
@pytest.mark.parametrize("n", [2, 3])
def test_words_of_every_size(n, drop):
    """Elements of all 64 bits whose sums stay within 2^62, as words do that wrap on the way."""
    rng = np.random.default_rng(drop)
    vector = rng.integers(-(2**40), 2**40, COLUMNS)
    vector[:2] = 2**40 - 1, -(2**40)
    matrix = rng.integers(-(2**63), 2**63 - 1, (64, COLUMNS), dtype=np.int64)
    wanted = rng.integers(-(2**62) + 1, 2**62, 64, dtype=np.int64)
    wanted[:4] = 2**62 - 1, -(2**62) + 1, 0, -1

    async def program(s):
        def integers(words, bound):
            shares = np.random.default_rng(1).integers(0, 2**64, (s.n, *words.shape), dtype=np.uint64)
            shares[0] += words.view(np.uint64) - np.sum(shares, axis=0, dtype=np.uint64)
            return s.share(shares[s.index], frac=0, bound=bound, lineage=int(words.size + drop))

        x, one = await s.mask(integers(matrix, 1.0)), await s.mask(integers(np.full(COLUMNS, 2), 2.0))
        # Times 2 and halved: within one unit of what it was.
        z = (await mpc.mul_trunc(s, integers(vector, 2.0**41), one, 1)).ldexp(-1).assume_bound(2.0**42, "as large as before")
        product = await mpc.matmul(s, x, z, bound=1.0)
        plus = integers(wanted, 2.0**62 - 1) - product
        result = await mpc.matmul_trunc(s, x, z, drop, bound=2.0**62 - 2**10, plus=plus)
        return [result.words]

    (found,) = words_of(simulate(n, program))
    assert above(found, [int(word) >> drop for word in wanted]) <= {0, 1}


def test_what_is_no_such_product_goes_the_usual_way():
    """An unmasked matrix, a vector that is no quotient, a matrix in its place, and another order: two rounds or what masking takes."""

    async def program(s):
        x = await s.mask(own(s, MATRIX, 1.0))
        z = await mpc.mul_trunc(s, own(s, START, 1001.0), await s.mask(own(s, np.ones(COLUMNS), 1.0)), 20)
        wanted, apart = MATRIX @ START, []
        cases = [
            (x, z, 1),
            (x.share(), z, 2),
            (x, z + 0.0, 2),
            (x, z.reshape(-1, 1), 2),
            (x[2:3], z, 1),
            (x[2], z, 2),
            (x[:, :0], z[:0], 2),
        ]
        for left, right, rounds in cases:
            assert OPS["matmul_trunc"].cost(s.n, left, right, 20).rounds == rounds
            product, taken = await rounds_of(s, mpc.matmul_trunc(s, left, right, 20))
            assert taken == rounds
            rows = wanted[2:3] if left.shape[0] != ROWS else wanted if left.size else 0 * wanted
            apart.append(np.abs(np.asarray(await s.reveal(product)).reshape(-1) - rows).max())
        product, taken = await rounds_of(s, mpc.matmul_trunc(s, z, x.T, 20))
        assert taken == 2
        return [*apart, np.abs(await s.reveal(product) - wanted).max()]

    for errors in simulate(3, program):
        assert max(errors) < 1e-2


def test_large_matrices_and_long_names_go_the_usual_way():
    async def program(s):
        rows = 3
        columns = MAX_MAPPED // rows + 1
        z = await mpc.mul_trunc(s, own(s, np.ones(columns), 1.0), await s.mask(own(s, np.ones(columns), 1.0)), 20)
        x = await s.mask(own(s, np.full((rows, columns), 0.5), 1.0))
        named = x[:, :2]
        while named.name.nodes <= SHORT_NODES:
            named += named
        taken = []
        for matrix, vector in ((x, z), (x[:, 1:], z[1:]), (named, z[:2])):
            vector = await mpc.mul_trunc(s, vector, await s.mask(own(s, np.ones(vector.shape), 1.0)), 20)
            product, rounds = await rounds_of(s, mpc.matmul_trunc(s, matrix, vector, 20))
            assert OPS["matmul_trunc"].cost(s.n, matrix, vector, 20).rounds == rounds
            taken.append((rounds, float((await s.reveal(product))[0])))
        return taken

    for taken in simulate(2, program):
        assert [rounds for rounds, _ in taken] == [2, 1, 2]
        assert np.allclose([value for _, value in taken], [(MAX_MAPPED // 3 + 1) / 2, MAX_MAPPED // 3 / 2, 16], atol=1e-2)


@pytest.mark.parametrize("drop", [16, 20])
@pytest.mark.parametrize("n", [2, 3])
def test_a_quotient_that_waits_is_opened_for_it(n, drop):
    """One of two factors in words, and of several in numbers: the parts of its mask are those of what was opened."""

    async def program(s):
        value, factors = own(s, START, 101.0, drop), await s.mask(own(s, RNG_FACTORS, 1.0, drop))
        x, steps, rounds = await s.mask(own(s, MATRIX, 1.0, drop)), [], []
        for number in range(4):
            value = await times(s, value, factors[number], drop)
            product, taken = await rounds_of(s, mpc.matmul_trunc(s, x, value, drop))
            steps += [value.words, product.words]
            rounds.append(taken)
        return [x.share().words, *steps], rounds

    results = simulate(n, program)
    matrix, *steps = words_of([words for words, _ in results])
    for value, product in zip(*[iter(steps)] * 2, strict=True):
        assert above(product, exact(matrix, value, drop)) <= {0, 1}
    assert all(rounds == results[0][1] for _, rounds in results)


RNG_FACTORS = np.random.default_rng(8).uniform(-1, 1, (4, COLUMNS))


def test_it_costs_what_its_dry_run_says():
    async def program(s):
        z = await mpc.mul_trunc(s, own(s, START, 1001.0), await s.mask(own(s, np.ones(COLUMNS), 1.0)), 20)
        return await s.run(rest, await s.mask(own(s, MATRIX, 1.0)), z)

    async def rest(s, x, z):
        said = OPS["matmul_trunc"].cost(s.n, x, z, 20)
        assert (said.rounds, said.payload, said.dealer) == (1, 8 * ROWS, 20 * ROWS + 4 * ROWS * COLUMNS)
        before = s.cost.payload
        await made(s, await mpc.matmul_trunc(s, x, z, 20))
        assert s.cost.payload - before == 8 * ROWS
        return s.cost.rounds, s.cost.payload, s.cost.corrections

    cost_is_that_of_the_dry_run(program, 2)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_what_is_added_is_rounded_with_the_product(n):
    """With matrices on both sides, masked or not: as the product and what is added to it, truncated together."""

    async def program(s):
        x, y, plus = own(s, MATRIX, 1.0), own(s, MATRIX.T, 1.0), own(s, MATRIX @ MATRIX.T * 3, 16.0, 40)
        results = [await mpc.matmul_trunc(s, left, y, 20, plus=plus) for left in (x, await s.mask(x))]
        return [x.words, y.words, plus.words, *(result.words for result in results)]

    x, y, plus, *results = words_of(simulate(n, program))
    wanted = [int(word) >> 20 for word in (x.astype(object) @ y.astype(object) + plus.astype(object)).reshape(-1)]
    for result in results:
        assert above(result.reshape(-1), wanted) <= {0, 1}


@pytest.mark.parametrize(
    ("plus", "fault", "says"),
    [
        (
            lambda s: own(s, np.zeros(COLUMNS), 1.0, 40),
            ProgramError,
            r"has shape \(5,\) and 40 fractional bits, and the product \(7,\) and 40: give",
        ),
        (
            lambda s: own(s, np.zeros(ROWS), 1.0, 20),
            ProgramError,
            r"has shape \(7,\) and 20 fractional bits, and the product \(7,\) and 40: give",
        ),
        (lambda _: np.zeros(ROWS), ProgramError, "matmul_trunc takes AShare here, not ndarray"),
        (lambda s: own(s, np.zeros(ROWS), 2.0**21.9, 40), PrecisionError, "too large to truncate"),
    ],
)
def test_what_cannot_be_added_is_refused(plus, fault, says):
    async def program(s):
        await mpc.matmul_trunc(s, own(s, MATRIX, 1.0), own(s, START, 2.0**16), 20, plus=plus(s))

    with pytest.raises(fault, match=says):
        simulate(2, program)
