"""Check, before anything else is computed, that all parties of a job have enough rows together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mpc

if TYPE_CHECKING:
    from mpc import Session
    from parties.jobs.job import Task


async def large_enough(s: Session, task: Task, rows: int) -> bool:
    """Return whether all parties' rows, this party's `rows` among them, are as many as the job asks for."""
    return not task.compares_pool or await s.run(enough, rows, task.pool)


@mpc.protocol
async def enough(s: Session, rows: int, least: int) -> bool:
    """Return whether the `rows` of all parties add up to at least `least`.  rounds 4 · reveals that answer, and no number"""
    missing = s.zero((1,), frac=0).add_own(s.encode([float(rows)], frac=0, bound=2.0**40)) - least
    return not (await s.reveal(await mpc.ltz(s, missing)))[0]
