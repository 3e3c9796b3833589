"""Everything that can run as a job, by name: what `beaver run`, `beaver estimate`, `beaver protocols` and a node's allow-list speak of."""

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
    """The program of this name; ConfigError, with the closest one, if there is none."""
    if name not in PROGRAMS:
        msg = f"{name!r} is no protocol of this version; {did_you_mean(name, PROGRAMS)}"
        raise ConfigError(msg)
    return PROGRAMS[name]


def tells_all(name: str, given: int) -> bool:
    """Whether every party learns something of a job's data, of which a client gives so many rows; of a program of another version one must fear it.

    Of a client's rows nothing is revealed but to the receivers, or they are all there is.
    """
    return not given and (name not in PROGRAMS or PROGRAMS[name].tells_all)


def describe() -> list[Row]:
    """One row for every program: name, version, what it computes and reveals, columns, parameters, and its cost at an example size."""
    return [row(each) for each in PROGRAMS.values()]


def table_of_programs() -> None:
    """Print `describe()` for people."""
    show(describe())
