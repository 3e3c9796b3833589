"""How a command ends: the exit status of a fault, and its code, which is the name of its class; docs/operations.md lists them."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import mpc
from mpc import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL, USAGE, DENIED, REMOTE, REFUSED = 1, 2, 3, 4, 5
"""Exit statuses: a fault of this organisation, of the command line, its own policy's denial, a fault of a peer, a peer that refuses."""

STATUS: dict[type[BaseException], int] = {
    mpc.BeaverError: LOCAL,
    mpc.PolicyDenied: DENIED,
    mpc.PeerLost: REMOTE,
    mpc.PeerMisbehaved: REMOTE,
    mpc.AuthenticationFailed: REMOTE,
    mpc.Disagreement: REMOTE,
    mpc.Refused: REFUSED,
}
"""The exit status of a class of faults, and of its subclasses that are not listed."""


def exit_status(fault: mpc.BeaverError) -> int:
    """Return the exit status of a fault."""
    return next(STATUS[kind] for kind in type(fault).__mro__ if kind in STATUS)


def told(kind: str, text: str) -> mpc.BeaverError:
    """Return the fault that another process reported by its code and text, as the same kind of fault here."""
    known = getattr(errors, kind, mpc.BeaverError)
    if not isinstance(known, type) or not issubclass(known, mpc.BeaverError):
        return mpc.BeaverError(text)
    if issubclass(known, errors.RemoteFault):
        party, _, rest = text.partition(": ")
        return known(party, rest)
    return known(text)


@contextlib.contextmanager
def as_object(*, wanted: bool) -> Iterator[None]:
    """Also print a fault as the one JSON object of standard output, if `wanted`: a program that parses the output always finds one."""
    try:
        yield
    except mpc.BeaverError as fault:
        if wanted:
            # If it cannot be written, as on a full disk, the fault itself is what counts.
            with contextlib.suppress(OSError):
                print(json.dumps({"error": type(fault).__name__, "status": exit_status(fault), "party": fault.party, "text": str(fault)}))
        raise
