"""All programs by name: what can run as a job, and what `beaver run`, `beaver estimate`, `beaver protocols` and allow-lists name."""

from __future__ import annotations

from mpc.errors import ConfigError
from mpc.membership.toml_text import did_you_mean
from parties.programs.listing import Row, row, show
from parties.programs.ordering import ORDERING
from parties.programs.program import Program, Result, Setting
from parties.programs.regression import REGRESSION
from parties.programs.statistics import STATISTICS

__all__ = ["PROGRAMS", "Program", "Result", "Setting", "describe", "program", "table_of_programs", "tells_all"]

PROGRAMS: dict[str, Program] = {each.name: each for each in (*STATISTICS, *ORDERING, *REGRESSION)}


def program(name: str) -> Program:
    """Return the program of this name.  Raises ConfigError, which names the closest one, if there is none."""
    if name not in PROGRAMS:
        msg = f"{name!r} is no protocol of this version; {did_you_mean(name, PROGRAMS)}"
        raise ConfigError(msg)
    return PROGRAMS[name]


def tells_all(name: str, given: int) -> bool:
    """Return whether every party learns something of a job's data if a client gives `given` rows.  A program of another version is taken to
    do so.

    A client's rows are revealed to nobody but the receivers, or they are the only rows.
    """
    return not given and (name not in PROGRAMS or PROGRAMS[name].tells_all)


def describe() -> list[Row]:
    """Return one row per program: name, version, what it computes and reveals, columns, parameters, and its cost at an example size."""
    return [row(each) for each in PROGRAMS.values()]


def table_of_programs() -> None:
    """Print `describe()` as text."""
    show(describe())
