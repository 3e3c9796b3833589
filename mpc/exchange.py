"""The messages of one session: tags and digests, simultaneous openings, deliveries, faults and the end."""

from __future__ import annotations

import asyncio
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mpc import wire
from mpc.canonical import pack
from mpc.errors import BeaverError, Disagreement, PeerLost, PeerMisbehaved, ProgramError
from mpc.flow import Arrivals
from mpc.prg import fields
from mpc.ring import WORD, Words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpc.agreement import Agreed
    from mpc.correlations import Product, Range
    from mpc.ledger import Ledger
    from mpc.mesh import Mesh
    from mpc.scope import Scope

MAX_NDIM = 32


class Departure(NamedTuple):
    """Why a session ended, as its members tell each other; a member that did not see it itself passes it on unchanged."""

    reason: str
    party: str
    at: str


def departure(fault: BaseException, me: str, at: str) -> Departure:
    """What to tell of `fault`.  From fixed lists only: an abort carries no secret-dependent text."""
    match fault:
        case PeerLost():
            return Departure("lost", fault.party, at)
        case Disagreement():
            return Departure("disagreement", fault.party, at)
        case PeerMisbehaved():
            return Departure("misbehaved", fault.party, at)
        case _:
            return Departure("program", me, at)


def reported(name: str, told: Departure, me: str, members: Sequence[str]) -> BeaverError:
    """The fault of which `name` told this member."""
    about = told.party if told.party in members else name
    text = {
        "lost": f"was lost at {told.at}, says {name}",
        "disagreement": f"disagrees with {name} at {told.at}: they run different programs, shapes or settings",
        "misbehaved": f"sent {name} what the wire format does not allow, at {told.at}",
    }.get(told.reason, f"left at {told.at}: its program ended there")
    if about == me:
        about, text = name, f"ended the session at {told.at}, since it found this party {told.reason}"
    return (Disagreement if told.reason == "disagreement" else PeerLost)(about, text)


class Sum:
    """A sink that adds words to `total` as they arrive."""

    __slots__ = ("_total",)

    def __init__(self, total: Words) -> None:
        self._total = total

    def write(self, offset: int, data: memoryview) -> None:
        """Add the words that start at byte `offset`."""
        words = np.frombuffer(data, WORD)
        start = offset // WORD.itemsize
        self._total[start : start + words.size] += words


class Store:
    """A sink that keeps bytes in `target`, an array of exactly the message's size."""

    __slots__ = ("_bytes",)

    def __init__(self, target: Words) -> None:
        self._bytes = target.reshape(-1).view(np.uint8)

    def write(self, offset: int, data: memoryview) -> None:
        """Copy the bytes that start at `offset`."""
        self._bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)


def raw(words: Words) -> memoryview:
    """The bytes of one-dimensional contiguous words, without a copy."""
    return np.ascontiguousarray(words).reshape(-1).view(np.uint8).data


def correction_digest(tag: bytes, relation: Product) -> bytes:
    """What dealer and receiver must agree on before a correction is used."""
    return blake2b(fields("correction", tag, relation.key), digest_size=wire.DIGEST_BYTES).digest()


