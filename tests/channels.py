"""The two ends of a channel for tests: what uses a channel, and an attacker's bare link to another member."""

from __future__ import annotations

import asyncio

from mpc.channels.channel import Channel
from mpc.framing.handshake import KK, Hello
from mpc.framing.records import Sealer
from mpc.membership.identity import Identity, fingerprint
from mpc.membership.roster import Member, Roster
from mpc.network.mesh import Clocks
from mpc.transport.memory import memory_pair
from tests.waiting import until

CLOCKS = Clocks(join=60.0, lost=60.0, stall=60.0)
"""Guards against hanging only: no test waits for one of them."""


def people(*names):
    identities = [Identity.generate(name) for name in names]
    return identities, Roster(Member(identity.name, identity.public, ("memory", 1)) for identity in identities)


class Owner:
    def __init__(self):
        self.events, self.news = [], asyncio.Event()

    def note(self, *event):
        self.events.append(event)
        self.news.set()

    def opened(self, channel):
        self.note("opened", channel.name)

    def welcomes(self, name):
        return True

    def previous(self, name):
        return None

    def interrupted(self, channel, fault):
        return False

    def control(self, channel, body):
        self.note("control", body["kind"])

    def closed(self, channel, fault):
        self.note("closed", type(fault).__name__, str(fault))

    def parted(self, channel, fault):
        self.note("parted", channel.name, fault)

    async def until(self, kind):
        async with asyncio.timeout(60):
            while not any(event[0] == kind for event in self.events):
                self.news.clear()
                await self.news.wait()
        return next(event for event in self.events if event[0] == kind)


class Raw:
    """The attacker's end of a link: every frame as it came."""

    def __init__(self, link):
        self.link, self.frames, self.news, self.closed = link, [], asyncio.Event(), False
        link.start(self.frame, self.end, lambda: None)

    def frame(self, data):
        self.frames.append(bytes(data))
        self.news.set()

    def end(self, reason):
        self.closed = True
        self.news.set()

    async def next(self):
        async with asyncio.timeout(60):
            while not self.frames and not self.closed:
                self.news.clear()
                await self.news.wait()
        return self.frames.pop(0) if self.frames else None


def responder(identity, roster):
    near, far = memory_pair("near", "far")
    owner = Owner()
    channel = Channel(far, identity, roster, owner)
    return Raw(near), owner, channel


async def greet(raw, mine):
    raw.link.send(mine.encode())
    return Hello.decode(await raw.next(), "peer")


def hello(sender, receiver, roster, **changes):
    key = fingerprint(roster[sender].public) if sender in roster else bytes(16)
    return Hello(
        **{"sender": sender, "receiver": receiver, "roster_digest": roster.digest, "suites": 3, "nonce": bytes(32), "key": key} | changes
    )


async def live(roster, a, b):
    raw, owner, channel = responder(a, roster)
    mine = hello("b", "a", roster)
    theirs = await greet(raw, mine)
    kk = KK(True, "AESGCM", mine.encode() + theirs.encode(), b.curve_secret, a.curve_public, peer="a")
    raw.link.send(kk.write_message())
    kk.read_message(await raw.next())
    return raw, owner, channel, Sealer(kk.split().send, "AESGCM")


async def connected(mesh, name):
    await until(lambda: mesh.channel(name) is not None)
