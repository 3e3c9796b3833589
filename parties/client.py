"""A client: a member of the roster that runs no node.  It gives rows to a computation as shares, gets results, or both, and computes
nothing.

    answer = await ask("lab.toml", "mean", rows=rows_of(table), to="me")

Each party gets a share of the rows that is uniform by itself, and all parties but one together learn nothing.  The job goes the way of
every job: every party checks it against its own policy and signs it.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
from mpc.blocking import blocking
from mpc.errors import BeaverError, ConfigError, Disagreement, LocalFault, PeerLost, PrecisionError, ProgramError, Refused
from mpc.fixed_point import encode
from mpc.following import follow
from mpc.membership.toml_text import did_you_mean
from mpc.messaging.agreement import GAVE_UP
from mpc.messaging.job import described
from mpc.messaging.visit import Visit
from mpc.values.sharing import split
from parties.data import Table
from parties.datasets import load
from parties.jobs.endings import LOST
from parties.jobs.job import MAX_ROWS, MAX_WORDS, Client, Task, fresh_id, nobody, unpack_task
from parties.jobs.pool import large_enough
from parties.jobs.proposals import DONE, JOB, Proposal
from parties.jobs.records import Record, named
from parties.jobs.visits import heard
from parties.nodes import check_role
from parties.policy import check_parties, too_few
from parties.programs import program
from parties.programs.program import GIVEN_FRAC

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from mpc.framing.wire import Body
    from mpc.values.sharing import Portion
    from parties.config import NodeConfig
    from parties.sources.halt import Halt

    Tell = Callable[[str], None]

UNRANGED = 20
"""The power of two that bounds the values of a column without a declared range."""
ME, PARTIES, BOTH = "me", "parties", "both"
_MOMENT = 1.0
"""Seconds for this client to find out itself what is wrong, once all parties have reported a fault: its own error may say more."""


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """What a client gives: a table of numbers, the power of two that bounds the values of each column, and what the columns mean."""

    table: Table
    powers: tuple[int, ...]
    meaning: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Rows(shape={self.table.rows.shape})"


def rows_of(table: ArrayLike, ranges: Mapping[str, tuple[float, float]] | None = None) -> Rows:
    """Return the rows of `table`, a Table or a data frame, whose column NAME lies within ranges[NAME].

    The parties learn the power of two above each range, but never the range of the data: give what is known of everyone's data, not of
    these rows.
    Raises ProgramError unless each column has a name, ConfigError for a wrong range or one of a column that is not there, and
    PrecisionError if the table holds anything but numbers.
    """
    # The columns of a frame may have numbers as names.
    known = {str(name): limits for name, limits in (ranges or {}).items()}
    names, numbers = mpc.column_names(table), mpc.as_numbers(table)
    if numbers.ndim != 2 or numbers.shape[1] != len(names):
        msg = (
            f"a client's rows are a Table, or a data frame, with a name for each column, not {len(names)} name(s) and an "
            f"array of shape {numbers.shape}"
        )
        raise ProgramError(msg)
    for stray in known.keys() - set(names):
        msg = f"ranges= has a column {stray!r}, which the rows have not; {did_you_mean(stray, names)}"
        raise ConfigError(msg)
    powers = tuple(power_above(_limits(name, known[name]) if name in known else None) for name in names)
    return Rows(Table(list(names), numbers.astype(np.float64, copy=False)), powers)


def _limits(name: str, given: object) -> tuple[float, float]:
    """Return a range as a configuration has it.

    Raises ConfigError for a wrong one: for an infinite range, the parties would learn a power that bounds nothing.
    """
    ends = list(given) if isinstance(given, list | tuple) else []
    numbers = [float(end) for end in ends if isinstance(end, int | float | np.number) and not isinstance(end, bool) and math.isfinite(end)]
    if not len(ends) == len(numbers) == 2 or not numbers[0] < numbers[1]:
        msg = f"ranges= of column {name!r} takes two finite numbers, the lowest value that there may be and the highest, such as (0, 120)"
        raise ConfigError(msg)
    return numbers[0], numbers[1]


def declared(config: NodeConfig, dataset: str, columns: Sequence[str], halt: Halt | None = None) -> Rows:
    """Return the rows of a dataset that the client's own configuration declares.

    Raises ConfigError as for a party's data.  `halt` may end the reading.
    """
    settings = config.dataset(dataset)
    names = settings.expand(columns)
    ranges = [None if config.source(dataset, name)[1] is None else (0.0, 1.0) for name in names]
    powers = [power_above(limits or config.column(dataset, name).range) for limits, name in zip(ranges, names, strict=True)]
    return Rows(load(config, dataset, names, halt=halt), tuple(powers), settings.meaning(names))


def power_above(limits: tuple[float, float] | None) -> int:
    """Return the exponent of the smallest power of two that no value within `limits` exceeds."""
    if limits is None:
        return UNRANGED
    largest = max(map(abs, limits))
    fraction, power = math.frexp(largest)
    return power - (fraction == 0.5)


async def ask(
    config: str | Path,
    protocol: str,
    *,
    rows: Rows | None = None,
    dataset: str = "",
    columns: Sequence[str] = (),
    to: str | Sequence[str] = ME,
    parameters: Mapping[str, bool | float | str] | None = None,
    parties: Sequence[str] = (),
    purpose: str = "",
    wait: float = 60.0,
    tell: Tell = lambda _: None,
) -> dict[str, Any]:
    """Run one job as the client that the file `config` describes.  Return its id, and the result if the client is a receiver.

    `rows` go to the parties as shares.  With `dataset` the parties' own rows count too, or alone.  `to` is "me", "parties", "both" or
    names.
    Raises ConfigError, PrecisionError and ProgramError before anyone is asked, Refused if a party denies the job, and PeerLost or another
    remote fault if a party is lost.
    """
    _check_rows(rows)
    node = mpc.open_node(config)
    me, roster = node.mesh.identity.name, node.mesh.roster
    check_role(roster, me, config, "client")
    everyone = tuple(sorted(parties or (member.name for member in roster.parties)))
    receivers = {ME: (me,), PARTIES: (), BOTH: (*everyone, me)}.get(to) if isinstance(to, str) else tuple(to)
    if not to:
        option = "to="
        raise nobody(option)
    if receivers is None:
        msg = f"to={to!r} is none of me, parties, both; name other receivers in a list"
        raise ConfigError(msg)
    names = tuple(rows.table.columns if rows is not None else columns)
    task = Task(protocol, dataset, names, everyone, receivers, dict(parameters or {}), purpose, client=Client(me))
    check_parties(roster, task)
    for name in everyone:
        if not node.mesh.meets(name):
            msg = (
                f"{name} has no endpoint in the roster, and a client only dials; leave it out (--parties), or "
                "let one of the two use the relay"
            )
            raise ConfigError(msg)
    task, portions = await asyncio.to_thread(_split, task, rows)
    program(protocol).check(task, len(everyone))
    asking = _Asking(node, task, portions, tell)
    # No party hears of a client whose job is not possible.
    async with node:
        return await asking.run(wait)


def _check_rows(rows: object) -> None:
    """Raise ProgramError for a table without ranges."""
    if not isinstance(rows, Rows | None):
        msg = f"rows= takes what `rows_of(table)` gives, not {type(rows).__name__}"
        raise ProgramError(msg)


def ask_sync(config: str | Path, protocol: str, **what: Any) -> dict[str, Any]:
    """`ask` for scripts and notebooks."""
    return blocking(ask(config, protocol, **what))


def _split(task: Task, rows: Rows | None) -> tuple[Task, dict[str, Portion]]:
    """Return the task with what is public about the rows, and every party's portion of them."""
    if rows is None:
        return task, {}
    table = rows.table
    if not len(table.rows) or len(table.rows) > MAX_ROWS or table.rows.size > MAX_WORDS:
        msg = (
            f"a client gives from 1 to {MAX_ROWS} rows and {MAX_WORDS} numbers in one job, not "
            f"{len(table.rows)} rows of {len(table.columns)}"
        )
        raise ConfigError(msg)
    powers = np.array(rows.powers)
    # NaN compares as false.
    outside = np.argwhere(~(np.abs(table.rows) <= np.ldexp(1.0, powers)))
    if len(outside):
        row, column = outside[0]
        msg = (
            f"column {table.columns[column]!r}, row {row + 1} is missing, infinite or beyond 2^{powers[column]}, the power of two above "
            f"the column's range ({len(outside)} such value(s)); mend the data, or declare the range"
        )
        raise PrecisionError(msg)
    words = encode(np.ldexp(table.rows, -powers), frac=GIVEN_FRAC, bound=1.0)
    portions = dict(zip(task.parties, split(words, len(task.parties)), strict=True))
    commitments = {name: portion.commitment.hex() for name, portion in portions.items()}
    client = Client(task.signers[-1], len(words), rows.powers, commitments, dict(rows.meaning))
    return replace(task, client=client), portions


