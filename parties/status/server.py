"""A web server that only shows: GET, one answer per connection, and nothing in a request is kept or trusted."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import h11

from mpc.errors import ConfigError
from mpc.membership.endpoints import format_endpoint
from mpc.transport.link import reason

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Callable, Mapping

    from mpc.membership.endpoints import Endpoint

MAX_REQUEST = 1 << 14
MAX_CONNECTIONS = 32
PATIENCE = 5.0
"""Seconds for a request, and for its answer to leave."""
HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Answer(NamedTuple):
    """A body, its type, and what it may do in a browser."""

    kind: str
    body: bytes
    allowed: str = "default-src 'none'; frame-ancestors 'none'"


if TYPE_CHECKING:
    Pages = Mapping[str, Callable[[], Answer]]


@contextlib.asynccontextmanager
async def serve(where: Endpoint, pages: Pages, log: logging.Logger) -> AsyncIterator[None]:
    """Answer requests for `pages`, by path, while the body runs.  Raises ConfigError if it cannot listen at `where`."""
    site = _Site(pages, log)
    try:
        server = await asyncio.start_server(site.converse, *where, limit=MAX_REQUEST)
    except OSError as fault:
        msg = (
            f"the status page cannot listen on {format_endpoint(where)}: {reason(fault)}; end the program that has the port, or set "
            "another `address` under [status]"
        )
        raise ConfigError(msg) from None
    log.info("phase=start the status page is at http://%s", format_endpoint(where))
    try:
        yield
    finally:
        server.close()


class _Site:
    def __init__(self, pages: Pages, log: logging.Logger) -> None:
        self._pages = pages
        self._log = log
        self._connections = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request and give one answer."""
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                async with asyncio.timeout(PATIENCE):
                    writer.write(await self._reply(reader))
                    await writer.drain()
        except (TimeoutError, ConnectionError, h11.LocalProtocolError):
            # The client is gone, or never asked.
            pass
        finally:
            self._connections -= 1
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST)
        try:
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await reader.read(MAX_REQUEST))
        except h11.RemoteProtocolError as fault:
            return _sent(connection, fault.error_status_hint)
        if not isinstance(event, h11.Request):
            raise ConnectionResetError
        try:
            return self._answered(connection, event)
        except Exception:  # noqa: BLE001  it is told in the log, and the node goes on
            self._log.exception("phase=status a page could not be made")
            return _sent(connection, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _answered(self, connection: h11.Connection, request: h11.Request) -> bytes:
        # Checked before all else that has an answer: this answer alone has no body, which HEAD must not get.
        if request.method != b"GET":
            return _sent(connection, HTTPStatus.METHOD_NOT_ALLOWED)
        host = next((value.decode("latin-1") for name, value in request.headers if name == b"host"), "")
        if not _is_address(host):
            # A request by another name may come from somebody else's page, whose name was made to mean this machine.
            return _sent(connection, HTTPStatus.MISDIRECTED_REQUEST)
        page = self._pages.get(request.target.decode("latin-1").partition("?")[0])
        return _sent(connection, HTTPStatus.NOT_FOUND) if page is None else _sent(connection, HTTPStatus.OK, page())


def _is_address(host: str) -> bool:
    """Return whether a request's Host is `localhost` or an IP address, with or without a port: no name server can have led there."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    return True


def _sent(connection: h11.Connection, status: int, answer: Answer | None = None) -> bytes:
    """Return the bytes of an answer, or of a short text about the status if there is none."""
    known = HTTPStatus(status)
    shown = answer or Answer("text/plain; charset=utf-8", f"{known.value} {known.phrase}\n".encode())
    headers = HEADERS | {"Content-Type": shown.kind, "Content-Security-Policy": shown.allowed}
    if known is HTTPStatus.METHOD_NOT_ALLOWED:
        # The method may be HEAD, which gets no body.
        shown, headers["Allow"] = shown._replace(body=b""), "GET"
    headers["Content-Length"] = str(len(shown.body))
    head = h11.Response(status_code=known, headers=list(headers.items()), reason=known.phrase)
    parts = [connection.send(event) for event in (head, h11.Data(data=shown.body), h11.EndOfMessage())]
    return b"".join(part for part in parts if part)


__all__ = ["Answer", "serve"]
