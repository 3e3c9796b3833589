"""The lobby: other members' joins wait here until this node runs the job itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from mpc.canonical import pack
from mpc.errors import BeaverError, ConfigError, PeerMisbehaved

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from mpc.framing import wire
    from mpc.messaging.job import Job
    from mpc.network.mesh import Mesh

MAX_JOBS = 256
"""Jobs that one member may announce at once."""
MAX_VALUES = 1 << 13
"""Values in one join: a node's largest job has fewer. An empty list takes one byte in the message and sixty in memory."""
NONCE_BYTES = 32
Key: TypeAlias = "str | tuple[str, bytes]"
"""A node's key for a job: its name, and at the dealer also its members."""


@dataclass(slots=True)
class Attempt:
    """What the other members sent for one job, by member name."""

    joins: dict[str, wire.Body] = field(default_factory=dict)
    confirms: dict[str, wire.Body] = field(default_factory=dict)
    later: dict[str, wire.Body] = field(default_factory=dict)
    """Joins for the job's next run, from members that already began the session on which this node still agrees."""
    ended: set[str] = field(default_factory=set)
    """Members that already ended that session well: what they sent for it counts, though they may be gone."""


class Lobby:
    """Keeps joins until this node runs the job itself. One per mesh, for the life of the mesh.

    A party runs one job of a name at a time and so keys jobs by name alone: a member that joins with other members disagrees with it. The
    dealer, with `by_members`, keys them by their members, too: sets of parties that use one name are independent there.
    """

    def __init__(self, mesh: Mesh, *, by_members: bool = False) -> None:
        self._mesh = mesh
        self._by_members = by_members
        self._jobs: dict[Key, Attempt] = {}
        self._news: dict[Key, asyncio.Event] = {}
        self._last: dict[tuple[str, str], Key] = {}
        """For each member and job name, the job that it joined last, or was told of before joining any, while that job waits or is
        served.
        """
        self.serving: Collection[Key] = ()
        """The jobs that a dealer serves."""
        self.on_join: list[Callable[[str, wire.Body], None]] = []
        """Called with each join and its sender: a dealer starts jobs by them."""
        mesh.subscribe(self)

    def key(self, job: str, members: Sequence[object]) -> Key:
        """This node's key for the job of this name among these members."""
        return (job, pack(members)) if self._by_members else job

    def about(self, name: str, body: wire.Body) -> Key:
        """The job that a message of `name` is about: a message other than a join means the job of its name that `name` joined last."""
        job: str = body["job"]
        return self.key(job, body["members"]) if body["kind"] == "join" else self._last.get((name, job), job)

    def elsewhere(self, name: str, job: str, key: Key) -> bool:
        """Whether `name` is in a job of this name other than `key`, or was told of another one: then it must not hear of this one."""
        return self._last.get((name, job), key) != key

    def tells(self, name: str, job: str, key: Key) -> None:
        """Note that `name` is told of this job, and of no other job of this name before it joins that one."""
        self._last.setdefault((name, job), key)

    def attempt(self, job: Key) -> Attempt:
        """The others' attempts at `job`."""
        return self._jobs.setdefault(job, Attempt())

    def waiting(self, job: Key) -> list[tuple[str, wire.Body]]:
        """The members that want to run `job`, with their joins."""
        return list(self._jobs[job].joins.items()) if job in self._jobs else []

    def first(self, job: Key) -> str | None:
        """The member that has waited longest for `job`."""
        return next(iter(self._jobs[job].joins), None) if job in self._jobs else None

    def wants(self, name: str, *, but: Key) -> str | None:
        """The name of a job other than `but` for which `name` waits and which this node does not want."""
        others = (job for job, attempt in self._jobs.items() if job != but and job not in self._news and name in attempt.joins)
        return next((job if isinstance(job, str) else job[0] for job in others), None)

    def watch(self, job: Key) -> asyncio.Event:
        """An event that is set at every change; one watcher per job."""
        if job in self._news:
            msg = f"job {job!r} is already being agreed on by this node; a job name is used by one session at a time"
            raise ConfigError(msg)
        return self._news.setdefault(job, asyncio.Event())

    def watched(self, job: Key) -> bool:
        """Whether this node is agreeing on `job` now."""
        return job in self._news

    def forget(self, job: Job) -> None:
        """The job started: drop what its members sent for it; keep joins for other jobs or later runs."""
        key = self.key(job.name, job.members)
        attempt = self.attempt(key)
        for name in job.members:
            attempt.joins.pop(name, None)
            attempt.confirms.pop(name, None)
        self.unwatch(key)

    def unwatch(self, job: Key) -> None:
        """Stop watching `job`; keep what the others sent."""
        self._news.pop(job, None)
        attempt = self.attempt(job)
        self.spend(attempt)
        for name in tuple(attempt.later):
            self.promote(job, name)
        self.drop_empty(job)

    def spend(self, attempt: Attempt) -> None:
        """Drop what members sent for a session that they have ended."""
        for name in attempt.ended:
            attempt.joins.pop(name, None)
            attempt.confirms.pop(name, None)
        attempt.ended.clear()

    def promote(self, job: Key, name: str) -> None:
        """Make the join that `name` sent for a later run the current one."""
        attempt = self.attempt(job)
        attempt.joins[name] = attempt.later.pop(name)
        attempt.confirms.pop(name, None)
        self.changed(job)

    def drop_empty(self, job: Key) -> None:
        """Free the memory of a job that nobody wants any more."""
        if job in self._news or (job in self._jobs and self._jobs[job].joins):
            return
        self._jobs.pop(job, None)
        if job not in self.serving:
            self._last = {said: last for said, last in self._last.items() if last != job}

    def changed(self, job: Key) -> None:
        """Wake the watcher of `job`."""
        event = self._news.get(job)
        if event is not None:
            event.set()

    def peer_up(self, name: str) -> None:
        """A fresh channel means fresh seeds: messages over the old one are void."""
        self._drop(name)

    def peer_down(self, name: str, fault: BeaverError) -> None:  # noqa: ARG002  the reason is the mesh's to tell
        """Drop the joins of `name`."""
        self._drop(name)

    def _drop(self, name: str) -> None:
        self._last = {said: last for said, last in self._last.items() if said[0] != name}
        for job, attempt in tuple(self._jobs.items()):
            for kept in (attempt.later,) if name in attempt.ended else (attempt.joins, attempt.confirms, attempt.later):
                kept.pop(name, None)
            self.drop_empty(job)
        for event in self._news.values():
            event.set()

    def control(self, name: str, body: wire.Body) -> None:
        """Keep joins and confirmations by job and sender."""
        kind = body["kind"]
        if kind not in {"join", "confirm", "withdraw"}:
            return
        if kind == "join" and len(body["nonce"]) != NONCE_BYTES:
            raise PeerMisbehaved(name, "joined with a nonce of the wrong size")
        if kind == "join" and _values(body) > MAX_VALUES:
            raise PeerMisbehaved(name, f"joined with more than {MAX_VALUES} values")
        job = self.about(name, body)
        if job not in self._jobs and kind != "join" and job not in self._news:
            return
        # Counted per sender: no member is cut off for what another one announced.
        if job not in self._jobs and sum(name in attempt.joins or name in attempt.later for attempt in self._jobs.values()) >= MAX_JOBS:
            raise PeerMisbehaved(name, f"announced more than {MAX_JOBS} jobs at once")
        attempt = self.attempt(job)
        if kind == "join":
            self._last[name, body["job"]] = job
            if job in self._news and name in attempt.confirms:
                # It did not withdraw, so it began the session that it confirmed: that session must not lose its member.
                attempt.later[name] = body
            else:
                attempt.joins[name] = body
                attempt.confirms.pop(name, None)
            for hook in self.on_join:
                hook(name, body)
        elif kind == "confirm":
            attempt.confirms[name] = body
        elif attempt.later.pop(name, None) is None:
            attempt.joins.pop(name, None)
            attempt.confirms.pop(name, None)
        self.drop_empty(job)
        self.changed(job)


def _values(body: wire.Body) -> int:
    """How many values a message has, nested ones included."""
    count, left = 0, list[object](body.values())
    while left:
        each = left.pop()
        count += 1
        if isinstance(each, dict):
            left += (*each, *each.values())
        elif isinstance(each, list):
            left += each
    return count
