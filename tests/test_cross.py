"""Matrix products with one local product at each party: terms and crosses against Python integers, and where ops use them."""

from __future__ import annotations

import importlib.util
from functools import partial

import numpy as np
import pytest

import mpc
from mpc.canonical import unpack_sequence
from mpc.errors import PeerLost
from mpc.kernels.cross import PARTIES, cross, pays, term
from mpc.kernels.limbs import COLUMNS, DEPTH, ROWS
from mpc.kernels.products import BACKENDS, LIMBS_FROM, halved, halved_by_limbs, halved_by_words
from mpc.naming import expressions as ex
from mpc.naming.asked import unpack_expression, unpack_relation
from mpc.naming.correlations import Relation
from mpc.naming.evaluation import evaluate
from mpc.naming.expressions import Range
from mpc.naming.streams import Seed
from mpc.preprocessing.corrections import correction
from mpc.ring import WORD
from mpc.testing import simulate

SIDE = 3 * LIMBS_FROM


def full(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).integers(0, 2**64, shape, WORD)


def reference(u, d, v, e, up):
    d, e = d & np.uint64(1), e & np.uint64(1)
    doubled = (2 * u.astype(object) + d.astype(object)) @ (2 * v.astype(object) + e.astype(object)) % 2**65
    return np.array((np.asarray(doubled) + up) // 2 % 2**64, WORD)


def halves(u, d, v, e, up):
    """Every way to compute half a product."""
    yield halved(u, d, v, e, up=up)
    yield halved_by_limbs(u, d, v, e, up=up)
    for name, product in BACKENDS.items():
        if name != "torch" or importlib.util.find_spec("torch"):
            yield halved_by_words(u, d, v, e, up=up, product=product)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 4), (2, DEPTH // 2 + 1, 3), (3, DEPTH, 2), (2, 2 * DEPTH + 7, 2), (SIDE, SIDE, SIDE)])
def test_halves(shape, up):
    m, k, n = shape
    parts = full(m, k), full(m, k, seed=2), full(k, n, seed=1), full(k, n, seed=3)
    expected = reference(*parts, up)
    for got in halves(*parts, up):
        assert got.dtype == WORD
        assert np.array_equal(got, expected)


def test_halves_of_largest_digits():
    """The sums grow as fast as they can, so that a lost low bit would show."""
    near = full(2, 2 * DEPTH + 1) & np.uint64(3)
    for digits in ((2**20, 2**20, 2**21), (-(2**20), -(2**20), -(2**21)), (2**20 - 1, 2**20 - 1, 2**21 - 1)):
        word = np.uint64(sum(digit << place for digit, place in zip(digits, (0, 21, 42), strict=True)) % 2**64)
        for d in (np.zeros_like(near), np.ones_like(near)):
            u, v = near + word, np.full((2 * DEPTH + 1, 2), word)
            e = np.ones_like(v)
            for got in halves(u, d, v, e, False):
                assert np.array_equal(got, reference(u, d, v, e, False))


def test_halves_of_every_tile():
    m, k, n = ROWS + 1, 3, COLUMNS + 1
    parts = full(m, k), full(m, k, seed=2), full(k, n, seed=1), full(k, n, seed=3)
    by_words = halved_by_words(*parts, up=True, product=BACKENDS["integers"])
    assert np.array_equal(halved_by_limbs(*parts, up=True), by_words)


def shares_of(words, n, seed):
    others = [full(*words.shape, seed=seed + index) for index in range(n - 1)]
    return [*others, words - sum(others)]


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 7, 3), (SIDE, SIDE, SIDE + 1)])
def test_terms_and_cross_sum_to_the_product(n, shape):
    m, k, n_columns = shape
    x, y = full(m, k, seed=50), full(k, n_columns, seed=51)
    a, b = ([full(*words.shape, seed=seed + index) for index in range(n)] for words, seed in ((x, 60), (y, 70)))
    d, e = x - sum(a), y - sum(b)
    terms = [term(index, n, d, a[index], e, b[index]) for index in range(n)]
    assert np.array_equal(sum(terms) + cross(a, b), x @ y)


