"""Free ports for servers that start later, often in another process."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections import deque
from contextlib import suppress
from itertools import cycle
from pathlib import Path

_PORTS = range(20_000, 32_000)
"""Below those that Linux hands out by itself: nobody else gets one between its choice and its use."""
_KEPT = 1_000
_NEXT = cycle(random.SystemRandom().sample(_PORTS, len(_PORTS)))
_CLAIMS = os.open(Path(tempfile.gettempdir()) / f"beaver-test-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
"""A file with a byte for every port.  Who has locked it may use the port: the system frees what a process that ended has locked."""
_CLAIMED = deque()


def free_port():
    """A port of 127.0.0.1 on which nothing listens.

    No test process, neither this one nor another, is given the same port until this one ends or has claimed many more.
    """
    while len(_CLAIMED) >= _KEPT:
        fcntl.lockf(_CLAIMS, fcntl.LOCK_UN, 1, _CLAIMED.popleft())
    for port, _ in zip(_NEXT, _PORTS, strict=False):
        with suppress(OSError):
            fcntl.lockf(_CLAIMS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            _CLAIMED.append(port)
            socket.create_server(("127.0.0.1", port)).close()
            return port
    raise AssertionError("no port is free")
