"""The messages of one session: simultaneous openings, deliveries, faults and the end."""

from __future__ import annotations

import asyncio
import time
from operator import index
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mpc.channels.flow import Arrivals
from mpc.errors import BeaverError, Disagreement, PeerLost, PeerMisbehaved, ProgramError, RemoteFault
from mpc.framing import wire
from mpc.messaging.departure import ON_ITS_WAY, Departure, printable_place, reported
from mpc.messaging.sinks import Store, Sum
from mpc.messaging.stripes import scatters, stripes
from mpc.messaging.tags import correction_digest, correction_tag, message_digest, message_tag
from mpc.messaging.waits import Waits
from mpc.network.lookout import Lookout
from mpc.ring import MAX_NDIM, WORD, Words, raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpc.channels.flow import Flow, Sink
    from mpc.ledger import Ledger
    from mpc.messaging.agreed import Agreed
    from mpc.messaging.tags import About
    from mpc.messaging.visit import Visit
    from mpc.naming.correlations import Relation
    from mpc.naming.expressions import Tree
    from mpc.naming.scope import Scope
    from mpc.network.mesh import Mesh

MAX_EXTENT = wire.MAX_TOTAL // WORD.itemsize
"""Most length of an axis of an announced shape: no message could hold more words."""
MAX_ASK_BYTES = 1 << 15


class Transfer(NamedTuple):
    """One round with one peer: `words` to send, and a message of `size` bytes to receive in `sink`; either may be missing."""

    peer: str
    words: Words | None
    sink: Sum | Store | None = None
    size: int = 0


def announced(numbers: Sequence[int]) -> tuple[int, ...]:
    """`numbers` as ints; ProgramError if a party cannot announce them."""
    try:
        mine = tuple(map(index, numbers))
    except TypeError:
        mine = (-1,)
    if len(mine) > MAX_NDIM or not all(0 <= each <= MAX_EXTENT for each in mine):
        msg = f"a party announces up to {MAX_NDIM} integers from 0 to {MAX_EXTENT}, not {repr(numbers)[:100]}"
        raise ProgramError(msg)
    return mine


def _shape(name: str, table: Words) -> tuple[int, ...]:
    """The shape that `name` announced; PeerMisbehaved if it is no shape."""
    ndim, *extents = (int(word) for word in table)
    if ndim > MAX_NDIM or any(extents[ndim:]) or any(extent > MAX_EXTENT for extent in extents):
        raise PeerMisbehaved(name, "announced an impossible shape")
    return tuple(extents[:ndim])


