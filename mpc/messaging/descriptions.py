"""What the members of a job say of it, each in its join."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpc.errors import Disagreement
from mpc.messaging.differences import odd_one

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpc.framing import wire
    from mpc.messaging.job import Job


class Descriptions:
    """Those of one attempt at one job.  They are kept when joins are taken back, as whoever finds that others differ does."""

    def __init__(self, job: Job, me: str) -> None:
        self._job = job
        self._me = me
        self._of: dict[str, dict[str, Any]] = {me: job.description}

    def concerns(self, name: str, join: wire.Body) -> bool:
        """Whether a join is about this job: what the dealer says of other members is about another job, whose name they share."""
        return name != self._job.members[-1] or join["members"] == list(self._job.members)

    def add(self, joins: Mapping[str, wire.Body]) -> None:
        """What these members say now."""
        self._of |= {name: join["description"] for name, join in joins.items() if self.concerns(name, join)}

    @property
    def complete(self) -> bool:
        """Whether every member has said something."""
        return self._of.keys() >= set(self._job.members)

    def compare(self) -> None:
        """Disagreement if not all say the same, as far as they have said anything."""
        mine = self._job.description
        odd = odd_one(self._job.members, self._me, {name: self._of.get(name, mine) for name in self._job.members})
        if odd is not None:
            name = odd.usual if odd.name == self._me else odd.name
            raise Disagreement(
                name,
                f"describes job {self._job.name!r} differently: {', '.join(odd.differs)}. Start it with the same settings everywhere.",
            )


__all__ = ["Descriptions"]
