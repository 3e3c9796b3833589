"""The local door of a node: a socket that only its own user can open, with one JSON value per line."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import socket
import stat
import struct
import sys
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpc.errors import BeaverError, ConfigError
from parties.turns import in_turn

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Awaitable, Callable

    from parties.config import NodeConfig

    Say = Callable[[dict[str, Any]], None]
    Handler = Callable[[dict[str, Any], Say], Awaitable[None]]

LIMIT = 1 << 24
MAX_UNREAD = 1 << 16
_MADE = re.compile(r"[0-9a-f]{16}[.]sock")
SHORT = 100
"""Bytes that every system allows in the path of a socket."""
_AGAIN = 0.05
"""Seconds until the next try at a socket that takes no more connections."""


def socket_path(config: NodeConfig) -> Path:
    """Return where the node of this configuration listens: `control`, or else a short path of its own for every key file."""
    if config.control is not None:
        path = config.resolve(config.control).absolute()
        if len(os.fsencode(path)) > SHORT:
            msg = f"control = {str(path)!r} is longer than the {SHORT} bytes that a socket's path may have; choose a shorter one"
            raise ConfigError(msg)
        return path
    # Made only from user and key: a service and a login shell must find the same socket, whatever their environments say.
    name = blake2b(os.fsencode(config.key_path.resolve()), digest_size=8).hexdigest()
    folder = Path("/tmp") / f"beaver-{os.getuid()}"  # noqa: S108  0700 and owned by this user, which is checked
    return folder / f"{name}.sock"


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        msg = f"{folder}: cannot be made ({fault.strerror}); set control = in the configuration"
        raise ConfigError(msg) from None
    _check_folder(folder)


def _check_folder(folder: Path) -> None:
    """Raise ConfigError unless only this user can put a socket there: another user's socket would get the jobs, and answer them."""
    link, status = folder.lstat(), folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022 or link.st_uid not in (os.getuid(), 0):
        msg = f"{folder}: must belong to this user and be writable by nobody else; set control = in the configuration"
        raise ConfigError(msg)


@contextlib.asynccontextmanager
async def serve(path: Path, handler: Handler, log: logging.Logger) -> AsyncIterator[None]:
    """Answer at `path` (0600) while the body runs.  A socket that a dead node left is replaced.

    A caller gets the kind and the text of an error of ours.  Of any other fault it gets only the kind, and `log` has the rest.
    """
    _private_folder(path.parent)
    with in_turn(path.parent) as fault:
        # Checked in the same turn in which the socket is made: of two nodes that start at one moment, the second finds the first.
        if _answers(path):
            msg = f"{path}: another node answers there; every node needs a control socket of its own"
            raise ConfigError(msg)
        if fault is None:
            _clear(path.parent)
        listener = _listener(path)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _converse(reader, writer, partial(_answered, handler, log))

    server = await asyncio.start_unix_server(answer, sock=listener, limit=LIMIT)
    try:
        yield
    finally:
        # While this node listens, the socket of this name is its own; later another node may have put one there.  A leftover is replaced at
        # the next start.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(path.unlink)
        server.close()


def _clear(folder: Path) -> None:
    """Remove the sockets that killed nodes left in `folder`: nobody listens there any more.

    Only names that `socket_path` makes are touched.
    """
    for path in folder.iterdir():
        if not _MADE.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as there:
            # A full queue of a living node gives another error than no queue.
            there.setblocking(False)
            if stat.S_ISSOCK(path.lstat().st_mode) and there.connect_ex(str(path)) == errno.ECONNREFUSED:
                path.unlink()


def _listener(path: Path) -> socket.socket:
    if os.path.lexists(path):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            msg = f"{path}: is there already and no socket; remove it, or set control = in the configuration"
            raise ConfigError(msg)
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        # Nobody can connect before it listens, and in this folder nobody else can replace it.
        path.chmod(0o600)
        # At once, in this turn: to others, a socket without a listener is one that a dead node left.
        listener.listen()
    except OSError as fault:
        listener.close()
        msg = f"{path}: cannot listen there ({fault.strerror}); set control = in the configuration"
        raise ConfigError(msg) from None
    return listener


