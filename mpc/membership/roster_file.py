"""The roster as a TOML file, read strictly: every fault names its line."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from mpc.errors import ConfigError
from mpc.membership.endpoints import format_endpoint, parse_reachable, parse_relay
from mpc.membership.identity import SIGNATURE_BYTES, check_name, decode_key, encode_key
from mpc.membership.members import Content, Member, Revoked, Role, Transport
from mpc.membership.toml_text import MisplacedError, at_line, did_you_mean, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_SIGNATURE = "signature:"
_TOP: dict[str, type | tuple[type, ...]] = {
    "version": int,
    "previous": str,
    "transport": str,
    "relay": dict,
    "member": list,
    "revoked": list,
    "signatures": dict,
}
_RELAY: dict[str, type | tuple[type, ...]] = {"url": str}
_MEMBER: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "key": str,
    "endpoint": str,
    "role": str,
    "transport": str,
    "retiring_key": str,
    "retires": date,
}
_REVOKED: dict[str, type | tuple[type, ...]] = {"name": str, "key": str, "reason": str, "since": date}
_WORDS = {str: "text in quotes", int: "a whole number", dict: "a table", date: "a date such as 2030-01-31, without quotes"}


def read(text: str, source: str) -> tuple[Content, dict[str, bytes]]:
    """The contents of a roster file, and its signatures by name. ConfigError names `source`, the line and the remedy."""
    return _parsed(text, source, lambda data: (_content(data), _signatures(data.get("signatures", {}))))


def _parsed(text: str, source: str, take: Callable[[dict[str, Any]], T]) -> T:
    """The result of `take` on a parsed TOML document; ConfigError names `source` and the line."""
    try:
        return take(parsed(text, source))
    except MisplacedError as fault:
        msg = f"{source}{at_line(text, fault.location)}: {fault}"
        raise ConfigError(msg) from None


def _content(data: dict[str, Any]) -> Content:
    _known(data, _TOP, "", ())
    if not isinstance(data.get("member"), list):
        msg = "a roster is a list of [[member]] tables; `beaver roster add` writes one"
        raise MisplacedError(msg, "member")
    _typed(data, _TOP, "", ())
    relay = data.get("relay")
    if relay is not None:
        _entry(relay, _RELAY, ("url",), "[relay]", ("relay",))
    return Content(
        members=tuple(_member(entry, number) for number, entry in enumerate(data["member"])),
        transport=_choice(data, "transport", Transport, "tcp", "", ()),
        relay=_value(relay, "url", parse_relay, "[relay]", ("relay",)) if relay is not None else None,
        version=_value(data, "version", _version, "", ()) if "version" in data else 1,
        previous=_value(data, "previous", _digest, "", ()) if "previous" in data else b"",
        revoked=tuple(_revoked(entry, number) for number, entry in enumerate(data.get("revoked", []))),
    )


def _member(entry: object, number: int) -> Member:
    label, place = f"[[member]] {number + 1}", ("member", number)
    table = _entry(entry, _MEMBER, ("name", "key"), label, place)
    # A value in words is mentioned first: it is more easily misspelt than a key.
    _value(table, "name", check_name, label, place)
    role = _choice(table, "role", Role, "party", label, place)
    transport = _choice(table, "transport", Transport, None, label, place)
    label = f"{label} ({table['name']})"
    if ("retiring_key" in table) != ("retires" in table):
        msg = f"{label}: retiring_key and retires belong together: the old key, and the day on which it ends"
        raise MisplacedError(msg, *place)
    return Member(
        table["name"],
        _value(table, "key", decode_key, label, place),
        _value(table, "endpoint", parse_reachable, label, place) if "endpoint" in table else None,
        role,
        transport,
        _value(table, "retiring_key", decode_key, label, place) if "retiring_key" in table else None,
        _value(table, "retires", _moment, label, place) if "retires" in table else None,
    )


def _revoked(entry: object, number: int) -> Revoked:
    label, place = f"[[revoked]] {number + 1}", ("revoked", number)
    table = _entry(entry, _REVOKED, tuple(_REVOKED), label, place)
    _value(table, "name", check_name, label, place)
    label = f"{label} ({table['name']})"
    key = _value(table, "key", decode_key, label, place)
    reason = _value(table, "reason", one_line, label, place)
    return Revoked(table["name"], key, reason, _value(table, "since", _day, label, place))


def read_signatures(text: str, source: str) -> dict[str, bytes]:
    """The signatures in lines as `beaver roster sign` prints them, or in a whole roster."""

    def take(data: dict[str, Any]) -> dict[str, bytes]:
        table = data.get("signatures", data)
        if not isinstance(table, dict):
            msg = f"[signatures] must be a table, not {type(table).__name__}"
            raise MisplacedError(msg, "signatures")
        return _signatures(table)

    return _parsed(text, source, take)


def _signatures(table: dict[str, Any]) -> dict[str, bytes]:
    for name in table:
        # Checked before an error shows the name: the sender of a line could write anything there.
        try:
            check_name(name)
        except ConfigError as fault:
            msg = f"[signatures] {fault}"
            raise MisplacedError(msg, "signatures") from None
    return {name: _value(table, name, decode_signature, f"[signatures] {name}", ("signatures",)) for name in table}


# -- one table and one value -----------------------------------------------------------------------------------------


def _before(label: str) -> str:
    return f"{label}: " if label else ""


def _known(table: dict[str, Any], kinds: dict[str, Any], label: str, place: Sequence[str | int]) -> None:
    for key in table:
        if key not in kinds:
            msg = f"{_before(label)}unknown key {key!r}; {did_you_mean(key, kinds)}"
            raise MisplacedError(msg, *place, key)


def _typed(table: dict[str, Any], kinds: dict[str, Any], label: str, place: Sequence[str | int]) -> None:
    for key, value in table.items():
        # Not isinstance alone: true is no number here.
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            msg = f"{_before(label)}{key} must be {_WORDS.get(kinds[key], 'a list of tables')}, not {type(value).__name__}"
            raise MisplacedError(msg, *place, key)


def _entry(entry: object, kinds: dict[str, Any], needed: Sequence[str], label: str, place: Sequence[str | int]) -> dict[str, Any]:
    """`entry` as a table with only known keys of the right types, and all needed ones."""
    if not isinstance(entry, dict):
        msg = f"{label}: must be a table"
        raise MisplacedError(msg, *place)
    _known(entry, kinds, label, place)
    _typed(entry, kinds, label, place)
    for key in needed:
        if key not in entry:
            msg = f"{label}: {key} is missing"
            raise MisplacedError(msg, *place)
    return entry


def _value(table: dict[str, Any], key: str, reader: Callable[[Any], T], label: str, place: Sequence[str | int]) -> T:
    try:
        return reader(table[key])
    except ConfigError as fault:
        msg = f"{_before(label)}{fault}"
        raise MisplacedError(msg, *place, key) from None


def _choice(table: dict[str, Any], key: str, kind: Any, default: Any, label: str, place: Sequence[str | int]) -> Any:
    value = table.get(key, default)
    if key in table and value not in get_args(kind):
        msg = f"{_before(label)}unknown {key} {value!r}; {did_you_mean(value, get_args(kind))}"
        raise MisplacedError(msg, *place, key)
    return value


def _version(value: int) -> int:
    if not 0 < value < 1 << 32:
        msg = f"version {value} is none; the first roster is version 1, every later one counts one more"
        raise ConfigError(msg)
    return value


def _digest(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32 or raw.hex() != text:
        msg = "previous must be the 64 hexadecimal digits that `beaver roster show` prints as the digest of the version before"
        raise ConfigError(msg)
    return raw


def _moment(value: date) -> datetime:
    """A date as the second in UTC at which it begins; a time must state its zone."""
    whole = not isinstance(value, datetime) or (value.tzinfo is not None and not value.microsecond)
    if not whole or not 2000 <= value.year < 9999:
        msg = "retires must be a date, or a time with its zone in whole seconds such as 2030-01-31T12:00:00Z"
        raise ConfigError(msg)
    return value.astimezone(UTC) if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)


def _day(value: date) -> date:
    if isinstance(value, datetime):
        msg = "since must be a date such as 2030-01-31, without a time"
        raise ConfigError(msg)
    return value


def one_line(text: str) -> str:
    """A reason that fits into a table and has no characters that move a cursor; ConfigError otherwise."""
    if not 0 < len(text) <= 200 or not text.isprintable():
        msg = "a reason is 1 to 200 printable characters on one line"
        raise ConfigError(msg)
    return text


def encode_signature(signature: bytes) -> str:
    """A signature as text."""
    return _SIGNATURE + base64.b64encode(signature).decode()


def decode_signature(text: object) -> bytes:
    """The signature that `encode_signature` wrote; ConfigError otherwise."""
    try:
        raw = base64.b64decode(text.removeprefix(_SIGNATURE), validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != SIGNATURE_BYTES or encode_signature(raw) != text:
        msg = f'a signature reads "{_SIGNATURE}" and 88 characters of base64, as `beaver roster sign` prints it'
        raise ConfigError(msg)
    return raw


# -- writing ---------------------------------------------------------------------------------------------------------


def write(content: Content, signatures: dict[str, bytes]) -> str:
    """The text that `read` reads."""
    blocks = [_head(content), *map(member_lines, sorted(content.members, key=lambda member: member.name))]
    blocks += map(_revoked_lines, sorted(content.revoked, key=lambda each: each.since))
    if signatures:
        blocks.append("\n".join(["[signatures]", *(signature_line(name, signatures[name]) for name in sorted(signatures))]) + "\n")
    return "\n".join(block for block in blocks if block)


def _head(content: Content) -> str:
    lines = [f"version = {content.version}", f'previous = "{content.previous.hex()}"'] if content.version > 1 else []
    if content.transport != "tcp":
        lines.append(f'transport = "{content.transport}"')
    if content.relay is not None:
        lines += ["", "[relay]", f'url = "{content.relay.url}"']
    return "\n".join([*lines, ""]).lstrip("\n")


def member_lines(member: Member) -> str:
    """The [[member]] table of one member."""
    lines = ["[[member]]", f'name = "{member.name}"', f'key = "{encode_key(member.public)}"', f'role = "{member.role}"']
    if member.endpoint is not None:
        lines.append(f'endpoint = "{format_endpoint(member.endpoint)}"')
    if member.transport is not None:
        lines.append(f'transport = "{member.transport}"')
    if member.retiring is not None and member.retires is not None:
        lines += [f'retiring_key = "{encode_key(member.retiring)}"', f"retires = {member.retires:%Y-%m-%dT%H:%M:%SZ}"]
    return "\n".join(lines) + "\n"


def _revoked_lines(each: Revoked) -> str:
    # JSON's escapes are TOML's; the reason has no control characters.
    reason = json.dumps(each.reason, ensure_ascii=False)
    return f'[[revoked]]\nname = "{each.name}"\nkey = "{encode_key(each.public)}"\nreason = {reason}\nsince = {each.since.isoformat()}\n'


def signature_line(name: str, signature: bytes) -> str:
    """One line of [signatures], as a member sends it to the others."""
    return f'"{name}" = "{encode_signature(signature)}"'


__all__ = ["decode_signature", "encode_signature", "member_lines", "one_line", "read", "read_signatures", "signature_line", "write"]
