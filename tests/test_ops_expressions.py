"""Names of masks: the dealer's values are numpy's, take no more words than needed, and cross the wire unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from mpc.canonical import unpack_sequence
from mpc.kernels.blank import Meter, Uncounted
from mpc.naming import expressions as ex
from mpc.naming.asked import unpack_expression
from mpc.naming.correlations import Relation
from mpc.naming.evaluation import evaluate
from mpc.naming.expressions import Range
from mpc.naming.streams import Ranges
from mpc.ops.arithmetic import product_work
from mpc.preprocessing.corrections import work_of
from mpc.ring import count

ROWS, COLUMNS = 40, 6
WORDS = {block: np.random.default_rng(block).integers(0, 2**64, ROWS * COLUMNS, dtype=np.uint64) for block in (0, 200)}
A, B = (ex.mask(Range("3", block, (ROWS, COLUMNS))) for block in WORDS)
PLAIN_A, PLAIN_B = (words.reshape(ROWS, COLUMNS) for words in WORDS.values())


def rows(expression, start, stop):
    return ex.index(expression, ex.normal_index(slice(start, stop), expression.shape))


def row(expression, number):
    return ex.index(expression, ex.normal_index(number, expression.shape))


def flat(expression):
    return ex.reshape(expression, (count(expression.shape),))


# (expression, its value, how many words of masks it takes at most)
NAMED = {
    "mask": (A, PLAIN_A, 240),
    "rows": (rows(A, 3, 7), PLAIN_A[3:7], 24),
    "part of the flat mask": (rows(flat(A), 5, 50), PLAIN_A.reshape(-1)[5:50], 45),
    "part of a part": (rows(rows(flat(A), 10, 100), 5, 15), PLAIN_A.reshape(-1)[15:25], 10),
    "rows of a multiple": (rows(ex.scale(A, -3), 1, 2), PLAIN_A[1:2] * np.uint64(2**64 - 3), 6),
    "part of a flat difference": (rows(flat(ex.combine("sub", A, B)), 7, 9), (PLAIN_A - PLAIN_B).reshape(-1)[7:9], 4),
    "rows of rows of a sum": (rows(rows(ex.combine("add", A, B), 2, 30), 1, 3), (PLAIN_A + PLAIN_B)[3:5], 24),
    "rows of a product": (rows(ex.combine("mul", A, B), 0, 2), (PLAIN_A * PLAIN_B)[:2], 24),
    "rows of a sum that broadcasts": (rows(ex.combine("add", A, rows(B, 0, 1)), 4, 6), PLAIN_A[4:6] + PLAIN_B[:1], 246),
    "rows of a transpose": (rows(ex.transpose(A, (1, 0)), 1, 3), PLAIN_A.T[1:3], 240),
    "part of a flat transpose": (rows(flat(ex.transpose(A, (1, 0))), 35, 45), PLAIN_A.T.reshape(-1)[35:45], 240),
    "every second row": (ex.index(A, ex.normal_index(slice(None, None, -2), A.shape)), PLAIN_A[::-2], 240),
    "a column": (ex.index(A, ex.normal_index((slice(None), 2), A.shape)), PLAIN_A[:, 2], 240),
    "an element": (ex.index(A, ex.normal_index((-1, 2), A.shape)), PLAIN_A[-1, 2], 240),
    "no rows": (rows(A, 5, 5), PLAIN_A[5:5], 0),
    "a sum over rows": (ex.add_up(A, 0), PLAIN_A.sum(axis=0), 240),
    "a matrix product": (ex.combine("matmul", ex.transpose(A, (1, 0)), B), PLAIN_A.T @ PLAIN_B, 480),
    "rows that follow each other, put together": (ex.stack([row(A, 3), row(A, 4), row(A, 5)]), PLAIN_A[3:6], 18),
    "one row, put into a stack": (ex.stack([row(A, 3)]), PLAIN_A[3:4], 6),
    "a stack of rows": (ex.stack([row(A, 3), row(A, 5), row(B, 4)]), np.stack([PLAIN_A[3], PLAIN_A[5], PLAIN_B[4]]), 18),
    "a stack of a row of each": (ex.stack([row(A, 3), row(B, 4)]), np.stack([PLAIN_A[3], PLAIN_B[4]]), 12),
    "a stack of elements of two columns": (ex.stack([row(row(A, 3), 1), row(row(A, 3), 3)]), PLAIN_A[3, [1, 3]], 12),
    "a stack of wholes": (ex.stack([A, A, B]), np.stack([PLAIN_A, PLAIN_A, PLAIN_B]), 720),
    "a new axis": (ex.index(A, ex.normal_index((None, ..., 1), A.shape)), PLAIN_A[None, ..., 1], 240),
}


@pytest.mark.parametrize("what", NAMED)
def test_expressions(what):
    expression, value, most = NAMED[what]
    taken = []

    def leaf(mask, wanted):
        words = WORDS[mask.where.block][wanted]
        taken.append(words.size)
        return words

    result = evaluate(expression, leaf)
    assert expression.shape == value.shape == result.shape
    assert np.array_equal(result, value)
    assert sum(taken) <= most
    again = unpack_expression(unpack_sequence(expression.key), {})
    assert again == expression
    assert again.key == expression.key
    assert len(expression.key) <= expression.length


def test_every_stack_has_one_name():
    assert ex.stack([row(A, 3), row(A, 4)]) == rows(A, 3, 5)
    assert ex.stack([row(A, 4), row(A, 3)]).operation == "stack"
    with pytest.raises(ValueError, match="Expression"):
        ex.stack([A, row(A, 3)])
    for parts in ((row(A, 3).tree, row(A, 4).tree), (row(A, 3).tree,)):
        # Read as what parties would have written, whose name is another: it is none of theirs.
        assert unpack_expression(("stack", (), parts), {}).tree != ("stack", (), parts)
    for parts in ((A.tree, row(A, 3).tree), ()):
        with pytest.raises(ValueError, match="Expression|stack"):
            unpack_expression(("stack", (), parts), {})
    with pytest.raises(ValueError, match="stack"):
        unpack_expression(("stack", (1,), (A.tree, B.tree)), {})
    wide = ex.wide(Range("3", 400, (3, 2)))
    with pytest.raises(ValueError, match="stack"):
        unpack_expression(("stack", (), (ex.mask(Range("3", 0, (3,))).tree, wide.tree)), {})


@pytest.mark.parametrize(
    "expression",
    [
        ex.mask(Range("7." * 500 + "1", (1 << 60) - 1, (1,) * 32)),
        ex.mask(Range("", (1 << 60) - 1, (1 << 30,)), owner=1 << 16),
        ex.wide(Range("0" * 300, (1 << 60) - 1, (1 << 29, 2))),
        ex.index(ex.mask(Range("0", 0, (1 << 30,) + (1,) * 20)), ((0, 1, 1 << 62), *[(0, 1, -(1 << 40))] * 20)),
        ex.index(ex.mask(Range("0", 0, (1 << 30, 1))), (((1 << 30) - 1, 1 << 30, -1), *[None] * 20, (0, 1, 1))),
        ex.scale(ex.mask(Range("0", 0, ())), -1),
        ex.reshape(ex.mask(Range("0", 0, (1 << 30,))), (*[1] * 31, 1 << 30)),
        ex.stack([ex.mask(Range(str(number), 0, ())) for number in range(70000)]),
    ],
)
def test_no_name_is_longer_than_said(expression):
    """Otherwise a relation that is built by these lengths would not fit into a message."""
    assert len(expression.key) <= expression.length


def test_a_sum_is_named_without_adding_up():
    assert ex.add_up(ex.mask(Range("0", 0, (1 << 50, 3))), 0).shape == (3,)
    for blanks in (Meter(), Uncounted()):
        assert blanks.blank((4, 1 << 50)).sum(axis=-1).shape == (4,)


def test_the_places_of_many_pairs_are_not_kept():
    kept = ex._few_pairs.cache_info().currsize
    for extent in (ex.KEPT_PAIRS_OF + 1, ex.KEPT_PAIRS_OF + 2):
        differences = ex.pair_differences(np.arange(extent))
        assert (differences.shape, differences[0], differences[-1]) == ((extent * (extent - 1) // 2,), -1, -1)
    assert ex._few_pairs.cache_info().currsize == kept


def test_what_takes_more_words_than_it_gives_counts_as_work():
    big = ex.mask(Range("0", 0, (1 << 12, 1 << 10)))
    for name, work in (
        (ex.add_up(big, 0), 1 << 22),
        (ex.index(big, ex.normal_index((slice(None), 3), big.shape)), 1 << 12),
        # More than one in four: they are read with those between.
        (ex.index(big, ex.normal_index((slice(None), slice(None, None, 3)), big.shape)), 1 << 22),
        (ex.index(big, ex.normal_index(3, big.shape)), 0),
        (ex.scale(ex.add_up(ex.transpose(big, (1, 0)), 1), 2), 1 << 22),
        # However often it is written, each time it is made; in part only where nothing else is needed.
        (ex.index(ex.combine("add", big, ex.combine("add", big, big)), ex.normal_index(3, big.shape)), 4 << 10),
        (ex.add_up(ex.combine("add", big, ex.combine("add", big, big)), 0), 5 << 22),
        (ex.index(ex.transpose(big, (1, 0)), ex.normal_index(3, (1 << 10, 1 << 12))), 1 << 12),
        (
            ex.index(ex.combine("mul", big, ex.index(big, ex.normal_index(0, big.shape))), ex.normal_index(3, big.shape)),
            2 << 10,
        ),
        (ex.add_up(ex.pairs(ex.reshape(big, (1 << 22, 1))), 1), 1 << 22),
        (ex.pairs(ex.mask(Range("1", 0, (0, 1 << 12)))), (1 << 11) * ((1 << 12) - 1)),
        (ex.combine("matmul", big, ex.mask(Range("1", 0, (1 << 10, 0)))), 1 << 22),
    ):
        relation = Relation.fresh(Ranges("1"), "value", (), (name,))
        assert work_of(relation) == work + count(name.shape)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((5,), (5,)),
        ((3, 5), (5,)),
        ((5,), (5, 2)),
        ((3, 5), (5, 2)),
        ((7, 3, 5), (5, 2)),
        ((3, 5), (7, 5, 2)),
        ((7, 1, 3, 5), (4, 5, 2)),
        ((5,), (7, 5, 2)),
    ],
)
def test_a_product_is_as_much_work_as_it_has_multiplications(left, right):
    """This includes a matrix times a stack: with too small an estimate it would run on the loop, and stop all heartbeats."""
    x, y = np.ones(left), np.ones(right)
    work = int((x @ y).sum())
    product = ex.combine("matmul", *(ex.mask(Range("0", block, shape)) for block, shape in ((0, left), (100, right))))
    relation = Relation.fresh(Ranges("1"), "value", (), (product,))
    assert work_of(relation) == work + (x @ y).size
    assert product_work("matmul", x, y) == work // 4


def test_only_products_of_more_multiply_adds_than_a_dealer_does_have_no_name():
    def product(*shapes):
        left, right = (ex.mask(Range(str(number), 0, shape)) for number, shape in enumerate(shapes))
        return ex.combine("matmul", left, right)

    for shapes in (((1 << 29,), (1 << 29,)), ((1 << 10, 1 << 19), (1 << 19,)), ((1 << 14, 1 << 14), (1 << 14, 1 << 14))):
        assert unpack_expression(unpack_sequence(product(*shapes).key), {}).shape == product(*shapes).shape
    for shapes in (((1 << 15, 1 << 15), (1 << 15, 1 << 15)), ((1 << 15, 1 << 15), (1 << 15, 1 << 15, 1))):
        with pytest.raises(ValueError, match="matmul"):
            unpack_expression(unpack_sequence(product(*shapes).key), {})
