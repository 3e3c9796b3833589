"""The connection to an MQTT broker: aiomqtt's client, adapted to this network."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import aiomqtt
from aiomqtt import Message, MqttError
from aiomqtt import ProtocolVersion as Version
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mpc.errors import ConfigError
from mpc.transport.link import reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from mpc.membership.endpoints import Relay

_LIBRARY = logging.getLogger("mqtt")
# If a program configures no logging, Python would print the library's log records, which may hold data.
_LIBRARY.addHandler(logging.NullHandler())
# This member's own log says when a connection broke; only exceptions in callbacks are reported nowhere else.
_LIBRARY.addFilter(lambda record: record.exc_info is not None)

MAX_MESSAGE = 1 << 17
"""Bytes of a message to the broker, topic included: what the strictest of the usual brokers accept."""
MAX_TAKEN = 2 * MAX_MESSAGE
"""Bytes of a message from the broker: members' messages are shorter, but anyone who reaches the broker may publish anything."""
CONNECT = 5.0
"""Seconds for the broker to answer."""
_VERSION_5 = 1.0
"""Seconds for the broker to answer version 5, which it may not know and silently ignore."""


@dataclass(frozen=True, slots=True)
class Login:
    """This member's login at the broker; `ca` is a file of certificates to trust besides the system's."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    max_message: int = MAX_MESSAGE

    def context(self) -> ssl.SSLContext:
        """The context for TLS to the broker; ConfigError if `ca` cannot be used."""
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as fault:
            msg = f"{self.ca}: cannot be used as certificates for the relay ({reason(fault)}); it must be a file in PEM form"
            raise ConfigError(msg) from None


class TooSmallError(MqttError):
    """The broker accepts only smaller packets than this network needs. Protocol version 3.1.1 cannot announce a limit and would silently
    drop larger packets, so retrying in it is no remedy.
    """


class _Inbox(asyncio.Queue[Message]):
    """Delivers messages at once, inside the client's own callback, instead of queueing them."""

    def __init__(self, deliver: Callable[[Message], None], maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._deliver = deliver

    def put_nowait(self, item: Message) -> None:
        """Deliver `item`."""
        self._deliver(item)


class Client(aiomqtt.Client):
    """A client that also remembers its socket and the largest packet that the broker announced to accept."""

    largest = math.inf
    _own_socket: socket.socket | None = None

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.largest = getattr(properties, "MaximumPacketSize", math.inf)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        # The library would wait for an answer until its timeout.
        self._loop.call_soon_threadsafe(
            self._over, aiomqtt.MqttCodeError(reason_code, "the broker hung up before it answered"), self._connected
        )
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        self._own_socket = sock
        super()._on_socket_open(client, userdata, sock)

    def _on_socket_close(self, client: Any, userdata: Any, sock: Any) -> None:
        self._own_socket = None
        super()._on_socket_close(client, userdata, sock)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002  the library's signature
        """As the library's, but tolerates a socket that is closed or broken by the time the loop gets to it: nothing can be written
        there.
        """

        def write() -> None:
            self._or_over(client.loop_write)

        def register() -> None:
            if sock.fileno() >= 0:
                # uvloop accepts no writer for a socket whose connection was reset, and reports that to nobody else.
                self._or_over(lambda: self._loop.add_writer(sock.fileno(), write))

        self._loop.call_soon_threadsafe(register)

    def _or_over(self, step: Callable[[], object]) -> None:
        """Call `step`; any exception ends the connection."""
        try:
            step()
        except Exception as fault:  # noqa: BLE001
            # Before the broker has answered, somebody waits for this future.
            self._over(fault, self._disconnected if self._connected.done() else self._connected)

    def _over(self, fault: Exception, waited: asyncio.Future[None]) -> None:
        if not waited.done():
            waited.set_exception(fault if isinstance(fault, MqttError) else MqttError(str(fault)))
            # Retrieve the exception: the waiter may have given up.
            waited.exception()

    @property
    def has_socket(self) -> bool:
        """Whether the client has a socket that is not closed."""
        return self._own_socket is not None

    def hurry(self) -> None:
        """Let the system acknowledge at once what arrives.

        Usual brokers send a small message only after the one before is acknowledged (Nagle), and the system delays that by 40 ms. The
        system forgets this setting whenever something is sent.
        """
        if self._own_socket is not None and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):
                self._own_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _taken() -> Properties:
    """The properties sent to a version 5 broker on connecting: the size above which it drops messages to this member."""
    taken = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # it has no types
    taken.MaximumPacketSize = MAX_TAKEN
    return taken


def client_of(
    relay: Relay,
    login: Login,
    tls: ssl.SSLContext | None,
    version: Version,
    patience: float,
    farewell: tuple[str, bytes],
    deliver: Callable[[Message], None],
) -> Client:
    """A client that is not connected yet. If the connection breaks, the broker publishes `farewell`, a topic and its payload."""
    topic, words = farewell
    newest = version is Version.V5
    return Client(
        relay.host,
        relay.port,
        username=login.username,
        password=login.password,
        identifier=secrets.token_hex(11),
        protocol=version,
        # The library takes a class here and calls it.
        queue_type=partial(_Inbox, deliver),  # type: ignore[arg-type]
        will=aiomqtt.Will(topic, words, qos=1, retain=True),
        timeout=_VERSION_5 if newest else min(CONNECT, max(_VERSION_5, patience / 2)),
        keepalive=max(5, min(60, round(patience))),
        tls_context=tls,
        clean_session=None if newest else True,
        properties=_taken() if newest else None,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )


@contextlib.asynccontextmanager
async def connected(client: Client) -> AsyncIterator[Client]:
    """`client` while it is connected. MqttError if connecting fails; its socket, which the library would leave open, is then closed too."""
    try:
        await client.__aenter__()
    except MqttError:
        if client.has_socket:
            client.timeout = 0
            with contextlib.suppress(MqttError):
                await client.__aexit__(None, None, None)
        raise
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_exit(client)
        yield client


__all__ = ["CONNECT", "MAX_TAKEN", "Client", "Login", "Message", "MqttError", "TooSmallError", "Version", "client_of", "connected"]
