"""Ports for what listens later, often in another process."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress
from itertools import cycle, islice

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_SHARE = 1_500
_FIRST = 20_000 + _WORKER % 8 * _SHARE
"""Every worker has ports of its own, below those that Linux hands out by itself: nobody else gets one between its choice and its use."""
_NEXT = cycle(random.SystemRandom().sample(range(_FIRST, _FIRST + _SHARE), _SHARE))


def free_port():
    """A port of 127.0.0.1 on which nothing listens, which was not given for long."""
    for port in islice(_NEXT, _SHARE):
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port
    raise AssertionError("no port is free")
