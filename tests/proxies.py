"""A network that fails on command: TCP proxies between real nodes."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager

from mpc.engine import Watches
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from mpc.network.mesh import Clocks
from mpc.node import Node
from mpc.testing.oracle import MaskOracle
from mpc.transport.tcp import TcpNetwork


class Proxy:
    """Passes every connection on to one port, until it is told otherwise."""

    def __init__(self, port):
        self.port, self.open, self.flows, self.tasks = port, True, [], set()
        self.cut_after = None
        """Bytes, counted from now in both directions, after which all connections are cut."""
        self.change = None
        """What becomes of the next bytes that pass, once."""
        self.passing = asyncio.Event()
        self.passing.set()
        self.connections = 0

    async def start(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()[:2]
        return self

    async def close(self):
        self.server.close()
        self.cut()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def cut(self):
        """Abort all connections, whatever is on its way."""
        for writer in self.flows:
            writer.transport.abort()
        self.flows.clear()

    async def _accept(self, reader, writer):
        if not self.open:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        self.flows += [writer, far_writer]
        for one, other in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(one, other))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _carry(self, reader, writer):
        try:
            await self._pass(reader, writer)
        finally:
            writer.transport.abort()
            if writer in self.flows:
                self.flows.remove(writer)

    async def _pass(self, reader, writer):
        try:
            while data := await reader.read(1 << 16):
                await self.passing.wait()
                if self.change is not None:
                    change, self.change = self.change, None
                    data = change(data)
                if self.cut_after is not None:
                    data, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
                writer.write(data)
                if self.cut_after is not None and self.cut_after <= 0:
                    self.cut_after = None
                    self.cut()
                    return
                await writer.drain()
        except OSError:
            pass


CLOCKS = Clocks(join=30.0, lost=30.0, stall=30.0, repair=30.0)
"""Guards: what is tested of clocks has its own."""


class Proxied:
    """Nodes p0, p1, ... and a dealer, and the proxy in front of each: `proxies[name]` carries what is dialled to `name`."""

    def __init__(self, nodes, proxies):
        self.nodes, self.proxies = nodes, proxies

    @property
    def parties(self):
        return self.nodes[:-1]

    async def each(self, program, job="repair", **options):
        oracle = MaskOracle()

        async def one(node):
            node._watches = Watches(oracle)
            async with node.session(job, **options) as s:
                return await program(s)

        outcomes = await asyncio.gather(*(one(node) for node in self.parties), return_exceptions=True)
        # However often connections were made again: no word of a stream hid two secrets.
        oracle.check()
        return outcomes


@asynccontextmanager
async def proxied(n, clocks=CLOCKS):
    """n parties and a dealer in this process, over real sockets through proxies."""
    names = [*(f"p{index}" for index in range(n)), "the-dealer"]
    identities = {name: Identity.generate(name) for name in names}
    socks = {name: socket.create_server(("127.0.0.1", 0), backlog=64) for name in names}
    proxies = {name: await Proxy(socks[name].getsockname()[1]).start() for name in names}
    roster = Roster(
        Member(name, identities[name].public, proxies[name].address, "dealer" if name == "the-dealer" else "party") for name in names
    )
    try:
        async with AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(Node(identities[name], roster, TcpNetwork(None, socks[name]), clocks=clocks))
                for name in names
            ]
            yield Proxied(nodes, proxies)
    finally:
        for proxy in proxies.values():
            await proxy.close()
