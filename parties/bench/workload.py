"""A workload: data of every party, a timed program, and the plaintext that its result is compared with."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from mpc.fixed_point import FRAC
from mpc.ring import count
from parties.bench.numbers import uniform

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from mpc import AShare, Floats, Session

R = TypeVar("R")

PIECE = 1 << 20
"""Elements that a program handles at a time, so that memory does not grow with the size."""
UNDER_WAY = 2
"""Pieces that are under way together: one computes while another travels."""


class Workload(ABC):
    """One row of the benchmark, for `n` parties and a `size`."""

    key: ClassVar[str]
    title: ClassVar[str]
    parties: ClassVar[tuple[int, ...]]
    """The numbers of parties that it is measured with by default."""
    sizes: ClassVar[tuple[int, ...]]
    """The sizes that it is measured with by default."""
    least: ClassVar[int] = 1
    """The smallest size that makes sense."""

    def __init__(self, n: int, size: int) -> None:
        self.n = n
        self.size = size

    @abstractmethod
    def own(self, party: int) -> Any:
        """Return what `party` has: its own data, or its part of common data."""

    def load(self, s: Session, own: Any) -> Any:
        """Return what the program gets, before the clock runs: for a program that starts from shares, the shares of the common data."""
        del s
        return own

    @abstractmethod
    async def run(self, s: Session, data: Any) -> Any:
        """Run the timed program."""

    async def reveal(self, s: Session, outcome: Any) -> Any:
        """Return the result in the clear, after the clock has stopped: for a program that ends in shares, their values."""
        del s
        return outcome

    @abstractmethod
    def error(self, revealed: Any) -> float:
        """Return how far the revealed result is from the result of the same data in plaintext."""

    @property
    @abstractmethod
    def allowed(self) -> float:
        """The largest error of a right result; 0 if it must be exact."""

    @property
    @abstractmethod
    def moved(self) -> int:
        """Bytes of one party's inputs and outputs."""

    @property
    def dimensions(self) -> str:
        """The size as text for a reader."""
        return f"{self.size:,}"


class OnShares(Workload):
    """A workload that starts from shares: every party has a part of each of some arrays, whose sum is within `limit`."""

    limit: ClassVar[float]

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the arrays, by name."""

    def own(self, party: int) -> list[Floats]:
        """See Workload."""
        return [self._of(name, party, slice(0, count(shape))).reshape(shape) for name, shape in self.shapes.items()]

    def load(self, s: Session, own: list[Floats]) -> list[AShare]:
        """See Workload."""
        return [share_of(s, mine, self.limit / self.n) for mine in own]

    def _of(self, name: str, party: int, cut: slice) -> Floats:
        return uniform(f"{self.key} {name}", party, cut.start, cut.stop, self.limit / self.n)

    def _whole(self, name: str, cut: slice) -> Any:
        """Return everyone's parts of a piece added up, as integers in float64."""
        return np.sum([as_integers(self._of(name, party, cut)) for party in range(self.n)], axis=0)


def share_of(s: Session, mine: Floats, bound: float, frac: int = FRAC) -> AShare:
    """Return the sum of what all parties have, as a share of all: nobody owns it, so no party is spared its part of an opening."""
    return s.zero(mine.shape, frac=frac).add_own(s.encode(mine, frac=frac, bound=bound))


def as_integers(real: Any, frac: int = FRAC) -> Any:
    """Return the integers that encoding makes of real numbers; exact in float64 while they are below 2^53."""
    return np.rint(np.ldexp(real, frac))


def pieces(size: int) -> list[slice]:
    """Return 0:size in pieces."""
    return [slice(start, min(start + PIECE, size)) for start in range(0, size, PIECE)]


async def in_pieces(s: Session, size: int, part: Callable[[Session, slice], Coroutine[Any, Any, R]]) -> list[R]:
    """Run `part(s, cut)`, a protocol, for every piece of 0:size, few of them at a time.  Return the results in order."""
    cuts = pieces(size)
    if len(cuts) < 2:
        return [await part(s, cut) for cut in cuts]
    done: list[R] = []
    waiting: deque[asyncio.Task[R]] = deque()
    async with asyncio.TaskGroup() as group:
        for cut in cuts:
            if len(waiting) == UNDER_WAY:
                done.append(await waiting.popleft())
            waiting.append(group.create_task(part(s, cut)))
    return done + [task.result() for task in waiting]
