"""The declaration of a protocol: what it costs, what it reveals, and its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import numpy as np

from mpc import OPS, AShare, Cost, Like, Masked, Session, protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

P = ParamSpec("P")
R = TypeVar("R")
Receivers: TypeAlias = "int | str | Iterable[int | str]"
"""The receivers of a result, by index or name: it is there at these, and None elsewhere."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a user asks for, with everything that it promises."""

    name: str
    call: Callable[..., Any]
    cost: Callable[..., Cost]
    reveals: str
    source: str


PROTOCOLS: dict[str, Protocol] = {}
"""Every protocol by name; the tests go through it."""


def declared(
    cost: Callable[..., Cost], *, reveals: str, source: str = ""
) -> Callable[[Callable[Concatenate[Session, P], Awaitable[R]]], Callable[Concatenate[Session, P], Coroutine[Any, Any, R]]]:
    """Declare `async def name(s, ...)` a protocol that costs `cost(n, ...)` for the same arguments, or any of the same shapes."""

    def declare(body: Callable[Concatenate[Session, P], Awaitable[R]]) -> Callable[Concatenate[Session, P], Coroutine[Any, Any, R]]:
        call = protocol(body)
        PROTOCOLS[body.__name__] = Protocol(body.__name__, call, cost, reveals, source)
        return call

    return declare


def op_cost(name: str, n: int, *arguments: Any) -> Cost:
    """Return the cost of the op `name`."""
    return OPS[name].cost(n, *arguments)


def reveal_cost(words: int) -> Cost:
    """Return the cost of revealing so many words to all."""
    return Cost(rounds=1, payload=8 * words)


def like(*operands: Any) -> Like:
    """Return the shape that shares and public numbers broadcast to.

    It is masked if every share among them is, and a private input if every share is one of the same owner.
    """
    known = [operand if hasattr(operand, "shape") else np.asarray(operand) for operand in operands]
    secret = [each for each in known if isinstance(each, AShare | Masked | Like)]
    owners = {each.owner for each in secret}
    shape = np.broadcast_shapes(*(each.shape for each in known))
    return Like(shape, all(each.is_masked for each in secret), owners.pop() if len(owners) == 1 else None)