class Exchange:
    """One party's messages in one session.  The first fault ends it: every pending and later call raises that fault."""

    def __init__(self, agreed: Agreed, mesh: Mesh, ledger: Ledger) -> None:
        self.me = mesh.identity.name
        self.names = agreed.job.parties
        self.dealer = agreed.job.members[-1]
        self.index = self.names.index(self.me)
        self._agreed = agreed
        self._mesh = mesh
        self._ledger = ledger
        self._fault: BeaverError | None = None
        self._finished = False
        self._done: set[str] = set()
        self._label = "the start"
        self._messages: dict[str, int] = {}
        self._waiting: dict[Arrivals, tuple[str, float]] = {}
        self._watchdog = asyncio.create_task(self._watch_stalls())
        mesh.subscribe(self)
        for flow in agreed.flows.values():
            flow.on_disagreement = self.fail
        for name, channel in agreed.channels.items():
            if mesh.channel(name) is not channel:
                self.fail(PeerLost(name, "was lost while the session began"))
        for name, body in agreed.early:
            self.control(name, body)

    # -- tags and digests --------------------------------------------------------------------------------------

    def tag(self, scope: Scope) -> bytes:
        """The next tag of `scope`: session prefix and a hash of (session, path, number of the message in its scope)."""
        number = self._messages.get(scope.ranges.scope, 0)
        self._messages[scope.ranges.scope] = number + 1
        self._label = scope.label
        digest = blake2b(fields(self._agreed.session, scope.ranges.scope, number), digest_size=wire.TAG_BYTES - wire.SESSION_PREFIX)
        return self._agreed.session[: wire.SESSION_PREFIX] + digest.digest()

    def digest(self, tag: bytes, op: str, shape: Sequence[int], lineages: Iterable[int], names: Iterable[Range] = ()) -> bytes:
        """What both ends must agree on before a value under `tag` is used."""
        parts: list[bytes | str | int] = [self._agreed.session, tag, op, *shape, "|"]
        parts += [lineage.to_bytes(16, "little") for lineage in lineages]
        parts += [pack(name.pack()) for name in names]
        return blake2b(fields(*parts), digest_size=wire.DIGEST_BYTES).digest()

    # -- exchanges ---------------------------------------------------------------------------------------------

    async def open(self, scope: Scope, op: str, words: Words, lineages: Sequence[int], names: Sequence[Range]) -> Words:
        """The sum of every party's `words` (1-d, uniform by the caller's masks), at every party.  One round."""
        tag = self.tag(scope)
        digest = self.digest(tag, op, words.shape, lineages, names)
        peers = [name for name in self.names if name != self.me]
        total = words.copy()
        arrivals = self._receiving(peers, tag, digest, words.nbytes, [Sum(total)] * len(peers), scope)
        for name in peers:
            self._send(name, tag, digest, words)
        await self._wait(arrivals, scope)
        self._round(scope)
        return total

    async def to_receivers(self, scope: Scope, words: Words, receivers: Sequence[int], lineage: int, shape: Sequence[int]) -> Words | None:
        """Every party's `words` straight to each receiver; the sum there, None elsewhere.  One round."""
        tag = self.tag(scope)
        digest = self.digest(tag, "reveal", [*shape, len(receivers), *receivers], [lineage])
        others = [self.names[i] for i in receivers if i != self.index]
        if self.index not in receivers:
            self.check_alive()
            for name in others:
                self._send(name, tag, digest, words)
            self._round(scope)
            return None
        total = words.copy()
        senders = [name for name in self.names if name != self.me]
        arrivals = self._receiving(senders, tag, digest, words.nbytes, [Sum(total)] * len(senders), scope)
        for name in others:
            self._send(name, tag, digest, words)
        await self._wait(arrivals, scope)
        self._round(scope)
        return total

    async def announce(self, scope: Scope, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Every party's public `shape`, in party order.  One round of fixed size."""
        tag = self.tag(scope)
        digest = self.digest(tag, "shapes", (MAX_NDIM,), ())
        mine = np.zeros(MAX_NDIM + 1, WORD)
        mine[: len(shape) + 1] = (len(shape), *shape)
        tables = {name: mine if name == self.me else np.empty_like(mine) for name in self.names}
        peers = [name for name in self.names if name != self.me]
        arrivals = self._receiving(peers, tag, digest, mine.nbytes, [Store(tables[name]) for name in peers], scope)
        for name in peers:
            self._send(name, tag, digest, mine)
        await self._wait(arrivals, scope)
        self._round(scope)
        return [self._shape(name, table) for name, table in tables.items()]

    def _shape(self, name: str, table: Words) -> tuple[int, ...]:
        ndim, *extents = (int(word) for word in table)
        if ndim > MAX_NDIM or any(extents[ndim:]) or any(extent > 1 << 37 for extent in extents):
            raise PeerMisbehaved(name, "announced an impossible shape")
        return tuple(extents[:ndim])

    def expect_correction(self, scope: Scope, tag: bytes, digest: bytes, target: Words) -> Arrivals:
        """Post the receive of a correction from the dealer into `target`."""
        self.check_alive()
        arrivals = Arrivals(1)
        self._agreed.flows[self.dealer].post(tag, digest, target.nbytes, Store(target), arrivals, scope.label)
        return arrivals

    def ask(self, tag: bytes, relation: list[object]) -> None:
        """Ask the dealer for the correction of `relation`."""
        self.check_alive()
        self._agreed.channels[self.dealer].control(kind="ask", session=self._agreed.session, tag=tag, relation=relation)

    async def arrived(self, scope: Scope, arrivals: Arrivals, size: int) -> None:
        """Wait for a correction of `size` bytes."""
        await self._wait(arrivals, scope)
        self._ledger.corrections += size

    def _receiving(
        self, peers: Sequence[str], tag: bytes, digest: bytes, total: int, sinks: Sequence[Sum | Store], scope: Scope
    ) -> Arrivals:
        self.check_alive()
        arrivals = Arrivals(len(peers))
        try:
            # Posted before anything is sent, so no cycle of parties that wait for each other's buffers can form.
            for name, sink in zip(peers, sinks, strict=True):
                self._agreed.flows[name].post(tag, digest, total, sink, arrivals, scope.label)
        except BeaverError as fault:
            self.fail(fault)
            raise
        return arrivals

    def _send(self, name: str, tag: bytes, digest: bytes, words: Words) -> None:
        self._agreed.flows[name].send(tag, digest, raw(words))
        self._ledger.sends(name, words.nbytes)

    def _round(self, scope: Scope) -> None:
        scope.depth += 1
        self._ledger.rounds = max(self._ledger.rounds, scope.depth)

    async def _wait(self, arrivals: Arrivals, scope: Scope) -> None:
        if arrivals.future.done():
            arrivals.future.result()
            return
        self._waiting[arrivals] = (scope.label, time.monotonic())
        try:
            await arrivals.future
        except asyncio.CancelledError:
            msg = f"an op was cancelled at {scope.label}, so this session ended at every party; a retry is a new session"
            self.fail(ProgramError(msg))
            raise
        finally:
            del self._waiting[arrivals]

    # -- faults and the end ------------------------------------------------------------------------------------

    def check_alive(self) -> None:
        """Raise the session's fault, or ProgramError after its end."""
        if self._fault is not None:
            raise self._fault
        if self._finished:
            msg = "this session has ended; open a new one"
            raise ProgramError(msg)

    def fail(self, fault: BeaverError, told: Departure | None = None) -> None:
        """End the session with `fault`: cancel all that is pending, tell every peer, free its memory."""
        if self._fault is not None or self._finished:
            return
        self._fault = fault
        self._end(told or departure(fault, self.me, self._label))

    def leave_early(self, fault: BaseException) -> None:
        """The program itself raised: peers learn where, never what."""
        msg = f"the program raised {type(fault).__name__} at {self._label}; the session is over"
        self.fail(fault if isinstance(fault, BeaverError) else ProgramError(msg))

    def _end(self, told: Departure) -> None:
        self._watchdog.cancel()
        self._mesh.unsubscribe(self)
        over = self._fault or PeerLost(self.me, "finished this session")
        for name, channel in self._agreed.channels.items():
            if self._mesh.channel(name) is channel:
                channel.control(kind="leave", session=self._agreed.session, **told._asdict())
            channel.close_flow(self._agreed.session, over)
        for arrivals in tuple(self._waiting):
            arrivals.fail(over)

    async def finish(self) -> None:
        """Hand over what the others still wait for, then say that this party is done."""
        self.check_alive()
        for name, flow in self._agreed.flows.items():
            # A peer that is done got all it wanted, and may be gone by now.
            if name not in self._done:
                await flow.drained()
        if self._fault is None:
            self._finished = True
            self._end(Departure("done", self.me, self._label))

    async def _watch_stalls(self) -> None:
        limit = self._mesh.clocks.stall
        while True:
            await asyncio.sleep(min(limit / 4, 5))
            oldest = min(self._waiting.values(), key=lambda entry: entry[1], default=None)
            if oldest is not None and time.monotonic() - oldest[1] > limit:
                late = next((name for name, flow in self._agreed.flows.items() if flow.waiting()), self.dealer)
                self.fail(PeerLost(late, f"is alive, but its message for {oldest[0]} did not come within {limit:g} s"))
                return

    # -- what the mesh tells -----------------------------------------------------------------------------------

    def peer_up(self, name: str) -> None:
        """A new channel has new seeds: it cannot carry this session."""
        if name in self._agreed.channels and name not in self._done:
            self.fail(PeerLost(name, "reconnected; what it had of this session is gone"))

    def peer_down(self, name: str, fault: BeaverError) -> None:
        """A member is gone."""
        if name in self._agreed.channels and name not in self._done:
            kind = PeerMisbehaved if isinstance(fault, PeerMisbehaved) else PeerLost
            self.fail(kind(name, f"{getattr(fault, 'text', fault)} (at {self._label})"))

    def control(self, name: str, body: wire.Body) -> None:
        """A member finished, or left early."""
        if body["kind"] != "leave" or body["session"] != self._agreed.session or name not in self._agreed.flows:
            return
        if body["reason"] != "done":
            told = Departure(body["reason"], body["party"], body["at"])
            self.fail(reported(name, told, self.me, self._agreed.job.members), told)
            return
        self._done.add(name)
        try:
            self._agreed.flows[name].peer_finished()
        except Disagreement as fault:
            self.fail(fault)
