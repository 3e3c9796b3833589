"""What a party waits for, and what its peers say they wait for. This finds diverged programs soon, and stalls when the clock runs out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from mpc.errors import BeaverError, Disagreement, PeerLost
from mpc.messaging.departure import Departure, printable_place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpc.channels.flow import Arrivals
    from mpc.framing import wire
    from mpc.messaging.agreed import Agreed
    from mpc.naming.scope import Scope
    from mpc.network.mesh import Mesh

REMEMBERED = 1 << 10
"""Tags of a party's last steps that it remembers: a peer that waits for it at one of these has only not received its message yet."""
PATIENCE = 5.0
"""Seconds after which, and between which, a party tells what it waits for: at most a quarter of the clock `stall`."""
SUSPICIOUS = 3
"""Pauses after which the log warns that two parties waiting for each other may have diverged: a message may still arrive."""
GRACE = 2
"""Pauses granted to others that wait for each other, not for this party, to find that their messages are only slow."""
Wait = tuple["Scope", float, bytes, bytes]
"""The scope of an op, since when it waits, and the tag and digest of the awaited messages; for a correction the tag is empty. A plain
tuple, since every round makes one.
"""


class PeerWait(NamedTuple):
    """What a peer said at `when`: it waits at the place `at` for the messages with this `tag` of the members `on`."""

    at: str
    on: tuple[str, ...]
    when: float
    tag: bytes


