"""How an op declares its cost as integers, its source and what it opens; and how large operands are cut into chunks."""

from __future__ import annotations

import asyncio
import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from mpc.ledger import Cost
from mpc.messaging.stripes import scatters, stripes
from mpc.naming.scope import check_session, protocol, within
from mpc.ring import count
from mpc.values.bshare import BShare
from mpc.values.masked import Masked
from mpc.values.shares import AShare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from mpc.op_session import OpSession
    from mpc.session import Session
    from mpc.values.secret import Secret

P = ParamSpec("P")
R = TypeVar("R")

CHUNK = 1 << 17
"""Elements that a large op handles at a time: its arrays stay in cache, and one chunk computes while another travels."""
IN_FLIGHT = 32
"""Chunks of an op in flight at once: so its memory is that of its operands and result, however many chunks there are."""


class Operand(Protocol):
    """The properties on which a cost depends: of a share, a masked value, or `Like` one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its public shape."""

    @property
    def is_masked(self) -> bool:
        """Whether its difference from a mask is open already."""

    @property
    def frac(self) -> int:
        """Its fractional bits."""

    @property
    def bound(self) -> float:
        """The public bound of its absolute value."""

    @property
    def is_quotient(self) -> bool:
        """Whether it is the result of a truncated product, which remembers how it was rounded."""

    @property
    def since(self) -> int:
        """The number of masked values multiplied to an earlier quotient, if it may still be opened together with the next such product;
        else 0.
        """

    @property
    def dropped(self) -> int:
        """The number of bits that it has lost: since that quotient, or in its own truncation."""

    @property
    def is_liftable(self) -> bool:
        """Whether it, or for a product every value by which the quotient was multiplied, can be masked again as numbers mod 2^128."""

    @property
    def factor_count(self) -> int:
        """The number of masked factors that it remembers: 1 for a masked value, 0 if it remembers none or if the name of its mask is
        too long.
        """

    @property
    def groups(self) -> Sequence[int]:
        """The levels of those factors that are groups: products of several, which are opened, or will be, under their own masks."""

    @property
    def owner(self) -> int | None:
        """The party that alone holds it, if it is a private input; else None."""


@dataclass(frozen=True, slots=True)
class Like:
    """Replaces an operand of this shape where only the cost is asked for."""

    shape: tuple[int, ...]
    is_masked: bool = False
    owner: int | None = None
    is_quotient: bool = False
    factor_count: int = 0
    groups: Sequence[int] = ()
    since: int = 0
    dropped: int = 0
    is_liftable: bool = False
    frac: int = 0
    bound: float = 1.0

    @classmethod
    def part(cls, whole: Operand, size: int) -> Like:
        """A chunk of an operand."""
        return cls((size,), whole.is_masked, whole.owner)


@dataclass(frozen=True, slots=True)
class Op:
    """A building block with everything that it promises."""

    name: str
    call: Callable[..., Any]
    cost: Callable[..., Cost]
    source: str
    opens: str
    leaks: str


SECRETS: dict[str, type[Secret]] = {"AShare": AShare, "BShare": BShare, "Masked": Masked}
OPS: dict[str, Op] = {}
"""Every op by name; the tests go through it, and docs/ops.md is made from it."""


