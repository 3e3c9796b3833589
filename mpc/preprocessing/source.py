"""The contract between ops and whatever makes correlations: a dealer today, a store or oblivious transfer later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mpc.correlations import Relation
    from mpc.derived import Deferred
    from mpc.expressions import Expression
    from mpc.preprocessing.plan import Plan
    from mpc.ring import Words
    from mpc.scope import Scope


class Source(Protocol):
    """Gives this party its share of a named relation between masks."""

    def plan(self, plan: Plan) -> None:
        """Its relations will be begun, in this order, if the program does what its dry run did."""

    def forget(self, plan: Plan) -> None:
        """The program of `plan` has ended."""

    def deferred(self, scope: Scope, masks: tuple[Expression, ...]) -> Deferred | None:
        """What stands for the words of the product that `scope` makes, if they are not to be made now.

        They take one relation, of the products of `masks`, the only one of this scope.
        """

    def begin(self, scope: Scope, relation: Relation) -> Coroutine[Any, Any, list[Words]]:
        """Start fetching now; awaiting the result gives the arrays of this party's share.

        What is asked, and in what order, depends on the program and public shapes only, never on an opened value.
        """
