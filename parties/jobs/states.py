"""The states of a job at a node, with what belongs to each of them alone, and which may follow which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

AGREEMENT, REVEALING = "agreement", "revealing"
"""What a person is told beside names and phases: parties agree; outputs are on their way."""


class State:
    """`name` is what commands and the status page call it, and `phase` how far a running job is.

    `logged` is whether the audit log has the job's start and not its end.
    """

    name: ClassVar[str]
    phase: ClassVar[str] = ""
    logged: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Proposed(State):
    """Parties are asked, or this one considers it.  `awaited` are those elsewhere where somebody must approve it."""

    name: ClassVar[str] = "proposed"
    awaited: AbstractSet[str] = frozenset()


class Waiting(State):
    """Somebody here must approve it."""

    name = "waiting for approval"


class Approved(State):
    """Approved here, withdrawn, and no job here until it comes again: its approval stands."""

    name = "approved"


class Accepted(State):
    """Signed here; its proposer has not said yet that it starts."""

    name = "accepted"


class Running(State):
    """Signed by all, and not over."""

    name = "running"


class Unshared(Running):
    """This party has shared nothing of it yet: whoever ends it does so without a session."""

    phase = "reading"


class Starting(Unshared):
    """It is compared with what counts here, and its start written into the audit log."""


class Started(Unshared):
    """Its start is in the audit log; this party's rows are read."""

    logged = True


class Joining(Running):
    """The rows are there; the session's other members are waited for."""

    phase, logged = "joining", True


class Computing(Running):
    """All have joined: from here on the session itself says how it ends."""

    phase, logged = "computing", True


class Ending(Computing):
    """It went well, and that is written into the audit log: nobody cancels it any more."""


class Over(State):
    """Nothing more will happen to it."""


@dataclass(frozen=True, slots=True)
class Done(Over):
    """The `result`, None where this party gets none, and the key of its digest in the audit log."""

    name: ClassVar[str] = "done"
    result: dict[str, Any] | None = field(repr=False)
    seal: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failed(Over):
    """It was refused, or something went wrong."""

    name: ClassVar[str] = "failed"
    error: str


@dataclass(frozen=True, slots=True)
class Cancelled(Over):
    """Somebody here ended it, or the node stopped."""

    name: ClassVar[str] = "cancelled"
    error: str


FOLLOWING: dict[type[State], tuple[type[State], ...]] = {
    # Again: another try, in which others may have to approve it.
    Proposed: (Proposed, Waiting, Approved, Accepted, Starting, Failed, Cancelled),
    # A job of this node itself is proposed to the others once it is approved here.
    Waiting: (Proposed, Approved, Accepted, Failed, Cancelled),
    # What comes again is another record, which takes the approval over.
    Approved: (Failed,),
    Accepted: (Approved, Starting, Failed),
    Starting: (Started, Failed, Cancelled),
    Started: (Joining, Failed, Cancelled),
    Joining: (Computing, Failed, Cancelled),
    Computing: (Ending, Failed, Cancelled),
    # Its end may turn out not to be writable.
    Ending: (Done, Failed),
    Done: (),
    Failed: (),
    Cancelled: (),
}


class ForbiddenError(Exception):
    """A fault of this program: no job does that."""


def follow(before: State, after: State) -> State:
    """`after`, if it may follow `before`; ForbiddenError otherwise."""
    if type(after) not in FOLLOWING[type(before)]:
        msg = f"a job that is {type(before).__name__} does not become {type(after).__name__}"
        raise ForbiddenError(msg)
    return after
