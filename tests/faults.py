"""Every fault that a network can cause, on command and by seed, through proxies that know where a frame begins."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from mpc.framing.handshake import Hello, local_suites
from mpc.membership.identity import fingerprint
from tests.proxies import Proxy

FLOOD = 160
"""Connections of one flood: more than a node keeps that have not proved who they are."""


class CutHereError(Exception):
    """The connection ends, at both ends."""


class Way:
    """One direction of one connection, frame by frame."""

    def __init__(self, proxy, reader, writer):
        self.proxy, self._reader, self._writer = proxy, reader, writer

    async def frame(self):
        head = await self._reader.readexactly(4)
        return head + await self._reader.readexactly(int.from_bytes(head, "little"))

    async def send(self, frame):
        self._writer.write(frame)
        await self._writer.drain()

    def hang_up(self, *, sender_only=False):
        self._reader._transport.abort()
        if not sender_only:
            self._writer.transport.abort()


# -- what becomes of one frame: the rest of the connection goes on as before, if it is not said otherwise -------------


async def cut(way, frame, rng, clocks):
    raise CutHereError


async def cut_mid_record(way, frame, rng, clocks):
    await way.send(frame[: rng.randrange(1, len(frame))])
    raise CutHereError


async def delay(way, frame, rng, clocks):
    await asyncio.sleep(rng.uniform(0.1, 0.5) * clocks.lost)
    await way.send(frame)


async def stall(way, frame, rng, clocks):
    """Let nothing pass this way any more, and tell nobody."""
    await asyncio.Event().wait()


async def half_open(way, frame, rng, clocks):
    """Close the sender's side; the other side keeps a connection from which nothing comes."""
    way.hang_up(sender_only=True)
    await asyncio.Event().wait()


async def duplicate(way, frame, rng, clocks):
    await way.send(frame + frame)


async def duplicate_bytes(way, frame, rng, clocks):
    at = rng.randrange(1, len(frame))
    await way.send(frame[:at] + frame[max(0, at - rng.randrange(1, 64)) :])


async def reorder(way, frame, rng, clocks):
    await way.send(await way.frame() + frame)


async def flip(way, frame, rng, clocks):
    """Flip any bit, even one of the length before the record."""
    changed = bytearray(frame)
    changed[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
    await way.send(bytes(changed))


async def outage(way, frame, rng, clocks):
    """Let nothing reach this member for a part of the time in which a connection can be made again."""
    way.proxy.out_for(rng.uniform(0.1, 0.6) * clocks.repair)


async def long_outage(way, frame, rng, clocks):
    way.proxy.out_for(1.2 * clocks.repair + 0.5)


async def lengthen(way, frame, rng, clocks):
    """Make a record seem longer than it is: the receiver takes all that follows for a part of it."""
    await way.send((len(frame) + rng.randrange(1, 1 << 19)).to_bytes(4, "little") + frame[4:])


HEALED = {each.__name__: each for each in (cut, cut_mid_record, delay, stall, half_open, outage)}
"""A job under one of these ends with the right result: the connection is made again."""
ENDED = {each.__name__: each for each in (long_outage,)}
"""A job ends at every party, since no connection is made again in time."""
REJECTED = {each.__name__: each for each in (duplicate, duplicate_bytes, reorder, flip, lengthen)}
"""What no honest peer sends: the channel is over, and a job on it ends at every party."""
ALL = HEALED | ENDED | REJECTED


class FaultProxy(Proxy):
    """Passes whole frames on, and lets one fault happen when it is told to."""

    def __init__(self, port, clocks):
        super().__init__(port)
        self.seen = bytearray()
        """All that came here, until somebody empties it."""
        self._clocks = clocks
        self._armed = self._struck = None

    def arm(self, kind, rng, after):
        """Let the fault `kind` happen to the frame that comes after `after` others, in whichever connection and direction."""
        self._armed, self._struck = [ALL[kind], rng, after], None

    def disarm(self):
        """Let no fault happen from now on, and return whether one did; a lasting one ends with its connection."""
        self._armed = None
        if self._struck is not None and not self._struck.done():
            self._struck.cancel()
        return self._struck is not None

    def out_for(self, seconds):
        """Cut everything, and let nobody in for some time."""
        self.open = False
        self.cut()
        asyncio.get_running_loop().call_later(seconds, self._open_again)

    def _open_again(self):
        self.open = True

    async def _pass(self, reader, writer):
        way = Way(self, reader, writer)
        try:
            while True:
                frame = await way.frame()
                self.seen += frame
                await self.passing.wait()
                await self._fault()(way, frame)
        except (OSError, asyncio.IncompleteReadError):
            pass
        except CutHereError:
            way.hang_up()

    def _fault(self):
        """What to do with the next frame."""
        if self._armed is None:
            return Way.send
        kind, rng, after = self._armed
        if after > 0:
            self._armed[2] -= 1
            return Way.send
        self._armed, self._struck = None, asyncio.current_task()
        return lambda way, frame: kind(way, frame, rng, self._clocks)


class Flood:
    """`async with Flood(...)`: at the port of member `called`, many connections that say rubbish, half a greeting, or nothing."""

    def __init__(self, port, called, roster, rng):
        self._port, self._called, self._roster, self._rng = port, called, roster, rng
        self._writers = []

    async def __aenter__(self):
        for _ in range(FLOOD):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(self._words())
                self._writers.append(writer)
        return self

    def _words(self):
        posed = self._rng.choice([member for member in self._roster.members if member.name != self._called])
        hello = Hello(
            posed.name, self._called, self._roster.digest, local_suites(), secrets.token_bytes(32), fingerprint(posed.public)
        ).encode()
        greeting = len(hello).to_bytes(4, "little") + hello
        return self._rng.choice(
            [
                b"",
                b"GET / HTTP/1.1\r\n\r\n",
                self._rng.randbytes(self._rng.randrange(1, 4096)),
                (1 << 20).to_bytes(4, "little"),
                greeting[: self._rng.randrange(1, len(greeting))],
                greeting,
                greeting + (48).to_bytes(4, "little") + self._rng.randbytes(48),
            ]
        )

    async def __aexit__(self, *_):
        for writer in self._writers:
            writer.transport.abort()