def test_it_pays_for_large_products_of_few(monkeypatch):
    # Asked on the event loop, and in dry runs: PyTorch takes seconds to load.
    monkeypatch.setattr("mpc.kernels.products._torch", lambda: pytest.fail("PyTorch is loaded"))
    assert pays(2, (1 << 11, 1 << 11), (1 << 11, 1 << 11))
    large, small = (SIDE, SIDE), (SIDE - 1, SIDE - 1)
    assert [n for n in range(2, 8) if pays(n, large, large)] == list(PARTIES)
    assert not pays(2, small, small)
    assert not pays(2, (2, *large), large)
    assert not pays(2, large, (SIDE,))
    assert not pays(2, (128, 1000), (1000, 1))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_products_of_shares(n):
    """Shares, values of one party and masked ones, and parts of one; what they cost is what they declare."""
    rng = np.random.default_rng(n)
    x, y = rng.integers(-1000, 1000, (2, SIDE, SIDE)).astype(float)

    async def program(s):
        last = s.n - 1
        own = s.input(x if s.index == last else None, last, x.shape, frac=0, bound=1000.0)
        other = s.input(y if s.index == 0 else None, 0, y.shape, frac=0, bound=1000.0)
        share = own + s.zero(x.shape, frac=0)
        masked = await s.mask(other)
        products, costs = [], []
        for left, right in ((share, other), (own, masked), (masked.T, masked), (masked[::-1] * 3 - masked, share)):
            declared = mpc.OPS["matmul"].cost(s.n, left, right)
            sent, dealt = dict(s.cost.sent), s.cost.corrections
            product = await mpc.matmul(s, left, right)
            await s.made(product)
            payload = max((size - sent.get(peer, 0) for peer, size in s.cost.sent.items()), default=0)
            costs.append((payload, s.cost.corrections - dealt, declared))
            products.append(await s.reveal(product))
        products.append(await s.reveal(await mpc.matmul_trunc(s, masked.ldexp(-8), own.ldexp(-8), 8)))
        return products, costs

    plain = (x @ y, x @ y, y.T @ y, (3 * y[::-1] - y) @ x)
    outcomes = simulate(n, program)
    for payloads, corrections, declared in (zip(*of_op, strict=True) for of_op in zip(*(costs for _, costs in outcomes), strict=True)):
        assert (max(payloads), sum(corrections)) == (declared[0].payload, declared[0].dealer)
    for products, _ in outcomes:
        for got, expected in zip(products, plain, strict=False):
            assert np.array_equal(got, expected)
        assert np.abs(products[-1] - y @ x / 2**16).max() <= 2**-8


A, B = (ex.mask(Range("3", block, (6, 6))) for block in (0, 100))


def test_a_cross_and_parts_of_it_are_evaluated_from_the_shares_of_each_party():
    shares = {block: full(2, 36, seed=block) for block in (0, 100)}
    own = ex.mask(Range("3", 100, (6, 6)), 1)
    of = [partial(lambda index, mask, wanted: shares[mask.where.block][index, wanted], index) for index in range(2)]

    def leaf(mask, wanted):
        return sum(share(mask, wanted) for share in of)

    expected = cross(*(list(shares[block].reshape(2, 6, 6)) for block in (0, 100)))
    named = ex.combine("cross", A, B)
    rows = ex.index(named, ex.normal_index(slice(1, 3), named.shape))
    assert np.array_equal(evaluate(named, leaf, of), expected)
    assert np.array_equal(evaluate(rows, leaf, of), expected[1:3])
    assert np.array_equal(evaluate(ex.combine("add", A, rows.parts[0]), leaf, of), leaf(A, slice(0, 36)).reshape(6, 6) + expected)
    for good in (named, rows, ex.combine("cross", ex.transpose(A, (1, 0)), own)):
        assert unpack_expression(unpack_sequence(good.key), {}).key == good.key


@pytest.mark.parametrize("key", [(slice(None, None, -1),) * 2, (0, slice(None, None, 2)), (slice(None, None, -1), 2), (..., None)])
@pytest.mark.parametrize("n", PARTIES)
def test_the_dealer_answers_for_any_view_of_a_cross(n, key):
    """No party asks for a reversed view, which is in no memory order; one that does so must not cause a fault of the dealer."""
    seeds = [Seed(bytes([index] * 32)) for index in range(n)]
    whole = cross(*([seed.words("mask", each.where) for seed in seeds] for each in (A, B)))
    named = ex.combine("cross", A, B)
    view = ex.index(named, ex.normal_index(key, named.shape))
    asked = Relation("value", (), (view,), (), Range("3", 0, (whole[key].size,)))
    relation = unpack_relation(asked.key, "p0")
    for to in range(n):
        others = sum(seed.words("share", relation.out) for index, seed in enumerate(seeds) if index != to)
        assert np.array_equal(correction(relation, seeds, to).view(WORD) + others, whole[key].reshape(-1))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (ex.combine("mul", A, B), B),
        (A, ex.combine("matmul", A, B)),
        (A, ex.scale(ex.combine("cross", A, B), 3)),
        (A, ex.index(B, (0, (0, 6, 1)))),
        (ex.reshape(A, (1, 6, 6)), B),
        (A, ex.wide(Range("3", 200, (6, 6, 2)))),
        (A, ex.mask(Range("3", 200, (5, 6)))),
    ],
)
def test_what_no_party_names_is_no_cross(left, right):
    """The dealer refuses a cross of products, which have no shares, or of anything but two matrices."""
    with pytest.raises(ValueError, match=r"cross|shapes"):
        unpack_expression(("cross", (), (left.tree, right.tree)), {})


def test_no_other_number_of_parties_asks_for_a_cross(monkeypatch, caplog):
    monkeypatch.setattr("mpc.kernels.cross.PARTIES", (2, 3, 4))
    values = np.ones((SIDE, SIDE))

    async def program(s):
        x = await s.mask(s.input(values if s.index == 0 else None, 0, values.shape, frac=0, bound=1.0))
        await mpc.matmul(s, x, x)

    with pytest.raises(PeerLost, match="misbehaved"):
        simulate(4, program)
    assert "asked for a product in a form that 4 parties do not have" in caplog.text
