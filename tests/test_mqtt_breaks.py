"""Connections to a broker that break before it answers, and sockets that are reset: a broker that is back is reached at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import replace

import aiomqtt
import pytest
import uvloop

from mpc.transport.broker import Client
from tests.brokers import BROKERS, networks
from tests.waiting import until

SOON = 2.0
"""Seconds; far below `patience`, and below what anybody waits for an answer."""


class Rude:
    """A proxy in front of a broker that hangs up on the next `hangs_up` connections before the broker has said a word."""

    def __init__(self, relay):
        self._relay, self.hangs_up, self._writers, self.tried = relay, 0, set(), 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.relay = replace(self._relay, port=self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()

    def cut(self):
        for writer in [each for each in self._writers if not each.is_closing()]:
            # Reset, as where a process died.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader, writer):
        self.tried += 1
        self._writers.add(writer)
        if self.hangs_up:
            self.hangs_up -= 1
            await reader.read(1)
            writer.transport.abort()
            return
        theirs, ours = await asyncio.open_connection(self._relay.host, self._relay.port)
        self._writers.add(ours)

        async def pass_on(source, sink):
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    sink.write(data)
            sink.close()

        await asyncio.gather(pass_on(reader, ours), pass_on(theirs, writer))


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
async def test_a_broker_that_hung_up_before_it_answered_is_tried_again_at_once_and_in_the_version_that_it_knows(kind, tmp_path, caplog):
    async with BROKERS[kind](tmp_path) as broker, Rude(broker.relay) as rude, networks(rude.relay, broker.relay) as ((a, b), _):
        await asyncio.gather(a.listen(lambda _: None), b.listen(lambda _: None))
        knows = a._works
        for hangs_up in (1, 2, 1, 0):
            began, rude.tried, rude.hangs_up = time.monotonic(), 0, hangs_up
            rude.cut()
            await until(lambda hangs_up=hangs_up: rude.tried > hangs_up and a._connected)
            assert time.monotonic() - began < SOON
        # Another version was tried meanwhile, and may be in use; what comes first is the newest one that it has ever answered in.
        assert a._works is knows
        assert a._version is knows
    # This member's own log says that connections broke; the library's texts may hold data, and would be withheld.
    assert not [record for record in caplog.records if record.name == "mqtt"]


def test_a_connection_that_was_reset_is_over_when_something_is_to_be_sent():
    """uvloop takes no writer for its socket: nobody else would notice until a keepalive goes unanswered."""

    async def whole():
        loop, client = asyncio.get_running_loop(), Client("127.0.0.1")
        client._connected.set_result(None)
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        near.setblocking(False)
        reset = asyncio.Event()
        loop.add_reader(near.fileno(), reset.set)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        await asyncio.wait_for(reset.wait(), SOON)
        client._on_socket_register_write(client._client, None, near)
        with pytest.raises(aiomqtt.MqttError):
            await asyncio.wait_for(client._disconnected, SOON)
        loop.remove_reader(near.fileno())
        near.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())
