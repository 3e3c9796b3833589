"""How a client follows the program of a job: it runs the program on blanks, without any share, and the parties tell it what is revealed to
it.

The program is the parties' own, so it handles revealed values alike there and here, and gives all reveals the same places and lineages: a
party that runs another program is detected before its words are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from mpc.channels.flow import Arrivals
from mpc.errors import ProgramError
from mpc.messaging.sinks import Sum
from mpc.preprocessing.plan import DryExchange, Plan
from mpc.ring import zeros
from mpc.session import dry_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from mpc.messaging.visit import Visit
    from mpc.naming.scope import Scope
    from mpc.ring import Words
    from mpc.session import Session


class Told(DryExchange):
    """A dry run that receives from every party what is revealed to the client, whose index comes after the parties'."""

    def __init__(self, plan: Plan, names: Sequence[str], index: int, visits: Sequence[Visit]) -> None:
        super().__init__(plan, names, index)
        self._visits = visits

    def shapes(self, shape: tuple[int, ...]) -> NoReturn:  # noqa: ARG002  see DryExchange
        """ProgramError: a client must not learn the parties' shapes, so it cannot follow a program that depends on them."""
        msg = "a client cannot follow a program that depends on the shapes of each party's data"
        raise ProgramError(msg)

    async def to_receivers(
        self, scope: Scope, words: Any, receivers: Sequence[int], lineage: int, shape: Sequence[int], combine: np.ufunc
    ) -> Words | None:
        """The sum (or XOR) of what the parties send, if the client is a receiver."""
        if len(self.names) not in receivers:
            return None
        total = zeros((words.size,))
        arrivals = Arrivals(len(self._visits))
        sink = Sum(zeros((words.size,)), total, combine)
        about: list[bytes | str | int] = [*shape, len(receivers), *receivers, lineage.to_bytes(16, "little")]
        for visit in self._visits:
            visit.expect_revealed("reveal", scope.ranges.scope, about, sink, total.nbytes, arrivals)
        await arrivals.future
        return total


def follow(names: Sequence[str], client: str, visits: Sequence[Visit]) -> Session:
    """The session in which `client` runs the program of the parties `names`, with one visit to each."""
    session, _ = dry_run(names, 0, lambda plan, parties, index: Told(plan, parties, index, visits), client)
    return session


__all__ = ["follow"]
