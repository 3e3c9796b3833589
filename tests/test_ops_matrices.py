"""A matrix product with a quotient takes one round and is as exact as the two ops that it replaces, also with terms added to it."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc.errors import PrecisionError, ProgramError
from mpc.naming.correlations import MAX_MATRIX, SHORT_NODES
from mpc.ops.declare import OPS
from mpc.testing import simulate
from tests.quotients import above, cost_is_that_of_the_dry_run, made, own, times, words_of

MOST = MAX_MATRIX // 4
ROWS, COLUMNS = 7, 5
RNG = np.random.default_rng(5)
MATRIX = RNG.uniform(-1, 1, (ROWS, COLUMNS))
START = np.array([-1000.0, -(2.0**-20), 0.0, 0.5, 1000.0])


def integers(s, words, bound):
    """These words, as shares that are uniform."""
    shares = np.random.default_rng(1).integers(0, 2**64, (s.n, *words.shape), dtype=np.uint64)
    shares[0] += words.view(np.uint64) - np.sum(shares, axis=0, dtype=np.uint64)
    return s._ops.share(shares[s.index], frac=0, bound=bound, lineage=words.size)


async def rounds_of(s, product):
    before = s.cost.rounds
    result = await product
    await s.made(result)
    return result, s.cost.rounds - before


def exact(matrix, vector, drop, plus=None):
    """The exact product in Python integers, rounded down."""
    added = np.zeros(len(matrix), object) if plus is None else plus.astype(object)
    return [int(word) >> drop for word in matrix.astype(object) @ vector.astype(object) + added]


async def descent(s):
    """Back and forth, with something added each time."""
    x = await s.mask(own(s, MATRIX, 1.0))
    y = own(s, np.linspace(-50, 50, ROWS), 64.0)
    z = await mpc.mul_trunc(s, own(s, START, 1001.0), await s.mask(own(s, np.ones(COLUMNS), 1.0)), 20)
    steps, rounds = [z.words], []
    for _ in range(4):
        finer, added = (y * 2**20).ldexp(-20), z.words << 23
        errors, taken = await rounds_of(s, mpc.matmul_trunc(s, x, z, 20, bound=2.0**13, plus=finer))
        z, others = await rounds_of(s, mpc.matmul_trunc(s, -x.T.ldexp(-3), errors, 23, bound=2.0**14, plus=z))
        assert errors.is_quotient
        assert z.is_quotient
        steps += [finer.words, errors.words, added, z.words]
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
        x, one = await s.mask(integers(s, matrix, 1.0)), await s.mask(integers(s, np.full(COLUMNS, 2), 2.0))
        # Times 2 and halved: within one unit of what it was.
        z = (await mpc.mul_trunc(s, integers(s, vector, 2.0**41), one, 1)).ldexp(-1).assume_bound(2.0**42, "as large as before")
        product = await mpc.matmul(s, x, z, bound=1.0)
        plus = integers(s, wanted, 2.0**62 - 1) - product
        result = await mpc.matmul_trunc(s, x, z, drop, bound=2.0**62 - 2**10, plus=plus)
        return [result.words]

    (found,) = words_of(simulate(n, program))
    assert above(found, [int(word) >> drop for word in wanted]) <= {0, 1}


async def squares(s):
    """Steps like Newton's for an inverse: one quotient is squared, another is multiplied by a part of itself."""
    noise = np.random.default_rng(2).uniform(-0.2, 0.2, (4, 4))
    e, v, vector = own(s, noise, 1.0), own(s, np.eye(4), 2.0), own(s, np.array([3.0, -1.0, 0.0, 2.0**-20]), 4.0)
    one, steps, rounds = await s.mask(own(s, np.eye(4), 1.0)), [], []
    z = await mpc.matmul_trunc(s, one, vector, 20)
    for _ in range(3):
        products = [(v, e, v), (e, e, None), (e, z, None)]
        after = [await rounds_of(s, mpc.matmul_trunc(s, left, right, 20, bound=4.0, plus=plus)) for left, right, plus in products]
        steps += [e.words, v.words, z.words, *(result.words for result, _ in after)]
        rounds.append([taken for _, taken in after])
        (v, _), (e, _), (z, _) = after
    assert rounds == [[2, 2, 2], [1, 1, 1], [1, 1, 1]]
    return steps


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_products_of_two_quotients_are_within_one_unit(n):
    seen = set()
    for e, v, z, after, squared, times_z in zip(*[iter(words_of(simulate(n, squares)))] * 6, strict=True):
        e, v, z = (words.astype(object) for words in (e, v, z))
        for found, wanted in ((after, v @ e + v * 2**20), (squared, e @ e), (times_z, e @ z)):
            seen |= above(found.reshape(-1), [int(word) >> 20 for word in wanted.reshape(-1)])
    assert seen == {0, 1}


