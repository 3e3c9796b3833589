"""What a program will cost, from shapes alone: no data, no network, no keys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.blocking import blocking
from mpc.errors import ConfigError
from mpc.naming.scope import called
from mpc.preprocessing.plan import Estimate, Plan
from mpc.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


def estimate(program: Callable[..., Awaitable[Any]], n: int, shapes: Iterable[tuple[int, ...]] = (), **parameters: Any) -> Plan:
    """The plan of `await program(s, *data, **parameters)` among n parties, each with data of these shapes.

    It has `rounds`, `payload` (bytes to the peer that gets most), `dealer` (bytes to all parties together), `relations` (in order) and `peak` (bytes of
    arrays at one party), for the party that sends most.  The program runs once for every party, on zeros; every revealed real is 1 or a little above,
    every whole number 1, or 24 in arrays, and every bit 0: a program that branches on revealed values is estimated on that branch.
    """
    if n < 2:
        msg = f"an estimate is for two parties or more, not {n}"
        raise ConfigError(msg)
    names = [f"p{index}" for index in range(n)]

    async def dry(index: int) -> Plan:
        s, plan = Session.dry(names, index, Estimate)
        await called(partial(program, **parameters), s, *(np.broadcast_to(np.float64(0.0), shape) for shape in data))
        return plan

    data = tuple(shapes)
    # The parties differ in what they own and receive: the one that sends most counts.
    return max((blocking(dry(index)) for index in range(n)), key=lambda plan: plan.payload)
