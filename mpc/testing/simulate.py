"""n real parties and a dealer in one process: real handshakes, sealed records, memory links."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from mpc.blocking import blocking
from mpc.engine import Watches
from mpc.errors import RemoteFault
from mpc.membership.identity import Identity
from mpc.membership.members import Member
from mpc.membership.roster import Roster
from mpc.network.mesh import Clocks
from mpc.node import Node
from mpc.program import called, parties_of
from mpc.testing.oracle import BoundOracle, MaskOracle
from mpc.testing.schedule import Delays, ShuffledLoop
from mpc.transport.memory import memory_pair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mpc.session import Session
    from mpc.transport.link import Link

    Tap = Callable[[bytes], None]

R = TypeVar("R")
CLOCKS = Clocks(join=20.0, lost=20.0, stall=20.0)


class MemoryNetwork:
    """All memory links of one simulation; every member gets a view of it as its own network."""

    def __init__(self, seed: int | None = None, tap: Tap | None = None) -> None:
        self._accepts: dict[str, Callable[[Link], None]] = {}
        self._seed = seed
        self._tap = tap
        self._links = 0

    def of(self, name: str) -> MemoryEndpoint:
        """The network as member `name` sees it."""
        return MemoryEndpoint(self, name)

    def accept(self, name: str, on_link: Callable[[Link], None] | None) -> None:
        """Start or stop listening as `name`."""
        if on_link is None:
            self._accepts.pop(name, None)
        else:
            self._accepts[name] = on_link

    def connect(self, caller: str, called: str) -> Link:
        """A new link from `caller` to `called`."""
        accept = self._accepts.get(called)
        if accept is None:
            raise ConnectionRefusedError(called)
        self._links += 1
        schedule = Delays(self._seed, f"{caller}>{called}.{self._links}") if self._seed is not None else None
        near, far = memory_pair(f"memory {called}", f"memory {caller}", tap=self._tap, schedule=schedule)
        accept(far)
        return near


class MemoryEndpoint:
    """One member's `Network` in a simulation."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self._network = network
        self._name = name

    async def listen(self, on_link: Callable[[Link], None]) -> None:
        """Accept links from now on."""
        self._network.accept(self._name, on_link)

    async def dial(self, member: Member) -> Link:
        """A link to `member`; OSError while it does not listen."""
        return self._network.connect(self._name, member.name)

    async def close(self) -> None:
        """Accept no more."""
        self._network.accept(self._name, None)


def simulated_roster(n: int) -> tuple[list[Identity], Roster]:
    """Fresh identities of parties p0, p1, ... and a dealer, and their roster."""
    identities = [Identity.generate(f"p{index}") for index in range(n)] + [Identity.generate("the-dealer")]
    members = [
        Member(identity.name, identity.public, ("memory", 1 + index), "dealer" if index == n else "party")
        for index, identity in enumerate(identities)
    ]
    return identities, Roster(members)


async def simulate_async(
    n: int,
    program: Callable[[Session], Awaitable[R]],
    *,
    seed: int | None = None,
    window: int | None = None,
    clocks: Clocks = CLOCKS,
    tap: Tap | None = None,
    check_bounds: bool = False,
) -> list[R]:
    """Run `async def program(s)` once per party on the running loop; the n results in party order.

    Frames travel sealed over memory links, delayed by `seed`; `tap` sees each as it is sent.  `window` is that of every flow in bytes, `clocks` are
    everyone's.  An exception of the program is raised as itself, with a note that names the party.  The mask oracle watches every run and raises
    ReusedRandomnessError; with `check_bounds`, every share's public bound is compared with its plaintext, and ExceededBoundError raised.
    """
    n = parties_of(n)
    identities, roster = simulated_roster(n)
    network = MemoryNetwork(seed, tap)
    masks, bounds = MaskOracle(), BoundOracle(n) if check_bounds else None
    watches = Watches(masks, bounds)
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                Node(identity, roster, network.of(identity.name), clocks=clocks, window=window, watches=watches)
            )
            for identity in identities
        ]
        outcomes = await asyncio.gather(*(_party(node, program) for node in nodes[:n]), return_exceptions=True)
    masks.check()
    if bounds is not None:
        bounds.check()
    return _results(outcomes)


async def _party(node: Node, program: Callable[[Session], Awaitable[R]]) -> R:
    async with node.session("simulation") as s:
        return await called(program, s)


def _results(outcomes: list[R | BaseException]) -> list[R]:
    """What the programs gave; the exception that says most is raised, if there is any."""
    faults = [(index, fault) for index, fault in enumerate(outcomes) if isinstance(fault, BaseException)]
    if not faults:
        return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    # A program's own exception explains the others' PeerLost, so it goes first.
    own = [entry for entry in faults if not isinstance(entry[1], RemoteFault)]
    index, fault = (own or faults)[0]
    fault.add_note(f"raised at party {index} of {len(outcomes)}")
    raise fault


def simulate(
    n: int,
    program: Callable[[Session], Awaitable[R]],
    *,
    seed: int | None = None,
    window: int | None = None,
    clocks: Clocks = CLOCKS,
    tap: Tap | None = None,
    check_bounds: bool = False,
) -> list[R]:
    """As `simulate_async`, for scripts, tests and notebooks: blocks until done, also inside a running loop.

    With a `seed`, tasks also resume in an order that it chooses.
    """
    factory = (lambda: ShuffledLoop(seed)) if seed is not None else None
    work = simulate_async(n, program, seed=seed, window=window, clocks=clocks, tap=tap, check_bounds=check_bounds)
    return blocking(work, factory)
