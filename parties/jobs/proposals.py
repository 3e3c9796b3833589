"""The proposer's side of a job: it asks all parties until all have accepted and signed at the same time, or one denies, or time is up."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mpc.errors import AuthenticationFailed, BeaverError, Disagreement, PeerLost, PeerMisbehaved, RemoteFault
from parties.jobs.endings import DENIED, UNLIKE, apart, given_up, unapproved
from parties.jobs.job import MAX_POOL
from parties.jobs.states import Proposed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpc.framing.wire import Body
    from mpc.network.mesh import Mesh
    from parties.jobs.records import Record

    Tell = Callable[[str], None]

ACCEPTED, BUSY, APART, AWAITS, ROWS = "accepted", "busy", "apart", "waiting", "rows"
"""What a party answers, besides the reason why it denies the job."""
START, WITHDRAWN = "start", "withdrawn"
"""What the proposer says after the answers."""
DONE, CANCELLED = "done", "cancelled"
"""What a client hears of a job's end, besides UNWRITTEN and the reasons of a departure."""
JOB = "job"
"""The purpose that the signature of a job covers."""
LATE = 4
"""How many more tries one party may cause after time is up: it may want more rows, and approval.  A party that causes more takes no job."""


def say(mesh: Mesh, names: Iterable[str], **body: Any) -> None:
    """Send a control message to those of `names` that are connected."""
    for name in names:
        channel = mesh.channel(name)
        if channel is not None:
            channel.control(**body)


