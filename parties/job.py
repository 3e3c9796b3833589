"""A job as data: what one organisation proposes and all of its parties agree on before anything is read."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from mpc.canonical import pack
from mpc.errors import ConfigError

MAX_NAMES = 1024
MAX_TEXT = 256
ID = re.compile(r"[0-9a-f]{32}")
Parameter = bool | int | float | str


def fresh_id() -> str:
    """128 random bits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Task:
    """`protocol` on `columns` of the dataset that every party has under the same name; results to `to`, to all parties if empty."""

    protocol: str
    dataset: str
    columns: tuple[str, ...]
    parties: tuple[str, ...]
    to: tuple[str, ...] = ()
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def pack(self) -> dict[str, Any]:
        """Canonical data for the wire and for the job's description."""
        return {
            "protocol": self.protocol,
            "dataset": self.dataset,
            "columns": list(self.columns),
            "parties": list(self.parties),
            "to": list(self.to),
            "parameters": dict(self.parameters),
        }

    @property
    def program(self) -> str:
        """What the parties' job descriptions are compared by."""
        return pack(self.pack()).hex()


def unpack_task(data: object) -> Task:
    """The Task that `pack` wrote; ConfigError for anything else."""
    if not isinstance(data, dict) or data.keys() != {"protocol", "dataset", "columns", "parties", "to", "parameters"}:
        msg = "a proposed job has missing or unknown fields"
        raise ConfigError(msg)
    columns, parties, to = (_names(data[key], key) for key in ("columns", "parties", "to"))
    parameters = data["parameters"]
    if not isinstance(parameters, dict) or not all(
        _text(key) and type(value) in (bool, int, float, str) for key, value in parameters.items()
    ):
        msg = "a proposed job has parameters that are not plain values"
        raise ConfigError(msg)
    if not _text(data["protocol"]) or not _text(data["dataset"]):
        msg = "a proposed job names no protocol or dataset"
        raise ConfigError(msg)
    return Task(data["protocol"], data["dataset"], columns, parties, to, dict(parameters))


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _names(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_NAMES or not all(_text(name) for name in value) or len(set(value)) != len(value):
        msg = f"a proposed job has {key} that are not different names"
        raise ConfigError(msg)
    return tuple(value)
