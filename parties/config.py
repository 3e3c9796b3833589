"""The part of a node's configuration file beyond `mpc.config`: which jobs the node takes, and the datasets that they may use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from mpc.config import PartyConfig, Seconds, endpoint_text, own_text, read_config
from mpc.errors import ConfigError
from mpc.membership.endpoints import is_loopback, parse_endpoint
from mpc.membership.identity import decode_key
from mpc.membership.toml_text import did_you_mean
from parties.rules import Policy
from parties.schema import ColumnSettings, DatasetSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.membership.endpoints import Endpoint


def _policy(value: object, info: ValidationInfo) -> object:
    """Return the table as it is, or the contents of the named file."""
    if not isinstance(value, str) or not isinstance(info.context, dict):
        return value
    # Read as strictly as the configuration itself, with the same errors.
    return read_config(Path(info.context["file"]).parent / Path(value).expanduser(), Policy, guarded="policy")


def _public_key(text: str) -> str:
    try:
        decode_key(text)
    except ConfigError as fault:
        raise own_text(str(fault)) from None
    return text


class StatusSettings(BaseModel):
    """The address of the status page and the metrics, and how often the audit log is verified for them.

    `audit_keys` are earlier public keys of this member that the roster no longer lists.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    address: Annotated[str, AfterValidator(endpoint_text)]
    exposed: bool = False
    verify: Seconds = 60.0
    audit_keys: list[Annotated[str, AfterValidator(_public_key)]] = []

    @model_validator(mode="after")
    def _unexposed(self) -> Self:
        if not self.exposed and not is_loopback(self.endpoint[0]):
            text = (
                f"{self.address} is not on loopback, and whoever reaches it sees peers and jobs without a login: "
                'write "127.0.0.1:PORT", or add exposed = true if that is meant'
            )
            raise own_text(text)
        return self

    @property
    def endpoint(self) -> Endpoint:
        """Host and port of `address`."""
        return parse_endpoint(self.address)


class NodeConfig(PartyConfig):
    """One node's file.  A protocol, dataset or column that the file does not name is not allowed.

    `allow` and `min_rows` are the shortest policy.  `policy`, a table or the name of a file, says more; the other two then belong in it.
    """

    allow: list[str] = Field(default=[])
    min_rows: int = Field(default=10, ge=0)
    policy: Annotated[Policy, BeforeValidator(_policy)] = Policy()
    audit: str | None = None
    audit_bytes: Annotated[int, Field(ge=1 << 12)] | None = None
    max_jobs: int = Field(default=4, ge=1)
    control: str | None = None
    datasets: dict[str, DatasetSettings] = Field(default={})
    status: StatusSettings | None = None

    def dataset(self, name: str) -> DatasetSettings:
        """Return the dataset called `name`.  Raises ConfigError if there is none."""
        if name not in self.datasets:
            text = f"unknown dataset {name!r}; {did_you_mean(name, self.datasets)}"
            raise self.fault(("datasets",), text)
        return self.datasets[name]

    def source(self, dataset: str, column: str) -> tuple[str, str | None]:
        """Return the declared column behind the job column `column` of `dataset`, and its category if it has one.

        Raises ConfigError if there is none.
        """
        settings = self.dataset(dataset)
        found = settings.source(column)
        if column == settings.identifier:
            text = f"column {column!r} is the identifier of dataset {dataset!r}, which no job may use; leave it out of the job"
            raise self.fault(("datasets", dataset, "identifier"), text)
        if found is None:
            known = [name for declared in settings.columns for name in settings.split(declared)]
            text = f"dataset {dataset!r} declares no column {column!r}; {did_you_mean(column, known)}"
            raise self.fault(("datasets", dataset, "columns"), text)
        if found == (column, None) and settings.columns[column].categories is not None:
            text = f"column {column!r} of dataset {dataset!r} has categories; a job names some of {', '.join(settings.split(column))}"
            raise self.fault(("datasets", dataset, "columns", column), text)
        return found

    def column(self, dataset: str, name: str) -> ColumnSettings:
        """Return what is declared about the job column `name` of `dataset`.  Raises ConfigError if there is none."""
        return self.dataset(dataset).columns[self.source(dataset, name)[0]]

    def expand(self, dataset: str, columns: Sequence[str]) -> tuple[str, ...]:
        """Return `columns` as jobs know them: a column with categories becomes all of them but its baseline."""
        return self.datasets[dataset].expand(columns) if dataset in self.datasets else tuple(columns)

    @property
    def rules(self) -> Policy:
        """The policy: the written one, or the shortest."""
        return self.policy if "policy" in self.model_fields_set else Policy(allow=self.allow, min_rows=self.min_rows)

    def rule_fault(self, location: Sequence[str | int], text: str) -> ConfigError:
        """Return the error `text`, with the file and the line of the rule at `location`."""
        if self.policy.file not in (None, self._file):
            return self.policy.fault(location, text)
        return self.fault(("policy", *location) if "policy" in self.model_fields_set else location, text)

    @property
    def audit_file(self) -> Path:
        """Where the audit log is: `audit`, or else NAME.audit.log beside this file."""
        return self._path(self.audit or f"{self.name}.audit.log")

    @property
    def earlier_keys(self) -> list[bytes]:
        """The keys of `status.audit_keys`."""
        return [] if self.status is None else list(map(decode_key, self.status.audit_keys))

    def resolve(self, path: str) -> Path:
        """Return the path that `path`, as written in this file, means."""
        return self._path(path)


def load_node_config(path: str | Path) -> NodeConfig:
    """Read a node's configuration file and its policy.  ConfigError names the file, the line, the key and what it should be.

    Raises ConfigError too if everybody may write one of the files.  `beaver check` also reports groups.
    """
    config = read_config(path, NodeConfig, guarded="configuration")
    if "policy" in config.model_fields_set:
        for key in ("allow", "min_rows"):
            if key in config.model_fields_set:
                raise config.fault((key,), f"key {key!r} is the policy's where there is one: write it there")
    return config


__all__ = ["NodeConfig", "StatusSettings", "load_node_config"]
