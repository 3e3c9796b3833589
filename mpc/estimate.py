"""What a program will cost, from shapes alone: no data, no network, no keys."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mpc.preprocessing.plan import Estimate, Plan
from mpc.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

R = TypeVar("R")


def estimate(program: Callable[..., Awaitable[Any]], n: int, shapes: Iterable[tuple[int, ...]] = (), **parameters: Any) -> Plan:
    """The plan of `await program(s, *data, **parameters)` among n parties, each with data of these shapes.

    `rounds`, `payload` (bytes to each peer), `dealer` (bytes in all), `relations` (in order) and `peak` (bytes of arrays).  The program runs
    once for every party, on zeros, every revealed number is 1 and every bit 0: a program that branches on revealed values is estimated on that branch.
    """
    names = [f"p{index}" for index in range(n)]

    async def dry(index: int) -> Plan:
        s, plan = Session.dry(names, index, Estimate)
        await program(s, *(np.broadcast_to(np.float64(0.0), shape) for shape in data), **parameters)
        return plan

    data = tuple(shapes)
    # The parties differ in what they own and receive: the one that sends most counts.
    return max((blocking(dry(index)) for index in range(n)), key=lambda plan: plan.payload)


def blocking(work: Coroutine[Any, Any, R], factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> R:
    """The result of `work`, run to its end on a loop of its own; also where a loop is running already, as in a notebook."""
    outcome: list[R | BaseException] = []

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                outcome.append(runner.run(work))
        except BaseException as fault:  # noqa: BLE001  carried over to the caller's thread
            outcome.append(fault)

    if _inside_a_loop():
        thread = threading.Thread(target=run, name="beaver")
        thread.start()
        thread.join()
    else:
        run()
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
