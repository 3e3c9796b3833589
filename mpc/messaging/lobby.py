"""The lobby: where the joins of other members wait until this node runs the job itself."""

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
"""Values in one join: the largest job of a node has fewer, and an empty list takes a byte on the way and sixty here."""
NONCE_BYTES = 32
Key: TypeAlias = "str | tuple[str, bytes]"
"""What a node knows a job by: its name, and at the dealer also its members."""


@dataclass(slots=True)
class Attempt:
    """What the other members sent for one job, by name."""

    joins: dict[str, wire.Body] = field(default_factory=dict)
    confirms: dict[str, wire.Body] = field(default_factory=dict)
    later: dict[str, wire.Body] = field(default_factory=dict)
    """Joins of members that already began the session which this node still agrees on: they are for the job's next run."""
    ended: set[str] = field(default_factory=set)
    """Members that ended that session well already: what they sent for it counts, though they may be gone."""


class Lobby:
    """Where joins wait until this node runs the job itself.  One per mesh, for as long as the mesh lives.

    A party, which runs one job of a name at a time, knows jobs by name alone: whoever joins with other members disagrees with it.  The dealer,
    with `by_members`, knows them by their members, too: sets of parties that use one name have nothing to do with each other there.
    """

    def __init__(self, mesh: Mesh, *, by_members: bool = False) -> None:
        self._mesh = mesh
        self._by_members = by_members
        self._jobs: dict[Key, Attempt] = {}
        self._news: dict[Key, asyncio.Event] = {}
        self._last: dict[tuple[str, str], Key] = {}
        """For each member and name of a job, the one that it joined last, or was told of before it joined any, as long as that waits or is served."""
        self.serving: Collection[Key] = ()
        """The jobs that a dealer serves."""
        self.on_join: list[Callable[[str, wire.Body], None]] = []
        """Are told of each join, and who sent it: a dealer starts by them."""
        mesh.subscribe(self)

    def key(self, job: str, members: Sequence[object]) -> Key:
        """What this node knows the job of this name among these members by."""
        return (job, pack(members)) if self._by_members else job

    def about(self, name: str, body: wire.Body) -> Key:
        """The job that `name` speaks of: other messages than joins mean the one of that name that it joined last."""
        job: str = body["job"]
        return self.key(job, body["members"]) if body["kind"] == "join" else self._last.get((name, job), job)

    def elsewhere(self, name: str, job: str, key: Key) -> bool:
        """Whether `name` is in another job of this name than that of `key`, or was told of another: then it must not hear of this one."""
        return self._last.get((name, job), key) != key

    def tells(self, name: str, job: str, key: Key) -> None:
        """Now `name` is told of this job, and of no other of this name before it joins that."""
        self._last.setdefault((name, job), key)

    def attempt(self, job: Key) -> Attempt:
        """What is known of the others' attempts at `job`."""
        return self._jobs.setdefault(job, Attempt())

    def waiting(self, job: Key) -> list[tuple[str, wire.Body]]:
        """Who wants to run `job`, with its join."""
        return list(self._jobs[job].joins.items()) if job in self._jobs else []

    def first(self, job: Key) -> str | None:
        """Who of them has waited longest."""
        return next(iter(self._jobs[job].joins), None) if job in self._jobs else None

    def wants(self, name: str, *, but: Key) -> str | None:
        """The name of a job that `name` waits for, and this node does not want; of another than `but`."""
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
        """The job started: what its members sent for it is spent, what others or their next runs want is kept."""
        key = self.key(job.name, job.members)
        attempt = self.attempt(key)
        for name in job.members:
            attempt.joins.pop(name, None)
            attempt.confirms.pop(name, None)
        self.unwatch(key)

    def unwatch(self, job: Key) -> None:
        """Keep what the others sent, but watch no more."""
        self._news.pop(job, None)
        attempt = self.attempt(job)
        self.spend(attempt)
        for name in tuple(attempt.later):
            self.promote(job, name)
        self.drop_empty(job)

    def spend(self, attempt: Attempt) -> None:
        """What members sent for a session that they have ended counts no more."""
        for name in attempt.ended:
            attempt.joins.pop(name, None)
            attempt.confirms.pop(name, None)
        attempt.ended.clear()

    def promote(self, job: Key, name: str) -> None:
        """The join that `name` sent for a later run is now the one that counts."""
        attempt = self.attempt(job)
        attempt.joins[name] = attempt.later.pop(name)
        attempt.confirms.pop(name, None)
        self.changed(job)

    def drop_empty(self, job: Key) -> None:
        """A job that nobody wants any more takes no memory."""
        if job in self._news or (job in self._jobs and self._jobs[job].joins):
            return
        self._jobs.pop(job, None)
        if job not in self.serving:
            self._last = {said: last for said, last in self._last.items() if last != job}

    def changed(self, job: Key) -> None:
        """Wake whoever watches `job`."""
        event = self._news.get(job)
        if event is not None:
            event.set()

    def peer_up(self, name: str) -> None:
        """A fresh channel means fresh seeds: what came over the old one is void."""
        self._drop(name)

    def peer_down(self, name: str, fault: BeaverError) -> None:  # noqa: ARG002  the reason is the mesh's to tell
        """Its joins go with it."""
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
        # Of each sender by itself: nobody is cut off for what another announced.
        if job not in self._jobs and sum(name in attempt.joins or name in attempt.later for attempt in self._jobs.values()) >= MAX_JOBS:
            raise PeerMisbehaved(name, f"announced more than {MAX_JOBS} jobs at once")
        attempt = self.attempt(job)
        if kind == "join":
            self._last[name, body["job"]] = job
            if job in self._news and name in attempt.confirms:
                # It did not withdraw, so it began the session that it confirmed: that one must not lose its member.
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
    """How many values a message has, inside each other and beside."""
    count, left = 0, list[object](body.values())
    while left:
        each = left.pop()
        count += 1
        if isinstance(each, dict):
            left += (*each, *each.values())
        elif isinstance(each, list):
            left += each
    return count
