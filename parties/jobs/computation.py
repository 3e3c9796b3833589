"""What every party of a job computes, and what its client follows: the same calls in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parties.data import Table
from parties.jobs.pool import enough
from parties.programs import PROGRAMS
from parties.programs.program import given_rows

if TYPE_CHECKING:
    from mpc import Session
    from mpc.ring import Words
    from parties.jobs.job import Task
    from parties.programs import Result


async def large_enough(s: Session, task: Task, rows: int) -> bool:
    """Whether all rows together, this party's `rows` among them, are as many as the job asks for."""
    return not task.compares_pool or await s.run(enough, rows, task.pool)


async def computed(s: Session, task: Task, table: Table, words: Words | None) -> Result | None:
    """The result at the receivers, from this party's `table` and its share of what a client gives."""
    return await s.run(PROGRAMS[task.protocol].run, table, task, given_rows(s, task, words))


def followed(task: Task) -> Table:
    """What a client has in place of a party's rows when it follows the program: one row of zeros, of which nothing but the shape is used."""
    return Table(list(task.columns), np.zeros((1, len(task.columns))))


__all__ = ["computed", "followed", "large_enough"]
