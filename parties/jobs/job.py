"""A job as data: what one organisation proposes and all of its parties agree on before anything is read."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from mpc.canonical import pack
from mpc.errors import ConfigError

MAX_NAMES = 1024
MAX_TEXT = 256
MAX_BYTES = 60_000
"""So that a proposal fits into one control message."""
MAX_POOL = 1 << 40
"""Rows that the parties of a job may ask for together."""
MAX_ROWS, MAX_WORDS = 1 << 20, 1 << 24
"""Rows, and numbers, that a client gives in one job: a party holds 8 bytes for each, and the job's own needs."""
MAX_POWER = 40
ID = re.compile(r"[0-9a-f]{32}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"protocol", "dataset", "columns", "parties", "to", "parameters", "purpose", "pool"}
Parameter = bool | int | float | str


def names_in(text: str | None) -> tuple[str, ...]:
    """The names of a list with commas between, as commands take it."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def chosen_in(option: str, text: str | None) -> tuple[str, ...]:
    """The names in the text of an option that means all, or another default, where it is left out.

    ConfigError if it is there and names nobody, as from an empty variable of a script: that must not make everybody a receiver.
    """
    names = names_in(text)
    if text is not None and not names:
        raise nobody(option)
    return names


def nobody(option: str) -> ConfigError:
    """What is said of members to choose, of whom none is named."""
    return ConfigError(f"{option} names nobody: name members with commas between, or leave it out")


def fresh_id() -> str:
    """128 random bits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Client:
    """What a client that asks for a job adds to it: who it is, and what it gives, if it gives anything.

    `rows` are as many rows of the job's columns as it gives; `powers` is for each column the power of two that its values are below, and in units
    of which they are shared.  `portions` are the commitments to what each party gets.  `meaning` is what it says of units and categories.
    """

    name: str
    rows: int = 0
    powers: tuple[int, ...] = ()
    portions: dict[str, str] = field(default_factory=dict)
    meaning: dict[str, str] = field(default_factory=dict)

    def pack(self) -> dict[str, Any]:
        """Canonical data."""
        return {
            "name": self.name,
            "rows": self.rows,
            "powers": list(self.powers),
            "portions": dict(self.portions),
            "meaning": dict(self.meaning),
        }


@dataclass(frozen=True, slots=True)
class Task:
    """`protocol` on `columns` of the dataset that every party has under the same name; results to `to`, to all parties if empty.

    Where a client asks, `client` says what it gives; a job on its rows alone names no dataset.

    `purpose` is what the result is for, in the words of who asks.  `pool` is how many rows all parties together must have: the most that the
    policy of any of them asks for; 0 if none does.
    """

    protocol: str
    dataset: str
    columns: tuple[str, ...]
    parties: tuple[str, ...]
    to: tuple[str, ...] = ()
    parameters: dict[str, Parameter] = field(default_factory=dict)
    purpose: str = ""
    pool: int = 0
    client: Client | None = None

    @property
    def given(self) -> int:
        """Rows that a client gives."""
        return self.client.rows if self.client is not None else 0

    @property
    def signers(self) -> tuple[str, ...]:
        """Whose signatures a job has: its parties', and its client's."""
        return self.parties if self.client is None else (*self.parties, self.client.name)

    @property
    def told(self) -> str:
        """The client, if it gets the result; empty otherwise."""
        return self.client.name if self.client is not None and self.client.name in self.to else ""

    @property
    def receivers(self) -> tuple[str, ...]:
        """Who gets the result."""
        return self.to or self.parties

    @property
    def by_columns(self) -> bool:
        """Whether every party has other columns of the same records."""
        return self.parameters.get("split") == "columns"

    @property
    def compares_pool(self) -> bool:
        """Whether its parties first compare the sum of their rows with `pool`.  A client's do not count: it could subtract them.

        Where columns are split, the records are common and each checks its own.
        """
        return self.pool > 0 and bool(self.dataset) and not self.by_columns

    def pack(self) -> dict[str, Any]:
        """Canonical data for the wire and for the job's description."""
        packed: dict[str, Any] = {
            "protocol": self.protocol,
            "dataset": self.dataset,
            "columns": list(self.columns),
            "parties": list(self.parties),
            "to": list(self.to),
            "parameters": dict(self.parameters),
            "purpose": self.purpose,
            "pool": self.pool,
        }
        return packed if self.client is None else {**packed, "client": self.client.pack()}

    @property
    def program(self) -> str:
        """What the parties' job descriptions are compared by: a digest of all of it, since names may be many."""
        return blake2b(pack(self.pack()), digest_size=32).hexdigest()


def unpack_task(data: object) -> Task:
    """The Task that `pack` wrote; ConfigError for anything else."""
    if not isinstance(data, dict) or data.keys() - {"client"} != _FIELDS:
        what = "its fields are other ones"
        raise _none(what)
    columns, parties, to = (_names(data[key], key) for key in ("columns", "parties", "to"))
    parameters = data["parameters"]
    if not isinstance(parameters, dict) or not all(
        _text(key) and type(value) in (bool, int, float, str) for key, value in parameters.items()
    ):
        what = "its parameters are no plain values with names"
        raise _none(what)
    if not _text(data["protocol"]):
        what = f"its protocol is no name of at most {MAX_TEXT} characters"
        raise _none(what)
    _check_text(data, "dataset")
    _check_text(data, "purpose")
    # Someone reads the purpose before approving: it must not be able to write over other lines of a terminal.
    if hidden := [character for character in data["purpose"] if not character.isprintable()]:
        place = data["purpose"].index(hidden[0]) + 1
        msg = f"the purpose of a proposed job has U+{ord(hidden[0]):04X} as its character {place}, which does not print as itself; leave it out of --purpose"
        raise ConfigError(msg)
    if type(data["pool"]) is not int or not 0 <= data["pool"] <= MAX_POOL:
        what = "the rows that it asks for are no number"
        raise _none(what)
    client = _client(data["client"], columns, parties) if "client" in data else None
    task = Task(data["protocol"], data["dataset"], columns, parties, to, dict(parameters), data["purpose"], data["pool"], client)
    try:
        size = len(pack(task.pack()))
    except (ValueError, TypeError, OverflowError):
        what = "it has a number of more than 64 bits, or text that is no Unicode"
        raise _none(what) from None
    if size > MAX_BYTES:
        msg = f"a job's names and parameters may have {MAX_BYTES} bytes together, not {size}; name fewer, or shorter ones"
        raise ConfigError(msg)
    return task


def _client(data: object, columns: tuple[str, ...], parties: tuple[str, ...]) -> Client:
    """The Client that `pack` wrote; ConfigError for anything else, and for more than a party takes."""
    if not isinstance(data, dict) or data.keys() != {"name", "rows", "powers", "portions", "meaning"} or not _text(data["name"]):
        what = "its fields"
        raise _wrong(what)
    rows, powers, portions, meaning = (data[key] for key in ("rows", "powers", "portions", "meaning"))
    if type(rows) is not int or not 0 <= rows <= MAX_ROWS or rows * len(columns) > MAX_WORDS:
        msg = f"a client gives at most {MAX_ROWS} rows and {MAX_WORDS} numbers in one job; give fewer"
        raise ConfigError(msg)
    widths, holders = (len(columns), set(parties)) if rows else (0, set())
    if not isinstance(powers, list) or len(powers) != widths or not all(type(power) is int and abs(power) <= MAX_POWER for power in powers):
        what = "a power of two for each column that it gives"
        raise _wrong(what)
    if not _texts(portions) or portions.keys() != holders or not all(map(DIGEST.fullmatch, portions.values())):
        what = "a commitment for each party that it gives rows to"
        raise _wrong(what)
    if not _texts(meaning):
        what = "what its columns mean"
        raise _wrong(what)
    return Client(data["name"], rows, tuple(powers), dict(portions), dict(meaning))


def _none(what: str) -> ConfigError:
    return ConfigError(
        f"a proposed job is none: {what}; propose jobs with `beaver run` or `beaver client`, of the same version as this node"
    )


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"what a client adds to a proposed job is wrong: {what}")


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _check_text(data: dict[str, Any], field: str) -> None:
    text = data[field]
    if not isinstance(text, str):
        what = f"its {field} is no text"
        raise _none(what)
    if len(text) > MAX_TEXT:
        msg = f"the {field} of a proposed job may have {MAX_TEXT} characters, not {len(text)}; shorten --{field}"
        raise ConfigError(msg)


def _names(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_NAMES or not all(_text(name) for name in value) or len(set(value)) != len(value):
        what = f"its {key} are no list of different names"
        raise _none(what)
    return tuple(value)
