"""The roster: who takes part, with which key, where, and in which role.  The same file at every member; no trust on first use."""

from __future__ import annotations

import bisect
import difflib
import ipaddress
import re
import tomllib
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args

from mpc.errors import ConfigError
from mpc.identity import check_name, curve_public_of, decode_key, encode_key
from mpc.prg import fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")
Role = Literal["party", "dealer"]
Endpoint = tuple[str, int]

_ENDPOINT = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.%a-z]+)\]|(?P<host>[^:\[\]/\s]+)):(?P<port>\d{1,5})")
_KEYS = ("name", "key", "endpoint", "role")


def parse_endpoint(text: str) -> Endpoint:
    """`host:port` or `[IPv6]:port`; ConfigError otherwise."""
    match = _ENDPOINT.fullmatch(text)
    port = int(match["port"]) if match else 0
    if match is None or not 0 < port < 65536 or not _possible(match["v6"], match["host"]):
        msg = f'{text!r} is no endpoint; write "host:9001" or "[::1]:9001" with a port from 1 to 65535'
        raise ConfigError(msg)
    return match["v6"] or match["host"], port


def _possible(v6: str | None, host: str | None) -> bool:
    """Whether a resolver takes the address at all; what it answers is seen when it is asked."""
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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint with the closest known word, or the list of all."""
    listed = list(known)
    close = difflib.get_close_matches(word, listed, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(listed) or 'none'}"


def at_line(text: str, location: Sequence[str | int]) -> str:
    """`, line N`: where the value at `location` of the TOML document `text` begins, or the deepest table around it that exists.

    Empty if not even the first step exists.  `text` must be valid TOML; keys are names, list entries count from 0.
    """
    lines = text.split("\n")
    begins: list[int] = []
    ends: list[int] = []
    begin = 0
    for end in range(1, len(lines) + 1):
        # A statement ends at the first line with which it parses; so values of many lines, quotes and comments are no special cases.
        try:
            tomllib.loads("\n".join(lines[begin:end]))
        except tomllib.TOMLDecodeError:
            continue
        begins.append(begin)
        ends.append(end)
        begin = end
    depth = _depth(text, location)
    found = bisect.bisect_left(ends, depth, key=lambda end: _depth("\n".join(lines[:end]), location))
    return f", line {begins[found] + 1}" if depth and found < len(begins) else ""


def _depth(text: str, location: Sequence[str | int]) -> int:
    """How many steps of `location` exist in `text`."""
    here: Any = tomllib.loads(text)
    for count, step in enumerate(location):
        exists = step in here if isinstance(here, dict) else isinstance(here, list) and isinstance(step, int) and step < len(here)
        if not exists:
            return count
        here = here[step]
    return len(location)


class _MisplacedError(ConfigError):
    """A fault at `location` of a roster file."""

    def __init__(self, text: str, *location: str | int) -> None:
        super().__init__(text)
        self.location = location


@dataclass(frozen=True, slots=True)
class Member:
    """One line of the roster.  Without an endpoint a member only dials."""

    name: str
    public: bytes
    endpoint: Endpoint | None
    role: Role = "party"

    @property
    def curve_public(self) -> bytes:
        """The X25519 public key."""
        return curve_public_of(self.public)


class Roster:
    """All members, checked.  `members` and `parties` are sorted by name: that is the party order everywhere."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = tuple(sorted(members, key=lambda member: member.name))
        _check(self.members)
        self._by_name = {member.name: member for member in self.members}
        self.parties = tuple(member for member in self.members if member.role == "party")
        self.dealer = next((member for member in self.members if member.role == "dealer"), None)
        parts = [
            part
            for member in self.members
            for part in (member.name, member.public, format_endpoint(member.endpoint) if member.endpoint else "", member.role)
        ]
        self.digest = blake2b(fields("beaver/roster/v1", *parts), digest_size=32).digest()

    def __repr__(self) -> str:
        return f"Roster({', '.join(member.name for member in self.members)}, digest={self.digest.hex()[:16]})"

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Member:
        if name not in self._by_name:
            msg = f"{name!r} is not in the roster; {did_you_mean(name, self._by_name)}"
            raise ConfigError(msg)
        return self._by_name[name]

    @classmethod
    def load(cls, path: str | Path) -> Roster:
        """Read a roster file."""
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as fault:
            msg = f"{path}: cannot be read as a roster ({getattr(fault, 'strerror', None) or type(fault).__name__})"
            raise ConfigError(msg) from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, source: str) -> Roster:
        """Read roster TOML; `source` names it in errors."""
        try:
            # With a last line end, a fault at the end of the file has a line too.
            data = tomllib.loads(text + "\n")
            for key in data.keys() - {"member"}:
                msg = f"unknown key {key!r}; {did_you_mean(key, ['member'])}"
                raise _MisplacedError(msg, key)
            entries = data.get("member")
            if not isinstance(entries, list):
                msg = "a roster is a list of [[member]] tables"
                raise _MisplacedError(msg, "member")
            return cls([_member(entry, number) for number, entry in enumerate(entries, 1)])
        except tomllib.TOMLDecodeError as fault:
            msg = f"{source}: is not TOML: {fault}"
            raise ConfigError(msg) from None
        except ConfigError as fault:
            line = at_line(text, fault.location) if isinstance(fault, _MisplacedError) else ""
            msg = f"{source}{line}: {fault}"
            raise ConfigError(msg) from None

    def dump(self) -> str:
        """The roster as TOML."""
        blocks = []
        for member in self.members:
            lines = ["[[member]]", f'name = "{member.name}"', f'key = "{encode_key(member.public)}"', f'role = "{member.role}"']
            if member.endpoint is not None:
                lines.append(f'endpoint = "{format_endpoint(member.endpoint)}"')
            blocks.append("\n".join(lines) + "\n")
        return "\n".join(blocks)