class _Asking:
    """One job that this client asks for, from the proposal to the end."""

    def __init__(self, node: mpc.Node, task: Task, portions: Mapping[str, Portion], tell: Tell) -> None:
        self._mesh = node.mesh
        self._me = node.mesh.identity.name
        self._portions = portions
        self._record = Record(fresh_id(), unpack_task(task.pack()), self._me)
        self._proposal: Proposal | None = None
        self._tell = tell
        self._visits: dict[str, Visit] = {}
        self._running: set[str] = set()
        self._faults: list[tuple[bool, BeaverError]] = []
        self._over: asyncio.Future[BeaverError | None] = asyncio.get_running_loop().create_future()

    async def run(self, wait: float) -> dict[str, Any]:
        """Return the answer to show.  Raises whatever goes wrong at a party, with its name."""
        self._mesh.subscribe(self)
        try:
            await self._agreed(wait)
            self._tell("started")
            for name, visit in self._visits.items():
                if name in self._portions:
                    visit.send_portion(self._portions[name])
            result = await self._result()
        finally:
            self._mesh.unsubscribe(self)
            for visit in self._visits.values():
                visit.close()
        return {"id": self._record.id, "result": result}

    async def _agreed(self, wait: float) -> None:
        """Return when all parties have accepted and signed the job, and were told to start."""
        proposal = self._proposal = Proposal(self._mesh, self._record, self._digest, wait, self._tell)
        busy = await proposal.agree(lambda: False, lambda: True)
        if busy is not None:
            text = "has no place for the job, or no connection to the dealer; its log says which. Try again later, or raise --wait."
            raise Refused(busy, text)
        for name in self._record.task.parties:
            channel = self._mesh.channel(name)
            if channel is None:
                raise PeerLost(name, "was lost before the job started")
            self._visits[name] = Visit(channel, self._digest(), self._me, self._mesh.window)
        self._running = set(self._record.task.parties)
        proposal.start(self._mesh.identity.sign(JOB, self._digest()))
        self._proposal = None

    def _digest(self) -> bytes:
        return described(self._record.id, self._mesh.roster, self._record.task.parties, named(self._record.task)).digest

    async def _result(self) -> dict[str, Any] | None:
        """Return what the parties reveal to this client, once each of them has said how the job ended there, or is gone."""
        following = asyncio.create_task(self._follow())
        try:
            both: list[asyncio.Future[Any]] = [following, self._over]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not self._over.done() and isinstance(following.exception(), Disagreement):
                # The parties do not see this fault: they send what they have, and finish normally.
                return following.result()
            # Awaited even if this client already knows better: if it left now, the parties would take that for the reason.
            fault = await self._over
            if fault is not None:
                await asyncio.wait([following], timeout=_MOMENT)
                if not following.done() or not isinstance(following.exception(), LocalFault):
                    raise fault
            return await following
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> dict[str, Any] | None:
        task = self._record.task
        if not task.told:
            return None
        s = follow(task.parties, self._me, [self._visits[name] for name in task.parties])
        # Zeros in place of a party's rows: only their shape is used.
        table = Table(list(task.columns), np.zeros((1, len(task.columns))))
        if not await large_enough(s, task, len(table.rows)):
            raise too_few(task)
        return await program(task.protocol).compute(s, table, task)

    # -- what the mesh tells -----------------------------------------------------------------------------------

    def control(self, name: str, body: Body) -> None:
        """Take an answer to the proposal, or the end of the job at one party."""
        if body.get("job") != self._record.id:
            return
        if body["kind"] == "answer" and self._proposal is not None:
            self._proposal.heard(name, body)
        elif body["kind"] == "ended" and name in self._running:
            self._ended(name, body)
        elif body["kind"] == "withdraw" and body["reason"] == GAVE_UP and name in self._running:
            self._gone(name, PeerLost(name, "gave up the job before it started"))

    def _ended(self, name: str, body: Body) -> None:
        if body["reason"] == DONE:
            self._gone(name, None)
            return
        # This may name the dealer, which this client never meets.
        party = body["party"] if body["party"] in self._mesh.roster else name
        # A party that says that this client is lost, which it is not, has it from the party that turned this client away.
        self._gone(name, heard(name, body["reason"], party, self._me), hearsay=(body["reason"], party) == (LOST, self._me))

    def _gone(self, name: str, fault: BeaverError | None, *, hearsay: bool = False) -> None:
        """Note that the job is over at one party.  The first fault that is no hearsay counts."""
        if fault is not None:
            self._faults.append((hearsay, fault))
        self._running.discard(name)
        if not self._running and not self._over.done():
            self._over.set_result(min(self._faults, key=lambda entry: entry[0])[1] if self._faults else None)

    def peer_up(self, name: str) -> None:
        """Do nothing: a party that reconnects has lost its connection before."""

    def peer_down(self, name: str, fault: BeaverError) -> None:
        """Note that a party is gone."""
        if self._proposal is not None:
            self._proposal.lost(name)
        elif name in self._running:
            self._gone(name, PeerLost(name, f"{fault.text} (in the middle of the job; run it again)"))


__all__ = ["Rows", "ask", "ask_sync", "declared", "power_above", "rows_of"]
