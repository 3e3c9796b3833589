"""One party's configuration file, checked strictly."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic_core import PydanticCustomError

from mpc import durable
from mpc.errors import ConfigError
from mpc.membership.endpoints import Endpoint, is_loopback, parse_endpoint
from mpc.membership.identity import Identity, private_text
from mpc.membership.members import minute
from mpc.membership.roster import Roster
from mpc.membership.toml_text import at_line, did_you_mean, parsed, undecodable
from mpc.network.mesh import Clocks

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

NODE_KEYS = ("allow", "min_rows", "policy", "audit", "audit_bytes", "max_jobs", "control", "datasets", "status")
"""Keys of the same file that a node reads (parties/config.py); a program that embeds the engine ignores them."""

_OWN_TEXT = "beaver"
_CLOCKS = Clocks()


def own_text(text: str) -> PydanticCustomError:
    """A validator's error whose `text` reaches the user unchanged."""
    return PydanticCustomError(_OWN_TEXT, "{text}", {"text": text})


def endpoint_text(text: str) -> str:
    """A validator of addresses: return `text` unchanged if it is an endpoint."""
    try:
        parse_endpoint(text)
    except ConfigError as fault:
        raise own_text(str(fault)) from None
    return text


Seconds = Annotated[float, Field(gt=0, le=86400)]


class ClockSettings(BaseModel):
    """Seconds to wait: for peers to come, for any byte on a channel, for a message that is due, for a lost connection to be made again."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    join: Seconds = _CLOCKS.join
    lost: Seconds = _CLOCKS.lost
    stall: Seconds = _CLOCKS.stall
    repair: Annotated[float, Field(ge=0, le=86400)] = _CLOCKS.repair


class RelaySettings(BaseModel):
    """This member's login at the roster's broker. Without `ca`, the system's certificates decide which brokers are trusted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    ca: str | None = None
    username: str | None = None
    password_file: str | None = None


class PartyConfig(BaseModel):
    """One member's file. Paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    key: str
    roster: str
    unsigned: bool = False
    """Accept a roster that not all members have signed, for a trial on one machine."""
    state: str | None = None
    listen: Annotated[str, AfterValidator(endpoint_text)] | None = None
    clocks: ClockSettings = ClockSettings()
    relay: RelaySettings = RelaySettings()
    _file: Path = PrivateAttr(default=Path("configuration"))
    _text: str = PrivateAttr(default="")
    _known: Roster | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Remember the file and its text, for paths and errors."""
        if context is not None:
            self._file, self._text = context["file"], context["text"]

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return self._file.parent

    @property
    def roster_path(self) -> Path:
        """The roster's file."""
        return self._path(self.roster)

    @property
    def key_path(self) -> Path:
        """The key's file."""
        return self._path(self.key)

    @property
    def state_path(self) -> Path:
        """Where the member remembers the roster that it used: `state`, or else NAME.state beside the key, whichever key that is."""
        return self._path(self.state) if self.state is not None else self.key_path.parent / f"{self.name}.state"

    def _path(self, text: str) -> Path:
        return self.folder / Path(text).expanduser()

    @property
    def relay_ca(self) -> Path | None:
        """The file of certificates that may sign the broker's."""
        return None if self.relay.ca is None else self._path(self.relay.ca)

    def relay_password(self) -> str | None:
        """The password for the broker, the first line of its file; ConfigError unless only this user may read the file."""
        if self.relay.password_file is None:
            return None
        if self.relay.username is None:
            raise self.fault(("relay", "password_file"), "key 'relay.password_file' needs 'relay.username' too")
        path = self._path(self.relay.password_file)
        lines = private_text(path, "password", "write the broker's password into it, or correct `password_file`").splitlines()
        if not lines or not lines[0]:
            msg = f"{path}: is empty; write the password for the broker into its first line"
            raise ConfigError(msg)
        return lines[0]

    def fault(self, location: Sequence[str | int], text: str) -> ConfigError:
        """The error `text`, with the file and the line of the key at `location`."""
        return ConfigError(f"{self._file}{at_line(self._text, location)}: {text}")

    def identity(self) -> Identity:
        """The identity; ConfigError unless the key belongs to the named member."""
        identity = Identity.load(self.key_path)
        if identity.name != self.name:
            msg = f"{self.key_path}: is the key of {identity.name!r}, but the configuration is for {self.name!r}"
            raise ConfigError(msg)
        return identity

    def load_roster(self) -> Roster:
        """The roster, read once; ConfigError unless it lists this member with the key in `key`, and all members have signed it.

        With `unsigned`, a roster without signatures is accepted if its addresses and `listen` are on loopback: then only processes of this
        machine can be met.
        """
        if self._known is None:
            self._known = self._checked(Roster.load(self.roster_path))
        return self._known

    def _checked(self, roster: Roster) -> Roster:
        where = self.roster_path
        if self.name not in roster:
            names = [member.name for member in roster.members]
            msg = f"{where}: does not list {self.name!r}, this configuration's name; {did_you_mean(self.name, names)}"
            raise ConfigError(msg)
        me, public = roster[self.name], self.identity().public
        if public not in me.publics:
            msg = f"{where}: gives {self.name} another key than {self.key_path} holds; put your public line into the shared roster"
            raise ConfigError(msg)
        if public not in me.valid():
            msg = f"{self.key_path}: retired on {minute(me.retires)}; set `key` to the file of the key that replaces it"
            raise ConfigError(msg)
        if roster.unsigned:
            self._check_unsigned(roster, [*roster.hosts, *([] if self.listen is None else [parse_endpoint(self.listen)[0]])])
        return roster

    def _check_unsigned(self, roster: Roster, hosts: Sequence[str]) -> None:
        """ConfigError unless the configuration accepts an unsigned roster, none of its signatures is wrong, and all `hosts` are on
        loopback.
        """
        said = f"{self.roster_path}: version {roster.content.version}"
        unsigned = (
            f"{said} is not signed by {', '.join(roster.unsigned)}; each runs `beaver roster sign -c` and its configuration, and sends "
            "the line to all others, who add it with `beaver roster accept`"
        )
        if not self.unsigned:
            msg = f"{unsigned}. A trial with all addresses on loopback may set `unsigned = true`"
            raise ConfigError(msg)
        elsewhere = next((host for host in hosts if not is_loopback(host)), None)
        if elsewhere is not None:
            msg = f"{unsigned}. `unsigned` does not take it: {elsewhere} is no loopback address"
            raise ConfigError(msg)
        if wrong := [name for name in roster.unsigned if name in roster.signatures]:
            msg = f"{said} has signatures of {', '.join(wrong)} that are not of this roster: sign it anew, or take them out"
            raise ConfigError(msg)

    def check_listener(self, listener: socket.socket) -> None:
        """ConfigError if an unsigned roster is used with this socket, which `listen` does not describe, and the socket is not on
        loopback.
        """
        roster = self.load_roster()
        if roster.unsigned:
            self._check_unsigned(roster, [listener.getsockname()[0]])

    def listen_address(self) -> Endpoint | None:
        """Where to listen: `listen`, or else this member's endpoint in the roster; None for a member that only dials.

        The two may differ. A port that differs works only if something forwards it, so the log mentions it. The log also mentions an
        unsigned roster.
        """
        roster = self.load_roster()
        public = roster[self.name].endpoint
        log = logging.getLogger(f"beaver.{self.name}")
        if roster.unsigned:
            log.warning(
                "the roster is not signed by %s: taken since `unsigned` asks for it, and all is on loopback", ", ".join(roster.unsigned)
            )
        if self.listen is None:
            return public
        address = parse_endpoint(self.listen)
        if public is None:
            log.warning("listens on port %d, but the roster gives %s no endpoint: nobody will dial it", address[1], self.name)
        elif public[1] != address[1]:
            log.warning(
                "listens on port %d, but the roster tells the others port %d: something must forward one to the other",
                address[1],
                public[1],
            )
        return address


