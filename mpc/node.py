"""A node: one identity's mesh that stays up and runs session after session. `connect` is a node for a single job."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from mpc.config import load_config
from mpc.engine import UNWATCHED, Live
from mpc.errors import ConfigError, ProgramError
from mpc.ledger import Books
from mpc.membership.endpoints import parse_endpoint
from mpc.membership.lock import IdentityLock
from mpc.membership.remembered import RosterMemory
from mpc.membership.roster import transport_between
from mpc.messaging.agreement import Agreement
from mpc.messaging.job import check_name, describe
from mpc.messaging.lobby import Lobby
from mpc.network.checks import Checks
from mpc.network.mesh import Clocks, Mesh
from mpc.network.ways import met
from mpc.op_session import OpSession
from mpc.preprocessing.dealer import Dealer
from mpc.session import Session
from mpc.transport.routes import Routes
from mpc.transport.tcp import TcpNetwork

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from mpc.config import PartyConfig
    from mpc.engine import Watches
    from mpc.membership.endpoints import Endpoint, Relay
    from mpc.membership.identity import Identity
    from mpc.membership.members import Member
    from mpc.membership.roster import Roster
    from mpc.messaging.visit import Visit
    from mpc.transport.link import Network

_TRUST = (
    "trust: semi-honest parties, any n-1 may pool what they saw; the dealer %s colludes with nobody. A party that deviates can "
    "change results undetected. See docs/threat-model.md"
)


class Node:
    """`async with Node(...) as node:` keeps channels to all members; a dealer's node serves jobs by itself.

    While open, it holds `lock`, if it has one; ConfigError if `memory` knows a newer roster.
    """

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        network: Network,
        *,
        clocks: Clocks | None = None,
        window: int | None = None,
        watches: Watches = UNWATCHED,
        lock: IdentityLock | None = None,
        memory: RosterMemory | None = None,
    ) -> None:
        self.mesh = Mesh(identity, roster, network, clocks, window)
        self._watches = watches
        self._lock = lock
        self._memory = memory
        deals = roster[identity.name].role == "dealer"
        self._lobby = Lobby(self.mesh, by_members=deals)
        self.checks = Checks(self.mesh)
        self.books = Books()
        self.dealer = Dealer(self.mesh, self._lobby, self.books) if deals else None
        self._pid = os.getpid()
        self._open = self._claimed = False
        self._live: dict[str, Live] = {}

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the identity's lock from before the node opens until after it has closed, for what must be ready when the others connect."""
        self._take_lock()
        self._claimed = True
        try:
            yield
        finally:
            self._claimed = False
            self._unlock()

    async def __aenter__(self) -> Self:
        self._take_lock()
        try:
            if self._memory is not None:
                # Under the lock: one process at a time reads and writes it.
                self._memory.follow(self.mesh.roster)
            await self.mesh.__aenter__()
        except BaseException:
            self._unlock()
            raise
        self._open = True
        return self

    async def __aexit__(self, *fault: object) -> None:
        self._open = False
        try:
            await self._close(*fault)
        finally:
            self._unlock()

    async def _close(self, *fault: object) -> None:
        try:
            if self.dealer is not None:
                await self.dealer.close()
        finally:
            # Even if cancelled meanwhile: what listens on would do so without the lock.
            await self.mesh.__aexit__(*fault)

    @contextmanager
    def _alive(self, job: str, engine: Live) -> Iterator[Live]:
        self._live[job] = engine
        try:
            yield engine
        finally:
            del self._live[job]

    def _take_lock(self) -> None:
        if self._lock is not None and not self._claimed:
            self._lock.acquire()

    def _unlock(self) -> None:
        if self._lock is not None and not self._claimed:
            self._lock.release()

    @asynccontextmanager
    async def session(
        self,
        job: str,
        *,
        parties: Iterable[str] | None = None,
        program: str = "",
        terms: Mapping[str, str] | None = None,
        all_present: bool = False,
        visit: Visit | None = None,
        roster: Roster | None = None,
    ) -> AsyncIterator[Session]:
        """Agree on `job` with its other parties and the dealer, and run the body as this party's program.

        `terms` are further things on which all parties must agree, by name: a Disagreement lists the names that differ. Absent members are
        waited for; with `all_present`, for when every member has just agreed, a member that goes missing ends the job at once. `visit`
        leads to a client that gets results, too. `roster` is the one that all agreed on, if this node may have taken another since.

        Once a peer fails, every op raises the same PeerLost, Disagreement or PeerMisbehaved; an exception of the body passes unchanged and
        ends the session at every party.
        """
        self._check_may_begin(job, parties)
        described = describe(job, self.mesh, tuple(parties) if parties is not None else None, program, terms, roster)
        client = visit.client if visit is not None else ""
        agreed = await Agreement(self.mesh, self._lobby, described, all_present=all_present, client=client).reach(self.mesh.clocks.join)
        with self.books.ledger() as cost, self._alive(job, Live.of(agreed, self.mesh, cost, self._watches, visit)) as engine:
            s = Session(agreed.job.parties, OpSession(engine), logging.LoggerAdapter(self.mesh.log, {"job": job}), client)
            s.log.info("phase=started parties=%s", ",".join(s.names))
            s.log.info(_TRUST, described.members[-1])
            try:
                yield s
                await engine.finish()
            except BaseException as fault:
                clear = engine.abort(fault)
                if clear is fault:
                    raise
                raise clear from None
        s.log.info("phase=done rounds=%d payload=%d", s.cost.rounds, s.cost.payload)

    def abort(self, job: str, fault: BaseException) -> None:
        """End the program of `job` with `fault`: if it runs here, every peer is told at once, whatever the program does."""
        if job in self._live:
            self._live[job].abort(fault)

    def _check_may_begin(self, job: str, parties: Iterable[str] | None) -> None:
        """ConfigError or ProgramError unless a session of `job` may begin at this node."""
        if self.dealer is not None:
            msg = "this is the dealer's node; the dealer is never a computing party"
            raise ConfigError(msg)
        if os.getpid() != self._pid:
            # A forked child would repeat its parent's streams.
            msg = "this process was forked from the one that opened the node; open a node of its own"
            raise ProgramError(msg)
        if not self._open:
            msg = "this node is not open: use its sessions inside `async with node:`"
            raise ProgramError(msg)
        check_name(job)
        if isinstance(parties, str):
            msg = f"parties={parties!r} is one name: pass a list of names, of this party and of all others"
            raise ConfigError(msg)
        if job in self._live:
            msg = f"job {job!r} runs at this node already; a job name is used by one session at a time: wait for its end, or choose another"
            raise ConfigError(msg)


