"""The AND of three and four operands in one round."""

from __future__ import annotations

from functools import reduce
from itertools import product

import numpy as np
import pytest

import mpc
from mpc import OPS
from mpc.errors import ProgramError
from mpc.kernels import bits
from mpc.testing import simulate
from tests.references import shared_bits

SHAPES = [
    ((), (), ()),
    ((0,), (0,), (0,), (0,)),
    ((3,), (), (1,)),
    ((2, 1), (1, 4), (2, 4), (4,)),
    ((bits.BLOCK + 70,),) * 4,
]


def unpacked(results, shape):
    """The bits of the XOR of the parties' words."""
    words = reduce(np.bitwise_xor, (result.words for result in results))
    return bits.unpack(words, int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_and_of_several_is_numpys_and_costs_what_it_says(n, shapes):
    rng = np.random.default_rng(len(shapes))
    operands = [rng.random(shape) < 0.7 for shape in shapes]

    async def program(s):
        shares = [shared_bits(s, each.astype(np.uint8), number) for number, each in enumerate(operands)]
        result = await mpc.and_(s, *shares)
        said = OPS["and_"].cost(n, *shares)
        assert (s.cost.rounds, s.cost.payload) == (said.rounds, said.payload)
        return result, s.cost.corrections, said.dealer

    results, dealt, said = zip(*simulate(n, program), strict=True)
    wanted = np.logical_and.reduce(np.broadcast_arrays(*operands))
    assert np.array_equal(unpacked(results, wanted.shape), wanted)
    assert sum(dealt) == said[0]


@pytest.mark.parametrize("k", [2, 3, 4])
def test_every_row_of_the_truth_table(k):
    rows = np.array(list(product([0, 1], repeat=k)), np.uint8).T

    async def program(s):
        return await mpc.and_(s, *(shared_bits(s, row, number) for number, row in enumerate(rows)))

    assert unpacked(simulate(3, program), (1 << k,)).tolist() == [*[0] * ((1 << k) - 1), 1]


def test_one_operand_too_many_and_shapes_that_do_not_fit_are_refused():
    async def five(s):
        await mpc.and_(s, *[shared_bits(s, np.ones(3, np.uint8), 1)] * 5)

    with pytest.raises(ProgramError, match="two to 4 operands, not 5"):
        simulate(2, five)

    async def numbers(s):
        await mpc.and_(s, shared_bits(s, np.ones(3, np.uint8), 1), s.zero(3))

    with pytest.raises(ProgramError, match="and_ takes BShare here, not AShare"):
        simulate(2, numbers)

    async def public(s):
        await mpc.and_(s, shared_bits(s, np.ones(3, np.uint8), 1), np.ones(3, bool))

    with pytest.raises(ProgramError, match="and_ takes BShare here, not ndarray"):
        simulate(2, public)

    async def shapes(s):
        await mpc.and_(s, *(shared_bits(s, np.ones(size, np.uint8), size) for size in (3, 1, 2)))

    with pytest.raises(ProgramError, match=r"bits of shapes \(3,\), \(1,\) and \(2,\) do not broadcast"):
        simulate(2, shapes)
