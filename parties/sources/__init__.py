"""The sources of datasets: CSV text, columnar files and frames, and SQL databases.  Each yields batches of checked cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parties.sources import columnar, database, text

if TYPE_CHECKING:
    from collections.abc import Generator

    from parties.config import NodeConfig
    from parties.sources.sheet import Batch, Sheet


def source_of(config: NodeConfig, dataset: str) -> str:
    """Return where a dataset is, for messages: its file, or its database without any password."""
    settings = config.dataset(dataset)
    return str(config.resolve(settings.path)) if settings.path is not None else str(settings.database)


def batches(config: NodeConfig, dataset: str, sheet: Sheet) -> Generator[Batch]:
    """Yield the rows of `sheet` from the source of `dataset`."""
    settings = config.dataset(dataset)
    if settings.path is None:
        return database.read(config, settings, sheet)
    path = config.resolve(settings.path)
    return text.read(path, settings, sheet) if settings.kind == "csv" else columnar.read(path, settings.kind, sheet)


__all__ = ["batches", "source_of"]