class Connection(AbstractAsyncContextManager["Session"]):
    """A session with its own node, which both begin and end with the `async with`."""

    def __init__(self, joined: AbstractAsyncContextManager[Session]) -> None:
        self._joined = joined

    async def __aenter__(self) -> Session:
        return await self._joined.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> bool | None:
        return await self._joined.__aexit__(kind, fault, trace)

    if not TYPE_CHECKING:
        # Type checkers know that it has none.
        def __enter__(self) -> NoReturn:
            msg = "mpc.connect is for `async with mpc.connect(...) as s:` in an `async def`; elsewhere, `with mpc.connect_sync(...) as s:`"
            raise ProgramError(msg)

        __exit__ = __enter__


def connect(
    config: str | Path,
    *,
    job: str,
    parties: Iterable[str] | None = None,
    program: str = "",
    listener: socket.socket | None = None,
) -> Connection:
    """Join `job` as the party that the file `config` describes; the same call at every party.

    `parties` are the names of the computing parties, this one included; all parties of the roster by default. `program` is a text on which
    all must agree, such as the name and version of the computation: a Disagreement is raised before anything is read if it differs. The
    program is this organisation's own: `allow`, `min_rows`, the policy and the audit log are for jobs of `beaver party`, and bind no
    program. `listener` is an already bound socket, for supervisors that hand one down. Raises ConfigError, and what `Node.session` does.
    """

    @asynccontextmanager
    async def joined() -> AsyncIterator[Session]:
        async with open_node(config, listener=listener) as node, node.session(job, parties=parties, program=program) as s:
            yield s

    return Connection(joined())


def open_node(config: str | Path, *, listener: socket.socket | None = None) -> Node:
    """The node that the file `config` describes, to run many jobs; use it with `async with`. As for `connect`, no policy binds its
    programs.

    On opening: ConfigError if another process, or this one, has a node of this identity open, or has used a newer roster.
    """
    return node_of(load_config(config), listener)


def node_of(settings: PartyConfig, listener: socket.socket | None = None) -> Node:
    """The node of a configuration that was already read."""
    if listener is not None:
        settings.check_listener(listener)
    clocks = Clocks(**settings.clocks.model_dump())
    lock, memory = IdentityLock(settings.key_path), RosterMemory(settings.state_path, settings.roster_path)
    network = network_of(settings, clocks, listener)
    return Node(settings.identity(), settings.load_roster(), network, clocks=clocks, lock=lock, memory=memory)


def network_of(settings: PartyConfig, clocks: Clocks, listener: socket.socket | None = None) -> Network:
    """The member's network: TCP, the roster's broker, or both. ConfigError for an unusable login."""
    _, relay, guests, direct = ways_of(settings)
    if relay is None or not guests:
        return TcpNetwork(settings.listen_address(), listener, patience=clocks.lost)
    # The import takes a fifth of a second and serves only members of a relay.
    from mpc.transport.broker import Login  # noqa: PLC0415
    from mpc.transport.mqtt import MqttNetwork  # noqa: PLC0415

    login = Login(settings.relay.username, settings.relay_password(), settings.relay_ca)
    broker = MqttNetwork(relay, settings.identity(), guests, patience=clocks.lost, login=login)
    if not direct:
        return broker
    tcp = TcpNetwork(settings.listen_address(), listener, patience=clocks.lost)
    return Routes(tcp, broker, {member.name for member in guests})


class Ways(NamedTuple):
    """The parts of a network: where this member listens, the broker, whom it meets there, and whether it meets anybody directly."""

    listen: Endpoint | None
    relay: Relay | None
    guests: tuple[Member, ...]
    direct: bool


def ways_of(settings: PartyConfig) -> Ways:
    """The ways of the member that `settings` describe; if they change, another node is needed."""
    roster = settings.load_roster()
    me = roster[settings.name]
    others = met(me.name, roster).values()
    guests = tuple(member for member in others if transport_between(me, member) == "mqtt")
    listen = me.endpoint if settings.listen is None else parse_endpoint(settings.listen)
    return Ways(listen, roster.relay if guests else None, guests, len(guests) < len(others))


__all__ = ["Node", "Ways", "connect", "node_of", "open_node", "ways_of"]
