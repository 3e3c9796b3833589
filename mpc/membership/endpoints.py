"""Addresses in their written form: where a member listens, and the broker at which members meet."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass

from mpc.errors import ConfigError

Endpoint = tuple[str, int]

_ENDPOINT = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.%a-z]+)\]|(?P<host>[\w.-]+)):(?P<port>\d{1,5})")
_RELAY = re.compile(r"(?P<scheme>mqtts?)://(?P<endpoint>[^/\s@]+)")


def parse_endpoint(text: str) -> Endpoint:
    """`host:port` or `[IPv6]:port`; ConfigError otherwise."""
    match = _ENDPOINT.fullmatch(text)
    port = int(match["port"]) if match else 0
    if match is None or not 0 < port < 65536 or not _possible(match["v6"], match["host"]):
        msg = f'{text!r} is no endpoint; write "host:9001" or "[::1]:9001" with a port from 1 to 65535'
        raise ConfigError(msg)
    return match["v6"] or match["host"], port


def parse_reachable(text: str) -> Endpoint:
    """An endpoint that others can dial; ConfigError also for an address that stands for all addresses of a machine."""
    host, port = parse_endpoint(text)
    # As a resolver reads it, 0 is 0.0.0.0.
    if not host.strip("0.") or (":" in host and ipaddress.IPv6Address(host).is_unspecified):
        msg = (
            f"{text!r} is the address of no machine, and who dials it dials itself; "
            "write the one under which the others reach this member. "
            "For where it listens there is 'listen'"
        )
        raise ConfigError(msg)
    return host, port


def _possible(v6: str | None, host: str | None) -> bool:
    """Whether a resolver accepts the address at all; whether it resolves is seen when it is used."""
    try:
        if v6 is not None:
            ipaddress.IPv6Address(v6)
        elif host is not None:
            host.encode("idna")
    except ValueError:
        return False
    return True


def format_endpoint(endpoint: Endpoint) -> str:
    """The text that `parse_endpoint` reads."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether the host can only mean this machine. Names are not resolved: any name but `localhost` may mean another machine."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class Relay:
    """The MQTT broker of a roster, with or without TLS. It is not trusted: it only passes sealed records on."""

    host: str
    port: int
    tls: bool

    @property
    def url(self) -> str:
        """The text that `parse_relay` reads."""
        return f"mqtt{'s' if self.tls else ''}://{format_endpoint((self.host, self.port))}"


def parse_relay(text: str) -> Relay:
    """`mqtt://host:port`, or `mqtts://host:port` for TLS; ConfigError otherwise."""
    match = _RELAY.fullmatch(text)
    if match is not None:
        with contextlib.suppress(ConfigError):
            return Relay(*parse_endpoint(match["endpoint"]), match["scheme"] == "mqtts")
    msg = f'{text!r} is no broker; write "mqtt://host:1883", or "mqtts://host:8883" for TLS'
    raise ConfigError(msg)