C = TypeVar("C", bound=BaseModel)


def load_config(path: str | Path) -> PartyConfig:
    """Read a configuration file, without the keys that are for nodes only. ConfigError names the file, the line, the key and what is
    expected.
    """
    return read_config(path, PartyConfig, ignored=NODE_KEYS)


def read_config(path: str | Path, kind: type[C], ignored: Sequence[str] = (), guarded: str = "") -> C:
    """Read a configuration file, or a part that has a file of its own, as `kind`, without the top-level keys `ignored`. Errors as in
    `load_config`.

    ConfigError, naming it as `guarded`, also if everybody may write the file: a writer decides what runs here.
    """
    where = Path(path)
    try:
        text, mode = durable.read_text(where, "utf-8-sig")
        data = parsed(text, str(where))
    except OSError as fault:
        msg = f"{where}: cannot be read ({fault.strerror}); correct its path, or let this user read it"
        raise ConfigError(msg) from None
    except UnicodeDecodeError as fault:
        raise undecodable(str(where), fault) from None
    if guarded and os.name == "posix" and mode & stat.S_IWOTH:
        msg = f"{where}: everybody may write this {guarded} (mode {stat.S_IMODE(mode):04o}); run `chmod go-w {where}`"
        raise ConfigError(msg)
    data = {key: value for key, value in data.items() if key not in ignored}
    try:
        return kind.model_validate(data, context={"file": where, "text": text})
    except ValidationError as fault:
        # A misspelt key first: it explains the missing one.
        first = min(fault.errors(), key=lambda error: error["type"] != "extra_forbidden")
        msg = f"{where}{at_line(text, first['loc'])}: {_explain(dict(first), kind, ignored)}"
        raise ConfigError(msg) from None


def _keys_at(kind: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys that the table around `location` may have."""
    for step in location[:-1]:
        kind = kind.model_fields[step].annotation if hasattr(kind, "model_fields") else get_args(kind)[-1]
        # An optional table.
        kind = next((each for each in get_args(kind) if hasattr(each, "model_fields") and NoneType in get_args(kind)), kind)
    return list(kind.model_fields)


def _explain(error: dict[str, Any], kind: type[BaseModel], ignored: Sequence[str]) -> str:
    location = error["loc"]
    name = ".".join(step for step in location if isinstance(step, str))
    entries = "".join(f", entry {step + 1}" for step in location if isinstance(step, int))
    *table, key = location
    # In TOML, lines appended to a file belong to its last table.
    misplaced = (
        f"{key!r} stands in the table [{'.'.join(map(str, table))}], and is a key of the whole file: write it above the first [table]"
    )
    astray = bool(table) and key in (*kind.model_fields, *ignored)
    match error["type"]:
        case "extra_forbidden" | "dict_type" | "model_type" if astray:
            return misplaced
        case "extra_forbidden":
            known = _keys_at(kind, location) + (list(ignored) if len(location) == 1 else [])
            return f"unknown key {name!r}; {did_you_mean(str(location[-1]), known)}"
        case "missing":
            return f"key {name!r} is missing"
        case "dict_type" | "model_type":
            return f"key {name!r} must be a table"
        case kind_of if kind_of == _OWN_TEXT:
            return f"key {name!r}{entries}: {error['msg']}"
        case _:
            return f"key {name!r}{entries}: {error['msg'].lower()}"
