"""The cost of a job, and how long its messages travel, from the plans of its parties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc import Plan

BEGINNING = 5
"""Trips before a job's program begins: proposal, acceptance, start, join, confirmation."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The cost of a job.

    `payload`, `rounds` and `peak` are those of the party that sends most, as its ledger will have them.  `dealt` is what the dealer sends
    to all.
    `trips` is how many messages travel one after the other at most.  (A party that gets a correction is a trip ahead of the others.  Where
    it asks for the next one, the wait for the dealer is one trip shorter.  A hash chooses that party.)  `busiest` is how many bytes,
    without headers and seals, the line of the busiest member carries one way.
    """

    rounds: int
    payload: int
    dealt: int
    correlations: int
    peak: int
    trips: int
    busiest: int

    @classmethod
    def of(cls, plans: Sequence[Plan], names: Sequence[str]) -> Forecast:
        """Return the forecast from the plans of all parties, whose `names` are in the same order."""
        most = max(plans, key=lambda plan: (plan.payload, plan.rounds))
        sizes = [relation.nbytes for relation in most.relations]
        # A hash decides who gets a correction: the parties get equally many bytes, except for a large correction.
        corrections = max(sum(sizes) // len(plans), max(sizes, default=0))
        sent = [sum(plan.ledger.sent.values()) for plan in plans]
        received = [corrections + sum(plan.ledger.sent.get(name, 0) for plan in plans) for name in names]
        return cls(
            rounds=most.rounds,
            payload=most.payload,
            dealt=most.dealer,
            correlations=len(sizes),
            peak=max(plan.peak for plan in plans),
            trips=BEGINNING + max(plan.trips for plan in plans),
            busiest=max(*sent, *received, most.dealer),
        )

    def seconds(self, rtt: float, bandwidth: float) -> float:
        """Return how long messages travel if every round trip takes `rtt` ms and every line carries `bandwidth` Mbit/s each way."""
        return self.trips * rtt / 2e3 + self.busiest * 8 / (bandwidth * 1e6)
