"""Matrix products mod 2^64: every backend against Python integers and numpy's own `@`."""

from __future__ import annotations

import importlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.kernels.limbs import CACHED, COLUMNS, DEPTH, HALF, ROWS, WHOLE, split
from mpc.kernels.products import BACKENDS, LIMBS_FROM, TORCH_FROM, backend, matmul
from mpc.ring import WORD, signed

MODULE = importlib.import_module("mpc.kernels.products")
EDGES = np.array(
    [
        value % 2**64
        for power in (0, 19, 20, 21, 22, 41, 42, 43, 44, 62, 63, 64)
        for near in (2**power - 1, 2**power, 2**power + 1)
        for value in (near, -near)
    ],
    WORD,
)
# The words whose limbs are largest in size, all of one sign: a0 = a2 = ±2^21 and a1 = ±2^19, or one below.
LARGEST = np.array([sum(sign * (2 ** (bits - 1) - (sign > 0)) << place for place, bits in WHOLE.digits) % 2**64 for sign in (1, -1)], WORD)


@pytest.fixture(params=sorted(BACKENDS))
def product(request):
    """One backend."""
    if request.param == "torch":
        pytest.importorskip("torch")
    return BACKENDS[request.param]


def full(*shape: int, seed: int = 0):
    return np.random.default_rng([seed, *shape]).integers(0, 2**64, shape, WORD)


def reference(a, b):
    """Python integers; numpy would make one of an empty sum of objects None."""
    exact = a.astype(object) @ b.astype(object)
    return (np.asarray(exact) % 2 ** (8 * a.dtype.itemsize)).astype(a.dtype)


def same(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.flags.c_contiguous
    assert np.array_equal(got, expected)


def test_all_pairs_of_edge_words(product):
    same(product(EDGES[:, None], EDGES[None]), reference(EDGES[:, None], EDGES[None]))


def test_sums_of_edge_words(product):
    picks = np.random.default_rng(1).integers(0, EDGES.size, (2, 30, 30))
    a, b = EDGES[picks]
    same(product(a, b), reference(a, b))


@pytest.mark.parametrize("k", [1, 2, DEPTH - 1, DEPTH, DEPTH + 1, 2047, 2048, 2049, 5000])
def test_every_depth(product, k):
    a, b = full(3, k), full(k, 2, seed=1)
    same(product(a, b), reference(a, b))


@pytest.mark.parametrize("sign", [0, 1])
def test_largest_sums_are_exact(product, sign):
    """Sums that grow as fast as they can, by odd steps too, so that a lost low bit would show."""
    near = full(2, 2 * DEPTH + 1) & np.uint64(3)
    a = LARGEST[sign] + (near if sign else -near)
    for other in LARGEST:
        b = np.full((2 * DEPTH + 1, 2), other, WORD)
        same(product(a, b), reference(a, b))
        same(product(b.T, a.T), reference(b.T, a.T))


@pytest.mark.parametrize("form", [WHOLE, HALF])
def test_limbs_are_the_number_and_within_their_bounds(form):
    largest = [sum(sign * (2 ** (bits - 1) - (sign > 0)) << place for place, bits in form.digits) % 2**64 for sign in (1, -1)]
    words = np.concatenate([EDGES, np.array(largest, WORD), full(1000)])[None]
    # A bit below makes a number of twice the place.
    doubled = form is HALF
    below = words >> np.uint64(63) if doubled else None
    parts = np.empty((4, *words.shape))
    split(form, parts, np.empty(CACHED, WORD), words, below)
    a0, a1, a2, both = parts
    places = [place + (doubled and index > 0) for index, (place, _) in enumerate(form.digits)]
    whole = [
        sum(int(limb) << place for limb, place in zip(digits, places, strict=True)) for digits in zip(a0[0], a1[0], a2[0], strict=True)
    ]
    bits = 65 if doubled else 64
    numbers = [2 * word + (word >> 63) for word in words[0].tolist()] if doubled else words[0].tolist()
    assert [value % 2**bits for value in whole] == [value % 2**bits for value in numbers]
    assert np.array_equal(both, a0 + a1)
    for limb, (_, size) in zip((a0 / (1 + doubled), a1, a2), form.digits, strict=True):
        assert np.abs(limb).max() == 2 ** (size - 1)
    # What is summed at most is exact in float64, and what no term has is a multiple of 2^bits.
    for i, j, depth, _ in (*form.terms, (0, 0, DEPTH, 1)):
        assert depth * int(np.abs(parts[i]).max()) * int(np.abs(parts[j]).max()) <= 2**53
    assert places[1] + places[2] >= bits


@pytest.mark.parametrize("shape", [(2, ROWS + 1, 3, COLUMNS + 1), (1, 2 * ROWS, DEPTH + 5, 40), (1, 40, 5, 2 * COLUMNS + 3)])
def test_every_tile(product, shape):
    stack, m, k, n = shape
    a, b = full(stack, m, k), full(stack, k, n)
    same(product(a, b), a @ b)


STACKS = [((), ()), ((2,), ()), ((), (2,)), ((2,), (2,)), ((3, 1), (2,)), ((1,), (4,)), ((0,), ()), ((2, 1), (1, 0)), ((2, 3), ())]


@pytest.mark.parametrize(("left", "right"), STACKS)
def test_stacks_broadcast(product, left, right):
    a, b = full(*left, 3, 4), full(*right, 4, 5)
    same(product(a, b), a @ b)
    same(matmul(a, b), a @ b)


@pytest.mark.parametrize("extents", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (1, 0, 1)])
def test_empty_extents(product, extents):
    m, k, n = extents
    for stack in ((), (2,)):
        for other in ((), stack):
            same(product(full(*stack, m, k), full(*other, k, n)), np.zeros((*(stack or other), m, n), WORD))


