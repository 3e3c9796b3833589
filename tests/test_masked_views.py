"""Every view of a masked value keeps the name of its mask, and products of views are right (invariant 9)."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc import Disagreement, ProgramError
from mpc.estimate import estimate
from mpc.testing import simulate
from tests.references import opened

X = np.arange(6.0).reshape(2, 3)
KEYS = {
    "a new axis in the middle": (slice(None), None),
    "a new axis first": None,
    "first and the rest": (None, ...),
    "last": (..., None),
    "last, written out": (slice(None), slice(None), None),
    "a row": 1,
    "backwards": (0, None, slice(None, None, -1)),
    "rows backwards": (slice(1, 0, -1), ...),
    "nothing": (slice(0, 0),),
    "steps": (slice(None), slice(0, 3, 2)),
}


async def masked_x(s):
    return await opened(s, s.input(X if s.index == 0 else None, 0, X.shape, bound=8.0))


@pytest.mark.parametrize("what", KEYS)
@pytest.mark.parametrize("n", [2, 3])
def test_indexed(what, n):
    key = KEYS[what]

    async def program(s):
        view = (await masked_x(s))[key]
        assert view.shape == view.difference.shape == view.name.shape == X[key].shape
        return await s.reveal(await mpc.mul(s, view, view))

    for squares in simulate(n, program):
        assert np.allclose(squares, X[key] ** 2, atol=1e-4)


def test_other_views_and_sums():
    async def program(s):
        x = await masked_x(s)
        views = [x.T, x.reshape(3, 2), x.sum(axis=0), x.sum(), x.pairs(), -x, x * 3, x + 1.0, 2.0 - x, x - x.reshape(1, 2, 3)]
        return [await s.reveal(await mpc.mul(s, view, view)) for view in views]

    pairs = np.stack([X[:, 0] - X[:, 1], X[:, 0] - X[:, 2], X[:, 1] - X[:, 2]], axis=1)
    wanted = [X.T, X.reshape(3, 2), X.sum(axis=0), X.sum(), pairs, -X, X * 3, X + 1, 2 - X, X - X.reshape(1, 2, 3)]
    for squares in simulate(2, program):
        for found, plain in zip(squares, wanted, strict=True):
            assert np.allclose(found, plain**2, atol=1e-3)


@pytest.mark.parametrize("key", [True, [0, 1], np.array([True, False])])
def test_what_has_no_name_is_refused(key):
    async def program(s):
        x = await masked_x(s)
        with pytest.raises(ProgramError, match="indexed by integers and slices only"):
            x[key]
        assert x.share()[key].shape == X[key].shape

    simulate(2, program)


def test_masked_values_in_other_units_are_not_added():
    async def program(s):
        x = await masked_x(s)
        for one, other in ((x, x.ldexp(-1)), (x.ldexp(-1), x)):
            for add in (lambda a, b: a + b, lambda a, b: a - b):
                with pytest.raises(ProgramError, match="fractional bits cannot be added"):
                    add(one, other)

    simulate(2, program)


def test_bits_indexed_differently_are_a_disagreement():
    places = np.arange(2000)

    async def program(s):
        bits = await mpc.ltz(s, s.input(np.zeros(2000) if s.index == 0 else None, 0, 2000))
        other = places.copy()
        if s.index == 1:
            other[1000] = 7
        return await s.reveal(bits[other])

    with pytest.raises(Disagreement):
        simulate(2, program)


DIFFERENT = {
    "another mask of the same value": lambda own, x, again, other: (x, again)[own],
    "another row": lambda own, x, again, other: x[own],
    "another axis": lambda own, x, again, other: x[:, :2].sum(axis=own),
    "another order": lambda own, x, again, other: (x[:, :2], x[:, :2].T)[own],
    "another factor": lambda own, x, again, other: x * (2 + own),
    "another constant": lambda own, x, again, other: x + float(own),
    "another addend": lambda own, x, again, other: x + (again, other)[own],
    "another sign": lambda own, x, again, other: (x + other, x - other)[own],
    "another bound": lambda own, x, again, other: x.assume_bound(6.0 + own, "by hand"),
    "another unit": lambda own, x, again, other: x.ldexp(-1 - own),
}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("what", DIFFERENT)
def test_what_parties_read_differently_of_masked_values_is_a_disagreement(what, n):
    """All shapes and costs are equal: without lineages, the revealed values would be garbage, or those of another program."""

    async def program(s, apart):
        value = s.input(X if s.index == 0 else None, 0, X.shape, bound=8.0)
        x, again, other = await opened(s, value), await opened(s, value), await masked_x(s)
        view = DIFFERENT[what](int(apart and s.index == 1), x, again, other)
        return await s.reveal(view.share())

    with pytest.raises(Disagreement):
        simulate(n, lambda s: program(s, apart=True))
    first, *others = simulate(n, lambda s: program(s, apart=False))
    assert all(np.array_equal(first, each) for each in others)


@pytest.mark.parametrize("masked", [True, False])
def test_a_row_that_is_kept_keeps_none_of_the_others(masked):
    """It keeps them neither in memory nor in an estimate; parts that are large themselves are views, as in numpy."""
    rows, columns = 1000, 64

    async def program(s):
        kept = []
        for number in range(5):
            x = s.input(np.full((rows, columns), float(number)) if s.index == 0 else None, 0, (rows, columns), bound=8.0)
            part = (await s.mask(x) if masked else x)[number]
            kept.append(part.share() if masked else part)
            held = [part.mask, part.difference] if masked else [part.words]
            assert all(getattr(words, "base", None) is None for words in held)
        whole = x[: rows // 2].words
        return [await s.reveal(each) for each in kept], getattr(whole, "base", x.words) is not None

    for parts, is_view in simulate(2, program):
        assert is_view
        assert [part.tolist() for part in parts] == [[float(number)] * columns for number in range(5)]
    # The encoded and the masked value of one round of the loop, but not those of all.
    assert estimate(program, 2).peak < 4.5 * 8 * rows * columns
