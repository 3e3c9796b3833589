"""docs/ops.md is what the declarations say, and they agree with the cost table of the design (invariant 33)."""

from __future__ import annotations

import pytest

from mpc import OPS
from mpc.ledger import Cost
from mpc.ops.arithmetic import mask_cost
from mpc.ops.declare import Like
from mpc.ops.document import document
from mpc.papers import PAPERS
from mpc.ring import count
from tests.conftest import ROOT

M = 1 << 14
SHARE, MASKED = Like((M,)), Like((M,), is_masked=True, factor_count=1)
QUOTIENT = Like((M,), is_quotient=True)
FEW = 1 << 9
PRODUCT, FACTOR = Like((FEW,), factor_count=2), Like((FEW,), is_masked=True, factor_count=1)
ROOM = Like((FEW,), is_quotient=True, since=1, dropped=16, frac=16)
LIFTABLE = Like((8,), is_masked=True, factor_count=1, is_liftable=True)
SQUARE, MASKED_SQUARE = Like((128, 128)), Like((128, 128), is_masked=True)

# Rounds, bytes to each peer and dealer bytes, each for one of M elements: the table of section 7 of the design.
DESIGN = {
    "mask": ((SHARE,), 1, 8, 0),
    "mul": ((SHARE, SHARE), 1, 16, 8),
    "mul, masked": ((MASKED, MASKED), 0, 0, 8),
    "mul, product": ((PRODUCT, FACTOR), 0, 0, 32),
    "mul, product and share": ((PRODUCT, Like((FEW,))), 1, 8, 32),
    "mul, two products": ((PRODUCT, PRODUCT), 0, 0, 88),
    "mul, long product": ((Like((FEW,), factor_count=4), FACTOR), 1, 8, 8),
    "matmul": ((SQUARE, SQUARE), 1, 16, 8),
    "matmul, masked": ((MASKED_SQUARE, MASKED_SQUARE), 0, 0, 8),
    "square": ((SHARE,), 1, 8, 8),
    "trunc": ((SHARE, 20), 1, 8, 12),
    "trunc, masked": ((MASKED, 20), 0, 0, 12),
    "mul_trunc, masked": ((MASKED, MASKED, 20), 1, 8, 12),
    "matmul_trunc, masked": ((MASKED_SQUARE, MASKED_SQUARE, 20), 1, 8, 12),
    "mul_trunc, quotient": ((QUOTIENT, MASKED, 20), 1, 8, 24),
    "mul_trunc, quotient that has room": ((ROOM, FACTOR, 16), 1, 8, 56),
    "mul_trunc, quotient of three": (
        (Like((8,), is_quotient=True, since=2, dropped=32, frac=16, is_liftable=True), LIFTABLE, 16),
        1,
        24,
        332,
    ),
    "scale": ((SHARE, 0.3, 20), 1, 8, 12),
    "scale, masked": ((MASKED, 0.3, 20), 0, 0, 12),
    "scale, small factor of a large share": ((Like((M,), frac=20, bound=2.0**40), 1e-6, 20), 2, 16, 24),
    "scale, small factor of a large masked value": ((Like((M,), is_masked=True, frac=20, bound=2.0**40), 1e-6, 20), 1, 8, 24),
    "ltz": ((SHARE,), 3, 12.125, 41.125),
    "ltz, masked": ((MASKED,), 2, 4.125, 41.125),
    "eqz": ((SHARE,), 3, 10.5, 36.875),
    "b2a": ((SHARE,), 1, 0.125, 8),
    "select, masked": ((SHARE, MASKED), 1, 0.125, 16),
}


@pytest.mark.parametrize("what", DESIGN)
@pytest.mark.parametrize("n", [2, 3])
def test_ops_cost_what_the_design_says(what, n):
    arguments, rounds, payload, dealer = DESIGN[what]
    name = what.split(",")[0]
    cost = mask_cost if name == "mask" else OPS[name].cost
    size = count(arguments[0].shape)
    assert cost(n, *arguments) == Cost(rounds, int(payload * size), int(dealer * size))


@pytest.mark.parametrize("n", [4, 5])
def test_a_large_opening_of_many_costs_16_n_minus_1_bytes_over_n_in_all(n):
    size = 1000 * n * n
    assert OPS["mul"].cost(n, Like((size,)), Like((size,), is_masked=True)) == Cost(2, 16 * size // n, 8 * size)


def test_the_document_is_up_to_date():
    assert (ROOT / "docs" / "ops.md").read_text() == document(), "run: python -m mpc.ops.document > docs/ops.md"


def test_every_op_has_a_row_a_source_and_says_what_it_opens():
    text = document()
    for op in OPS.values():
        assert f"| `{op.name}(" in text
        assert op.source in PAPERS
        assert op.opens
        assert op.leaks
