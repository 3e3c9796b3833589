"""The members' descriptions of a job, each from its join."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpc.errors import Disagreement
from mpc.messaging.differences import odd_one

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpc.framing import wire
    from mpc.messaging.job import Job


class Descriptions:
    """The descriptions of one attempt at one job. They outlive withdrawn joins, since a member that finds a difference withdraws its
    join.
    """

    def __init__(self, job: Job, me: str) -> None:
        self._job = job
        self._me = me
        self._of: dict[str, dict[str, Any]] = {me: job.description}

    def concerns(self, name: str, join: wire.Body) -> bool:
        """Whether a join is about this job: the dealer may describe other members, and then speaks of another job of the same name."""
        return name != self._job.members[-1] or join["members"] == list(self._job.members)

    def add(self, joins: Mapping[str, wire.Body]) -> None:
        """Take the members' current descriptions."""
        self._of |= {name: join["description"] for name, join in joins.items() if self.concerns(name, join)}

    @property
    def complete(self) -> bool:
        """Whether every member has sent a description."""
        return self._of.keys() >= set(self._job.members)

    def compare(self) -> None:
        """Raise Disagreement unless the descriptions received so far are all equal."""
        mine = self._job.description
        odd = odd_one(self._job.members, self._me, {name: self._of.get(name, mine) for name in self._job.members})
        if odd is not None:
            name = odd.usual if odd.name == self._me else odd.name
            raise Disagreement(
                name,
                f"describes job {self._job.name!r} differently: {', '.join(odd.differs)}. Start it with the same settings everywhere.",
            )


__all__ = ["Descriptions"]
