"""What a node has counted since it started: how its jobs ended, and which rules denied any."""

from __future__ import annotations

import re
import threading
from collections import Counter

from mpc.errors import ConfigError, PolicyDenied
from parties.jobs.endings import UNWRITTEN

DECLINED = "declined"
"""The outcome of a job that never started: denied here or elsewhere, busy, or someone did not come."""
CONFIGURATION = "configuration"
"""Stands for a rule where the job named what this organisation does not have."""
OUTCOMES = ("done", "failed", "cancelled", "denied", DECLINED)
"""How a job may end at a party."""
_NAMED = re.compile(r"(datasets|clients|parameters)\.(.+)\.(\w+)")


class Tally:
    """Counts by outcome, in the audit log's words, and by rule.  A rule of a dataset, a client or a protocol counts without the name of that."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.denials: Counter[str] = Counter()
        self._turn = threading.Lock()

    def ended(self, outcome: str, fault: BaseException | None = None) -> None:
        """A job is over; `fault` is why it did not end well.  Any thread may say so."""
        with self._turn:
            self.outcomes[outcome] += 1
            if isinstance(fault, PolicyDenied):
                self.denials[_NAMED.sub(r"\1.*.\3", fault.rule)] += 1
            elif isinstance(fault, ConfigError) and outcome == DECLINED and fault.ending != UNWRITTEN:
                self.denials[CONFIGURATION] += 1


__all__ = ["CONFIGURATION", "DECLINED", "OUTCOMES", "Tally"]
