"""The contract between ops and the source of correlations: a dealer today, a store or oblivious transfer later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mpc.naming.correlations import Relation
    from mpc.naming.scope import Scope
    from mpc.preprocessing.plan import Plan
    from mpc.ring import Words


class Source(Protocol):
    """Gives this party its share of a named relation between masks."""

    def plan(self, plan: Plan) -> None:
        """Announce that the relations of `plan` will be begun in this order, if the program does the same as in its dry run."""

    def begin(self, scope: Scope, relation: Relation) -> Coroutine[Any, Any, list[Words]]:
        """Start fetching now; awaiting the result gives the arrays of this party's share.

        The relations and their order depend on the program and public shapes only, never on an opened value.
        """
