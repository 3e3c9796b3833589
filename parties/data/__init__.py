"""Data that ships with Beaver, for the demo, examples and tests.  Sources are in README.md beside it."""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mpc import Floats


class Table(NamedTuple):
    """Named columns of float64: `rows` is (rows, columns)."""

    columns: list[str]
    rows: Floats


def load_diabetes() -> Table:
    """442 diabetes patients on their original scales: ten baseline measurements and the progression after a year."""
    with files("parties.data").joinpath("diabetes.csv").open(encoding="ascii") as file:
        header, *lines = csv.reader(file)
    return Table(header, np.array(lines, dtype=np.float64))