class Proposal:
    """One job that this node proposes, with all tries until it starts.  `signatures` has the signatures of the parties that accepted it."""

    def __init__(self, mesh: Mesh, record: Record, digest: Callable[[], bytes], wait: float, tell: Tell) -> None:
        self.record = record
        self.signatures: dict[str, bytes] = {}
        self._mesh = mesh
        self._me = mesh.identity.name
        self._digest = digest
        self._deadline = time.monotonic() + wait
        self._wait = wait
        self._tell = tell
        self._told = ""
        self._changed = False
        self._apart = False
        self._asking = False
        self._late: Counter[str] = Counter()
        self._answers: asyncio.Queue[tuple[str, Body | None]] = asyncio.Queue()

    @property
    def left(self) -> float:
        """Seconds until time is up, at least 1: connected parties always get one second."""
        return max(self._deadline - time.monotonic(), 1.0)

    @property
    def _others(self) -> list[str]:
        return [name for name in self.record.task.parties if name != self._me]

    def heard(self, name: str, body: Body) -> None:
        """Take the answer of `name`.  An answer that nobody asked for is dropped."""
        if self._asking and name in self._others:
            self._answers.put_nowait((name, body))

    def lost(self, name: str) -> None:
        """Note that `name` is gone."""
        if name in self._others:
            self._answers.put_nowait((name, None))

    def start(self, signature: bytes) -> None:
        """Tell the other parties to start: all have signed, this node with `signature`, and this node has a place too."""
        self.signatures[self._me] = signature
        say(self._mesh, self._others, kind="answer", job=self.record.id, verdict=START, signatures=self.signatures, rows=0)

    def withdraw(self, names: Iterable[str]) -> None:
        """Free the places of the parties that accepted."""
        say(self._mesh, names, kind="answer", job=self.record.id, verdict=WITHDRAWN, signatures={}, rows=0)

    async def agree(self, full: Callable[[], bool], hold: Callable[[], bool]) -> str | None:
        """Return None if all accepted at the same time and this node could `hold` a place, else the party that stayed busy until time was
        up.

        Raises Refused if a party denies the job or keeps causing another try, PeerLost if a party does not come or stays without a
        connection to another, and Disagreement if a party accepts without signing.
        """
        while True:
            await self._present()
            busy = self._me if full() else await self._ask()
            if busy == "":
                # The place is taken only now, so that two nodes with one place each can propose to each other.
                if hold():
                    return None
                self.withdraw(self._others)
                busy = self._me
            if busy is None:
                continue
            if time.monotonic() > self._deadline:
                if self._apart:
                    raise apart(busy)
                return busy
            self._tell(f"{busy} is {'not connected with all' if self._apart else 'busy'}; asking again")
            await asyncio.sleep(0.05 + secrets.randbelow(400) / 1000)

    async def _present(self) -> None:
        """Return when everyone is connected.  A missing party is waited for, never dropped."""
        dealer = self._mesh.roster.dealer
        # A client never meets the dealer: the parties make sure that the dealer is there.
        others = [*self._others, *([dealer.name] if dealer and self._mesh.meets(dealer.name) else [])]
        while missing := self._mesh.missing(others):
            listed = ", ".join(missing)
            if listed != self._told:
                self._told = listed
                self._tell(f"waiting for {listed}")
            if time.monotonic() > self._deadline:
                raise self._absent(missing[0])
            await asyncio.sleep(0.05)

    def _absent(self, name: str) -> BeaverError:
        """Return why `name` did not come: its own fault if waiting longer cannot help, else PeerLost."""
        fault = self._mesh.fault(name)
        if isinstance(fault, Disagreement | AuthenticationFailed | PeerMisbehaved):
            return type(fault)(fault.party, fault.text)
        absent = f"did not come within {self._wait:g} s ({self._mesh.problem(name)}). "
        if name not in self._others:
            return PeerLost(name, f"{absent}Start it, or raise --wait: no job runs without the dealer.")
        return PeerLost(name, f"{absent}Start it, or raise --wait; a party may be left out with --parties.")

    async def _ask(self) -> str | None:
        """Make one try.  Return the empty text if all accepted, the name of a busy party, or None to ask again at once."""
        others = self._others
        asked = _Try(others)
        self.record.becomes(Proposed(asked.awaits))
        self._apart = False
        self._answers, self._asking = asyncio.Queue(), True
        self._tell(f"proposed {self.record.id} to {', '.join(others)}")
        try:
            say(self._mesh, others, kind="propose", job=self.record.id, task=self.record.task.pack())
            # The timeout is for the whole try, however many answers come.
            async with asyncio.timeout(self.left):
                while asked.pending and not (asked.rows and asked.settled):
                    self._take(asked, *await self._answers.get())
                    if asked.settled and asked.pending and asked.accepted:
                        # Approval may take hours, so nobody else holds a place meanwhile.
                        self.withdraw(asked.accepted)
                        asked.accepted, asked.again = [], min(asked.pending)
        except BaseException as fault:
            self._give_up(asked, fault)
            if isinstance(fault, TimeoutError):
                if asked.awaits:
                    raise unapproved(min(asked.awaits), self._wait) from None
                raise PeerLost(min(asked.pending), "is connected but does not answer: is `beaver party` running there?") from None
            raise
        finally:
            self._asking = False
        if asked.complete:
            return ""
        self.withdraw(others)
        if asked.again and time.monotonic() > self._deadline:
            self._late[asked.again] += 1
            if self._late[asked.again] > LATE:
                raise unapproved(asked.again, self._wait)
        if asked.rows:
            self.record.task = replace(self.record.task, pool=asked.rows)
            self._changed = True
            return None
        return asked.busy or None

    def _take(self, asked: _Try, name: str, body: Body | None) -> None:
        if body is None:
            gone = "stopped or was lost while the job waited for approval there, which ends it: ask again when it runs"
            raise PeerLost(name, gone if name in asked.awaits else "was lost before the job started")
        if name not in asked.pending:
            return
        verdict = body["verdict"]
        if verdict == AWAITS:
            if name not in asked.awaits:
                self._tell(f"waiting for approval at {name}")
            asked.awaits.add(name)
            return
        signature = body["signatures"].get(name)
        signed = isinstance(signature, bytes) and self._mesh.roster[name].signed(JOB, self._digest(), signature)
        if verdict == ACCEPTED and not signed and self._changed:
            # This answers the proposal before the change; the answer to the changed one follows.
            return
        asked.pending.discard(name)
        asked.awaits.discard(name)
        if verdict == ACCEPTED:
            if not signed:
                raise Disagreement(
                    name, "accepted the job without a valid signature of it; see that both use the same version of the roster"
                )
            self.signatures[name] = signature
            asked.accepted.append(name)
        elif verdict in (BUSY, APART):
            asked.busy, self._apart = name, verdict == APART
        elif verdict == ROWS and self.record.task.pool < body["rows"] <= MAX_POOL:
            asked.rows, asked.again = max(asked.rows, body["rows"]), name
        else:
            raise given_up(name, UNLIKE if verdict == UNLIKE else DENIED, self.record.task, name)

    def _give_up(self, asked: _Try, fault: BaseException) -> None:
        if isinstance(fault, RemoteFault) and fault.ending:
            # Those who accepted learn who denied the job, and no more.
            say(self._mesh, asked.accepted, kind="decline", job=self.record.id, party=fault.party, reason=fault.ending)
            self.withdraw(asked.pending)
        else:
            self.withdraw(self._others)


class _Try:
    """The answers to one try so far."""

    def __init__(self, others: Iterable[str]) -> None:
        self.pending = set(others)
        self.awaits: set[str] = set()
        self.accepted: list[str] = []
        self.again = ""
        """The party whose answer makes another try necessary."""
        self.busy = ""
        self.rows = 0

    @property
    def settled(self) -> bool:
        """Whether all parties that have not decided wait for someone's approval."""
        return self.pending == self.awaits

    @property
    def complete(self) -> bool:
        """Whether everyone accepted, at the same time."""
        return not (self.pending or self.again or self.busy)