@pytest.mark.parametrize(("left", "right"), [(1, 32), (32, 1), (20, 27), (32, 32)])
@pytest.mark.parametrize("n", [2, 3])
def test_two_quotients_of_words_of_every_size(n, left, right):
    """Their sums wrap on the way, and what is added brings them back."""
    rng = np.random.default_rng(left)
    x, z = (rng.integers(-(2 ** (61 - drop)), 2 ** (61 - drop), shape) for drop, shape in ((left, (40, 6)), (right, (6, 3))))
    wanted = rng.integers(-(2**62) + 1, 2**62, (40, 3), dtype=np.int64)
    wanted[0] = 2**62 - 1, -(2**62) + 1, 0

    async def program(s):
        quotients = [
            (await mpc.trunc(s, integers(s, words << drop, 2.0**61), drop)).ldexp(-drop).assume_bound(1.0, "a lie, so that products fit")
            for words, drop in ((x, left), (z, right))
        ]
        product = await mpc.matmul(s, *quotients, bound=1.0)
        plus = integers(s, wanted, 2.0**61) - product
        before = s.cost.rounds
        result = await mpc.matmul_trunc(s, *quotients, 20, bound=2.0**61, plus=plus)
        assert s.cost.rounds == before + 1
        return [result.words]

    (found,) = words_of(simulate(n, program))
    assert above(found.reshape(-1), [int(word) >> 20 for word in wanted.reshape(-1)]) <= {0, 1}


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
        columns = MOST // rows + 1
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
        assert np.allclose([value for _, value in taken], [(MOST // 3 + 1) / 2, MOST // 3 / 2, 16], atol=1e-2)


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
def test_matrices_without_elements(shape):
    m, j, n = shape

    async def program(s):
        left, right = [await mpc.trunc(s, s.zero(shape) + 3.0, 20) for shape in ((m, j), (j, n))]
        results = [
            await mpc.matmul_trunc(s, x.ldexp(-20), y.ldexp(-20), 20)
            for x in (left, await s.mask(left))
            for y in (right, right[:, 0] if n else right)
        ]
        return [
            await s.reveal(await mpc.matmul_trunc(s, left.ldexp(-20), right.ldexp(-20), 20)),
            *[await s.reveal(result) for result in results],
        ]

    for results in simulate(2, program):
        assert [result.shape for result in results] == [(m, n), *[(m, n), (m,) if n else (m, n)] * 2]
        assert not np.any(results[0])


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
        square = await mpc.matmul_trunc(s, x.share(), x.share().T, 20)
        said = OPS["matmul_trunc"].cost(s.n, square, square, 20)
        assert (said.rounds, said.payload, said.dealer) == (1, 8 * ROWS**2, 20 * ROWS**2 + 8 * ROWS**3)
        await made(s, await mpc.matmul_trunc(s, square, square, 20))
        said = OPS["matmul_trunc"].cost(s.n, x, z, 20)
        assert (said.rounds, said.payload, said.dealer) == (1, 8 * ROWS, 20 * ROWS + 4 * ROWS * COLUMNS)
        before = s.cost.payload
        await made(s, await mpc.matmul_trunc(s, x, z, 20))
        assert s.cost.payload - before == 8 * ROWS
        return s.cost.rounds, s.cost.payload, s.cost.corrections

    cost_is_that_of_the_dry_run(program, 2)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_what_is_added_is_rounded_with_the_product(n):
    """With matrices on both sides, masked or not, the product and the added term are truncated together."""

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
            r"has shape \(5,\) and 40 fractional bits: give it that of the product, \(7,\), and no",
        ),
        (
            lambda s: own(s, np.zeros(ROWS), 1.0, 41),
            ProgramError,
            r"has shape \(7,\) and 41 fractional bits: .*, and no more than its 40",
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
