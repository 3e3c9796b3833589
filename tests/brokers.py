"""Real brokers for tests: amqtt inside this process, and mosquitto as a process of its own where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import warnings

import pytest

from mpc.membership.endpoints import Relay
from mpc.membership.identity import Identity
from mpc.membership.members import Member
from mpc.transport.mqtt import MqttNetwork
from tests.ports import free_port

PATIENCE = 20.0
LISTENER = "default"


def of_mosquitto(name):
    """The path of one of mosquitto's programs; skip the test if it is not installed."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed here (apt-get install mosquitto)")
    return program


class Mosquitto:
    """`async with Mosquitto(folder) as broker:`; it can be stopped and started again on the same port."""

    def __init__(self, folder, extra="", *, tls=False, access="allow_anonymous true"):
        self._program = of_mosquitto("mosquitto")
        self.relay = Relay("127.0.0.1", free_port(), tls)
        self._config = folder / f"mosquitto-{self.relay.port}.conf"
        # As a packaged broker: what counts are its defaults.  It must not look for a user of its own.
        self._config.write_text(f"user root\nlistener {self.relay.port} 127.0.0.1\n{access}\n{extra}\n")
        self._log = self._config.with_suffix(".log")
        self.process = None

    async def __aenter__(self):
        await self.start()
        return self

    async def start(self):
        with self._log.open("a") as log:
            self.process = await asyncio.create_subprocess_exec(self._program, "-c", str(self._config), "-v", stdout=log, stderr=log)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    _, writer = await asyncio.open_connection(self.relay.host, self.relay.port)
                except OSError:
                    assert self.process.returncode is None, self.log
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    return

    @property
    def log(self):
        return self._log.read_text(errors="replace")

    async def stop(self):
        """Stop the broker as a crash would."""
        self.process.kill()
        await self.process.wait()

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            await self.stop()


class Amqtt:
    """The same interface with amqtt on this event loop."""

    def __init__(self, folder=None):
        self.relay = Relay("127.0.0.1", free_port(), tls=False)
        self._broker = self._server = None

    async def __aenter__(self):
        await self.start()
        return self

    async def start(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from amqtt.broker import Broker
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        self._broker = Broker(
            {
                "listeners": {LISTENER: {"type": "external"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await self._broker.start()
        self._server = await asyncio.start_server(self._connected, self.relay.host, self.relay.port)

    async def _connected(self, reader, writer):
        try:
            await self._broker.stream_connected(reader, writer, LISTENER)
        finally:
            # The broker forgets a connection whose first packet it could not read, such as one of MQTT 5.  Servers of Python 3.12 and later
            # wait until it is closed.
            writer.close()

    async def stop(self):
        self._server.close()
        await self._broker.shutdown()
        await self._server.wait_closed()

    async def __aexit__(self, *_):
        await self.stop()


BROKERS = {"amqtt": Amqtt, "mosquitto": Mosquitto}


@contextlib.asynccontextmanager
async def networks(*relays, names="ab", patience=5.0, login=None):
    """One network for each name, all at `relays[0]`, or each at its own."""
    identities = {name: Identity.generate(name) for name in names}
    members = {name: Member(name, identities[name].public, None) for name in names}
    made = [
        MqttNetwork(relay, identities[name], [members[other] for other in names if other != name], patience=patience, login=login)
        for name, relay in zip(names, relays if len(relays) > 1 else relays * len(names), strict=True)
    ]
    try:
        yield made, members
    finally:
        await asyncio.gather(*(network.close() for network in made))


@contextlib.asynccontextmanager
async def meeting(*relays, **options):
    """The two ends of a link between the first and the second member."""
    async with networks(*relays, **options) as ((a, b), members):
        accepted = asyncio.get_running_loop().create_future()
        await asyncio.gather(a.listen(lambda link: link.abort()), b.listen(accepted.set_result))
        near = await a.dial(list(members.values())[1])
        yield near, await asyncio.wait_for(accepted, PATIENCE)