class Waits:
    """The waits of one session. While messages arrive they cost only a check now and then: a party reports only long waits."""

    def __init__(self, agreed: Agreed, mesh: Mesh, end_session: Callable[[BeaverError, Departure], None]) -> None:
        self._pending: dict[Arrivals, Wait] = {}
        """In the order of their beginnings."""
        self._sent: deque[bytes] = deque(maxlen=REMEMBERED)
        self._agreed = agreed
        self._mesh = mesh
        self._me = mesh.identity.name
        self._end_session = end_session
        self._peer_waits: dict[str, PeerWait] = {}
        self._warned = 0.0
        """When the wait began of which the log warned last."""
        self._limit = mesh.clocks.stall
        self._pause = min(self._limit / 4, PATIENCE)

    def sent(self, tag: bytes) -> None:
        """This party took the step with this tag: all its messages of that step are sent."""
        self._sent.append(tag)

    def begin(self, arrivals: Arrivals, scope: Scope, tag: bytes, digest: bytes) -> bool:
        """Begin to wait for `arrivals`; True if it is the only wait. Without a `tag` it is a correction."""
        self._pending[arrivals] = scope, time.monotonic(), tag, digest
        return len(self._pending) == 1

    def end(self, arrivals: Arrivals) -> None:
        """Stop waiting for `arrivals`."""
        del self._pending[arrivals]

    def fail(self, fault: BeaverError) -> None:
        """The session is over: fail every wait with `fault`."""
        for arrivals in tuple(self._pending):
            arrivals.fail(fault)

    async def watch(self) -> None:
        """Tell the other parties of the oldest wait while it lasts; end the session when it has lasted too long."""
        while True:
            await asyncio.sleep(self._pause)
            if not self._pending:
                continue
            arrivals, wait = next(iter(self._pending.items()))
            on = [name for name, flow in self._agreed.flows.items() if flow.lacks(arrivals)]
            lasted = time.monotonic() - wait[1]
            if lasted > self._limit and on:
                label = wait[0].label
                fault, told, surely = self._overdue(arrivals, on[0], label)
                if surely or lasted > self._limit + GRACE * self._pause:
                    self._end_session(fault, told)
                    return
            if lasted > self._pause and on:
                self._tell(wait, on)
            if lasted > SUSPICIOUS * self._pause and on:
                self._warn(wait, on[0])

    def _tell(self, wait: Wait, on: list[str]) -> None:
        scope, _, tag, digest = wait
        about = {"tag": tag, "digest": digest, "scope": scope.ranges.scope, "at": printable_place(scope.label), "on": on}
        for name in self._agreed.job.parties:
            channel = self._agreed.channels.get(name)
            if channel is not None and self._mesh.channel(name) is channel:
                channel.control(kind="waits", session=self._agreed.session, **about)

    def _warn(self, wait: Wait, late: str) -> None:
        """Warn, once per wait, if the late message is from a party that itself waits for this one."""
        scope, began, *_ = wait
        if self._warned >= began or self._waited_for(late) != self._me:
            return
        self._warned = began
        self._mesh.log.warning(
            "job=%s peer=%s phase=waiting it waits at %s for this party, which waits for it at %s: "
            "if that does not end their programs went apart, "
            "which the clock stall ends after %g s",
            self._agreed.job.name,
            late,
            self._peer_waits[late].at,
            scope.label,
            self._limit,
        )

    def heard(self, name: str, body: wire.Body) -> None:
        """Take a party's report of its wait; end the session with a Disagreement if the awaited message will never come."""
        at, on = printable_place(body["at"]), tuple(other for other in body["on"] if other in self._agreed.job.members and other != name)
        self._peer_waits[name] = PeerWait(at, on, time.monotonic(), body["tag"])
        for scope, _, tag, digest in self._pending.values():
            # The digest is of the step, not of the party: all parties that take the same step have the same digest.
            if tag and tag == body["tag"] and digest != body["digest"]:
                text = f"waits at {at}, and this party at {scope.label} of the same step, but for another message: "
                remedy = "receivers, owners of inputs, ops or shapes differ there. All parties must run the same program."
                self._went_apart(Disagreement(name, text + remedy), at)
                return
        # Only if this party itself is waited for: others may go on without it.
        if self._pending and self._me in on:
            scope, *_ = next(iter(self._pending.values()))
            ended = scope.ended(body["scope"])
            if ended is not None:
                text = f"waits for this party at {at}, but here {ended.label} raised {ended.fault}, and the program went on without it. "
                remedy = "Let a fault that one party alone may have end the program: catch none, or only what all parties raise."
                self._went_apart(Disagreement(name, text + remedy), at)

    def _overdue(self, arrivals: Arrivals, late: str, here: str) -> tuple[BeaverError, Departure, bool]:
        """The fault of the party whose message for the place `here` is late, the departure to tell, and whether the others cannot know
        better.

        If that party reports a wait of its own, the last party of the chain of waits is late, or none if the chain is a circle. The text
        says whose word that is.
        """
        chain = [late]
        # A message that has begun to arrive is only slow, whatever its sender waits for.
        following = None if self._agreed.flows[late].brings(arrivals) else self._waited_for(late)
        while following is not None and following != self._me and following not in chain:
            chain.append(following)
            following = self._waited_for(following)
        fault: BeaverError
        if following is None:
            fault = self._late(chain, here)
            return fault, Departure.of(fault, self._me, here), True
        first = late if following == self._me else following
        at, other, remedy = (
            self._peer_waits[first].at,
            self._waited_for(first) or first,
            "All parties must call the same ops in the same order.",
        )
        if following == self._me:
            text = f"waits itself, as it says, at {at} for {other}, while this party waits for it at {here}, for {self._limit:g} s now: "
            fault = Disagreement(first, f"{text}their programs went apart. {remedy}")
            return fault, Departure.of(fault, self._me, here), True
        text = (
            f"waits at {at} for {other}, which waits in turn, as they say, and this party waits for them at {here}, "
            f"for {self._limit:g} s now: "
        )
        fault = Disagreement(first, f"{text}they went apart, or what they have sent each other is slow. {remedy}")
        # Not with this party, which only waits behind them.
        return fault, Departure("disagreement", first, other, at), False

    def _late(self, chain: Sequence[str], here: str) -> PeerLost:
        """The fault of the last of `chain`: this party waits at `here` for the first, and each, by its own account, for the next."""
        *others, late = chain
        if others:
            at = self._peer_waits[others[-1]].at
            text = (
                f"has not sent what {others[-1]} waits for at {at}, as that one says, and this party waits at {here}, "
                f"for {self._limit:g} s now. "
            )
        else:
            text = f"is alive, but its message for {here} did not come within {self._limit:g} s. "
        return PeerLost(late, text + "Raise the clock stall if its program takes longer before that.")

    def _waited_for(self, name: str) -> str | None:
        """The party for which `name` waits, by its recent report; not this party if it has already sent `name` that message."""
        told = self._peer_waits.get(name)
        if told is None or told.when <= time.monotonic() - 3 * self._pause:
            return None
        return next((other for other in told.on if other != self._me or told.tag not in self._sent), None)

    def _went_apart(self, fault: Disagreement, at: str) -> None:
        self._end_session(fault, Departure.of(fault, self._me, at))
