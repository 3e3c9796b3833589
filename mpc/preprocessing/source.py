"""The contract between ops and whatever makes correlations: a dealer today, a store or oblivious transfer later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mpc.correlations import Product
    from mpc.exchange import Exchange
    from mpc.ring import Words
    from mpc.scope import Scope
    from mpc.streams import Streams


class Source(Protocol):
    """Gives this party its share of a named relation between masks."""

    def attach(self, exchange: Exchange, streams: Streams) -> None:
        """Join a session; called once, before anything is asked."""

    def begin(self, scope: Scope, relation: Product) -> Coroutine[Any, Any, Words]:
        """Start fetching now; awaiting the result gives this party's share of `relation.out`.

        What is asked, and in what order, depends on the program and public shapes only, never on an opened value.
        """
