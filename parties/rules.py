"""The form of a policy: the rules of one organisation, in its policy file or in the table `[policy]` of its configuration."""

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
    """What jobs may do with one dataset: its columns, whether each job is approved here, how many jobs, and by how many rows
    they differ.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    columns: list[str]
    ask: bool = False
    max_jobs_per_day: Count | None = None
    max_jobs_ever: Count | None = None
    min_difference: Count | None = None


class ClientRules(BaseModel):
    """The protocols that a client may give rows to, and those whose results it may get."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    gives: list[str] = []
    gets: list[str] = []


class Policy(BaseModel):
    """Everything that one organisation allows.  What the policy does not name is denied.

    `allow` and `ask` name protocols; jobs of the protocols in `ask` wait until someone here approves them.  Without `purposes` only jobs
    that
    state none run; "*" in it allows any.  Without `datasets` the configuration's declarations decide which data there is.  Without
    `receivers`, `askers` and `rosters` the roster decides who may receive and ask.

    A client that `clients` does not name may do nothing.  A parameter that `parameters` does not name may have any value that its protocol
    takes.
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
        """Where the policy is written: a file of its own, or the configuration."""
        return self._file

    @property
    def digest(self) -> bytes:
        """The digest of the whole policy, 32 bytes."""
        return blake2b(pack(self.model_dump()), digest_size=32, person=b"beaver/policy/v1").digest()

    def dataset(self, name: str) -> DatasetRules | None:
        """Return the rules of a dataset that is named here, or None."""
        return self.datasets.get(name)

    @property
    def names_datasets(self) -> bool:
        """Whether the policy itself says which data there is."""
        return "datasets" in self.model_fields_set

    def fault(self, location: Sequence[str | int], text: str) -> ConfigError:
        """Return the error `text`, with the file and the line of the rule at `location`."""
        return ConfigError(f"{self._file}{at_line(self._text, location)}: {text}")

    def least_pool(self, parameters: int) -> int:
        """Return how many rows all parties together must have for a model of so many parameters."""
        ratio = self.max_parameters_per_row
        return self.min_pool_rows if ratio is None else max(self.min_pool_rows, math.ceil(parameters / ratio))


__all__ = ["ClientRules", "DatasetRules", "Policy"]
