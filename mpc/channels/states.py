"""The states of a channel, and which may follow which.  Whether its link is interrupted is another matter: it may be OPEN or PARTING then."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One state, and what it means for others."""

    name: str
    ready: bool = False
    """The peer has proved who it is, be the channel over now or not."""
    carries: bool = False
    """Frames go through, at least those of the greeting."""
    parting: bool = False
    """It is closed, but its line is needed still."""
    over: bool = False
    """Nothing will happen to it any more."""


GREETING = State("greeting", carries=True)
"""Hello and handshake."""
OPEN = State("open", ready=True, carries=True)
PARTING = State("parting", ready=True, parting=True)
"""This side has said goodbye, and waits for that of the peer, which may lack something still."""
LEAVING = State("leaving", ready=True, parting=True)
"""Both have said goodbye, and the link closes once everything has left."""
OVER = State("over", ready=True, over=True)
REFUSED = State("refused", over=True)
"""It never came to be."""
HANDED_OVER = State("handed over", over=True)
"""It never came to be, since an older channel goes on over its line."""

FOLLOWING = {
    GREETING: (OPEN, REFUSED, HANDED_OVER),
    # The peer's goodbye is answered at once: then both have said it.
    OPEN: (PARTING, LEAVING, OVER),
    PARTING: (LEAVING, OVER),
    LEAVING: (OVER,),
    OVER: (),
    REFUSED: (),
    HANDED_OVER: (),
}


def follow(before: State, after: State) -> State:
    """`after`, if it may follow `before`; RuntimeError otherwise, since no channel does that."""
    if after not in FOLLOWING[before]:
        msg = f"a channel that is {before.name} does not become {after.name}"
        raise RuntimeError(msg)
    return after
