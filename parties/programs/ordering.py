"""Who is larger, and how large is the largest, as jobs: on one number of every organisation, of which no other is revealed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
import protocols
from mpc.errors import ConfigError, PrecisionError
from parties.programs.program import PARTY, Program, Result, Setting, Settings, by_column, fraction

if TYPE_CHECKING:
    from mpc import AShare, Floats, Session
    from parties.data import Table
    from parties.jobs.job import Task

ROOM = 60
"""Bits of a number: a difference of two is still right in 64."""


def _own(s: Session, table: Table, reduce: Any) -> Floats:
    """One number for every column of this party's rows."""
    if not len(table.rows):
        msg = f"{s.names[s.index]} has no rows, and so nothing to compare: give its dataset some, or leave it out of the job"
        raise ConfigError(msg)
    return np.asarray(reduce(table.rows, axis=0))


def _shared(s: Session, table: Table, own: Floats | None, owner: int, frac: int) -> AShare:
    """The numbers of party `owner`, one for every column, as shares."""
    bound = 2.0 ** (ROOM - frac)
    if own is not None:
        far = np.flatnonzero(np.abs(own) > bound)
        if len(far):
            msg = f"column {table.columns[far[0]]!r} exceeds {bound:.4g}, the most at frac={frac}: scale the data or pass a smaller frac="
            raise PrecisionError(msg)
    return s.input(own, owner, (len(table.columns),), frac=frac, bound=bound)


def _of_everyone(s: Session, table: Table, own: Floats, frac: int) -> AShare:
    """One row of numbers for every party."""
    shares = [_shared(s, table, own if owner == s.index else None, owner, frac) for owner in range(s.n)]
    return mpc.concatenate([share.reshape(1, len(table.columns)) for share in shares])


async def _maximum(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    each = _of_everyone(s, table, _own(s, table, np.max), settings["frac"])
    largest = await s.reveal(await protocols.maximum(s, each, axis=0), task.to or None)
    return None if largest is None else {"maximum": by_column(table.columns, largest)}


async def _minimum(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    each = _of_everyone(s, table, _own(s, table, np.min), settings["frac"])
    smallest = await s.reveal(await protocols.minimum(s, each, axis=0), task.to or None)
    return None if smallest is None else {"minimum": by_column(table.columns, smallest)}


async def _highest(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    means = _of_everyone(s, table, _own(s, table, np.mean), settings["frac"])
    place = await s.reveal(await protocols.argmax(s, means.reshape(s.n)), task.to or None)
    return None if place is None else {"column": table.columns[0], "highest": s.names[int(place)]}


async def _lowest(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    means = _of_everyone(s, table, _own(s, table, np.mean), settings["frac"])
    place = await s.reveal(await protocols.argmin(s, means.reshape(s.n)), task.to or None)
    return None if place is None else {"column": table.columns[0], "lowest": s.names[int(place)]}


def _two_means(s: Session, table: Table, settings: Settings) -> list[AShare]:
    shares = []
    for owner in (s.party(settings["first"]), s.party(settings["second"])):
        own = _own(s, table, np.mean) if owner == s.index else None
        shares.append(_shared(s, table, own, owner, settings["frac"]).reshape(()))
    return shares


async def _less_than(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    bit = await s.reveal(await protocols.less_than(s, *_two_means(s, table, settings)), task.to or None)
    return None if bit is None else _verdict(table, settings, "less_than", bit)


async def _equal(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
    bit = await s.reveal(await protocols.equal(s, *_two_means(s, table, settings)), task.to or None)
    return None if bit is None else _verdict(table, settings, "equal", bit)


def _verdict(table: Table, settings: Settings, name: str, bit: Any) -> Result:
    return {"column": table.columns[0], "first": settings["first"], "second": settings["second"], name: bool(bit)}


def _two_different(_: Task, settings: Settings) -> None:
    if settings["first"] == settings["second"]:
        msg = f"parameters first and second both name {settings['first']!r}: name two different parties"
        raise ConfigError(msg)


_FRAC = fraction("fractional bits to which the numbers are rounded: fewer allow larger ones")
_TWO = (
    Setting("first", str, None, "whose mean is on the left", names=PARTY),
    Setting("second", str, None, "whose mean is on the right", names=PARTY),
    _FRAC,
)

ORDERING = (
    Program(
        "maximum",
        1,
        "the largest value of each column over the rows of all parties",
        "to the receivers the largest value of each column, and not whose it is",
        _maximum,
        ("maximum",),
        (_FRAC,),
    ),
    Program(
        "minimum",
        1,
        "the smallest value of each column over the rows of all parties",
        "to the receivers the smallest value of each column, and not whose it is",
        _minimum,
        ("minimum", "maximum"),
        (_FRAC,),
    ),
    Program(
        "highest",
        1,
        "which party has the highest mean of a column, the first one among equals",
        "to the receivers which party has the highest mean, and no mean",
        _highest,
        ("argmax",),
        (_FRAC,),
        at_most=1,
    ),
    Program(
        "lowest",
        1,
        "which party has the lowest mean of a column, the first one among equals",
        "to the receivers which party has the lowest mean, and no mean",
        _lowest,
        ("argmin", "argmax"),
        (_FRAC,),
        at_most=1,
    ),
    Program(
        "less_than",
        1,
        "whether one party's mean of a column is below another's",
        "to the receivers one bit: whether the first party's mean is below the second's, and no mean",
        _less_than,
        ("less_than",),
        _TWO,
        at_most=1,
        rule=_two_different,
    ),
    Program(
        "equal",
        1,
        "whether two parties have the same mean of a column, rounded to frac fractional bits",
        "to the receivers one bit: whether both rounded means are the same, and no mean",
        _equal,
        ("equal",),
        _TWO,
        at_most=1,
        rule=_two_different,
    ),
)
