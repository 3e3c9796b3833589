"""The cost of a program, from shapes alone: no data, no network, no keys."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.blocking import blocking
from mpc.errors import ProgramError
from mpc.preprocessing.plan import Estimate, Plan
from mpc.program import called, parties_of
from mpc.session import dry_run
from mpc.values.secret import extent_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mpc.values.secret import Extent


def estimate(program: Callable[..., Awaitable[Any]], n: int, shapes: Iterable[Extent] = (), **parameters: Any) -> Plan:
    """The plan of `await program(s, *data, **parameters)` among n parties, each with data of these shapes, one for each array.

    It has `rounds`, `payload` (bytes to the peer that gets most), `dealer` (bytes to all parties together), `relations` (in order) and
    `peak` (bytes of arrays at one party), for the party that sends most. The program runs once for every party, on zeros. Revealed values
    are replaced by fixed ones (reals ≈ 1; integers 1, in arrays 24; bits 0), chosen so that no built-in check fails: a program that
    branches on revealed values is estimated on that branch. ProgramError if the program cannot be called so.
    """
    n = parties_of(n)
    data = _data_of(shapes)
    _check_call(program, data, parameters)
    names = [f"p{index}" for index in range(n)]

    async def dry(index: int) -> Plan:
        s, plan = dry_run(names, index, Estimate)
        await called(program, s, *(np.broadcast_to(np.float64(0.0), shape) for shape in data), **parameters)
        return plan

    # The parties differ in what they own and receive: the one that sends most counts.
    return max((blocking(dry(index)) for index in range(n)), key=lambda plan: plan.payload)


def _data_of(shapes: object) -> list[tuple[int, ...]]:
    # An object with a shape is data; iterating over it would take every row for a shape.
    if not isinstance(shapes, Iterable) or isinstance(shapes, str) or hasattr(shapes, "shape"):
        msg = f"shapes= lists the shape of each array that the program takes, such as [(100, 3)] for one, and is no {type(shapes).__name__}"
        raise ProgramError(msg)
    return [extent_of(shape) for shape in shapes]


def _check_call(program: Callable[..., Awaitable[Any]], data: list[tuple[int, ...]], parameters: Mapping[str, Any]) -> None:
    """ProgramError unless the program takes a session, one argument per array of `data`, and these parameters."""
    try:
        signature = inspect.signature(program)
    except (TypeError, ValueError):
        # The program has no inspectable signature.
        return
    try:
        signature.bind(None, *data, **parameters)
    except TypeError as fault:
        bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
        taken = signature.replace(parameters=bare, return_annotation=signature.empty)
        name = getattr(program, "__name__", "the program")
        given = f"arrays of shapes {', '.join(map(str, data))}" if data else "no array"
        # Adjacent numbers were meant as one shape.
        flat = len(data) > 1 and all(len(shape) == 1 for shape in data)
        one = tuple(extent for (extent,) in data) if flat else (100, 3)
        msg = (
            f"{name}{taken} cannot be called with a session and {given}: {fault}. shapes= lists the shape of each array, as [{one}] for one"
        )
        raise ProgramError(msg) from None
