"""Lineages are equal where parties compute the same, however it is written and planned; any difference is a Disagreement."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc import Disagreement, ProgramError
from mpc.testing import simulate
from tests.documented import lineage, printed

SETTINGS = ((1.0, 0.1, "a", True, 3), ("north", ("south", 2.0)), ([0.5, 7], 2**40))
OF_NUMPY = (
    (np.float64(1.0), np.float64(0.1), np.str_("a"), np.bool_(True), np.int32(3)),
    (np.str_("north"), (np.str_("south"), np.float32(2.0))),
    ([np.float16(0.5), np.uint8(7)], np.int64(2**40)),
)


@pytest.mark.parametrize(("plain", "numpy"), list(zip(SETTINGS, OF_NUMPY, strict=True)))
def test_terms_that_one_party_has_from_numpy_are_those_of_python(plain, numpy):
    async def program(s):
        return float(await s.reveal(s.zero((), terms=numpy if s.index else plain)))

    assert simulate(2, program) == [0.0, 0.0]


@pytest.mark.parametrize("others", [(1.0,), (True,), ("1",), (np.int64(2),), (np.arange(2000),), (np.array([1]),)])
def test_other_terms_are_a_disagreement(others):
    """All elements of an array count, though numpy prints only the ends of a long one."""
    mine = np.arange(2000)
    mine[1000] = 7

    async def program(s):
        await s.reveal(s.zero((), terms=others if s.index else (mine,) if np.size(others) > 1 else (1,)))

    with pytest.raises(Disagreement):
        simulate(2, program)


def test_what_a_dry_run_left_in_a_list_from_outside_is_told_apart_in_the_message():
    async def program(s, kept):
        kept.append(s.input([float(s.index)], s.index, 1) if s.index == 0 else s.input(None, 0, 1))
        return await s.reveal(mpc.concatenate(kept))

    async def body(s):
        kept = []
        with pytest.raises(ProgramError, match="the program runs twice, and what its dry run left there is none of the session"):
            await s.run(lambda s: program(s, kept))
        return len(kept)

    assert simulate(2, body) == [2, 2]


@pytest.mark.parametrize("n", [2, 3])
def test_local_functions_are_the_same_in_a_dry_run(n):
    values = np.arange(6).reshape(2, 3) - 3
    calls = [
        lambda x: np.cumsum(x, axis=1),
        np.cumsum,
        lambda x: np.tile(x, 2),
        np.diag,
        lambda x: np.split(x, 3, 1)[2],
        lambda x: 1 - np.flip(x),
    ]

    async def program(s):
        x = s.input(values if s.index == 0 else None, 0, values.shape, frac=0, bound=8.0)
        return [await s.reveal(await mpc.square(s, call(x))) for call in calls]

    for squares in simulate(n, lambda s: s.run(program), check_bounds=True):
        for square, call in zip(squares, calls, strict=True):
            assert np.array_equal(square, call(values) ** 2)


def test_sums_along_another_axis_are_a_disagreement():
    async def program(s):
        await s.reveal((s.zero((2, 2)) + np.eye(2)).cumsum(axis=s.index))

    with pytest.raises(Disagreement):
        simulate(2, program)


def test_orders_of_axes_and_cumulative_sums_have_the_lineages_of_the_document():
    async def program(s):
        x = s.zero((2, 3))
        kinds = x, await s.mask(x), await mpc.ltz(s, x)
        for each in kinds:
            assert each.T.lineage == lineage("transpose", each.lineage, printed((1, 0)))
        assert x.cumsum(-1).lineage == lineage("cumsum", x.lineage, printed((1,)))
        flat = lineage("reshape", x.lineage, printed((6,)))
        assert x.cumsum().lineage == lineage("cumsum", flat, printed((0,)))
        one = lineage("reshape", lineage("transpose", x.lineage, printed((1, 0))), printed((6,)))
        assert x.sum((1, 0)).lineage == lineage("sum", one, printed((0,)))
        return len(kinds)

    assert simulate(2, program) == [3, 3]
