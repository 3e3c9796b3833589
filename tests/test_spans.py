"""Parts of masks: any words of any expression equal those of the whole, and take few words of its masks (invariant 12)."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mpc.naming import expressions as ex
from mpc.naming.evaluation import LITTLE, SPARSE, evaluate
from mpc.naming.expressions import Range
from mpc.naming.streams import KEPT, Seed
from mpc.ring import MAX_NDIM, count

MASKS = 4
WORDS = [np.random.default_rng(number).integers(0, 2**64, 1 << 12, dtype=np.uint64) for number in range(MASKS)]
LARGEST = 1 << 11


def leaf(mask, wanted):
    return WORDS[mask.where.block][wanted].copy()


def whole(expression):
    """The value as numpy gives it, from whole masks."""
    # Arrays at every step: numpy's scalars warn where words wrap.
    return np.asarray(numpys(expression))


def numpys(expression):
    values, operation, parameters = list(map(whole, expression.parts)), expression.operation, expression.parameters
    match operation:
        case "mask":
            return WORDS[expression.where.block][: count(expression.shape)].reshape(expression.shape)
        case "index":
            return values[0][ex.numpy_index(parameters)]
        case "transpose" | "reshape":
            return getattr(values[0], operation)(parameters)
        case "sum":
            return values[0].sum(axis=parameters[0])
        case "scale":
            return values[0] * np.full((), parameters[0], np.uint64)
        case "pairs":
            left, right = np.triu_indices(values[0].shape[-1], 1)
            return values[0][..., left] - values[0][..., right]
        case "stack":
            return np.stack(values)
        case "add" | "sub" | "mul" | "matmul":
            return {"add": np.add, "sub": np.subtract, "mul": np.multiply, "matmul": np.matmul}[operation](*values)


def any_mask(rng):
    return ex.mask(Range("3", int(rng.integers(MASKS)), tuple(map(int, rng.integers(0 if rng.random() < 0.1 else 1, 9, rng.integers(4))))))


def any_entry(rng, extent):
    kind = rng.integers(5)
    if kind == 0 and extent:
        return int(rng.integers(-extent, extent))
    first, last = sorted(map(int, rng.integers(0, extent + 1, 2)))
    return (slice(None), slice(first, last), slice(None, None, int(rng.integers(1, 4))), slice(None, None, -int(rng.integers(1, 4))))[
        kind - 1
    ]


def any_key(rng, shape):
    key = [any_entry(rng, extent) for extent in shape]
    if rng.random() < 0.2:
        key.insert(int(rng.integers(len(key) + 1)), None)
    return tuple(key)


def any_shape(rng, size):
    shape = []
    while size > 1:
        shape.append(int(rng.choice([each for each in range(2, size + 1) if size % each == 0])))
        size //= shape[-1]
    return (*shape, *[1] * int(rng.integers(2))) if size else (0, 3)


def part(of, *key):
    return ex.index(of, ex.normal_index(key, of.shape))


def spread(rng, expression):
    """Rows or columns of it, beside which it spreads itself."""
    return part(expression, *(slice(0, 1) if rng.integers(2) else slice(None) for _ in expression.shape))


def with_operation(rng, operation, of):
    """`operation` on `of`; as it is where there is none."""
    shape = of.shape
    match operation:
        case "index":
            return part(of, *any_key(rng, shape))
        case "transpose":
            return ex.transpose(of, tuple(map(int, rng.permutation(len(shape)))))
        case "reshape":
            return ex.reshape(of, any_shape(rng, count(shape)))
        case "scale":
            return ex.scale(of, int(rng.integers(-5, 6)))
        case "sum" if shape:
            return ex.add_up(of, int(rng.integers(len(shape))))
        case "pairs" if shape:
            return ex.pairs(of)
        case "stack":
            return ex.stack([of, ex.scale(of, 3), of])
        case "matmul" if len(shape) == 2:
            return ex.combine("matmul", of, ex.transpose(of, (1, 0)))
        case "add" | "sub" | "mul":
            others = (of, spread(rng, of))
            left, right = others if rng.integers(2) else others[::-1]
            return ex.combine(operation, left, right)
    return of


OPERATIONS = ("index", "transpose", "reshape", "scale", "sum", "pairs", "stack", "matmul", "add", "sub", "mul")


def any_expression(rng, operation):
    """An expression of at most LARGEST words at any step, with this operation last or beneath a view."""
    built = any_mask(rng)
    for each in (*rng.choice(OPERATIONS, rng.integers(4)), operation, *rng.choice(["index", "transpose", "reshape"], rng.integers(3))):
        larger = with_operation(rng, each, built)
        if count(larger.shape) <= LARGEST and len(larger.shape) < MAX_NDIM:
            built = larger
    return built


def spans(rng, size):
    cuts = sorted(map(int, rng.integers(0, size + 1, 6)))
    return [(0, size), (size, size), *zip(cuts, cuts[1:], strict=False)]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_any_span_of_any_expression_is_that_of_the_whole(operation):
    rng = np.random.default_rng(OPERATIONS.index(operation))
    for _ in range(100):
        expression = any_expression(rng, operation)
        expected = whole(expression)
        assert np.array_equal(evaluate(expression, leaf), expected)
        flat = ex.reshape(expression, (count(expression.shape),))
        for start, stop in spans(rng, expected.size):
            assert np.array_equal(evaluate(part(flat, slice(start, stop)), leaf), expected.reshape(-1)[start:stop])
            # And all of it but the last word of every so many words, backwards.
            some = part(part(flat, slice(stop, start, -int(rng.integers(1, 12)))), slice(0, -1))
            assert np.array_equal(evaluate(some, leaf), whole(some))


ROWS, COLUMNS = 500, 300
TABLE = ex.mask(Range("3", 7, (ROWS, COLUMNS)))
SQUARE = ex.mask(Range("3", 7, (390, 390)))
PARTS = {
    "a column": part(TABLE, slice(None), 7),
    "every fourth number, backwards": part(TABLE, slice(None, None, -2), slice(None, None, 2)),
    "columns as rows": part(ex.transpose(TABLE, (1, 0)), slice(10, 20)),
    "columns of a sum": part(ex.combine("add", TABLE, part(TABLE, slice(0, 1))), slice(None), slice(5, 9)),
    "columns of a stack": part(ex.stack([TABLE, ex.scale(TABLE, 3)]), slice(None), slice(None), 2),
    "sums of some": part(ex.add_up(ex.reshape(TABLE, (ROWS, 3, 100)), 1), slice(None), slice(0, 5)),
    "pairs of columns": part(ex.pairs(ex.transpose(TABLE, (1, 0))), slice(None), 10),
    "some pairs": part(ex.pairs(TABLE), slice(None), slice(1000, 1003)),
}


@pytest.mark.parametrize("what", PARTS)
def test_few_words_of_a_large_mask_take_few_words_of_its_streams(what):
    seed, taken = Seed(bytes(32)), []

    def read(mask, wanted):
        taken.append(wanted.stop - wanted.start if isinstance(wanted, slice) else wanted.size)
        return seed.some("mask", mask.where, wanted)

    def of_whole_masks(mask, wanted):
        return seed.words("mask", mask.where).reshape(-1)[wanted]

    expression = PARTS[what]
    words = evaluate(expression, read)
    assert count(TABLE.shape) > LITTLE
    assert sum(taken) <= SPARSE * ADDENDS.get(what, 1) * words.size
    assert np.array_equal(words, evaluate(expression, of_whole_masks))
    assert not words.size or len(set(words.reshape(-1).tolist())) > words.size // 2


ADDENDS = {"columns of a sum": 2, "sums of some": 3, "pairs of columns": 2, "some pairs": 2}


@pytest.mark.parametrize("view", [lambda of: ex.transpose(of, (1, 0)), ex.pairs, lambda of: part(of, slice(None), slice(None, None, -1))])
def test_all_chunks_of_a_view_take_as_many_words_of_its_mask_as_it_has(view):
    """An op on a large value makes each chunk by itself, and still takes each word of the mask only few times."""
    taken = []

    def read(mask, wanted):
        taken.append(wanted.stop - wanted.start if isinstance(wanted, slice) else wanted.size)
        return np.zeros(taken[-1], np.uint64)

    whole = view(SQUARE)
    size = count(whole.shape)
    flat = ex.reshape(whole, (size,))
    for start in range(0, size, 1000):
        evaluate(part(flat, slice(start, min(start + 1000, size))), read)
    assert sum(taken) <= SPARSE * size


@pytest.mark.parametrize(
    "of", [lambda mask: ex.add_up(mask, 1), ex.pairs, lambda mask: ex.combine("matmul", mask, ex.transpose(mask, (1, 0)))]
)
def test_parts_of_what_has_no_words_take_no_memory(of):
    """This holds however large its extents are, since the asking party chooses them (invariant 21)."""
    empty = part(ex.reshape(of(ex.mask(Range("3", 0, (0, 1 << 15)))), (4, 0)), slice(1, 3))
    tracemalloc.start()
    try:
        assert evaluate(empty, leaf).shape == (2, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("words", [5, KEPT, KEPT + 1, 1 << 15])
def test_words_at_any_places_are_those_of_the_whole(words):
    seed, where, rng = Seed(bytes(32)), Range("3.1", 7, (words,)), np.random.default_rng(words)
    whole = seed.words("mask", where)
    for size in (0, 1, 3, 20_000):
        places = rng.integers(0, words, size)
        some = seed.some("mask", where, places)
        assert np.array_equal(some, whole[places])
        # Whoever adds other parties' words to it changes nothing for the next.
        some += np.uint64(1)
