"""The states of a job at a node, the data of each, and which state may follow which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

AGREEMENT, REVEALING = "agreement", "revealing"
"""What a person is told besides names and phases: the parties agree on the job; its outputs are being revealed."""


class State:
    """`name` is what commands and the status page call the state.  `phase` is how far a running job is.

    `logged` is whether the audit log has the job's start but not its end.
    """

    name: ClassVar[str]
    phase: ClassVar[str] = ""
    logged: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Proposed(State):
    """The parties are being asked, or this one considers the job.  `awaited` are the other parties where somebody must approve it."""

    name: ClassVar[str] = "proposed"
    awaited: AbstractSet[str] = frozenset()


class Waiting(State):
    """Somebody here must approve the job."""

    name = "waiting for approval"


class Approved(State):
    """Approved here and then withdrawn by its proposer.  The approval stands until the job is proposed again."""

    name = "approved"


class Accepted(State):
    """Signed here; its proposer has not started it yet."""

    name = "accepted"


class Running(State):
    """Signed by all, and not over."""

    name = "running"


class Unshared(Running):
    """This party has shared nothing of the job yet, so whoever ends it does so without a session."""

    phase = "reading"


class Starting(Unshared):
    """The job is compared with the configuration that applies here, and its start is written into the audit log."""


class Started(Unshared):
    """The job's start is in the audit log; this party's rows are being read."""

    logged = True


class Joining(Running):
    """The rows are there; this party waits for the session's other members."""

    phase, logged = "joining", True


class Computing(Running):
    """All members have joined: from here on the session itself says how the job ends."""

    phase, logged = "computing", True


class Ending(Computing):
    """The job went well, and this is being written into the audit log: nobody can cancel it any more."""


class Over(State):
    """Nothing more will happen to the job."""


@dataclass(frozen=True, slots=True)
class Done(Over):
    """The `result`, None where this party gets none, and the key of its digest in the audit log."""

    name: ClassVar[str] = "done"
    result: dict[str, Any] | None = field(repr=False)
    seal: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failed(Over):
    """The job was refused, or something went wrong."""

    name: ClassVar[str] = "failed"
    error: str


@dataclass(frozen=True, slots=True)
class Cancelled(Over):
    """Somebody here ended the job, or the node stopped."""

    name: ClassVar[str] = "cancelled"
    error: str


FOLLOWING: dict[type[State], tuple[type[State], ...]] = {
    # Proposed again: in another try, other parties may have to approve it.
    Proposed: (Proposed, Waiting, Approved, Accepted, Starting, Failed, Cancelled),
    # A job of this node itself is proposed to the others once it is approved here.
    Waiting: (Proposed, Approved, Accepted, Failed, Cancelled),
    # The next proposal of the job gets a new record, which takes over the approval.
    Approved: (Failed,),
    Accepted: (Approved, Starting, Failed),
    Starting: (Started, Failed, Cancelled),
    Started: (Joining, Failed, Cancelled),
    Joining: (Computing, Failed, Cancelled),
    Computing: (Ending, Failed, Cancelled),
    # The end of the job may turn out not to be writable.
    Ending: (Done, Failed),
    Done: (),
    Failed: (),
    Cancelled: (),
}


class ForbiddenError(Exception):
    """A bug in this program: no job makes this step."""


def follow(before: State, after: State) -> State:
    """Return `after` if it may follow `before`.  Raises ForbiddenError otherwise."""
    if type(after) not in FOLLOWING[type(before)]:
        msg = f"a job that is {type(before).__name__} does not become {type(after).__name__}"
        raise ForbiddenError(msg)
    return after
