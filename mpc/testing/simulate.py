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
from mpc.messaging.departure import ON_ITS_WAY
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
Fault = tuple[int, BaseException]
"""A party, and the exception of its program."""
CLOCKS = Clocks(join=20.0, lost=20.0, stall=20.0)
GRACE = 2 * ON_ITS_WAY
"""Seconds that programs get once one has failed. No session outlives half of them, so a program still running then waits for no op."""


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
    """Run `async def program(s)` once per party on the running loop; return the n results in party order.

    Sealed frames travel over memory links with delays chosen by `seed`; `tap` sees each frame as it is sent. `window` is that of every flow
    in bytes, `clocks` are every party's. An exception of the program is raised as itself, with a note that names the party: the first one
    that is no RemoteFault, if there is one. The mask oracle watches every run and raises ReusedRandomnessError. With `check_bounds`, every
    share's public bound is compared with its plaintext; a violation raises ExceededBoundError.

    Once a program has failed, the others end by themselves, as in separate processes: at the next op that needs the failed one, at any
    other op after ON_ITS_WAY seconds. A program still running GRACE seconds after the failure awaits something else, perhaps for ever, and
    is cancelled; the exception to raise is the one from before that.
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
        faults: list[Fault] = []
        tasks = [asyncio.create_task(_party(index, node, program, faults)) for index, node in enumerate(nodes[:n])]
        late = await _ended(tasks, faults)
    masks.check()
    if bounds is not None:
        bounds.check()
    if faults:
        raise _first(faults, late, n)
    return [task.result() for task in tasks]


async def _party(index: int, node: Node, program: Callable[[Session], Awaitable[R]], faults: list[Fault]) -> R:
    """The result of the program at one party; its exception is also added to `faults`, in the order of all parties."""
    try:
        async with node.session("simulation") as s:
            return await called(program, s)
    except BaseException as fault:
        faults.append((index, fault))
        raise


async def _ended(tasks: list[asyncio.Task[R]], faults: list[Fault]) -> list[int]:
    """Wait until all programs have ended; return the parties that had to be cancelled. See `simulate_async`."""
    pending = set(tasks)
    try:
        while pending and not faults:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            await asyncio.wait(pending, timeout=GRACE)
    finally:
        raised = len(faults)
        late = [index for index, task in enumerate(tasks) if task.cancel()]
        await asyncio.gather(*tasks, return_exceptions=True)
        del faults[raised:]
    return late


def _first(faults: list[Fault], late: list[int], n: int) -> BaseException:
    """The most informative exception: the first of a program's own, which explains the others' PeerLost; else the first of all."""
    own = [entry for entry in faults if not isinstance(entry[1], RemoteFault)]
    index, fault = (own or faults)[0]
    fault.add_note(f"raised at party {index} of {n}")
    if late:
        fault.add_note(f"had not ended {GRACE:g} s later, and was cancelled: party {', '.join(map(str, late))}")
    return fault


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
    """As `simulate_async`, for scripts, tests and notebooks: blocks until done, even inside a running loop.

    With a `seed`, tasks also resume in an order chosen by it.
    """
    factory = (lambda: ShuffledLoop(seed)) if seed is not None else None
    work = simulate_async(n, program, seed=seed, window=window, clocks=clocks, tap=tap, check_bounds=check_bounds)
    return blocking(work, factory)
