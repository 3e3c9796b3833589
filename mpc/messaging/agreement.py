"""Agreement on a job: every member sees the same description and every other's fresh nonce before any input is read.

Each member sends `join` (description, nonce), computes the session id from all nonces, and sends `confirm`, keyed by the pair's new seed. A
member that reconnects joins again with the nonce of its own attempt; ids and confirmations are computed anew until all confirmations are of
the same id. So nothing repeats after a crash or restart of any member.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from mpc.errors import BeaverError, Disagreement, PeerLost, PeerMisbehaved, Refused, RemoteFault
from mpc.messaging.agreed import Agreed
from mpc.messaging.departure import NO_ROOM, ON_ITS_WAY, Departure, dealer_full, reported, withdrawal_fault
from mpc.messaging.descriptions import Descriptions
from mpc.messaging.job import session_id
from mpc.messaging.lobby import NONCE_BYTES
from mpc.naming.streams import confirmation, pair_seed

if TYPE_CHECKING:
    from collections.abc import Collection

    from mpc.channels.channel import Channel
    from mpc.framing import wire
    from mpc.messaging.job import Job
    from mpc.messaging.lobby import Attempt, Lobby
    from mpc.network.mesh import Mesh

GAVE_UP = "gave up waiting"
ANEW = "joins anew"


class Step(Enum):
    """The next step of an attempt whose session is not confirmed yet."""

    AGAIN = "look once more: this member has changed something itself"
    WAIT = "wait for news of the others"


class Refusal(NamedTuple):
    """Member `by` found that the description of `whose` differs. Until `until`, the messages that it saw may still be on their way here."""

    by: str
    whose: str
    until: float


class Agreement:
    """One attempt of this node at one job."""

    def __init__(self, mesh: Mesh, lobby: Lobby, job: Job, *, all_present: bool = False, client: str = "") -> None:
        self._all_present = all_present
        self._mesh = mesh
        self._lobby = lobby
        self._job = job
        self._key = lobby.key(job.name, job.members)
        self._me = mesh.identity.name
        self._log = logging.LoggerAdapter(mesh.log, {"job": job.name, "phase": "agreement"})
        self._others = tuple(name for name in job.members if name != self._me)
        self._known = (*job.members, client) if client else job.members
        """Members that may be named, including the client that gets results, if there is one."""
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._told: dict[str, Channel] = {}
        """The channel over which each other member was told of this attempt."""
        self._agreed: Agreed | None = None
        """The session that this member has confirmed."""
        self._descriptions = Descriptions(job, self._me)
        self._fault: BeaverError | None = None
        """The fault that ends this attempt at its next step: a member has left or was lost."""
        self._departure: Departure | None = None
        """The departure that this member reported, if it left a session that it had begun."""
        self._refusal: Refusal | None = None
        self._gave_up: set[str] = set()
        """Members that withdrew because others were missing or had no room."""
        self._over: set[str] = set()
        """Members that have ended the session, according to the dealer."""

    async def reach(self, within: float | None = None) -> Agreed:
        """Return when every member confirmed the same session. Its channels are the mesh's until the caller's next await.

        Raises PeerLost if a member does not come `within` seconds, Disagreement if its description differs.
        """
        event = self._lobby.watch(self._key)
        self._descriptions.add(self._lobby.attempt(self._key).joins)
        self._mesh.subscribe(self)
        try:
            async with asyncio.timeout(within):
                while not isinstance(agreed := self._step(), Agreed):
                    if agreed is Step.WAIT:
                        await self._news(event)
        except BaseException as fault:
            self._give_up(fault)
            self._lobby.unwatch(self._key)
            if isinstance(fault, TimeoutError):
                raise self._missing() from None
            raise
        finally:
            self._mesh.unsubscribe(self)
        self._lobby.forget(self._job)
        return agreed

    async def _news(self, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(5):
                await event.wait()
        except TimeoutError:
            absent = self._absent()
            others = [
                f"{name}, which waits for job {job!r}" for name in absent if (job := self._lobby.wants(name, but=self._key)) is not None
            ]
            self._log.info("waiting for %s", "; ".join(others) or ", ".join(absent))
        event.clear()

    def _absent(self) -> list[str]:
        attempt = self._lobby.attempt(self._key)
        absent = [name for name in self._others if not self._has_joined(name, attempt)]
        # A member that waited for the same missing member and gave up a moment earlier is not to blame.
        return [name for name in absent if name not in self._gave_up] or absent or self._unconfirmed() or ["confirmation"]

    def _unconfirmed(self) -> list[str]:
        """Members whose confirmation of this member's confirmed session is missing."""
        confirms, session = self._lobby.attempt(self._key).confirms, self._agreed.session if self._agreed is not None else None
        return [name for name in self._others if name not in confirms or confirms[name]["session"] != session]

    def _missing(self) -> BeaverError:
        absent = self._absent()
        name = absent[0] if absent[0] in self._others else self._others[0]
        connected = not self._mesh.missing([name])
        why = "is connected but did not start this job" if connected else f"did not come ({self._mesh.problem(name)})"
        waited = f"{why} within {self._mesh.clocks.join:g} s; job {self._job.name!r} waited for {', '.join(absent)}. "
        other = self._lobby.wants(name, but=self._key)
        if other is not None:
            return PeerLost(name, f"{waited}It waits for job {other!r} itself: give the same name everywhere.")
        return PeerLost(name, f"{waited}Start it there, or raise the clock `join`.")

    def _give_up(self, fault: BaseException) -> None:
        self._tell_that_over()
        reason = fault.text if isinstance(fault, Disagreement) else NO_ROOM if isinstance(fault, Refused) else GAVE_UP
        party = fault.party if isinstance(fault, RemoteFault) else self._me
        joins = self._lobby.attempt(self._key).joins
        for name, channel in self._told.items():
            if channel is self._mesh.channel(name):
                # The nonce identifies the peer's attempt: its next attempt must not fail because of this one.
                answers = joins[name]["nonce"] if name in joins else b""
                channel.control(kind="withdraw", job=self._job.name, reason=reason, party=party, answers=answers)
        if isinstance(fault, Disagreement):
            joins.clear()
        # A member that confirmed the session hears that another one left it, and withdraws nothing: its join is spent.
        spent = set(self._others) - set(self._unconfirmed()) if self._departure is not None else set[str]()
        # Keep no join of a peer that misbehaved: its error would recur at once and for ever.
        for name in spent | ({fault.party} if isinstance(fault, PeerMisbehaved) else set()):
            joins.pop(name, None)
        if self._agreed is not None:
            # A member that has all confirmations has begun already and waits for this party's messages.
            told = self._departure or Departure.of(fault, self._me, "the start")
            for name, channel in self._agreed.channels.items():
                if channel is self._mesh.channel(name):
                    channel.control(kind="leave", session=self._agreed.session, **told._asdict())
        self._void(PeerLost(self._me, "gave up this job"))

    def _tell_that_over(self) -> None:
        """At a dealer that will not serve the session: tell which members have ended it, as a serving dealer does, to parties that may
        hear it from nobody else.
        """
        if self._agreed is None or self._me != self._job.members[-1]:
            return
        ended = self._agreed.ended()
        for name in set(self._others).difference(name for name, _ in self._agreed.early):
            if (channel := self._agreed.channels[name]) is self._mesh.channel(name):
                for party in ended:
                    channel.control(kind="over", session=self._agreed.session, party=party)

    def _void(self, fault: BeaverError, but: Collection[str] = ()) -> None:
        if self._agreed is not None:
            for name, channel in self._agreed.channels.items():
                if name not in but:
                    channel.close_flow(self._agreed.session, fault)
            self._agreed = None

    # -- one step ----------------------------------------------------------------------------------------------

    def _step(self) -> Agreed | Step:
        """Do what is possible now. Return the session once every member has confirmed the one that this member would run."""
        attempt = self._lobby.attempt(self._key)
        if self._fault is not None or self._refusal is not None:
            # If descriptions differ, that is why members left, whoever left first. This member compares them itself to see whom a refusal
            # concerns.
            self._compare(attempt)
        if self._fault is not None:
            raise self._fault
        if self._refusal is not None:
            return self._refused(self._refusal)
        self._promote(attempt)
        self._tell(attempt)
        channels = self._joined(attempt)
        if channels is None:
            return Step.WAIT
        self._compare(attempt)
        session = session_id(self._job, {name: attempt.joins[name]["nonce"] for name in self._others} | {self._me: self._nonce})
        before = self._agreed if self._agreed is not None and self._agreed.session == session else None
        if attempt.ended and before is None:
            # A member joined anew: members that ended the session before take no part in the next one until they join it.
            self._lobby.spend(attempt)
            return Step.AGAIN
        if any(channel.carries_alike(session) for channel in channels.values()):
            # No member has this one's confirmation, so the session has begun nowhere: take another nonce, and so another id.
            self._join_anew()
            return Step.AGAIN
        if before is None or before.channels != channels:
            self._begin(session, channels, before)
            if attempt.later:
                return Step.AGAIN
        return self._all_confirm(attempt.confirms)

    def _refused(self, refusal: Refusal) -> Step:
        if time.monotonic() < refusal.until and not self._descriptions.complete:
            return Step.WAIT
        text = f"refuses job {self._job.name!r}, since it found that {refusal.whose} describes it differently. "
        raise Disagreement(refusal.by, text + "Start it with the same settings everywhere.")

    def _joined(self, attempt: Attempt) -> dict[str, Channel] | None:
        """The channel to each other member if all have joined, else None."""
        channels = {name: channel for name in self._others if (channel := self._channel(name, attempt)) is not None}
        return channels if all(name in channels and self._has_joined(name, attempt) for name in self._others) else None

    def _channel(self, name: str, attempt: Attempt) -> Channel | None:
        """The channel to `name`; for a member that has ended the session, the channel that it had in the session."""
        return self._agreed.channels[name] if self._agreed is not None and name in attempt.ended else self._mesh.channel(name)

    def _promote(self, attempt: Attempt) -> None:
        """Make joins for a later run current if the session that their senders began will not come to be here."""
        session = self._agreed.session if self._agreed is not None else None
        stale = [name for name in attempt.later if name not in attempt.confirms or attempt.confirms[name]["session"] != session]
        for name in stale:
            self._lobby.promote(self._key, name)
        if stale:
            self._join_anew()

    def _join_anew(self) -> None:
        """Withdraw the join and join with a fresh nonce: a member that began a session with the old nonce has spent its join."""
        for name, channel in self._told.items():
            if channel is self._mesh.channel(name):
                channel.control(kind="withdraw", job=self._job.name, reason=ANEW, party=self._me, answers=b"")
        self._told.clear()
        self._nonce = secrets.token_bytes(NONCE_BYTES)

    def _tell(self, attempt: Attempt) -> None:
        for name in self._others:
            channel = self._channel(name, attempt)
            away = self._lobby.elsewhere(name, self._job.name, self._key)
            if channel is not None and self._told.get(name) is not channel and not away:
                self._told[name] = channel
                self._lobby.tells(name, self._job.name, self._key)
                self._gave_up.discard(name)
                channel.control(
                    kind="join",
                    job=self._job.name,
                    description=self._job.description,
                    members=list(self._job.members),
                    nonce=self._nonce,
                )

    def _has_joined(self, name: str, attempt: Attempt) -> bool:
        return name in attempt.joins and self._descriptions.concerns(name, attempt.joins[name])

    def _compare(self, attempt: Attempt) -> None:
        self._descriptions.add(attempt.joins)
        self._descriptions.compare()

    def _begin(self, session: bytes, channels: dict[str, Channel], before: Agreed | None) -> None:
        """Confirm `session`; `before` is the same session over earlier channels."""
        # A member on the same channel may have begun this very session: its messages for it count, since it does not send them again.
        kept = [name for name, channel in channels.items() if before is not None and before.channels[name] is channel]
        self._void(PeerLost(self._me, "the session was agreed anew"), kept)
        self._gave_up.clear()
        if before is None:
            self._over.clear()
        self._agreed = Agreed(self._job, session, {}, {}, channels)
        for name, channel in channels.items():
            if before is not None and name in kept:
                self._agreed.seeds[name], self._agreed.flows[name] = before.seeds[name], before.flows[name]
                for sender, body in before.early:
                    if sender == name:
                        self._agreed.keep(sender, body)
                continue
            seed = pair_seed(channel.exporter, channel.transcript, session, self._job.digest, self._me, name)
            # Flows open before our confirmation leaves, so a peer's first data always finds them.
            self._agreed.seeds[name], self._agreed.flows[name] = seed, channel.open_flow(session, self._mesh.window)
            channel.control(kind="confirm", job=self._job.name, session=session, proof=confirmation(seed, session, self._me))

    def _all_confirm(self, confirms: dict[str, wire.Body]) -> Agreed | Step:
        if self._agreed is None or self._unconfirmed():
            return Step.WAIT
        for name in self._others:
            if not hmac.compare_digest(confirms[name]["proof"], confirmation(self._agreed.seeds[name], self._agreed.session, name)):
                raise PeerMisbehaved(name, "confirmed the session with another seed")
        return self._agreed

    # -- what the mesh tells -----------------------------------------------------------------------------------

    def peer_up(self, name: str) -> None:
        """Nothing to do: the lobby wakes this attempt."""

    def peer_down(self, name: str, fault: BeaverError) -> None:
        """The lobby wakes this attempt, which waits for the peer until the `join` clock ends, unless every member was there already."""
        if self._all_present and name in self._others and name not in self._lobby.attempt(self._key).ended:
            self._fault = PeerLost(name, f"{fault.text} (before job {self._job.name!r} started)")
        self._see_who_is_lost()

    def control(self, name: str, body: wire.Body) -> None:
        """Handle a member that already started and left again, gave up, or refuses to start."""
        if name not in self._others:
            return
        if body["kind"] == "join" and body["job"] == self._job.name:
            if self._lobby.elsewhere(name, self._job.name, self._key):
                # The dealer's word on the other member replaces what `name` was told of this job.
                self._told.pop(name, None)
            else:
                self._descriptions.add({name: body})
        elif body["kind"] == "withdraw":
            self._withdrawn(name, body)
        elif body["kind"] not in {"ask", "leave", "over"} or self._agreed is None or body["session"] != self._agreed.session:
            return
        elif body["kind"] == "over":
            if name == self._job.members[-1] and body["party"] in self._others:
                self._over.add(body["party"])
                self._see_who_is_lost()
        elif body["kind"] == "ask" or body["reason"] == "done":
            self._agreed.keep(name, body)
            if body["kind"] == "leave":
                self._lobby.attempt(self._key).ended.add(name)
                self._agreed.flows[name].peer_finished()
            self._see_who_is_lost()
        elif name not in self._gave_up:
            # `name` may only be passing on another member's departure.
            self._departure = Departure.told(body)
            self._fault = reported(name, self._departure, self._me, self._known)
            self._lobby.changed(self._key)

    def _see_who_is_lost(self) -> None:
        """Find a lost member that need not be waited for: once some members have ended the session, it has begun, and a member that is
        lost then ends it here too, as it would a moment later.
        """
        if self._agreed is None:
            return
        began_over = self._agreed.channels
        ended = self._agreed.ended()
        now = {name: self._mesh.channel(name) for name in self._others if name not in ended}
        # A member that has ended the session does not return to it, even over another channel. Neither does a member that is lost after
        # this party heard of an end.
        lost = [name for name, at in now.items() if (ended and at is None) or (name in self._over and at is not began_over[name])]
        if lost:
            self._fault = PeerLost(lost[0], "was lost before all had confirmed the session, which others have ended")
            self._lobby.changed(self._key)

    def _withdrawn(self, name: str, body: wire.Body) -> None:
        if self._lobby.about(name, body) != self._key:
            return
        if body["reason"] == NO_ROOM and name == self._job.members[-1]:
            if body["answers"] == self._nonce:
                self._fault = dealer_full(name, name)
        elif body["reason"] in (GAVE_UP, NO_ROOM):
            self._gave_up.add(name)
            if self._all_present and self._departure is None:  # else the member that left the session has said why
                self._fault = withdrawal_fault(name, body["party"], [each for each in self._known if each != self._me], body["reason"])
        elif body["answers"] == self._nonce:
            # The messages that `name` saw may still be on their way here.
            whose, until = body["party"] if body["party"] in self._job.members else name, time.monotonic() + ON_ITS_WAY
            self._refusal = self._refusal or Refusal(name, whose, until)
            asyncio.get_running_loop().call_later(1.1 * ON_ITS_WAY, self._lobby.changed, self._key)
        self._lobby.changed(self._key)
