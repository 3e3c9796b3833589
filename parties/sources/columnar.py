"""Datasets in Parquet and Arrow files, and data frames: whatever pyarrow takes as a table."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from parties.schema import IdentifierSettings
from parties.sources.cells import Cells, of_array, of_objects
from parties.sources.file import opened
from parties.sources.sheet import Batch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from parties.schema import ColumnSettings
    from parties.sources.sheet import Sheet

BLOCK = 1 << 16


def read(path: Path, kind: str, sheet: Sheet) -> Generator[Batch]:
    """Yield the rows of a Parquet file, or of an Arrow file or stream (Feather)."""
    arrow = sheet.driver("pyarrow", "frames")
    damaged = False
    with opened(path, sheet, "rb") as file:
        try:
            schema, parts = (_parquet if kind == "parquet" else _arrow)(sheet, file)
            yield from _batches(sheet, schema, map(_whole, parts))
        except (arrow.ArrowException, OSError, UnicodeDecodeError, MemoryError):
            # MemoryError: a damaged file may claim a length that no memory has room for.
            damaged = True
    if damaged:
        # Raised out here: the library's own words may hold values.
        sheet.refuse(f"cannot be read (no {kind} file, or its contents are damaged); write it anew")


def _whole(batch: Any) -> Any:
    """Return the batch.  Raises ArrowInvalid if its lengths and offsets do not fit its arrays: reading it could end the process."""
    batch.validate(full=True)
    return batch


def frame(table: Any, sheet: Sheet) -> Iterator[Batch]:
    """Yield the rows of a pandas or polars frame, an Arrow table, or anything else with an Arrow stream."""
    arrow = sheet.driver("pyarrow", "frames")
    taken = None
    with suppress(arrow.ArrowException, TypeError, ValueError):
        taken = arrow.table(table)
    if taken is None:
        # Raised out here: the library's own words may hold values.
        sheet.refuse("is no table: pass a pandas or polars frame whose columns have one type each, or an Arrow table")
    yield from _batches(sheet, taken.schema, taken.to_batches(BLOCK))


def _parquet(sheet: Sheet, file: Any) -> tuple[Any, Iterator[Any]]:
    source = sheet.driver("pyarrow.parquet", "frames").ParquetFile(file)
    wanted = [name for name in sheet.columns if name in source.schema_arrow.names]
    return source.schema_arrow, source.iter_batches(BLOCK, columns=wanted)


def _arrow(sheet: Sheet, file: Any) -> tuple[Any, Iterator[Any]]:
    ipc = sheet.driver("pyarrow.ipc", "frames")
    start = file.read(6)
    file.seek(0)
    if start != b"ARROW1":
        stream = ipc.open_stream(file)
        return stream.schema, iter(stream)
    source = ipc.open_file(file)
    return source.schema, map(source.get_batch, range(source.num_record_batches))


def _batches(sheet: Sheet, schema: Any, parts: Iterator[Any]) -> Iterator[Batch]:
    sheet.places(schema.names)
    for part in parts:
        if part.num_rows:
            columns = [
                _cells(sheet, name, column, part.column(part.schema.get_field_index(name))) for name, column in sheet.columns.items()
            ]
            yield Batch(part.num_rows, columns)


def _cells(sheet: Sheet, name: str, column: ColumnSettings, array: Any) -> Cells:
    arrow = sheet.driver("pyarrow", "frames")
    types = arrow.types
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    plain = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)
    whole = types.is_decimal(kind) and not kind.scale
    if isinstance(column, IdentifierSettings):
        named = types.is_date(kind) or types.is_null(kind) or getattr(kind, "extension_name", "") == "arrow.uuid"
        if not (text or whole or types.is_integer(kind) or named):
            sheet.refuse(f"a column of type {kind}, but an identifier is text, a whole number, a date or a UUID", column=name)
        return of_objects(array.to_pylist(), column)
    if whole or (column.categories is not None and (text or plain)):
        # Whole numbers kept as decimals are also read one by one: as floats they could not show that they have changed.
        return of_objects(array.to_pylist(), column)
    if not plain:
        needed = "numbers" if column.categories is None else "text"
        sheet.refuse(f"the column holds {'text' if text else kind}, not {needed}", column=name)
    empty = array.is_null().to_numpy(zero_copy_only=False)
    if types.is_integer(kind):
        values = array.fill_null(0).to_numpy(zero_copy_only=False)
    else:
        values = array.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return of_array(values, empty)
