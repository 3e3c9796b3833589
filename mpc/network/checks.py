"""How well a peer is connected: its clock, its version, the round-trip time and the throughput."""

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
"""Numbers of questions sent at once, increased until they take long enough to time: at most 5 MiB in all, all sent to the peer."""

_LONG = 0.25
_VERSION = re.compile(r"[0-9A-Za-z.+_!-]{1,40}")


@dataclass(frozen=True, slots=True)
class Measurement:
    """The result of measuring one peer: seconds, and bytes a second sent to it. `ahead` is the peer's clock minus this member's."""

    version: str
    ahead: float
    round_trip: float
    throughput: float


@cache
def own_version() -> str:
    """This software's version, from the installed distribution."""
    try:
        return metadata.version("beaver-mpc")
    except metadata.PackageNotFoundError:
        return "unknown"


class Checks:
    """Answers the other members' questions, and asks this member's own. One per mesh, for the life of the mesh.

    An answer is a hundred bytes, and is not sent while the link takes none: nobody can make this member send or keep much.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._asked: dict[tuple[str, int], asyncio.Future[wire.Body]] = {}
        self._count = 0
        mesh.subscribe(self)

    async def measure(self, name: str, patience: float) -> Measurement:
        """Measure `name`, which must be connected. PeerLost if it goes away or leaves a question unanswered for `patience` seconds."""
        samples = [await self._round(name, patience) for _ in range(_ROUNDS)]
        trip, ahead, version = min(samples)
        throughput = 0.0
        for questions in _BATCHES:
            began = time.perf_counter()
            await self._answers(name, [self._ask(name, bytes(FILLER)) for _ in range(questions)], patience)
            took = time.perf_counter() - began
            # The last answer travels back, too; at least half of the measured time was sending.
            throughput = questions * FILLER / max(took - trip, took / 2)
            if took > _LONG:
                break
        return Measurement(version, ahead, statistics.median(sample[0] for sample in samples), throughput)

    async def round_trip(self, name: str, patience: float) -> tuple[float, str]:
        """The round-trip time to `name`, which must be connected, in seconds, and its version, from one question. PeerLost as above."""
        trip, _, version = await self._round(name, patience)
        return trip, version

    async def _round(self, name: str, patience: float) -> tuple[float, float, str]:
        """Ask one question: return the time until its answer, how far the peer's clock was ahead half-way, and the peer's version."""
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
        """Handle a question or an answer."""
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
        """Nothing to do: a peer that connects anew has lost its connection before."""

    def peer_down(self, name: str, fault: BeaverError) -> None:
        """Nobody answers any more: fail the pending questions."""
        for (asked, _), answer in tuple(self._asked.items()):
            if asked == name and not answer.done():
                answer.set_exception(fault)


__all__ = ["Checks", "Measurement", "own_version"]
