"""Why a job ends before it begins: what members tell each other about it, and which error each raises."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mpc.errors import BeaverError, Disagreement, JobCancelled, PeerLost, PeerMisbehaved, Refused, RemoteFault
from mpc.messaging.departure import NO_ROOM, according_to, dealer_full

if TYPE_CHECKING:
    from parties.jobs.job import Task

DENIED, UNLIKE, UNWRITTEN, LOST = "denied", "unlike", "unwritten", "lost"
"""The party's policy or data; its categories, which differ from those of the job; its audit log, which cannot be written; anything else.

A dealer without a place for the job has a reason of its own, `NO_ROOM`.
"""


def denied_by(name: str, teller: str) -> Refused:
    """The denial by `name`, as `teller` reports it: all that anyone but `name` gets to know."""
    return Refused(name, f"the job was denied by {name}; the reason is known there only, in its log{according_to(teller, name)}", DENIED)


def unwritten(name: str, teller: str) -> Refused:
    """The error that `name` cannot write its audit log, for instance since its disk is full; `name` does not say why."""
    text = "cannot write its audit log, without which it runs no job; ask again once it can"
    return Refused(name, text + according_to(teller, name), UNWRITTEN)


def unlike(name: str, task: Task, teller: str) -> Disagreement:
    """The error that the categories of `name` differ from those of the job.  `name` says neither in which column nor which categories."""
    columns = dict.fromkeys(column.partition("=")[0] for column in task.columns if "=" in column)
    listed = " or ".join(f"categories of column {column!r}" for column in columns) or "categories"
    return Disagreement(
        name, f"describes its columns differently: {listed}{according_to(teller, name)}. Declare the same everywhere.", UNLIKE
    )


def given_up(name: str, reason: str, task: Task, teller: str) -> RemoteFault:
    """The error that `name` ended the job `task` before it began, as `teller` reports it."""
    if reason == NO_ROOM:
        return dealer_full(name, teller)
    if reason == DENIED:
        return denied_by(name, teller)
    if reason == UNLIKE:
        return unlike(name, task, teller)
    if reason == UNWRITTEN:
        return unwritten(name, teller)
    return PeerLost(name, f"gave up the job before it started{according_to(teller, name)}")


def why(fault: BaseException) -> str:
    """Return the reason that others are given for a fault that ended a job before it began."""
    if isinstance(fault, BeaverError) and fault.ending:
        return fault.ending
    return LOST if isinstance(fault, asyncio.CancelledError | PeerLost | PeerMisbehaved) else DENIED


def no_place(name: str, held: str) -> Refused:
    """The error that `name` has no place for a job."""
    text = f"is busy: it holds {held} for jobs that run, or were accepted and have not started. Try again later, or raise max_jobs there."
    return Refused(name, text)


def apart(name: str) -> PeerLost:
    """The error that `name` is not connected with all members of a job."""
    return PeerLost(name, "is not connected with all members of the job; `beaver check` there says why")


def unapproved(name: str, wait: float) -> Refused:
    """The error that nobody at `name` decided in time."""
    return Refused(name, f"did not approve the job within {wait:g} s. Ask there (`beaver jobs approve`), or raise --wait.")


def cancelled(job: str, *, stopped: bool) -> JobCancelled:
    """The error that this organisation ended a job: its node was stopped, or somebody cancelled the job."""
    cause = "the node was stopped" if stopped else "by `beaver jobs cancel` at this node, or since the command that asked for it ended"
    return JobCancelled(f"job {job} was cancelled: {cause}")


__all__ = [
    "DENIED",
    "LOST",
    "UNLIKE",
    "UNWRITTEN",
    "apart",
    "cancelled",
    "denied_by",
    "given_up",
    "no_place",
    "unapproved",
    "unlike",
    "unwritten",
    "why",
]
