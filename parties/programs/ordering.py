"""Who is larger, and how large is the largest, as jobs: each compares one number of every organisation, and reveals no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
import protocols
from mpc.errors import ConfigError, PrecisionError
from parties.programs.program import PARTY, Body, Program, Result, Setting, Settings, by_column, fraction

if TYPE_CHECKING:
    from mpc import AShare, Floats, Session
    from parties.data import Table
    from parties.jobs.job import Task

ROOM = 60
"""Bits of a number: a difference of two numbers still fits into 64."""


def _own(s: Session, table: Table, reduce: Any) -> Floats:
    """Return one number for every column of this party's rows."""
    if not len(table.rows):
        msg = f"{s.names[s.index]} has no rows, and so nothing to compare: give its dataset some, or leave it out of the job"
        raise ConfigError(msg)
    return np.asarray(reduce(table.rows, axis=0))


def _shared(s: Session, table: Table, own: Floats | None, owner: int, frac: int) -> AShare:
    """Return the numbers of party `owner`, one for every column, as shares."""
    bound = 2.0 ** (ROOM - frac)
    if own is not None:
        far = np.flatnonzero(np.abs(own) > bound)
        if len(far):
            msg = f"column {table.columns[far[0]]!r} exceeds {bound:.4g}, the most at frac={frac}: scale the data or pass a smaller frac="
            raise PrecisionError(msg)
    return s.input(own, owner, (len(table.columns),), frac=frac, bound=bound)


def _of_everyone(s: Session, table: Table, own: Floats, frac: int) -> AShare:
    """Return one row of numbers for every party, as shares."""
    shares = [_shared(s, table, own if owner == s.index else None, owner, frac) for owner in range(s.n)]
    return mpc.concatenate([share.reshape(1, len(table.columns)) for share in shares])


def _extreme(name: str, reduce: Any, find: Any) -> Body:
    """Return the body that computes the largest or the smallest value of each column."""

    async def body(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
        each = _of_everyone(s, table, _own(s, table, reduce), settings["frac"])
        found = await s.reveal(await find(s, each, axis=0), task.to or None)
        return None if found is None else {name: by_column(table.columns, found)}

    return body


def _party(name: str, find: Any) -> Body:
    """Return the body that finds the party with the highest or the lowest mean."""

    async def body(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
        means = _of_everyone(s, table, _own(s, table, np.mean), settings["frac"])
        place = await s.reveal(await find(s, means.reshape(s.n)), task.to or None)
        return None if place is None else {"column": table.columns[0], name: s.names[int(place)]}

    return body


def _verdict(name: str, compare: Any) -> Body:
    """Return the body that compares the means of two parties."""

    async def body(s: Session, table: Table, task: Task, settings: Settings) -> Result | None:
        means = []
        for owner in (s.party(settings["first"]), s.party(settings["second"])):
            own = _own(s, table, np.mean) if owner == s.index else None
            means.append(_shared(s, table, own, owner, settings["frac"]).reshape(()))
        bit = await s.reveal(await compare(s, *means), task.to or None)
        about = {"column": table.columns[0], "first": settings["first"], "second": settings["second"]}
        return None if bit is None else {**about, name: bool(bit)}

    return body


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
        _extreme("maximum", np.max, protocols.maximum),
        ("maximum",),
        (_FRAC,),
    ),
    Program(
        "minimum",
        1,
        "the smallest value of each column over the rows of all parties",
        "to the receivers the smallest value of each column, and not whose it is",
        _extreme("minimum", np.min, protocols.minimum),
        ("minimum", "maximum"),
        (_FRAC,),
    ),
    Program(
        "highest",
        1,
        "which party has the highest mean of a column, the first one among equals",
        "to the receivers which party has the highest mean, and no mean",
        _party("highest", protocols.argmax),
        ("argmax",),
        (_FRAC,),
        at_most=1,
    ),
    Program(
        "lowest",
        1,
        "which party has the lowest mean of a column, the first one among equals",
        "to the receivers which party has the lowest mean, and no mean",
        _party("lowest", protocols.argmin),
        ("argmin", "argmax"),
        (_FRAC,),
        at_most=1,
    ),
    Program(
        "less_than",
        1,
        "whether one party's mean of a column is below another's",
        "to the receivers one bit: whether the first party's mean is below the second's, and no mean",
        _verdict("less_than", protocols.less_than),
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
        _verdict("equal", protocols.equal),
        ("equal",),
        _TWO,
        at_most=1,
        rule=_two_different,
    ),
)
