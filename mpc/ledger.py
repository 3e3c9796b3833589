"""The cost of a session, declared before it runs (`Cost`) and counted while it runs (`Ledger`): rounds, payload and correlations.

Payload is message bytes. The channels count what frames and seals add.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Cost:
    """Rounds of simultaneous exchange, payload bytes sent to the peer that gets most, and bytes that the dealer sends in all."""

    rounds: int = 0
    payload: int = 0
    dealer: int = 0

    def then(self, other: Cost) -> Cost:
        """The cost of this, followed by `other`."""
        return Cost(self.rounds + other.rounds, self.payload + other.payload, self.dealer + other.dealer)

    def beside(self, other: Cost) -> Cost:
        """The cost of both at the same time: the larger number of rounds counts."""
        return Cost(max(self.rounds, other.rounds), self.payload + other.payload, self.dealer + other.dealer)


def together(*costs: Cost) -> Cost:
    """The cost of all at the same time."""
    return reduce(Cost.beside, costs, Cost())


class Release(NamedTuple):
    """A value that was revealed or announced: the calls that led to it, its shape, and the names of its receivers."""

    what: str
    shape: tuple[int, ...]
    to: tuple[str, ...]


@dataclass(slots=True)
class Ledger:
    """Running totals of one party, or of the dealer, in one session.

    `rounds` is the depth so far, `sent` the payload bytes by peer, `blocks` the number of messages that carried them. `corrections` are
    bytes from the dealer, `relations` the correlations that were used; at the dealer, those that it served. `revealing` is the number of
    outputs in flight.

    The depth is exact, and the same at all parties, if calls are awaited in place or gathered. Other waits, such as for another call's
    task, do not add to a call's depth. A task adds to the calls that its maker makes after the task has ended, awaited or not; that may be
    before one of them at one party and after it at another. Bytes and correlations are exact in any case.
    """

    rounds: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    corrections: int = 0
    relations: int = 0
    blocks: int = 0
    revealing: int = 0
    on_round: Callable[[float], None] | None = None
    """Called with the seconds that each exchange of messages took; simultaneous ones each count."""

    def sends(self, peer: str, payload: int) -> None:
        """`payload` bytes leave for `peer` as one message."""
        self.sent[peer] = self.sent.get(peer, 0) + payload
        self.blocks += 1

    @property
    def payload(self) -> int:
        """Bytes sent to the peer that got most."""
        return max(self.sent.values(), default=0)

    def add(self, other: Ledger) -> None:
        """Add the cost of `other`, as if one ran after the other."""
        self.rounds += other.rounds
        self.corrections += other.corrections
        self.relations += other.relations
        self.blocks += other.blocks
        for peer, payload in other.sent.items():
            self.sent[peer] = self.sent.get(peer, 0) + payload


class Books:
    """The ledgers of all sessions of one node.  `total` only grows, also while a session ends."""

    def __init__(self) -> None:
        self.on_round: Callable[[float], None] | None = None
        """Given to the ledgers of sessions that begin from now on."""
        self.on_fault: Callable[[], None] | None = None
        """Called when a session ends with a fault."""
        self._closed = Ledger()
        self._open: dict[int, Ledger] = {}

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger of one session, for the duration of the body."""
        ledger = Ledger(on_round=self.on_round)
        self._open[id(ledger)] = ledger
        try:
            yield ledger
        except BaseException:
            if self.on_fault is not None:
                self.on_fault()
            raise
        finally:
            del self._open[id(ledger)]
            self._closed.add(ledger)

    def total(self) -> Ledger:
        """The cost of all sessions together so far."""
        total = Ledger()
        for ledger in (self._closed, *self._open.values()):
            total.add(ledger)
        return total
