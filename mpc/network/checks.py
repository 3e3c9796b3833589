"""How well a peer is connected: its clock, its version, the time to it and back, and how many bytes a second pass."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from mpc.errors import BeaverError, PeerLost, PeerMisbehaved

if TYPE_CHECKING:
    from mpc.framing import wire
    from mpc.network.mesh import Mesh

FILLER = 60_000
"""Bytes of one question that measures throughput; a control message has at most 2^16."""

_ROUNDS = 11
_BATCHES = (1, 4, 16, 64)
"""Questions sent at once, until they take long enough to be timed: at most 5 MiB together, all of them to the peer."""

_LONG = 0.25
_VERSION = re.compile(r"[0-9A-Za-z.+_!-]{1,40}")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the answers of one peer show.  Seconds, and bytes a second to it; `ahead` is its clock minus the own."""

    version: str
    ahead: float
    round_trip: float
    throughput: float


@cache
def own_version() -> str:
    """The version of this software, as the installed distribution says."""
    try:
        return metadata.version("beaver-mpc")
    except metadata.PackageNotFoundError:
        return "unknown"


class Checks:
    """Answers the other members' questions, and asks this member's own.  One per mesh, for as long as the mesh lives.

    An answer is a hundred bytes, and is not given while the link takes none: nobody can make this member send or keep much.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._asked: dict[tuple[str, int], asyncio.Future[wire.Body]] = {}
        self._count = 0
        mesh.subscribe(self)

    async def measure(self, name: str, patience: float) -> Measurement:
        """Ask `name`, which must be connected.  PeerLost if it goes away, or leaves any question unanswered for `patience` seconds."""
        samples = [await self._round(name, patience) for _ in range(_ROUNDS)]
        trip, ahead, version = min(samples)
        throughput = 0.0
        for questions in _BATCHES:
            began = time.perf_counter()
            await self._answers(name, [self._ask(name, bytes(FILLER)) for _ in range(questions)], patience)
            took = time.perf_counter() - began
            # The last answer travels back too; half of what was measured at least was sending.
            throughput = questions * FILLER / max(took - trip, took / 2)
            if took > _LONG:
                break
        return Measurement(version, ahead, statistics.median(sample[0] for sample in samples), throughput)

    async def round_trip(self, name: str, patience: float) -> tuple[float, str]:
        """Seconds to `name`, which must be connected, and back, and its version, by one question.  PeerLost as above."""
        trip, _, version = await self._round(name, patience)
        return trip, version

    async def _round(self, name: str, patience: float) -> tuple[float, float, str]:
        """One question: the time until its answer, how far the peer's clock was ahead half-way, its version."""
        here, began = time.time(), time.perf_counter()
        (answer,) = await self._answers(name, [self._ask(name, b"")], patience)
        trip = time.perf_counter() - began
        return trip, answer["time"] / 1e6 - (here + trip / 2), answer["version"]

    def _ask(self, name: str, filler: bytes) -> asyncio.Future[wire.Body]:
        channel = self._mesh.channel(name)
        if channel is None:
            raise PeerLost(name, self._mesh.problem(name).partition(": ")[2])
        self._count += 1
        answer: asyncio.Future[wire.Body] = asyncio.get_running_loop().create_future()
        self._asked[name, self._count] = answer
        channel.control(kind="check", number=self._count, filler=filler)
        return answer

    async def _answers(self, name: str, asked: list[asyncio.Future[wire.Body]], patience: float) -> list[Any]:
        try:
            async with asyncio.timeout(patience):
                return await asyncio.gather(*asked)
        except TimeoutError:
            raise PeerLost(
                name, f"is connected but left a question unanswered for {patience:g} s: it is busy, or the network loses bytes"
            ) from None
        finally:
            self._asked = {key: answer for key, answer in self._asked.items() if not answer.done()}

    # -- what the mesh tells ------------------------------------------------------------------------------------

    def control(self, name: str, body: wire.Body) -> None:
        """A question or an answer."""
        if body["kind"] == "check":
            channel = self._mesh.channel(name)
            if channel is not None and channel.writable:
                channel.control(kind="checked", number=body["number"], version=own_version(), time=time.time_ns() // 1000)
        elif body["kind"] == "checked":
            if not _VERSION.fullmatch(body["version"]) or not 0 <= body["time"] < 1 << 60:
                raise PeerMisbehaved(name, "answered a check with an impossible version or time")
            answer = self._asked.pop((name, body["number"]), None)
            if answer is not None and not answer.done():
                answer.set_result(body)

    def peer_up(self, name: str) -> None:
        """Nothing to do: who connects anew has lost its connection before."""

    def peer_down(self, name: str, fault: BeaverError) -> None:
        """Nobody answers any more."""
        for (asked, _), answer in tuple(self._asked.items()):
            if asked == name and not answer.done():
                answer.set_exception(fault)


__all__ = ["Checks", "Measurement", "own_version"]
