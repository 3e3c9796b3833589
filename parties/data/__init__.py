"""Data that ships with Beaver, for the demo, examples and tests.  Sources are in README.md beside it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from mpc import Floats


class Identifiers(tuple[str, ...]):
    """Which record each row of a table is.  What takes the index of a frame takes these.  Nothing prints them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Identifiers({len(self)})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001  numpy's protocol
        # As objects: an array of texts would need the room of the longest text for each.
        return np.fromiter(self, object, len(self))

    def equals(self, other: Any) -> bool:
        """Return whether `other`, also an index of a frame, has the same records in the same order."""
        return len(self) == len(other) and self == tuple(map(str, other))


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Table:
    """Named columns of float64: `rows` is (rows, columns).

    What takes a frame takes a Table, names its columns in errors, and finds its records in `index`: Identifiers, or the index of the frame
    that these rows are from.
    """

    columns: list[str]
    rows: Floats
    index: Any = None

    def __repr__(self) -> str:
        # Whatever prints this, such as a task that has a Table as its result, must not print rows of people.
        return f"Table(columns={self.columns!r}, shape={np.shape(self.rows)})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:  # noqa: FBT001  numpy's protocol
        return np.array(self.rows, dtype, copy=copy)


def load_diabetes() -> Table:
    """442 diabetes patients on their original scales: ten baseline measurements and the progression after a year."""
    return load_csv(files("parties.data").joinpath("diabetes.csv"))


def load_csv(path: Traversable) -> Table:
    """Read a table of our own, as it was written; datasets of others are read with more care (`parties.datasets`)."""
    with path.open(encoding="ascii") as file:
        header, *lines = csv.reader(file)
    return Table(header, np.array(lines, dtype=np.float64))
