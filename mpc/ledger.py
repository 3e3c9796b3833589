"""What a session cost: rounds, payload, wire bytes and correlations, declared before it runs and counted while it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce


@dataclass(frozen=True, slots=True)
class Cost:
    """Rounds of simultaneous exchange, payload bytes sent to the peer that gets most, and bytes that the dealer sends in all."""

    rounds: int = 0
    payload: int = 0
    dealer: int = 0

    def then(self, other: Cost) -> Cost:
        """The cost of one after the other."""
        return Cost(self.rounds + other.rounds, self.payload + other.payload, self.dealer + other.dealer)

    def beside(self, other: Cost) -> Cost:
        """The cost of both at the same time: the deeper one counts for the rounds."""
        return Cost(max(self.rounds, other.rounds), self.payload + other.payload, self.dealer + other.dealer)


def together(*costs: Cost) -> Cost:
    """The cost of all at the same time."""
    return reduce(Cost.beside, costs, Cost())


@dataclass(slots=True)
class Ledger:
    """Running totals of one party in one session.  Payload excludes headers and seals; `wire` includes everything."""

    rounds: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    corrections: int = 0
    blocks: int = 0

    def sends(self, peer: str, payload: int) -> None:
        """`payload` bytes leave for `peer` as one message."""
        self.sent[peer] = self.sent.get(peer, 0) + payload
        self.blocks += 1

    @property
    def payload(self) -> int:
        """Bytes sent to the peer that got most."""
        return max(self.sent.values(), default=0)