def _answers(path: Path) -> bool:
    """Return whether a node is there, even one that takes no more connections now.  Raises ConfigError if this cannot be found out."""
    try:
        _called(path).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except BlockingIOError:
        return True
    except OSError as fault:
        raise _unclear(path, fault) from None
    return True


def _called(path: Path) -> socket.socket:
    """Return a connection to the node at `path`.  Raises BlockingIOError if it takes no more connections now."""
    caller = socket.socket(socket.AF_UNIX)
    try:
        # Not asyncio's connect: it waits for such a connection, and takes it for made.
        caller.setblocking(False)
        caller.connect(str(path))
    except BaseException:
        caller.close()
        raise
    return caller


async def _called_in_turn(path: Path) -> socket.socket:
    """Return a connection to the node at `path`, as soon as it takes one."""
    while True:
        try:
            return _called(path)
        except BlockingIOError:
            await asyncio.sleep(_AGAIN)


def _unclear(path: Path, fault: OSError) -> ConfigError:
    return ConfigError(
        f"{path}: whether a node answers there cannot be told ({fault.strerror}); let this user enter the folder, and remove what is in "
        "the way, or set control = in the configuration. Where another user runs the node, ask as that user"
    )


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    """Handle one request, with the `user` that makes it.  A client that hangs up cancels it."""

    def say(message: dict[str, Any]) -> None:
        # A client that does not read misses progress messages, so that nothing piles up; there are few others.
        full = "progress" in message and writer.transport.get_write_buffer_size() > MAX_UNREAD
        if not writer.is_closing() and not full:
            writer.write(json.dumps(message).encode() + b"\n")

    try:
        request = json.loads(await reader.readline() or b"null")
        if isinstance(request, dict):
            # Set after the request's own fields: the user is what the system says.
            work = asyncio.ensure_future(handler({**request, "user": _user(writer)}, say))
            gone = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (work, gone):
                    task.cancel()
                await asyncio.gather(work, gone, return_exceptions=True)
    except (ValueError, RecursionError, ConnectionError):
        # Invalid data, a line that is too long, or a client that is gone.
        pass
    finally:
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


async def _answered(handler: Handler, log: logging.Logger, request: dict[str, Any], say: Say) -> None:
    try:
        await handler(request, say)
    except BeaverError as fault:
        say({"error": type(fault).__name__, "text": str(fault)})
    except Exception as fault:
        say({"error": "InternalError", "text": f"{type(fault).__name__} in the node; its log says more"})
        log.exception("a request failed")


def _user(writer: asyncio.StreamWriter) -> int:
    """Return the user whose process asks, if the system tells; elsewhere this node's user, who alone may open its socket."""
    if sys.platform != "linux":
        return os.getuid()
    connection = writer.get_extra_info("socket")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(user)


async def ask(path: Path, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Send one request to the node at `path`, as soon as it takes one more.  Yield its messages until it hangs up."""
    try:
        _check_folder(path.parent)
        reader, writer = await asyncio.open_unix_connection(sock=await _called_in_turn(path), limit=LIMIT)
    except (ConnectionError, FileNotFoundError):
        msg = (
            f"no node answers at {path}: start it with `beaver party -c`, the dealer's with `beaver dealer -c`, and this configuration. "
            "Where another user runs it, ask as that user. A client runs none: it asks with `beaver client`"
        )
        raise ConfigError(msg) from None
    except OSError as fault:
        raise _unclear(path, fault) from None
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        while line := await reader.readline():
            message = json.loads(line)
            if not isinstance(message, dict):
                break
            yield message
    except (ValueError, ConnectionError):
        # Half a line, or a reset connection: the caller then gets no last message.
        return
    finally:
        writer.close()
