"""Links over TCP: a 32-bit little-endian length before every frame, received into one preallocated buffer."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, cast

import numpy as np

from mpc.errors import ConfigError, PeerMisbehaved
from mpc.membership.endpoints import format_endpoint
from mpc.transport.link import HIGH_WATER, MAX_FRAME, check_length, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.membership.endpoints import Endpoint
    from mpc.membership.members import Member
    from mpc.transport.link import OnClosed, OnFrame, OnWritable, Part

_HEAD = 4
_FIRST_BUFFER = 1 << 16
_FULL_BUFFER = MAX_FRAME + _HEAD
_PATIENCE = 10.0


class TcpLink(asyncio.BufferedProtocol):
    """One TCP connection. Before `start`, at most the first 64 KiB are read."""

    def __init__(self, on_link: Callable[[TcpLink], None] | None = None) -> None:
        self.label = "tcp"
        self.largest = MAX_FRAME
        self.heard = asyncio.get_running_loop().time()
        self._on_link = on_link
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(_FIRST_BUFFER))
        self._filled = 0
        self._due = 0
        self._handlers: tuple[OnFrame, OnClosed, OnWritable] | None = None
        self._writable = True
        self._over = False
        self._reason: Exception | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"TcpLink({self.label})"

    # -- the transport's callbacks -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BufferedProtocol."""
        # No isinstance here: uvloop's transports are not registered as asyncio's.
        self._transport = stream = cast("asyncio.Transport", transport)
        host, port, *_ = transport.get_extra_info("peername") or ("unknown", 0)
        self.label = f"tcp {host}:{port}"
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _limit(stream)
        stream.pause_reading()
        if self._on_link is not None:
            self._on_link(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the buffer is as large as the frame that is due
        """The buffer for the next bytes: for a large frame only its missing part, so that no bytes behind it must be moved to the front."""
        return self._buffer[self._filled : max(self._due, _FIRST_BUFFER)]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over every complete frame; keep the rest."""
        self._filled += nbytes
        self.heard = asyncio.get_running_loop().time()
        if self._handlers is None:
            # uvloop may begin to read after connection_made, whatever was requested there.
            self._pause()
            return
        self._deliver(self._handlers[0])

    def _deliver(self, on_frame: OnFrame) -> None:
        start = 0
        view = self._buffer
        while self._filled - start >= _HEAD and not self._over:
            length = int.from_bytes(view[start : start + _HEAD], "little")
            try:
                check_length(length, self.largest, self.label)
            except PeerMisbehaved as fault:
                self._fail(fault)
                return
            stop = start + _HEAD + length
            if stop > self._filled:
                break
            on_frame(view[start + _HEAD : stop])
            start = stop
        self._keep(start)

    def _keep(self, start: int) -> None:
        """Move the bytes from `start` on, the beginning of an incomplete frame, to the front of a buffer that can hold the frame."""
        old = self._buffer[start : self._filled]
        self._due = _HEAD + int.from_bytes(old[:_HEAD], "little") if len(old) >= _HEAD else 0
        if not start and self._due <= len(self._buffer):
            return
        rest = bytes(old)
        if self._due > len(self._buffer):
            # Not filled with zeros: a smaller frame commits only its own pages.
            self._buffer = np.empty(_FULL_BUFFER, np.uint8).data
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)

    def eof_received(self) -> bool:
        """The peer closed: close, too."""
        return False

    def pause_writing(self) -> None:
        """The buffer is above the high-water mark."""
        self._writable = False

    def resume_writing(self) -> None:
        """The buffer is below the mark again."""
        self._writable = True
        if self._handlers is not None and not self._over:
            self._handlers[2]()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._over = True
        if not self._closed.done():
            self._closed.set_result(None)
        if self._handlers is not None:
            self._handlers[1](self._reason or exc)

    def _fail(self, reason: Exception) -> None:
        self._reason = reason
        self.abort()

    # -- the contract ------------------------------------------------------------------------------------------

    def start(self, on_frame: OnFrame, on_closed: OnClosed, on_writable: OnWritable) -> None:
        """See Link.start."""
        self._handlers = (on_frame, on_closed, on_writable)
        asyncio.get_running_loop().call_soon(self._begin, on_frame, on_closed)

    def _begin(self, on_frame: OnFrame, on_closed: OnClosed) -> None:
        if self._closed.done() or self._transport is None:
            on_closed(self._reason)
            return
        self._deliver(on_frame)
        if not self._over:
            self._transport.resume_reading()

    def _pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def send(self, *parts: Part) -> None:
        """See Link.send."""
        if not self._over and self._transport is not None and not self._transport.is_closing():
            size = sum(map(len, parts))
            # An empty part would never leave if asyncio sends parts as they are (Python 3.12 to 3.14, gh-155888).
            self._transport.writelines([size.to_bytes(_HEAD, "little"), *filter(len, parts)])
            if self._writable and self._transport.get_write_buffer_size() > HIGH_WATER:
                # asyncio may also fail to look at its buffer (Python 3.12.0 to 3.13.1, gh-127655): this makes it look.
                _limit(self._transport)

    @property
    def writable(self) -> bool:
        """See Link.writable."""
        return self._writable and not self._over

    def close(self) -> None:
        """See Link.close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """See Link.abort."""
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """See Link.wait_closed."""
        await asyncio.shield(self._closed)


def _limit(stream: asyncio.WriteTransport) -> None:
    stream.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)


