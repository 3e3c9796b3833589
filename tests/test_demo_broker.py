"""The broker of the demo over MQTT, in its own process, ends at once and silently, whoever is connected."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import pytest

from parties.demo.organisations import bound, spawn, stop
from tests.nodes import PATIENCE

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"
CONNACK = b"\x20\x02\x00\x00"


@pytest.mark.parametrize("rude", [b"", CONNECT[:3]])
@pytest.mark.parametrize("by", ["signal", "parent"])
async def test_it_stops_beside_a_connection_that_says_nothing(by, rude):
    """The broker once printed a traceback here, since it still waited for the silent connection."""
    listener = bound()
    address = listener.getsockname()
    process = await spawn(("-m", "parties.demo.broker"), listener)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        stack.push_async_callback(stop, process)
        _, silent = await asyncio.open_connection(*address)
        stack.callback(silent.close)
        silent.write(rude)
        # Taken after the silent one: with its answer both are there.
        reader, speaks = await asyncio.open_connection(*address)
        stack.callback(speaks.close)
        speaks.write(CONNECT)
        assert await reader.readexactly(len(CONNACK)) == CONNACK
        if by == "signal":
            os.kill(process.pid, signal.SIGTERM)
        else:
            process.stdin.close()
        printed, complained, status = await asyncio.gather(process.stdout.read(), process.stderr.read(), process.wait())
        assert (status, printed, complained.decode()) == (130, b"", "")
