"""What others see of a matrix product with a quotient does not depend on its operands (invariants 11, 12, 31, 32)."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from tests.views import check_alike, noted

SIZE = 1 << 12


@pytest.fixture
def view(monkeypatch):
    return noted(monkeypatch)


async def masked(s, value):
    """Constants, of which the last party alone holds anything."""
    last = s.n - 1
    x = s.input(np.full((2, SIZE), value) if s.index == last else None, last, (2, SIZE), frac=0, bound=2.0**24)
    return await s.mask(x[0]), await s.mask(x[1])


@pytest.mark.parametrize("n", [2, 3])
def test_all_but_one_together_see_the_same_of_a_matrix_times_a_quotient(n, view):
    async def mapped(s, value):
        x, y = await masked(s, value)
        z = (await mpc.mul_trunc(s, x[:4], y[:4], 23)).assume_bound(2.0**24, "within a unit of 2^23 times 2^23 over 2^23")
        for matrix in (x.reshape(-1, 4), x.reshape(4, -1)):
            before = s.cost.rounds
            z = (await mpc.matmul_trunc(s, matrix, z, 23, bound=2.0**38)).assume_bound(
                2.0**24, "a lie, which wraps: only what is seen matters"
            )
            assert s.cost.rounds == before + 1
        return z

    check_alike(view, n, mapped)


@pytest.mark.parametrize("n", [2, 3])
def test_all_but_one_together_see_the_same_of_products_of_quotients(n, view):
    async def squares(s, value):
        x, y = await masked(s, value)
        tall, flat = [
            (await mpc.mul_trunc(s, x.reshape(shape), y.reshape(shape), 23)).assume_bound(1.0, "a lie") for shape in ((-1, 2), (2, -1))
        ]
        before = s.cost.rounds
        z = await mpc.matmul_trunc(s, tall, (await mpc.matmul_trunc(s, flat, tall, 23)).assume_bound(1.0, "a lie, too"), 23)
        assert s.cost.rounds == before + 2
        return z

    check_alike(view, n, squares)
