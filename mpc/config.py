"""What one party's configuration file says, checked strictly."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpc.errors import ConfigError
from mpc.identity import Identity
from mpc.roster import Endpoint, Roster, did_you_mean, parse_endpoint

Seconds = Annotated[float, Field(gt=0, le=86400)]


class ClockSettings(BaseModel):
    """Seconds to wait: for peers to come, for any byte on a channel, for a message that is due."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    join: Seconds = 300.0
    lost: Seconds = 10.0
    stall: Seconds = 600.0


class PartyConfig(BaseModel):
    """One member's file.  Paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    key: str
    roster: str
    listen: str | None = None
    clocks: ClockSettings = ClockSettings()
    folder: str = Field(default=".", exclude=True)

    def _path(self, text: str) -> Path:
        return Path(self.folder) / Path(text).expanduser()

    def identity(self) -> Identity:
        """The key; ConfigError unless it is the named member's own."""
        identity = Identity.load(self._path(self.key))
        if identity.name != self.name:
            msg = f"{self._path(self.key)}: is the key of {identity.name!r}, but the configuration is for {self.name!r}"
            raise ConfigError(msg)
        return identity

    def load_roster(self) -> Roster:
        """The roster; ConfigError unless it lists this member with the key of `key`."""
        roster = Roster.load(self._path(self.roster))
        if self.name not in roster:
            names = [member.name for member in roster.members]
            msg = f"{self._path(self.roster)}: does not list {self.name!r}, this configuration's name; {did_you_mean(self.name, names)}"
            raise ConfigError(msg)
        if roster[self.name].public != self.identity().public:
            msg = (
                f"{self._path(self.roster)}: gives {self.name} another key than {self._path(self.key)} holds; put your public line "
                "into the shared roster"
            )
            raise ConfigError(msg)
        return roster

    def listen_address(self) -> Endpoint | None:
        """Where to listen: `listen`, or else the own endpoint of the roster; None for a member that only dials."""
        return parse_endpoint(self.listen) if self.listen is not None else self.load_roster()[self.name].endpoint


def load_config(path: str | Path) -> PartyConfig:
    """Read a configuration file.  ConfigError names the file, the line, the key and what it should be."""
    where = Path(path)
    try:
        text = where.read_text("utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as fault:
        msg = f"{where}: cannot be read ({getattr(fault, 'strerror', None) or type(fault).__name__})"
        raise ConfigError(msg) from None
    except tomllib.TOMLDecodeError as fault:
        msg = f"{where}: is not TOML: {fault}"
        raise ConfigError(msg) from None
    try:
        if "folder" in data:
            raise ConfigError(_unknown(("folder",)))
        config = PartyConfig(**data, folder=str(where.parent))
        if config.listen is not None:
            parse_endpoint(config.listen)
    except ValidationError as fault:
        first = fault.errors()[0]
        msg = f"{where}{_line(text, first['loc'])}: {_explain(dict(first))}"
        raise ConfigError(msg) from None
    except ConfigError as fault:
        msg = f"{where}: {fault}"
        raise ConfigError(msg) from None
    return config


def _line(text: str, location: tuple[Any, ...]) -> str:
    key = str(location[-1])
    for number, line in enumerate(text.splitlines(), 1):
        if line.split("=")[0].strip() == key:
            return f", line {number}"
    return ""


def _unknown(location: tuple[Any, ...]) -> str:
    fields = ClockSettings.model_fields if location[0] == "clocks" else PartyConfig.model_fields
    known = [name for name in fields if name != "folder"]
    return f"unknown key {'.'.join(map(str, location))!r}; {did_you_mean(str(location[-1]), known)}"


def _explain(error: dict[str, Any]) -> str:
    location = error["loc"]
    name = ".".join(map(str, location))
    match error["type"]:
        case "extra_forbidden":
            return _unknown(location)
        case "missing":
            return f"key {name!r} is missing"
        case _:
            return f"key {name!r}: {error['msg'].lower()}"
