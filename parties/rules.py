"""What a policy may say: the rules of one organisation, as its policy file or the table `[policy]` of its configuration has them."""

from __future__ import annotations

import math
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from mpc.canonical import pack
from mpc.errors import ConfigError
from mpc.membership.toml_text import at_line

if TYPE_CHECKING:
    from collections.abc import Sequence

Count = Annotated[int, Field(ge=0, le=1 << 40)]
Values = Annotated[list[bool | int | float | str], Field(min_length=1)]


class DatasetRules(BaseModel):
    """What jobs may do with one dataset: its columns, whether someone here approves each job, how many jobs there may be, and by how many rows they differ."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    columns: list[str]
    ask: bool = False
    max_jobs_per_day: Count | None = None
    max_jobs_ever: Count | None = None
    min_difference: Count | None = None


class ClientRules(BaseModel):
    """Which protocols a client may give rows to, and which it may get the results of."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    gives: list[str] = []
    gets: list[str] = []


class Policy(BaseModel):
    """Everything that one organisation allows.  What it does not name is denied.

    `allow` and `ask` name protocols; jobs of the second wait until someone here approves them.  Without `purposes` only jobs that state none
    run, and "*" there is any; without `datasets` the configuration's declarations say which data there is; without `receivers`, `askers` and
    `rosters` the roster says who there is.  A client that `clients` does not name may do nothing.  A parameter of a protocol that `parameters`
    does not name may be anything that the protocol takes.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: Annotated[str, Field(max_length=64)] = ""
    allow: list[str] = []
    ask: list[str] = []
    datasets: dict[str, DatasetRules] = {}
    clients: dict[str, ClientRules] = {}
    parameters: dict[str, dict[str, Values]] = {}
    purposes: list[str] = [""]
    receivers: list[str] | None = None
    askers: list[str] | None = None
    rosters: list[str] | None = None
    min_parties: Annotated[int, Field(ge=2, le=1024)] = 2
    min_rows: Count = 10
    min_pool_rows: Count = 0
    max_parameters_per_row: Annotated[float, Field(gt=0, le=1e6)] | None = None
    max_jobs_per_day: Count | None = None
    _file: Path | None = PrivateAttr(default=None)
    _text: str = PrivateAttr(default="")

    def model_post_init(self, context: Any) -> None:
        """Remember the file and its text, for errors."""
        if context is not None:
            self._file, self._text = context["file"], context["text"]

    @property
    def file(self) -> Path | None:
        """Where it is written: a file of its own, or the configuration."""
        return self._file

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for all of it."""
        return blake2b(pack(self.model_dump()), digest_size=32, person=b"beaver/policy/v1").digest()

    def dataset(self, name: str) -> DatasetRules | None:
        """The rules of a dataset that is named here."""
        return self.datasets.get(name)

    @property
    def names_datasets(self) -> bool:
        """Whether it says itself which data there is."""
        return "datasets" in self.model_fields_set

    def fault(self, location: Sequence[str | int], text: str) -> ConfigError:
        """The error `text`, with the file and the line of the rule at `location`."""
        return ConfigError(f"{self._file}{at_line(self._text, location)}: {text}")

    def least_pool(self, parameters: int) -> int:
        """How many rows all parties together must have for a model of so many parameters."""
        ratio = self.max_parameters_per_row
        return self.min_pool_rows if ratio is None else max(self.min_pool_rows, math.ceil(parameters / ratio))


__all__ = ["ClientRules", "DatasetRules", "Policy"]
