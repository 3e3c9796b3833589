"""One session at the dealing side: its parties' asks are answered in order (paper: beaver91)."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mpc.errors import BeaverError, Disagreement, PeerLost, PeerMisbehaved, Refused
from mpc.kernels import THREAD_WORK
from mpc.kernels.cross import PARTIES
from mpc.kernels.halting import halt_when
from mpc.messaging.departure import ROOM, Departure, no_memory, reported
from mpc.messaging.tags import correction_digest, correction_tag
from mpc.naming.asked import undefined, unpack_relation
from mpc.naming.correlations import WIDE, receiver
from mpc.naming.streams import BIT_MASK, MASK, Seed
from mpc.preprocessing.bindings import Bindings
from mpc.preprocessing.correction_memory import memory_of
from mpc.preprocessing.corrections import correction, work_of
from mpc.preprocessing.memory_budget import MemoryBudget
from mpc.ring import raw

if TYPE_CHECKING:
    from mpc.framing import wire
    from mpc.ledger import Ledger
    from mpc.messaging.agreed import Agreed
    from mpc.messaging.sinks import Bytes
    from mpc.naming.correlations import Relation
    from mpc.naming.expressions import Range
    from mpc.network.mesh import Mesh
    from mpc.preprocessing.bindings import Name

MAX_ASKS = 1 << 16
"""Correlations for which one party may have asked ahead."""
MAX_ASKED_BYTES = 1 << 26
"""Bytes of their names."""
AHEAD_BYTES = 1 << 25
"""Bytes of corrections that one party has not taken, beyond which the dealer makes no more for it."""
TURN = 5e-4
"""Seconds for which the dealer answers one party before its answers are sent and others have their turn."""


class DealerSession:
    """One job that the dealer serves: a queue of asks per party, answered in order."""

    def __init__(self, agreed: Agreed, mesh: Mesh, ledger: Ledger, memory: MemoryBudget) -> None:
        self._agreed = agreed
        self._memory = memory
        # Half of what all sessions have: a single session leaves room for others.
        self._own_memory = MemoryBudget(memory.most // 2)
        self._mesh = mesh
        self._ledger = ledger
        self._n = len(agreed.job.parties)
        self._bindings = Bindings()
        self._asks: dict[str, asyncio.Queue[bytes]] = {name: asyncio.Queue(MAX_ASKS) for name in agreed.job.parties}
        """Names of relations. Each becomes a relation only in its turn: that takes up to thirty times as much memory."""
        self._waiting = dict.fromkeys(agreed.job.parties, 0)
        """Bytes of the names in each queue."""
        self._done: set[str] = set()
        self._begun: set[str] = set()
        """Parties that have asked for something, and so have all confirmations."""
        self._told: Departure | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._halted = False
        # A pool of its own, so that one session's asks never wait for another's.
        self._threads = ThreadPoolExecutor(min(self._n, os.cpu_count() or 1), "dealer", halt_when, (lambda: self._halted,))

    async def serve(self) -> None:
        """Return when every party is done; raise the first fault."""
        self._mesh.subscribe(self)
        for flow in self._agreed.flows.values():
            flow.on_disagreement = self._fail
        workers = [asyncio.create_task(self._answer(index, name)) for index, name in enumerate(self._agreed.job.parties)]
        fault: BeaverError = PeerLost(self._mesh.identity.name, "finished this session")
        try:
            for name, body in self._agreed.early:
                self.control(name, body)
            # Workers end only by raising, so the first task that is done determines how the session ends.
            done, _ = await asyncio.wait([self._over, *workers], return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        except BeaverError as raised:
            fault = raised
            raise
        finally:
            self._mesh.unsubscribe(self)
            for pending in (self._over, *workers):
                pending.cancel()
            self._halted = True
            self._threads.shutdown(wait=False, cancel_futures=True)
            await asyncio.gather(self._over, *workers, return_exceptions=True)
            self._close(fault)

    def _close(self, fault: BeaverError) -> None:
        told = self._told or Departure.of(fault, self._mesh.identity.name, "the dealer")
        for name, channel in self._agreed.channels.items():
            if len(self._done) < self._n and self._mesh.channel(name) is channel:
                channel.control(kind="leave", session=self._agreed.session, **told._asdict())
            channel.close_flow(self._agreed.session, fault)

    def _fail(self, fault: BeaverError) -> None:
        if not self._over.done():
            self._over.set_exception(fault)

    async def _answer(self, index: int, name: str) -> None:
        # Objects of its own, since a long kernel reads them in a thread.
        seeds = [Seed(self._agreed.seeds[party]) for party in self._agreed.job.parties]
        began = time.monotonic()
        while True:
            key = await self._asks[name].get()
            self._waiting[name] -= len(key)
            relation = unpack_relation(key, name)
            tag = self._tag(relation, index, name)
            try:
                if work_of(relation) > THREAD_WORK:
                    await self._make_in_thread(relation, tag, seeds, index, name)
                else:
                    await self._send(relation, tag, correction(relation, seeds, index), name)
            except MemoryError as lack:
                raise self._too_large(relation, lack) from None
            if time.monotonic() - began > TURN:
                await asyncio.sleep(0)
                began = time.monotonic()

    async def _make_in_thread(self, relation: Relation, tag: bytes, seeds: list[Seed], index: int, name: str) -> None:
        """Run a long kernel in a thread, so that heartbeats go on, as soon as there is memory for it. The memory is held until the
        party has taken all but AHEAD_BYTES.
        """
        size, loop = memory_of(relation, self._n), asyncio.get_running_loop()
        async with self._own_memory.holding(size), self._memory.holding(size):
            share = await loop.run_in_executor(self._threads, correction, relation, seeds, index)
            await self._send(relation, tag, share, name)

    def _too_large(self, relation: Relation, lack: MemoryError) -> Refused:
        """The end of a session whose program needs a correction that this machine cannot make. All parties run that program, so none is
        to blame.
        """
        me, at = self._mesh.identity.name, f"scope {relation.out.scope}"
        self._told = Departure(ROOM, me, me, at)
        logging.LoggerAdapter(self._mesh.log, {"job": self._agreed.job.name}).warning("phase=running no memory at %s: %s", at, lack)
        return Refused(me, no_memory(at))

    async def _send(self, relation: Relation, tag: bytes, share: Bytes, name: str) -> None:
        flow = self._agreed.flows[name]
        flow.send(tag, correction_digest(tag, relation.key), raw(share))
        self._ledger.sends(name, share.nbytes)
        self._ledger.relations += 1
        # Only some way ahead of the party: what it has not taken yet is held here.
        await flow.drained(AHEAD_BYTES)

    def _tag(self, relation: Relation, index: int, name: str) -> bytes:
        """The tag of a relation for which this party may ask and for whose words nobody used another name."""
        tag = correction_tag(self._agreed.session, relation.key)
        if receiver(tag, self._n) != index:
            raise PeerMisbehaved(name, "asked for a correction that another party receives")
        if self._n not in PARTIES and any(expression.uses("cross") for expression in relation.expressions):
            raise PeerMisbehaved(name, f"asked for a product in a form that {self._n} parties do not have")
        for mask in (leaf for expression in relation.expressions for leaf in expression.leaves()):
            if mask.owner is not None and mask.owner >= self._n:
                raise PeerMisbehaved(name, "asked for the mask of a party that is not there")
            # Words and numbers are two names, too.
            self._bind(MASK, mask.where, WIDE if mask.is_wide else mask.owner, name)
        for where in relation.bits:
            self._bind(BIT_MASK, where, b"", name)
        self._bind(relation.usage, relation.out, relation.key, name)
        return tag

    def _bind(self, usage: str, where: Range, word: Name, name: str) -> None:
        """PeerMisbehaved if this party used the range for something else before; Disagreement if another party did, as in diverged
        programs.
        """
        first = self._bindings.bind(usage, where, word, name)
        if first == name:
            raise PeerMisbehaved(name, f"asked for randomness of scope {where.scope!r} under a second name")
        if first is not None:
            self._told = Departure("disagreement", name, first, f"scope {where.scope}")
            raise Disagreement(
                name,
                f"asks for other randomness in scope {where.scope!r} than {first}: their programs, shapes, bounds or settings differ. "
                "All parties must run the same program on the same public shapes and bounds.",
            )

    def peer_up(self, name: str) -> None:
        """Nothing to do: a peer that connects anew has lost its connection before."""

    def peer_down(self, name: str, fault: BeaverError) -> None:
        """A party is gone."""
        if name in self._asks and name not in self._done:
            self._fail(PeerLost(name, fault.text))

    def control(self, name: str, body: wire.Body) -> None:
        """Handle an ask, or the end."""
        if name not in self._asks or name in self._done:
            return
        if body.get("session") != self._agreed.session:
            if body["kind"] == "confirm" and body["job"] == self._agreed.job.name:
                # A member that began this session says how it ended before it agrees on another one.
                self._fail(PeerLost(name, "never began this session, and agrees on another one of its job"))
            return
        if body["kind"] == "ask":
            self._begun.add(name)
            try:
                for key in body["relations"]:
                    self._queue(name, key)
            except PeerMisbehaved as fault:
                self._fail(fault)
        elif body["kind"] == "leave":
            self._done.add(name)
            if body["reason"] != "done":
                self._told = self._told or Departure.told(body)
                self._fail(reported(name, self._told, self._mesh.identity.name, self._agreed.job.members))
            elif len(self._done) == len(self._asks) and not self._over.done():
                self._over.set_result(None)
            else:
                self._tell_that_over(name)

    def _tell_that_over(self, party: str) -> None:
        """Tell members without a confirmation of `party` that `party` has ended the session: the members that know it may be gone."""
        for name in self._asks.keys() - self._begun - self._done:
            if (channel := self._agreed.channels[name]) is self._mesh.channel(name):
                channel.control(kind="over", session=self._agreed.session, party=party)

    def _queue(self, name: str, key: object) -> None:
        if not isinstance(key, bytes):
            raise undefined(name)
        self._waiting[name] += len(key)
        if self._asks[name].full() or self._waiting[name] > MAX_ASKED_BYTES:
            raise PeerMisbehaved(name, f"asked for more than {MAX_ASKS} correlations, or {MAX_ASKED_BYTES} bytes of their names, ahead")
        self._asks[name].put_nowait(key)
