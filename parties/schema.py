"""The part of a configuration file that describes a dataset and each of its columns."""

from __future__ import annotations

import math
import re
from hashlib import blake2b
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mpc.config import Seconds, own_text
from mpc.membership.toml_text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow"}
DATABASES = ("sqlite:", "duckdb:", "postgresql://", "postgres://")
_PASSWORD = re.compile(r"//[^/@]*:[^/]*@|[?&\s](\w*password|oauth_client_secret)\s*=")
"""What is secret in a database's address, as libpq has it: the address is shown in messages and logs."""


def _range(value: object) -> tuple[float, float]:
    """Return `[low, high]` as TOML has it."""
    # `type`, not isinstance: true is no number here.
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(type(end) in (int, float) and math.isfinite(end) for end in value):
        text = "must be two finite numbers, [low, high]"
        raise own_text(text)
    if not value[0] < value[1]:
        text = "the first number, the lowest value allowed, must be less than the second"
        raise own_text(text)
    return float(value[0]), float(value[1])


def _category(value: object) -> str:
    """Return a category as jobs name it: columns may hold whole numbers and truth values, too."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int):
        text = "must be text, a whole number, or true or false"
        raise own_text(text)
    return str(value)


def _categories(value: list[str]) -> list[str]:
    if len(value) < 2 or len(set(value)) < len(value) or any(not name or name != name.strip() for name in value):
        text = "must be two or more different names, none of them empty or with blanks around it"
        raise own_text(text)
    return value


Category = Annotated[str, BeforeValidator(_category)]


class ColumnSettings(BaseModel):
    """One column that jobs may use.  Without a range its values are any finite numbers: a protocol refuses what it has no room for, and a
    client gives none beyond 2^20.

    A column with `categories` is text, whole numbers, or true and false.  For jobs, each category is a column `NAME=CATEGORY` of ones and
    zeros.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    range: Annotated[tuple[float, float], BeforeValidator(_range)] | None = None
    unit: Annotated[str, Field(max_length=64)] | None = None
    missing: Literal["error", "drop", "mean"] = "error"
    categories: Annotated[list[Category], AfterValidator(_categories)] | None = None
    baseline: Category | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.categories is None:
            if self.baseline is not None:
                text = "'baseline' is for a column with 'categories'"
                raise own_text(text)
            return self
        if self.range is not None or self.unit is not None or self.missing == "mean":
            text = "a column with 'categories' has no range, no unit and no mean"
            raise own_text(text)
        if self.baseline is not None and self.baseline not in self.categories:
            text = f"'baseline' names no category; {did_you_mean(self.baseline, self.categories)}"
            raise own_text(text)
        return self


class IdentifierSettings(ColumnSettings):
    """The column that says which record a row is."""


class DatasetSettings(BaseModel):
    """One table, a file or the answer to a query, and those of its columns that jobs may use.  Paths are relative to the configuration
    file.

    Reading it may take `seconds`.  No job may use the column `identifier`: where columns are split, it says which record a row is.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    path: str | None = None
    format: Literal["csv", "parquet", "arrow"] | None = None
    sql: str | None = None
    database: str | None = None
    password_file: str | None = None
    separator: Literal[",", ";", "\t", "|"] = ","
    decimal: Literal[".", ","] = "."
    seconds: Seconds = 300.0
    identifier: str | None = None
    columns: dict[str, ColumnSettings]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.sql is None) or (self.sql is None) != (self.database is None):
            text = "needs either 'path', or 'sql' and 'database'"
            raise own_text(text)
        if self.format is not None and self.path is None:
            text = "'format' is for a file, and 'sql' reads none"
            raise own_text(text)
        if {"separator", "decimal"} & self.model_fields_set and (self.path is None or self.kind != "csv"):
            text = "'separator' and 'decimal' are for a CSV file"
            raise own_text(text)
        if self.database is not None:
            _check_database(self.database)
        if self.password_file is not None and not (self.database or "").startswith("postgres"):
            text = "'password_file' is for a PostgreSQL database"
            raise own_text(text)
        names = [job for name in self.columns for job in self.split(name)]
        if twice := next((name for number, name in enumerate(names) if name in names[:number]), None):
            text = f"two columns give jobs a column {twice!r}; rename one"
            raise own_text(text)
        if self.identifier in {*self.columns, *names}:
            text = "'identifier' names one of 'columns', which jobs may use; leave it out there"
            raise own_text(text)
        return self

    @property
    def kind(self) -> str:
        """The format of the file: `format`, or else what the suffix of the path says, or else CSV."""
        return self.format or SUFFIXES.get(PurePath(self.path or "").suffix.lower(), "csv")

    @property
    def identifying(self) -> dict[str, ColumnSettings]:
        """The column `identifier`; nothing if none is declared."""
        return {} if self.identifier is None else {self.identifier: IdentifierSettings()}

    def split(self, name: str) -> list[str]:
        """Return the columns that jobs know for the declared column `name`."""
        categories = self.columns[name].categories
        return [name] if categories is None else [f"{name}={category}" for category in categories]

    def source(self, job_column: str) -> tuple[str, str | None] | None:
        """Return the declared column behind a job's column, and its category; None if there is none.  A declared column is its own."""
        if job_column in self.columns:
            return job_column, None
        for place in (found.start() for found in re.finditer("=", job_column)):
            name, category = job_column[:place], job_column[place + 1 :]
            if name in self.columns and category in (self.columns[name].categories or ()):
                return name, category
        return None

    def unlisted(self, job_column: str) -> str | None:
        """Return the declared column of which `job_column` names an unlisted category; None for another column or a listed category."""
        if self.source(job_column) is not None:
            return None
        names = (job_column[: found.start()] for found in re.finditer("=", job_column))
        return next((name for name in names if name in self.columns and self.columns[name].categories is not None), None)

    def expand(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return `names` with each column of categories replaced by its columns for jobs, without the baseline."""
        found: list[str] = []
        for name in names:
            if name not in self.columns or self.columns[name].categories is None:
                found.append(name)
            else:
                found += [each for each in self.split(name) if each != f"{name}={self.columns[name].baseline}"]
        return tuple(found)

    def meaning(self, job_columns: Iterable[str]) -> dict[str, str]:
        """Return what all parties of a job must declare alike about its columns: units and categories.
        A range stays at home: it says something about the data.
        """
        alike: dict[str, str] = {}
        for name, _ in filter(None, map(self.source, job_columns)):
            column = self.columns[name]
            if column.unit is not None:
                alike[f"unit of column {name!r}"] = column.unit
            if column.categories is not None:
                listed = "\0".join(sorted(column.categories))
                alike[f"categories of column {name!r}"] = blake2b(listed.encode(), digest_size=8).hexdigest()
        return alike


def _check_database(text: str) -> None:
    kind = next((kind for kind in DATABASES if text.startswith(kind) and text != kind), None)
    if kind is None:
        wrong = "'database' must be sqlite:PATH, duckdb:PATH or postgresql://..."
        raise own_text(wrong)
    if kind.startswith("postgres") and _PASSWORD.search(text):
        wrong = "'database' holds a password; name a 'password_file', or use the driver's own PGPASSFILE"
        raise own_text(wrong)


__all__ = ["ColumnSettings", "DatasetSettings", "IdentifierSettings"]
