"""What is wanted of a dataset, how a source delivers it, and how a source reports an error: by its place, never by a value."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from parties.schema import ColumnSettings
    from parties.sources.cells import Cells
    from parties.sources.halt import Halt


class Batch(NamedTuple):
    """Consecutive rows: the cells of every wanted column, and for text the line on which each row starts."""

    rows: int
    columns: list[Cells]
    lines: Sequence[int] = ()


class Sheet(NamedTuple):
    """The wanted columns of one table.  `title` names the table in messages, and `halt` stops the reading."""

    title: str
    columns: Mapping[str, ColumnSettings]
    halt: Halt

    def refuse(self, text: str, *, row: int = 0, line: int = 0, column: str = "") -> NoReturn:
        """Raise ConfigError with the place.  The exception that led here is dropped: a driver's message may hold values."""
        place = f", row {row}" if row else ""
        place += (f" (line {line})" if row else f", line {line}") if line else ""
        place += f", column {column!r}" if column else ""
        msg = f"{self.title}{place}: {text}"
        raise ConfigError(msg) from None

    def places(self, header: Sequence[str], *, line: int = 0, hint: str = "") -> list[int]:
        """Return where the wanted columns are.  Messages show no names of the header but wanted ones: it may be a row of data."""
        first: dict[str, int] = {}
        for place, name in enumerate(header):
            if name and name in first:
                which = f", {name!r}" if name in self.columns else ""
                self.refuse(f"columns {first[name] + 1} and {place + 1} have the same name{which}", line=line)
            first[name] = place
        for column in self.columns:
            if column not in first:
                self.refuse(f"there is no such column; {hint or _similar(column, header)}", line=line, column=column)
        return [first[column] for column in self.columns]

    def driver(self, module: str, extra: str) -> Any:
        """Return the library that reads this kind of data.  Raises ConfigError with the command that installs it."""
        try:
            return import_module(module)
        except ImportError:
            self.refuse(f"needs {module.partition('.')[0]}, which is not installed: pip install 'beaver-mpc[{extra}]'")


def _similar(column: str, header: Sequence[str]) -> str:
    alike = [name for name in header if name.casefold() == column.casefold()]
    return f"did you mean {alike[0]!r}?" if alike else "the source must name the column exactly so"


__all__ = ["Batch", "Sheet"]
