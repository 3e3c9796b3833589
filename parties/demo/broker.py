"""The broker of a demo over MQTT: `python -m parties.demo.broker FD`, a process beside those of the members.

FD is a listening socket from the parent.  When standard input ends, the parent is gone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mpc.errors import ConfigError
from parties.child import attended, exit_of

_LISTENER = "default"


def check() -> None:
    """Raise ConfigError unless there is a broker to run.  The parent checks this before it starts the processes."""
    if find_spec("amqtt") is None:
        msg = "a demo over MQTT runs its own broker and needs amqtt: pip install 'beaver-mpc[relay]'"
        raise ConfigError(msg)


def _amqtt() -> Any:
    """Return a broker that takes everyone and listens nowhere: members prove who they are to each other, not to it."""
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    return import_module("amqtt.broker").Broker({"listeners": {_LISTENER: {"type": "external"}}, "plugins": plugins})


async def serve(listener: socket.socket) -> None:
    """Pass messages on until cancelled."""
    broker = _amqtt()
    await broker.start()
    guests: set[asyncio.Task[None]] = set()

    def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of this function, not of the server's, which would complain when its task is cancelled.
        guest = asyncio.create_task(_attend(broker, reader, writer))
        guests.add(guest)
        guest.add_done_callback(guests.discard)

    server = await asyncio.start_server(welcome, sock=listener)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        await broker.shutdown()
        # A client that has sent nothing yet is no session that the broker knows, and would keep the server open.
        for guest in guests:
            guest.cancel()
        await asyncio.gather(*guests, return_exceptions=True)
        await server.wait_closed()


async def _attend(broker: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await broker.stream_connected(reader, writer, _LISTENER)
    finally:
        writer.close()


def main(argv: list[str]) -> int:
    """Return exit status 1 after a fault (printed on standard error), 130 when stopped."""
    return exit_of(attended(serve(socket.socket(fileno=int(argv[0])))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