def _remedy(fault: OSError) -> str:
    """The remedy for a member that cannot listen."""
    if isinstance(fault, socket.gaierror):
        return "this machine finds no address for the host: correct the host in `listen`, or in the roster if `listen` is not set"
    if fault.errno == errno.EADDRNOTAVAIL:
        return "the host is no address of this machine: set `listen` to one that is, such as 0.0.0.0 or [::] for all"
    return "free the port or set another `listen`"


async def dial(host: str, port: int) -> TcpLink:
    """A link to `host`; OSError if connecting fails."""
    _, link = await asyncio.get_running_loop().create_connection(TcpLink, host, port)
    return link


class TcpListener:
    """A listening socket that hands every connection to `on_link`."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    @classmethod
    async def listen(
        cls, on_link: Callable[[TcpLink], None], *, endpoint: Endpoint | None = None, sock: socket.socket | None = None
    ) -> TcpListener:
        """Listen at `endpoint`, or on the bound socket `sock`. ConfigError, naming the address, if that is impossible."""
        loop = asyncio.get_running_loop()
        host, port = endpoint or ("", 0)
        try:
            if sock is not None:
                server = await loop.create_server(lambda: TcpLink(on_link), sock=sock, backlog=1024)
            else:
                server = await loop.create_server(lambda: TcpLink(on_link), host, port, backlog=1024)
        except OSError as fault:
            where = format_endpoint((sock.getsockname() if sock is not None else (host, port))[:2])
            msg = f"cannot listen on {where}: {reason(fault)}; {_remedy(fault)}"
            raise ConfigError(msg) from None
        return cls(server)

    @property
    def address(self) -> Endpoint:
        """The address that it listens on."""
        host, port, *_ = self._server.sockets[0].getsockname()
        return host, port

    async def close(self) -> None:
        """Free the port; accepted links live on."""
        self._server.close()


class TcpNetwork:
    """The network of a real node: listens at its own endpoint, and dials the endpoints of the roster, each for at most `patience`
    seconds.
    """

    def __init__(self, endpoint: Endpoint | None, sock: socket.socket | None = None, *, patience: float = _PATIENCE) -> None:
        self._endpoint = endpoint
        self._sock = sock
        self._patience = patience
        self._listener: TcpListener | None = None

    async def listen(self, on_link: Callable[[TcpLink], None]) -> None:
        """Listen, unless this member only dials."""
        if self._endpoint is not None or self._sock is not None:
            self._listener = await TcpListener.listen(on_link, endpoint=self._endpoint, sock=self._sock)

    async def dial(self, member: Member) -> TcpLink:
        """A link to `member`; OSError if there is none within `patience`."""
        if member.endpoint is None:
            msg = f"{member.name} has no endpoint in the roster"
            raise ConfigError(msg)
        try:
            async with asyncio.timeout(self._patience) as attempt:
                return await dial(*member.endpoint)
        except TimeoutError:
            if not attempt.expired():
                raise
            # The system itself would try for minutes, at ever longer intervals: a peer that returns would be met only at the next one.
            msg = f"no answer within {self._patience:g} s"
            raise TimeoutError(msg) from None

    async def close(self) -> None:
        """Free the port."""
        if self._listener is not None:
            await self._listener.close()
