"""A program: `async def program(s, ...)`, which runs once at each of two or more parties."""

from __future__ import annotations

from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mpc.errors import ConfigError, ProgramError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

R = TypeVar("R")


def called(program: Callable[..., Awaitable[R]], s: object, /, *arguments: object, **parameters: object) -> Awaitable[R]:
    """The awaitable `program(s, *arguments, **parameters)`; ProgramError if `program` is no coroutine function or returns an unawaited
    call.
    """
    given: object = program
    if not callable(given):
        msg = f"a program is an `async def program(s, ...)`, and no {type(given).__name__}"
        raise ProgramError(msg)
    outcome: Any = program(s, *arguments, **parameters)
    if not isawaitable(outcome):
        msg = f"a program is an `async def program(s, ...)`; this one gave {type(outcome).__name__}, which nobody can await"
        raise ProgramError(msg)
    return _finished(outcome)


async def _finished(program: Awaitable[R]) -> R:
    outcome: Any = await program
    several = outcome.values() if isinstance(outcome, dict) else outcome if isinstance(outcome, list | tuple) else (outcome,)
    forgotten = [each for each in several if iscoroutine(each)]
    if forgotten:
        name = forgotten[0].__qualname__
        for each in forgotten:
            each.close()
        msg = f"the program gave a call of {name} in place of its result: write `await` before it"
        raise ProgramError(msg)
    given: R = outcome
    return given


def parties_of(n: object) -> int:
    """The number of parties of a program; ConfigError if there are too few, or if `n` is no such number."""
    if not isinstance(n, int | np.integer) or n < 2:
        msg = f"a program runs among two parties or more, not {n if isinstance(n, int | np.integer) else type(n).__name__}"
        raise ConfigError(msg)
    return int(n)