class Exchange:
    """One party's messages in one session. The first fault ends it: every pending and later call raises that fault.

    If another party's program failed, the session goes on here until this party needs a message that the failed party had not sent, or for
    ON_ITS_WAY seconds. So each party finds by itself a fault that all programs share, since all know what was revealed.
    """

    def __init__(self, agreed: Agreed, mesh: Mesh, ledger: Ledger, visit: Visit | None = None) -> None:
        self.me = mesh.identity.name
        self.names = agreed.job.parties
        self.dealer = agreed.job.members[-1]
        self.index = self.names.index(self.me)
        self._peers = [name for name in self.names if name != self.me]
        self._agreed = agreed
        self._visit = visit
        self._members = (*agreed.job.members, *([visit.client] if visit is not None else []))
        self._mesh = mesh
        self._ledger = ledger
        self._fault: BeaverError | None = None
        self._finished = False
        self._done: set[str] = set()
        self._gone: tuple[RemoteFault, Departure] | None = None
        """The first fault of another party's program, while this party continues with the messages that it had sent."""
        self._label = "the start"
        self._lookout = Lookout()
        self._waits = Waits(agreed, mesh, self.fail)
        self._watchdog = asyncio.create_task(self._waits.watch())
        mesh.subscribe(self)
        for flow in agreed.flows.values():
            flow.on_disagreement = self.fail
        for name, body in agreed.early:
            self.control(name, body)
        if visit is not None and mesh.channel(visit.client) is not visit.channel:
            self.fail(PeerLost(visit.client, "was lost while the session began"))

    # -- exchanges ---------------------------------------------------------------------------------------------

    async def open(
        self, scope: Scope, op: str, words: Words, lineages: Sequence[int], names: Sequence[Tree | bytes], combine: np.ufunc
    ) -> Words:
        """The sum (or XOR) of every party's `words` (1-d, uniform by the caller's masks), at every party. One round, two if it scatters."""
        about = op, words.shape, lineages, names
        if scatters(len(self.names), words.size):
            return await self._scatter(scope, about, words, combine)
        sink = Sum(words, combine=combine)
        await self._round(scope, about, [Transfer(name, words, sink, words.nbytes) for name in self._peers])
        return sink.total

    async def _scatter(self, scope: Scope, about: About, words: Words, combine: np.ufunc) -> Words:
        """Every party sums one stripe and sends the sum to all: 2(n - 1)/n messages' worth of bytes instead of n - 1.

        The words that a party gets of another one are uniform by the other's own share of the mask, as in one round; the sums are public to
        all parties.
        """
        cuts = dict(zip(self.names, stripes(len(self.names), words.size), strict=True))
        own = slice(*cuts[self.me])
        total = np.empty_like(words)
        mine = total[own]
        sink = Sum(words[own], mine, combine)
        await self._round(scope, about, [Transfer(name, words[slice(*cuts[name])], sink, mine.nbytes) for name in self._peers])
        rest = [(name, total[slice(*cuts[name])]) for name in self._peers]
        await self._round(scope, about, [Transfer(name, mine, Store(part), part.nbytes) for name, part in rest])
        return total

    async def publish(
        self, scope: Scope, op: str, words: Words, owner: int, lineages: Sequence[int], names: Sequence[Tree | bytes]
    ) -> Words:
        """The `words` of party `owner` (uniform by its mask), at every party; the others' `words` are only a shape. One round."""
        about = op, words.shape, lineages, names
        if self.index == owner:
            await self._round(scope, about, [Transfer(name, words) for name in self._peers])
            return words
        target = np.empty_like(words)
        await self._round(scope, about, [Transfer(self.names[owner], None, Store(target), target.nbytes)])
        return target

    async def to_receivers(
        self, scope: Scope, words: Words, receivers: Sequence[int], lineage: int, shape: Sequence[int], combine: np.ufunc
    ) -> Words | None:
        """Send every party's `words` straight to each receiver; return the sum (or XOR) there, None elsewhere. One round.

        A receiver beyond the parties is the client.
        """
        whom = [*shape, len(receivers), *receivers]
        total = np.empty_like(words) if self.index in receivers else None
        sink = None if total is None else Sum(words, total, combine)
        to = {self.names[i] for i in receivers if i < len(self.names)}
        if self._visit is not None and len(to) < len(receivers):
            self.check_alive()
            self._visit.send_revealed("reveal", scope.ranges.scope, [*whom, lineage.to_bytes(16, "little")], words)
            self._ledger.sends(self._visit.client, words.nbytes)
        await self._round(
            scope,
            ("reveal", whom, [lineage], ()),
            [Transfer(name, words if name in to else None, sink, words.nbytes) for name in self._peers if name in to or total is not None],
        )
        return total

    async def announce(self, scope: Scope, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Every party's public `shape`, in party order. One round of fixed size."""
        mine = np.zeros(MAX_NDIM + 1, WORD)
        mine[: len(shape) + 1] = (len(shape), *shape)
        tables = {name: mine if name == self.me else np.empty_like(mine) for name in self.names}
        transfers = [Transfer(name, mine, Store(tables[name]), mine.nbytes) for name in self._peers]
        await self._round(scope, ("shapes", (MAX_NDIM,), (), ()), transfers)
        return [_shape(name, table) for name, table in tables.items()]

    # -- corrections -------------------------------------------------------------------------------------------

    def correction_tag(self, key: bytes) -> bytes:
        """The tag of the correction of the relation `key`."""
        return correction_tag(self._agreed.session, key)

    def expect_correction(self, scope: Scope, tag: bytes, key: bytes, size: int, sink: Sink) -> Arrivals:
        """Post the receive of a correction of `size` bytes from the dealer."""
        self.check_alive()
        arrivals = Arrivals(1)
        self._agreed.flows[self.dealer].post(tag, correction_digest(tag, key), size, sink, arrivals, scope.label)
        return arrivals

    def ask(self, relations: Iterable[Relation]) -> None:
        """Ask the dealer for the corrections of `relations`, many per message."""
        self.check_alive()
        batch: list[bytes] = []
        size = 0
        for relation in relations:
            if batch and size + len(relation.key) > MAX_ASK_BYTES:
                self._ask(batch)
                batch, size = [], 0
            batch.append(relation.key)
            size += len(relation.key)
        if batch:
            self._ask(batch)

    def _ask(self, batch: list[bytes]) -> None:
        self._agreed.channels[self.dealer].control(kind="ask", session=self._agreed.session, relations=batch)

    async def arrived(self, scope: Scope, arrivals: Arrivals, size: int) -> None:
        """Wait for a correction of `size` bytes."""
        await self._wait(arrivals, scope)
        self._ledger.corrections += size

    # -- one round ---------------------------------------------------------------------------------------------

    def tag(self, scope: Scope) -> bytes:
        """The tag of the next message of `scope`."""
        number = scope.messages
        scope.messages = number + 1
        self._label = scope.label
        return message_tag(self._agreed.session, scope.ranges.scope, number)

    async def _round(self, scope: Scope, about: About, transfers: Sequence[Transfer]) -> None:
        """One round, whose digest covers `about`."""
        self.check_alive()
        began = time.monotonic()
        tag = self.tag(scope)
        digest = message_digest(self._agreed.session, tag, about)
        arrivals = Arrivals(sum([each.sink is not None for each in transfers]))
        try:
            # Posted before anything is sent, so no cycle of parties that wait for each other's buffers can form.
            for each in transfers:
                if each.sink is not None:
                    self._agreed.flows[each.peer].post(tag, digest, each.size, each.sink, arrivals, scope.label)
        except BeaverError as fault:
            self.fail(fault)
            raise
        for each in transfers:
            if each.words is not None:
                self._agreed.flows[each.peer].send(tag, digest, raw(each.words))
                self._ledger.sends(each.peer, each.words.nbytes)
        self._waits.sent(tag)
        if arrivals.future.done():
            # This party's messages leave now: its peers compute on them while this party continues.
            await asyncio.sleep(0)
        await self._wait(arrivals, scope, tag, digest)
        scope.depth += 1
        self._ledger.rounds = max(self._ledger.rounds, scope.depth)
        if self._ledger.on_round is not None:
            self._ledger.on_round(time.monotonic() - began)

    async def _wait(self, arrivals: Arrivals, scope: Scope, tag: bytes = b"", digest: bytes = b"") -> None:
        if arrivals.future.done():
            arrivals.future.result()
            return
        alone = self._waits.begin(arrivals, scope, tag, digest)
        try:
            if alone:
                self._lookout.look_for(arrivals.future)
            await arrivals.future
        finally:
            self._waits.end(arrivals)

    # -- faults and the end ------------------------------------------------------------------------------------

    def cancelled(self, scope: Scope) -> None:
        """A call of `scope` was cancelled before it was done."""
        msg = f"an op was cancelled at {scope.label or 'the program'}, so this session ended at every party; a retry is a new session"
        self.fail(ProgramError(msg))

    def check_alive(self) -> None:
        """Raise the session's fault, or ProgramError after its end."""
        if self._fault is not None:
            raise self._fault
        if self._finished:
            msg = "this session has ended; open a new one"
            raise ProgramError(msg)

    @property
    def over(self) -> bool:
        """Whether the session has ended, with or without a fault."""
        return self._finished or self._fault is not None

    @property
    def fault(self) -> BeaverError | None:
        """The fault that ended the session, if one did."""
        return self._fault

    def fail(self, fault: BeaverError, told: Departure | None = None) -> None:
        """End the session with `fault`: cancel all pending calls, tell every peer, free its memory."""
        if self._fault is not None or self._finished:
            return
        if self._gone is not None and (isinstance(fault, PeerLost) or fault.party == self._gone[0].party):
            # `fault` is a consequence of the earlier one. A fault of another member is not, and the others must know it.
            fault, told = self._gone
        self._fault = fault
        self._end(told or Departure.of(fault, self.me, self._label))

    def leave_early(self, fault: BaseException) -> None:
        """The program itself raised: peers learn where, never what."""
        msg = f"the program raised {type(fault).__name__} at {self._label}; the session is over"
        self.fail(fault if isinstance(fault, BeaverError) else ProgramError(msg))

    def _end(self, told: Departure) -> None:
        self._watchdog.cancel()
        self._mesh.unsubscribe(self)
        over = self._fault or ProgramError("the program ended while this call was under way; await every call that it makes")
        for name, channel in self._agreed.channels.items():
            if self._mesh.channel(name) is channel:
                channel.control(kind="leave", session=self._agreed.session, **told._asdict())
            channel.close_flow(self._agreed.session, over)
        self._waits.fail(over)

    async def finish(self) -> None:
        """Send what the others still wait for, then say that this party is done."""
        self.check_alive()
        for name, flow in self._agreed.flows.items():
            # A peer that is done got all it wanted and may be gone by now.
            if name not in self._done:
                await self._drained(name, flow)
        if self._visit is not None:
            await self._drained(self._visit.client, self._visit.flow)
        if self._gone is not None:
            self.fail(*self._gone)
            self.check_alive()
        if self._fault is None:
            self._finished = True
            self._end(Departure("done", self.me, self.me, printable_place(self._label)))

    async def _drained(self, name: str, flow: Flow) -> None:
        limit = self._mesh.clocks.stall
        try:
            async with asyncio.timeout(limit):
                await flow.drained()
        except TimeoutError:
            text = f"is alive, but did not take what this party has for it within {limit:g} s. "
            self.fail(PeerLost(name, text + "Raise the clock stall if its program takes longer before that."))
            self.check_alive()

    # -- what the mesh tells -----------------------------------------------------------------------------------

    def peer_up(self, name: str) -> None:
        """Nothing to do: a peer that connects anew has lost its connection before."""

    def peer_down(self, name: str, fault: BeaverError) -> None:
        """A member is gone."""
        if self._takes_part(name):
            kind = PeerMisbehaved if isinstance(fault, PeerMisbehaved) else PeerLost
            self.fail(kind(name, f"{fault.text} (at {self._label})"))

    def _takes_part(self, name: str) -> bool:
        """Whether the session still needs `name`: a member that is not done, or the client."""
        return (name in self._agreed.channels and name not in self._done) or (self._visit is not None and name == self._visit.client)

    def control(self, name: str, body: wire.Body) -> None:
        """A member finished, left early, or waits."""
        if body["kind"] not in {"leave", "waits"} or body["session"] != self._agreed.session or name not in self._agreed.flows:
            return
        if body["kind"] == "waits":
            self._waits.heard(name, body)
            return
        if body["reason"] != "done":
            self._departed(name, Departure.told(body))
            return
        self._done.add(name)
        try:
            self._agreed.flows[name].peer_finished()
        except Disagreement as fault:
            self.fail(fault)

    def _departed(self, name: str, told: Departure) -> None:
        """Handle a member that left early. If its program failed, this party continues with the messages that it had sent, and so finds
        here any fault that all programs share.
        """
        fault = reported(name, told, self.me, self._members)
        flow = self._agreed.flows[name]
        if told.reason != "program" or flow.waiting() is not None:
            self.fail(fault, told)
            return
        flow.peer_left(fault)
        self._done.add(name)
        if self._gone is None:
            self._gone = fault, told
            asyncio.get_running_loop().call_later(ON_ITS_WAY, self.fail, fault, told)
