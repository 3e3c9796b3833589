"""Ports for what listens later, often in another process."""

from __future__ import annotations

import random
import socket

_OURS = range(20_000, 32_000)
"""Below those that Linux hands out by itself: between the choice and its use, no other test is given one of these to listen on or to dial from."""
_LEFT = random.SystemRandom().sample(_OURS, len(_OURS))


def free_port():
    """A port of 127.0.0.1 on which nothing listens, none twice in one process."""
    while _LEFT:
        port = _LEFT.pop()
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")
