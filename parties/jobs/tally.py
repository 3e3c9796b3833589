"""What a node has counted since it started: how its jobs ended, and which rules denied jobs."""

from __future__ import annotations

import re
import threading
from collections import Counter

from mpc.errors import ConfigError, PolicyDenied
from parties.jobs.endings import UNWRITTEN

DECLINED = "declined"
"""The outcome of a job that never started: it was denied here or elsewhere, a party was busy, or one did not come."""
CONFIGURATION = "configuration"
"""Counted in place of a rule where the job named something that this organisation does not have."""
OUTCOMES = ("done", "failed", "cancelled", "denied", DECLINED)
"""The ways in which a job may end at a party."""
_NAMED = re.compile(r"(datasets|clients|parameters)\.(.+)\.(\w+)")


class Tally:
    """Counts by outcome, in the audit log's words, and by rule.  A rule of a dataset, client or protocol is counted without its name."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.denials: Counter[str] = Counter()
        self._turn = threading.Lock()

    def ended(self, outcome: str, fault: BaseException | None = None) -> None:
        """Count a job that is over; `fault` is why it did not end well.  Callable from any thread."""
        with self._turn:
            self.outcomes[outcome] += 1
            if isinstance(fault, PolicyDenied):
                self.denials[_NAMED.sub(r"\1.*.\3", fault.rule)] += 1
            elif isinstance(fault, ConfigError) and outcome == DECLINED and fault.ending != UNWRITTEN:
                self.denials[CONFIGURATION] += 1


__all__ = ["CONFIGURATION", "DECLINED", "OUTCOMES", "Tally"]
