"""The measurements of one workload."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parties.bench.rivals import Rival, best

if TYPE_CHECKING:
    from parties.bench.workload import Workload


@dataclass(frozen=True, slots=True)
class Figures:
    """Times in seconds, memory and traffic in bytes.  A figure of parties is that of the party with most.

    `seconds` has every repeat; `alone` has the same without the barrier at the end.  Memory is that of the whole process; `start` is before
    the process had data.
    """

    key: str
    title: str
    dimensions: str
    parties: int
    size: int
    rtt: float
    seconds: list[float]
    alone: list[float]
    party_cpu: float
    dealer_cpu: float
    rounds: int
    payload: int
    wire: int
    dealt: int
    party_memory: dict[str, int]
    dealer_memory: dict[str, int]
    moved: int
    error: float
    allowed: float

    @classmethod
    def of(cls, workload: Workload, rtt: float, parties: list[dict[str, Any]], dealer: dict[str, Any]) -> Figures:
        """Return the figures from the reports of every party and of the dealer."""
        runs = list(zip(*(one["runs"] for one in parties), strict=True))
        same = len({one["result"] for one in parties}) == 1
        most = {name: max(run[name] for run in runs[0]) for name in ("rounds", "payload", "wire")}
        return cls(
            key=workload.key,
            title=workload.title,
            dimensions=workload.dimensions,
            parties=workload.n,
            size=workload.size,
            rtt=rtt,
            seconds=[max(run["seconds"] for run in each) for each in runs],
            alone=[max(run["alone"] for run in each) for each in runs],
            party_cpu=statistics.median(max(run["cpu"] for run in each) for each in runs),
            dealer_cpu=statistics.median(max(run["dealer_cpu"] for run in each) for each in runs),
            **most,
            dealt=sum(run["corrections"] for run in runs[0]),
            party_memory=max((one["memory"] for one in parties), key=lambda memory: memory["peak"]),
            dealer_memory=dealer["memory"],
            moved=workload.moved,
            error=max(one["error"] for one in parties) if same else float("inf"),
            allowed=workload.allowed,
        )

    @property
    def median(self) -> float:
        """Seconds from one barrier to the next."""
        return statistics.median(self.seconds)

    @property
    def reached(self) -> float:
        """Seconds until every party had its result."""
        return statistics.median(self.alone)

    @property
    def right(self) -> bool:
        """Whether every party's result is that of the plaintext."""
        return self.error <= self.allowed

    @property
    def travel(self) -> float:
        """Seconds that the rounds take from distance alone."""
        return self.rounds * self.rtt / 2000

    @property
    def rival(self) -> Rival | None:
        """The fastest other framework on the same workload; None over a distance, over which no rival was measured."""
        return None if self.rtt else best(self.key, self.size, self.parties)

    def as_json(self) -> dict[str, Any]:
        """Return one line of the file."""
        rival = self.rival
        return {
            "workload": self.key,
            "title": self.title,
            "parties": self.parties,
            "size": self.size,
            "dimensions": self.dimensions,
            "rtt_ms": self.rtt,
            "seconds": {
                "median": self.median,
                "min": min(self.seconds),
                "max": max(self.seconds),
                "all": self.seconds,
                "without_barrier": self.alone,
            },
            "rounds": self.rounds,
            "bytes_per_party": {"payload": self.payload, "wire": self.wire},
            "dealer_bytes": self.dealt,
            "cpu_seconds": {"party": self.party_cpu, "dealer": self.dealer_cpu},
            "memory_bytes": {"party": self.party_memory, "dealer": self.dealer_memory, "inputs_and_outputs": self.moved},
            "check": {"right": self.right, "error": self.error if self.error < float("inf") else None, "allowed": self.allowed},
            "rival": None if rival is None else {**rival._asdict(), "times_faster": rival.seconds / self.median},
        }
