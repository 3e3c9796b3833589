"""Random programs: every value equals that of the same program in exact integers, for n = 2..5."""

from __future__ import annotations

from functools import partial

import pytest

from mpc.testing import simulate
from tests.random_programs import program

PROGRAMS = 8
"""Of each kind and number of parties."""


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_random_programs_are_exact(n, planned, recwarn):
    compared = 0
    for number in range(PROGRAMS):
        seed = 8 * number + 2 * (n - 2) + planned
        # With a seed, tasks of the simulation run in an order that it shuffles.
        found = simulate(n, partial(program, seed=seed, planned=planned), seed=seed if number % 2 else None, check_bounds=number % 4 > 1)
        assert len(set(found)) == 1, seed
        compared += found[0]
    assert compared > 20 * PROGRAMS
    # Every call is awaited; of what a dry run does not come to, nobody is told.
    assert not [str(warning.message) for warning in recwarn]
