"""The states of a channel, and which may follow which. An interrupted link is a separate matter: the channel may be OPEN or PARTING."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One state, and what it implies."""

    name: str
    ready: bool = False
    """The peer has proved its identity, even if the channel is over now."""
    carries: bool = False
    """Frames go through, at least those of the greeting."""
    parting: bool = False
    """The channel is closed but still needs its line."""
    over: bool = False
    """Nothing more will happen to the channel."""


GREETING = State("greeting", carries=True)
"""Hello and handshake."""
OPEN = State("open", ready=True, carries=True)
PARTING = State("parting", ready=True, parting=True)
"""This side has said goodbye and waits for the peer's, which may still lack something."""
LEAVING = State("leaving", ready=True, parting=True)
"""Both have said goodbye; the link closes once everything has left."""
OVER = State("over", ready=True, over=True)
REFUSED = State("refused", over=True)
"""The channel was never opened."""
HANDED_OVER = State("handed over", over=True)
"""The channel was never opened: an older one continues over its line."""

FOLLOWING = {
    GREETING: (OPEN, REFUSED, HANDED_OVER),
    # This side answers the peer's goodbye at once: then both have said it.
    OPEN: (PARTING, LEAVING, OVER),
    PARTING: (LEAVING, OVER),
    LEAVING: (OVER,),
    OVER: (),
    REFUSED: (),
    HANDED_OVER: (),
}


def follow(before: State, after: State) -> State:
    """Return `after` if it may follow `before`; RuntimeError otherwise, which no channel provokes."""
    if after not in FOLLOWING[before]:
        msg = f"a channel that is {before.name} does not become {after.name}"
        raise RuntimeError(msg)
    return after