def op(
    cost: Callable[..., Cost], *, source: str, opens: str, leaks: str = "nothing"
) -> Callable[[Callable[Concatenate[OpSession, P], Awaitable[R]]], Callable[Concatenate[Session | OpSession, P], Coroutine[Any, Any, R]]]:
    """Declare `async def name(s, ...)` an op that costs `cost(n, ...)` for the same arguments.

    Programs call it with their `Session`, other ops with their `OpSession`; its body gets the `OpSession` in either case.
    """

    def declare(
        body: Callable[Concatenate[OpSession, P], Awaitable[R]],
    ) -> Callable[Concatenate[Session | OpSession, P], Coroutine[Any, Any, R]]:
        call, name, kinds = protocol(body), body.__name__, _kinds(body)
        positional = [wanted for _, wanted in kinds]

        @functools.wraps(body)
        def checked(session: Session | OpSession, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            s: OpSession = within(session)
            # Before a mask is spent: it would hide nothing of a secret of another kind or session.
            home = getattr(s, "home", None)
            given: Any = args
            for at, (operand, wanted) in enumerate(zip(args, positional, strict=False)):
                # Valid operands pass without a call, since these checks run for every op.
                if wanted and not (isinstance(operand, wanted) and operand.home is home):
                    check_session(s, name)
                    given = (*given[:at], s.operand(operand, wanted, name), *given[at + 1 :])
            for keyword, wanted in kinds if kwargs else ():
                if keyword in kwargs and wanted:
                    check_session(s, name)
                    kwargs[keyword] = s.operand(kwargs[keyword], wanted, name)
            return call(s, *given, **kwargs)

        OPS[name] = Op(name, checked, cost, source, opens, leaks)
        return cast("Callable[Concatenate[Session | OpSession, P], Coroutine[Any, Any, R]]", checked)

    return declare


def _kinds(body: Callable[..., Any]) -> list[tuple[str, tuple[type[Secret], ...]]]:
    """The kinds of secrets that each parameter of an op accepts, from its annotation; none if it may be public, or is no secret."""
    _, *parameters = inspect.signature(body).parameters.values()
    named = [
        (each.name, {part.strip() for part in str(each.annotation).split("|")})
        for each in parameters
        if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    return [(name, tuple(SECRETS[part] for part in sorted(parts)) if parts <= SECRETS.keys() else ()) for name, parts in named]


def opening(n: int, words: int) -> Cost:
    """The cost of opening so many words."""
    if scatters(n, words):
        (start, stop), *_ = stripes(n, words)
        return Cost(rounds=2, payload=16 * (stop - start))
    return Cost(rounds=1, payload=8 * words)


def masking(n: int, *operands: Operand) -> Cost:
    """The cost of masking those operands that are not masked yet, in one opening."""
    fresh = [operand for operand in operands if not operand.is_masked]
    words = sum(count(operand.shape) for operand in fresh)
    owners = {operand.owner for operand in fresh}
    if not fresh:
        return Cost()
    # The words of one owner go from it to all others, whatever their number.
    return opening(n, words) if len(owners) > 1 or None in owners else Cost(rounds=1, payload=8 * words)


def dealt_products(k: int, words: int) -> Cost:
    """What the dealer sends for k masks of so many words: the products, or ANDs, of every two or more of them."""
    return Cost(dealer=8 * ((1 << k) - 1 - k) * words)


def cut(size: int) -> list[tuple[int, int]]:
    """The chunks of 0:size as (start, stop); one empty chunk if `size` is 0."""
    return [(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)] or [(0, 0)]


async def in_chunks(
    s: OpSession, part: Callable[..., Coroutine[Any, Any, R]], cuts: list[tuple[int, int]], operands: tuple[Any, ...], *parameters: Any
) -> list[R]:
    """Run `part(s, *operands, *parameters)` on each chunk of the flat operands, IN_FLIGHT at a time: the rounds are those of one.

    A single chunk runs as the op itself; several run in scopes of their own.
    """
    if len(cuts) < 2:
        return [await part(s, *operands, *parameters)]
    part = protocol(part)
    # All are called here, which numbers them; each begins later, at the depth of this call.
    calls = [part(s, *(operand[start:stop] for operand in operands), *parameters) for start, stop in cuts]
    tasks: list[asyncio.Task[R]] = []
    running: set[asyncio.Task[R]] = set()
    try:
        for call in calls:
            if len(running) >= IN_FLIGHT:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            # Begun in order at every party, so the first chunk that is not done anywhere is in flight everywhere.
            tasks.append(asyncio.create_task(call))
            running.add(tasks[-1])
        return await asyncio.gather(*tasks)
    finally:
        for call in calls[len(tasks) :]:
            call.close()
        for task in tasks:
            task.cancel()
