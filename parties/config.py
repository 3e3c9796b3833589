"""What a node's configuration file says beyond `mpc.config`: which jobs it takes, and the datasets they may use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mpc.config import PartyConfig, own_text, read_config
from mpc.roster import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def _range(value: object) -> tuple[float, float]:
    """`[low, high]` as TOML has it."""
    # `type`, not isinstance: true is no number here.
    if not isinstance(value, list) or len(value) != 2 or not all(type(end) in (int, float) and math.isfinite(end) for end in value):
        text = "must be two finite numbers, [low, high]"
        raise own_text(text)
    if not value[0] < value[1]:
        text = "the first number, the lowest value allowed, must be less than the second"
        raise own_text(text)
    return float(value[0]), float(value[1])


class ColumnSettings(BaseModel):
    """One column that jobs may use.  Without a range its values may reach the engine's default bound."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    range: Annotated[tuple[float, float], BeforeValidator(_range)] | None = None
    unit: str | None = None


class DatasetSettings(BaseModel):
    """One CSV file and those of its columns that jobs may use.  The path is relative to the configuration file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    path: str
    columns: dict[str, ColumnSettings]


class NodeConfig(PartyConfig):
    """One node's file.  Nothing that it does not name is allowed: no protocol, no dataset, no column."""

    allow: list[str] = Field(default=[])
    min_rows: int = Field(default=10, ge=0)
    max_jobs: int = Field(default=4, ge=1)
    control: str | None = None
    datasets: dict[str, DatasetSettings] = Field(default={})

    def dataset(self, name: str) -> DatasetSettings:
        """The dataset called `name`; ConfigError if there is none."""
        if name not in self.datasets:
            text = f"unknown dataset {name!r}; {did_you_mean(name, self.datasets)}"
            raise self.fault(("datasets",), text)
        return self.datasets[name]

    def column(self, dataset: str, name: str) -> ColumnSettings:
        """The column called `name` of `dataset`; ConfigError if there is none."""
        columns = self.dataset(dataset).columns
        if name not in columns:
            text = f"dataset {dataset!r} declares no column {name!r}; {did_you_mean(name, columns)}"
            raise self.fault(("datasets", dataset, "columns"), text)
        return columns[name]

    def file_of(self, dataset: str) -> Path:
        """The CSV file of `dataset`; ConfigError if there is no such dataset."""
        return self._path(self.dataset(dataset).path)


def load_node_config(path: str | Path) -> NodeConfig:
    """Read a node's configuration file.  ConfigError names the file, the line, the key and what it should be."""
    return read_config(path, NodeConfig)


def check_allow(config: NodeConfig, known: Iterable[str]) -> None:
    """ConfigError unless every protocol of `allow` is in `known`."""
    names = list(known)
    for entry, name in enumerate(config.allow):
        if name not in names:
            text = f"key 'allow', entry {entry + 1}: unknown protocol {name!r}; {did_you_mean(name, names)}"
            raise config.fault(("allow", entry), text)


__all__ = ["ColumnSettings", "DatasetSettings", "NodeConfig", "check_allow", "load_node_config"]
