"""What a party waits for, and what its peers say that they wait for: programs that went apart are told soon, and stalls at the clock."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from mpc.errors import BeaverError, Disagreement, PeerLost
from mpc.messaging.departure import Departure, departure, place

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.channels.flow import Arrivals
    from mpc.framing import wire
    from mpc.messaging.agreement import Agreed
    from mpc.naming.scope import Scope
    from mpc.network.mesh import Mesh

PATIENCE = 5.0
"""Seconds after which a party says what it waits for, and how often: at most a quarter of the clock `stall`."""
Wait = tuple["Scope", float, bytes, bytes]
"""An op of this scope waits since then for messages with this tag and digest; for a correction if there is no tag.  Plain, since every round has one."""


class Told(NamedTuple):
    """A peer waits `at` a place for messages of those named; said at `when`."""

    at: str
    on: tuple[str, ...]
    when: float


class Waits:
    """Of one session.  Costs nothing but a look now and then while messages come: only who waits for long says so."""

    def __init__(self, agreed: Agreed, mesh: Mesh, fail: Callable[[BeaverError, Departure], None]) -> None:
        self.pending: dict[Arrivals, Wait] = {}
        """Those that began first come first."""
        self._agreed = agreed
        self._mesh = mesh
        self._me = mesh.identity.name
        self._fail = fail
        self._told: dict[str, Told] = {}
        self._limit = mesh.clocks.stall
        self._pause = min(self._limit / 4, PATIENCE)

    async def watch(self) -> None:
        """Tell the other parties of the oldest wait as long as it lasts; end the session when it has lasted too long."""
        while True:
            await asyncio.sleep(self._pause)
            if not self.pending:
                continue
            arrivals, wait = next(iter(self.pending.items()))
            on = [name for name, flow in self._agreed.flows.items() if flow.lacks(arrivals)]
            lasted = time.monotonic() - wait[1]
            if lasted > self._limit and on:
                label = wait[0].label
                self._end(self._overdue(on[0], label), label)
                return
            if lasted > self._pause and on:
                self._tell(wait, on)

    def _tell(self, wait: Wait, on: list[str]) -> None:
        scope, _, tag, digest = wait
        about = {"tag": tag, "digest": digest, "scope": scope.ranges.scope, "at": place(scope.label), "on": on}
        for name in self._agreed.job.parties:
            channel = self._agreed.channels.get(name)
            if channel is not None and self._mesh.channel(name) is channel:
                channel.control(kind="waits", session=self._agreed.session, **about)

    def heard(self, name: str, body: wire.Body) -> None:
        """A party says what it waits for: a Disagreement if that will never come."""
        at, on = place(body["at"]), tuple(other for other in body["on"] if other in self._agreed.job.members)
        self._told[name] = Told(at, on, time.monotonic())
        for scope, _, tag, digest in self.pending.values():
            # The digest is of the step, not of who takes it: all who take the same one have the same.
            if tag and tag == body["tag"] and digest != body["digest"]:
                text = f"waits at {at}, and this party at {scope.label} of the same step, but for another message: "
                remedy = "receivers, owners of inputs, ops or shapes differ there. All parties must run the same program."
                self._end(Disagreement(name, text + remedy), at)
                return
        # Only who is waited for itself: others may go on without it.
        if self.pending and self._me in on:
            scope, *_ = next(iter(self.pending.values()))
            ended = scope.ended(body["scope"])
            if ended is not None:
                text = f"waits for this party at {at}, but here {ended.label} raised {ended.fault}, and the program went on without it. "
                remedy = "Let a fault that one party alone may have end the program: catch none, or only what all parties raise."
                self._end(Disagreement(name, text + remedy), at)

    def _overdue(self, late: str, at: str) -> BeaverError:
        """Who is late with a message for the place `at` here: the one at the end, if that party waits itself for another; nobody if all do."""
        fresh = time.monotonic() - 3 * self._pause
        seen, first, here = {self._me}, late, at
        while (told := self._told.get(late)) is not None and told.when > fresh and told.on:
            seen.add(late)
            if told.on[0] in seen:
                text = f"waits itself, at {self._told[first].at} for {self._told[first].on[0]}, while this party waits for it at {here}, "
                remedy = f"for {self._limit:g} s now: their programs went apart. All parties must call the same ops in the same order."
                return Disagreement(first, text + remedy)
            late, at = told.on[0], told.at
        text = f"is alive, but its message for {at} did not come within {self._limit:g} s. "
        return PeerLost(late, text + "Raise the clock stall if its program takes longer before that.")

    def _end(self, fault: BeaverError, at: str) -> None:
        self._fail(fault, departure(fault, self._me, at))
