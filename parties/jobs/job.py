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
"""A proposal of this size fits into one control message."""
MAX_POOL = 1 << 40
"""The most rows that a party's policy may ask for in the pool of all parties."""
MAX_ROWS, MAX_WORDS = 1 << 20, 1 << 24
"""The most rows, and numbers, that a client gives in one job.  A party holds 8 bytes for each number, besides what the job itself needs."""
MAX_POWER = 40
ID = re.compile(r"[0-9a-f]{32}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"protocol", "dataset", "columns", "parties", "to", "parameters", "purpose", "pool"}
Parameter = bool | int | float | str


def names_in(text: str | None) -> tuple[str, ...]:
    """Return the names in a comma-separated list, as commands take it."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def chosen_in(option: str, text: str | None) -> tuple[str, ...]:
    """Return the names in the text of an option that has a default, such as all members, where it is left out.

    Raises ConfigError if the option is there and names nobody, as from an empty variable of a script: that must not make everybody a
    receiver.
    """
    names = names_in(text)
    if text is not None and not names:
        raise nobody(option)
    return names


def nobody(option: str) -> ConfigError:
    """The error that an option for choosing members names nobody."""
    return ConfigError(f"{option} names nobody: name members with commas between, or leave it out")


def fresh_id() -> str:
    """Return a fresh job id of 128 random bits, as hex digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Client:
    """What a client that asks for a job adds to it: its name, and what describes the rows that it gives, if it gives any.

    `rows` is how many rows of the job's columns it gives.  `powers` has one power of two for each column: the column's values are below it,
    and are shared in units of it.  `portions` has one commitment for each party, to the shares that it gets.  `meaning` is what the client
    declares about units and categories.
    """

    name: str
    rows: int = 0
    powers: tuple[int, ...] = ()
    portions: dict[str, str] = field(default_factory=dict)
    meaning: dict[str, str] = field(default_factory=dict)

    def pack(self) -> dict[str, Any]:
        """Return the client as canonical data."""
        return {
            "name": self.name,
            "rows": self.rows,
            "powers": list(self.powers),
            "portions": dict(self.portions),
            "meaning": dict(self.meaning),
        }


@dataclass(frozen=True, slots=True)
class Task:
    """`protocol` on `columns` of the dataset that every party has under the same name; results go to `to`, or to all parties if it is
    empty.

    If a client asks, `client` says what it gives.  A job on the client's rows alone names no dataset.

    `purpose` says in the asker's words what the result is for.  `pool` is how many rows all parties must have together: the largest number
    that the policy of any party asks for, or 0 if none does.
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
        """The members that sign the job: its parties, and its client if it has one."""
        return self.parties if self.client is None else (*self.parties, self.client.name)

    @property
    def told(self) -> str:
        """The client's name if it gets the result, otherwise empty."""
        return self.client.name if self.client is not None and self.client.name in self.to else ""

    @property
    def receivers(self) -> tuple[str, ...]:
        """The members that get the result."""
        return self.to or self.parties

    @property
    def by_columns(self) -> bool:
        """Whether every party has other columns of the same records."""
        return self.parameters.get("split") == "columns"

    @property
    def compares_pool(self) -> bool:
        """Whether the parties first compare the sum of their rows with `pool`.

        A client's rows do not count, since the client could subtract them.  Where columns are split, all parties have the same records, and
        each checks its own number of them.
        """
        return self.pool > 0 and bool(self.dataset) and not self.by_columns

    def pack(self) -> dict[str, Any]:
        """Return the task as canonical data, for the wire and for the job's description."""
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
        """The digest by which the parties compare their job descriptions.  It covers the whole task, since there may be many names."""
        return blake2b(pack(self.pack()), digest_size=32).hexdigest()


def unpack_task(data: object) -> Task:
    """Return the Task that `pack` wrote.  Raises ConfigError for anything else."""
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
        named = f"U+{ord(hidden[0]):04X} as its character {place}"
        msg = f"the purpose of a proposed job has {named}, which does not print as itself; leave it out of --purpose"
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
    """Return the Client that `pack` wrote.  Raises ConfigError for anything else, and for more rows or numbers than a party takes."""
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