def _member(entry: object, number: int) -> Member:
    label = f"[[member]] {number}"
    place = ("member", number - 1)
    if not isinstance(entry, dict):
        msg = f"{label}: must be a table"
        raise _MisplacedError(msg, *place)
    for key, value in entry.items():
        if key not in _KEYS:
            msg = f"{label}: unknown key {key!r}; {did_you_mean(key, _KEYS)}"
            raise _MisplacedError(msg, *place, key)
        if not isinstance(value, str):
            msg = f"{label}: {key} must be text in quotes, not {type(value).__name__}"
            raise _MisplacedError(msg, *place, key)
    for key in ("name", "key"):
        if key not in entry:
            msg = f"{label}: {key} is missing"
            raise _MisplacedError(msg, *place)

    def read(key: str, reader: Callable[[str], T]) -> T:
        try:
            return reader(entry[key])
        except ConfigError as fault:
            msg = f"{label} ({entry['name']}): {fault}"
            raise _MisplacedError(msg, *place, key) from None

    role = entry.get("role", "party")
    if role not in get_args(Role):
        msg = f"{label}: unknown role {role!r}; {did_you_mean(role, get_args(Role))}"
        raise _MisplacedError(msg, *place, "role")
    endpoint = read("endpoint", parse_endpoint) if "endpoint" in entry else None
    return Member(entry["name"], read("key", decode_key), endpoint, cast("Role", role))


def _check(members: tuple[Member, ...]) -> None:
    names: set[str] = set()
    keys: dict[bytes, str] = {}
    for member in members:
        check_name(member.name)
        if member.name in names:
            msg = f"two members are called {member.name}; names must differ"
            raise ConfigError(msg)
        names.add(member.name)
        try:
            curve = member.curve_public
        except ConfigError as fault:
            msg = f"{member.name}: {fault}"
            raise ConfigError(msg) from None
        if curve in keys:
            msg = f"{keys[curve]} and {member.name} have the same key; every member generates its own"
            raise ConfigError(msg)
        keys[curve] = member.name
    if sum(member.role == "dealer" for member in members) > 1:
        msg = "two members are dealers; a roster names at most one"
        raise ConfigError(msg)
    if sum(member.role == "party" for member in members) < 2:
        msg = "fewer than two parties; a computation needs at least two"
        raise ConfigError(msg)
