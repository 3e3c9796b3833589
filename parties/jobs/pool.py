"""Whether all parties of a job together have enough rows, before anything else is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mpc

if TYPE_CHECKING:
    from mpc import Session
    from parties.jobs.job import Task


async def large_enough(s: Session, task: Task, rows: int) -> bool:
    """Whether all rows together, this party's `rows` among them, are as many as the job asks for."""
    return not task.compares_pool or await s.run(enough, rows, task.pool)


@mpc.protocol
async def enough(s: Session, rows: int, least: int) -> bool:
    """Whether the `rows` of all parties add up to `least` at least.  rounds 4 · reveals that, and no number"""
    missing = s.zero((1,), frac=0).add_own(s.encode([float(rows)], frac=0, bound=2.0**40)) - least
    return not (await s.reveal(await mpc.ltz(s, missing)))[0]