def test_views(product):
    a, b = full(40, 70), full(70, 40)
    for view in (a, a[::-1], a[:, ::-1], b.T, np.asfortranarray(a), full(80, 140)[::2, 1::2], np.broadcast_to(a[0], (40, 70))):
        for other in (b, a.T, b[::-1, ::-1], full(70, 120)[:, 40:80], np.asfortranarray(b)):
            same(product(view, other), view @ other)


def test_factors_may_be_read_only_and_stay_as_they_were(product):
    a, b = full(20, 30), full(30, 20)
    before = a.copy(), b.copy()
    for words in (a, b):
        words.flags.writeable = False
    got = product(a, b)
    got += 1
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


@settings(deadline=None)
@given(
    m=st.integers(0, 9),
    k=st.integers(1, 9),
    n=st.integers(0, 9),
    stack=st.integers(0, 3),
    seed=st.integers(0, 2**32),
    one_d=st.integers(0, 3),
)
def test_any_shapes(m, k, n, stack, seed, one_d):
    a, b = full(stack, m, k, seed=seed), full(stack, k, n, seed=seed + 1)
    for name, backed in BACKENDS.items():
        if name != "torch":
            same(backed(a, b), a @ b)
    left = full(k, seed=seed) if one_d & 1 else a
    right = full(k, seed=seed) if one_d & 2 else b
    same(matmul(left, right), np.asarray(left @ right))


def test_vectors_give_what_numpy_gives():
    a, b, v = full(5, 7), full(7, 5), full(7)
    for left, right in ((v, v), (a, v), (v, b), (v, full(2, 7, 3)), (full(2, 3, 7), v), (v[::-1], b), (v[:0], v[:0]), (v[:0], b[:0])):
        same(matmul(left, right), np.asarray(left @ right))


def test_large_vectors_and_products():
    for shape in ((128, 1000, 1), (1, 1000, 128), (150, 160, 170), (600, 40, 600)):
        m, k, n = shape
        a, b = full(m, k), full(k, n)
        same(matmul(a, b), a @ b)
        same(matmul(b.T, a.T), b.T @ a.T)
    stacked = full(2, 150, 160)
    same(matmul(stacked, full(160, 170)), stacked @ full(160, 170))


@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
def test_narrow_words_wrap_at_their_own_width(kind):
    a, b = full(7, 300).astype(kind), full(300, 5).astype(kind)
    same(matmul(a, b), reference(a, b))
    every = np.arange(256).astype(kind)
    same(matmul(every[:, None], every[None]), np.multiply.outer(every, every))


@pytest.mark.parametrize(
    "shapes", [((), (2,)), ((2,), ()), ((2, 1), (3, 2)), ((2, 3), (1, 2)), ((3,), (4,)), ((3,), (4, 3)), ((2, 3), (2,))]
)
def test_unfit_shapes_are_refused(shapes):
    """This includes an extent of 1, which einsum would repeat."""
    with pytest.raises(ValueError, match="no matrix product of shapes"):
        matmul(*(np.zeros(shape, WORD) for shape in shapes))
    with pytest.raises(ValueError, match="broadcast"):
        matmul(full(2, 3, 4), full(3, 4, 5))


def test_the_choice_is_by_shape_dtype_and_what_is_installed(monkeypatch):
    narrow, square = 3 * LIMBS_FROM - 1, 3 * LIMBS_FROM
    assert backend((narrow, narrow), (narrow, narrow), WORD) == "integers"
    assert backend((128, 1000), (1000, 1), WORD) == "integers"
    assert backend((1024, 1024), (1024, 1024), np.dtype("u4")) == "integers"
    assert backend((square, square), (square, square), WORD) == "limbs"
    assert backend((square, 1, square), (square, square), WORD) == "limbs"  # a stack times one matrix is tall
    assert backend((square, 1, square), (1, square, square), WORD) == "integers"
    for pays, name in ((True, "torch"), (False, "limbs")):
        monkeypatch.setattr(MODULE, "_torch_pays", lambda pays=pays: pays)
        assert backend((1024, TORCH_FROM // 1024**2), (TORCH_FROM // 1024**2, 1024), WORD) == name


def test_torch_is_never_required(monkeypatch):
    for error in (ImportError, OSError):
        MODULE._torch.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(MODULE.importlib, "import_module", lambda name, error=error: (_ for _ in ()).throw(error(name)))
            assert not MODULE._torch_pays()
    MODULE._torch.cache_clear()


def test_memory_beside_the_result_is_bounded():
    m, k, n = 3 * ROWS, DEPTH + 100, COLUMNS + 100
    a, b = full(m, k), full(k, n)
    tracemalloc.start()
    try:
        BACKENDS["limbs"](a, b)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - 8 * m * n < 64 * 2**20


def test_signed_products_are_signed():
    a, b = full(3, 4) >> np.uint64(40), full(4, 5) >> np.uint64(40)
    assert np.array_equal(signed(matmul(-a, b)), -(a.view(np.int64) @ b.view(np.int64)))
