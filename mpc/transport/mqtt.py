"""Links through an MQTT broker that nobody has to trust: members behind firewalls meet there with outgoing connections only.

The broker sees sealed messages on random-looking topics, their sizes and times. Messages go at QoS 0: the links themselves count,
acknowledge and resend end to end, so the broker's acknowledgements would only cost round trips and storage.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import ssl
from typing import TYPE_CHECKING

from mpc.errors import ConfigError, PeerLost
from mpc.transport import envelopes
from mpc.transport.broker import CONNECT, MAX_TAKEN, Login, MqttError, TooSmallError, Version, client_of, connected
from mpc.transport.link import reason
from mpc.transport.multiplexer import LEAST, Multiplexer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpc.membership.endpoints import Relay
    from mpc.membership.identity import Identity
    from mpc.membership.members import Member
    from mpc.transport.broker import Client, Message
    from mpc.transport.relayed import RelayedLink

_BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_TICK = 0.05
_REFUSED = {134, 135}
"""Reason codes of MQTT: bad user name or password, not authorised."""
_NO_RIGHTS = "the broker does not let this member read its topics; allow it to read and write b/#"


def _report(task: asyncio.Task[None]) -> None:
    """Report a fault of this program, not of the broker, as the loop does for its own callbacks."""
    if not task.cancelled() and task.exception() is not None:
        task.get_loop().call_exception_handler({"message": "the relay's task failed", "exception": task.exception(), "task": task})


class MqttNetwork:
    """The network of a node that meets `members` at a broker, with one connection for all links.

    A broken connection is made again. Links survive if reconnecting, and the peers' return, take at most `patience` seconds each.
    """

    def __init__(self, relay: Relay, identity: Identity, members: Iterable[Member], *, patience: float, login: Login | None = None) -> None:
        self.place = f"the relay {relay.url}"
        self._relay = relay
        self._login = login or Login()
        self._tls = self._login.context() if relay.tls else None
        self._patience = patience
        self._log = logging.getLogger(f"beaver.{identity.name}")
        self._multiplexer = Multiplexer(self.place, identity, members, patience, self._login.max_message)
        self._works: Version | None = None
        """The newest version in which the broker has ever answered."""
        self._version = Version.V5
        self._token = b""
        self._connected = False
        self._problem = "not connected yet"
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # -- the network's contract --------------------------------------------------------------------------------

    async def listen(self, on_link: Callable[[RelayedLink], None]) -> None:
        """Meet the others from now on. ConfigError if the broker refuses this member; an unreachable broker is retried for ever."""
        self._multiplexer.on_link = on_link
        tried: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._stay(tried)), asyncio.create_task(self._watch())]
        for task in self._tasks:
            task.add_done_callback(_report)
        try:
            await asyncio.wait([tried, self._tasks[0]], return_when=asyncio.FIRST_COMPLETED)
            await (tried if tried.done() else self._tasks[0])
        except BaseException:
            await self.close()
            raise

    async def dial(self, member: Member) -> RelayedLink:
        """A link to `member`; PeerLost unless it is at the broker or arrives within some seconds."""
        link = await self._multiplexer.dial(member)
        if link is not None:
            return link
        if not self._connected:
            raise PeerLost(member.name, f"cannot be reached, because {self.place} cannot: {self._problem}")
        raise PeerLost(member.name, f"is not at {self.place}; it has not started its node, or cannot reach the broker")

    async def close(self) -> None:
        """Leave the broker; links that are still open end."""
        self._multiplexer.abort()
        self._closing.set()
        self._multiplexer.work.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CONNECT)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while not self._closing.is_set():
            await asyncio.sleep(_TICK)
            self._multiplexer.tick()

    # -- the connection ----------------------------------------------------------------------------------------

    async def _stay(self, tried: asyncio.Future[None]) -> None:
        """Stay connected until `close`. `tried` gets the outcome of the first attempt."""
        failures = 0
        while not self._closing.is_set():
            version, first = self._version, self._first
            try:
                async with connected(self._client()) as client:
                    failures = 0
                    await self._serve(client, tried)
            except MqttError as fault:
                self._failed(fault, tried)
            finally:
                self._down()
            if version is first is not self._version:
                continue
            if not tried.done():
                tried.set_result(None)
            with contextlib.suppress(TimeoutError):
                # Never so long that links end that a returning broker could have saved.
                async with asyncio.timeout(min(_BACKOFF[min(failures, len(_BACKOFF) - 1)], self._patience / 4)):
                    await self._closing.wait()
            failures += 1

    @property
    def _first(self) -> Version:
        """The protocol version to try first."""
        return self._works or Version.V5

    def _client(self) -> Client:
        self._token = secrets.token_bytes(envelopes.ID_BYTES)
        farewell = self._multiplexer.farewell, self._token
        return client_of(self._relay, self._login, self._tls, self._version, self._patience, farewell, self._on_message)

    async def _serve(self, client: Client, tried: asyncio.Future[None]) -> None:
        """Serve one connection until it breaks or `close` is called."""
        client.timeout = CONNECT
        working, reading = (asyncio.create_task(work) for work in (self._work(client, tried), self._read(client)))
        try:
            await asyncio.wait([working, reading], return_when=asyncio.FIRST_COMPLETED)
            if working.done() and not self._closing.is_set():
                # Reading ends when the connection does, and knows why.
                await asyncio.wait([reading], timeout=_TICK)
        finally:
            for task in (working, reading):
                task.cancel()
            outcomes = await asyncio.gather(working, reading, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _work(self, client: Client, tried: asyncio.Future[None]) -> None:
        """Subscribe, announce, and send until `close`; then withdraw the announcements."""
        if client.largest < LEAST:
            msg = f"the broker takes packets of {client.largest:g} bytes at most; let it take {LEAST} or more"
            raise TooSmallError(msg)
        granted = await client.subscribe([(topic, 1) for topic in self._multiplexer.topics])
        if any(getattr(code, "value", code) >= 128 for code in granted):
            raise MqttError(_NO_RIGHTS)
        await client.publish(self._multiplexer.farewell, b"", qos=1, retain=True)
        for topic, presence in self._multiplexer.announcements(self._token):
            await client.publish(topic, presence, qos=1, retain=True)
        self._connected = True
        if self._works is not Version.V5:
            self._works = self._version
        self._log.info("phase=relay connected to %s", self.place)
        self._multiplexer.up(client.largest)
        if not tried.done():
            tried.set_result(None)
        await self._write(client)
        for topic, _ in self._multiplexer.announcements(self._token):
            await client.publish(topic, b"", qos=1, retain=True)

    async def _read(self, client: Client) -> None:
        # Messages went to `_on_message`; this ends, with the reason, when the connection does.
        async for _ in client.messages:
            pass

    async def _write(self, client: Client) -> None:
        """Send the links' messages until `close`. The next message is made when the last one has left this process."""
        multiplexer = self._multiplexer
        while True:
            multiplexer.work.clear()
            # Subscribe to the present topics, then send messages: a peer may name new topics as often as it likes.
            wanted, multiplexer.subscriptions = multiplexer.subscriptions, []
            for topic in wanted:
                await client.subscribe(topic, qos=1)
            while (message := multiplexer.next_message()) is not None:
                await client.publish(*message, timeout=math.inf)
                client.hurry()
            if self._closing.is_set():
                return
            await multiplexer.work.wait()

    def _down(self) -> None:
        if self._connected:
            self._connected = False
            if not self._closing.is_set():
                self._log.warning("phase=relay the connection to %s broke; connecting again", self.place)
            self._multiplexer.down()

    def _on_message(self, message: Message) -> None:
        # Checked before opening, which takes as much memory again.
        if len(message.payload) <= MAX_TAKEN:
            self._multiplexer.arrived(message.topic.value, message.payload)

    def _failed(self, fault: MqttError, tried: asyncio.Future[None]) -> None:
        cause, code = fault.__context__, getattr(getattr(fault, "rc", None), "value", None)
        if self._connected:
            self._problem = "the connection broke"
            self._version = self._first
            return
        unanswered = not isinstance(fault, TooSmallError) and (not isinstance(cause, OSError) or isinstance(cause, TimeoutError))
        problem = reason(cause) if isinstance(cause, OSError) and not unanswered else str(fault)
        if unanswered and code not in _REFUSED:
            # Brokers of one version refuse another one, hang up or stay silent; so does a broker of any version that goes away just then.
            self._version = Version.V311 if self._version is Version.V5 else Version.V5
            if self._version is not self._first:
                return
        if not tried.done() and code in _REFUSED:
            msg = f"{self.place} refuses this member ({problem}); correct `username` and `password_file` in [relay]"
            tried.set_exception(ConfigError(msg))
        elif not tried.done() and isinstance(cause, ssl.SSLCertVerificationError):
            msg = (
                f"{self.place} has a certificate that is not trusted here ({cause.verify_message}); "
                "set `ca` in [relay] to the file of its authority"
            )
            tried.set_exception(ConfigError(msg))
        elif problem != self._problem:
            self._problem = problem
            self._log.warning("phase=relay cannot connect to %s: %s; trying again until it can", self.place, problem)
