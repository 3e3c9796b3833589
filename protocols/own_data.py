"""A party's own data: rows, their sums as ring words, what all parties' sums reveal, and errors that name columns but never a value."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from mpc import (
    AShare,
    BShare,
    ConfigError,
    Disagreement,
    Floats,
    Masked,
    PrecisionError,
    ProgramError,
    Session,
    as_numbers,
    beyond,
    column_names,
    column_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from numpy.typing import ArrayLike, NDArray

    from mpc import Encoded
    from protocols.declare import Receivers

    Terms = tuple[float | str, ...]


class Counted(NamedTuple):
    """A statistic, and the number of pooled rows that it is of, or their total weight."""

    value: Floats
    size: float


def not_shared(x: object) -> None:
    """Raise ProgramError for a share: a party's own data are needed."""
    if isinstance(x, AShare | BShare | Masked):
        msg = (
            f"these are for what each party has itself, not for {type(x).__name__}: shares add up by x.sum(axis=0), and their mean is "
            "await mpc.scale(s, x.sum(axis=0), 1 / rows)"
        )
        raise ProgramError(msg)


def own_rows(x: ArrayLike) -> Floats:
    """Return this party's data as float64 with one row per record."""
    not_shared(x)
    rows: Floats = as_numbers(x).astype(np.float64, copy=False)
    if not rows.ndim:
        msg = "rows of shape (n, d) or (n,) are needed, not a single number"
        raise ProgramError(msg)
    return rows


def width(x: ArrayLike) -> int:
    """Return how many numbers a row has."""
    return int(np.prod(np.shape(x)[1:]))


def checked_frac(frac: int) -> int:
    """Return `frac`.  Raises ConfigError if it is below 0, since a number of rows is encoded with it too.

    Anything but a number is refused where it encodes.
    """
    given: Any = frac
    if isinstance(given, Real) and frac < 0:
        msg = f"frac={frac}: sums that come with the number of rows have at least 0 fractional bits; scale the data instead"
        raise ConfigError(msg)
    return frac


def own_sums(
    s: Session, sums: Floats, *data: ArrayLike, frac: int, what: str = "a sum over this party's rows", asked: int | None = None
) -> Encoded:
    """Return this party's `sums` over its `data` as ring words.  The sums begin with those of the columns of the first of `data`.

    PrecisionError names the datum that is no number, or the column whose sum does not fit and how to make it fit.  `asked` is the frac that
    the caller of the protocol gave, if `frac` follows from it.
    """
    if not np.isfinite(sums).all():
        for each in data:
            encoded(s, each, "a value", frac=frac, place=partial(element, names=column_names(each)))
    return encoded(s, sums, what, frac=frac, place=partial(column, of=data[0] if data else ()), asked=asked)


def element(at: tuple[int, ...], names: tuple[str, ...] = ()) -> str:
    """Return which element of an array is meant; its columns have these names."""
    match at:
        case ():
            return ""
        case (row,):
            return f" (row {row})"
        case (row, number):
            return f" (row {row}, {column_of(number, names)})"
        case _:
            return f" (index {at})"


def column(at: tuple[int, ...], of: ArrayLike) -> str:
    """Return which column of a table is meant by a place among sums that begin with the sums of its columns."""
    names, columns = column_names(of), width(of) if np.ndim(of) == 2 else 0
    return f" ({column_of(at[-1], names)})" if at[-1] < max(columns, len(names)) else ""


def encoded(
    s: Session, values: ArrayLike, what: str, *, frac: int, place: Callable[[tuple[int, ...]], str] = element, asked: int | None = None
) -> Encoded:
    """Return this party's `values` as ring words.  If one does not fit, the error has a remedy, and `place` says which one it is."""
    try:
        return s.encode(values, frac=frac)
    except PrecisionError:
        numbers = as_numbers(values)
        if not np.isfinite(numbers).all():
            raise
        limit = s.encode(0, frac=frac).bound
        where = place(tuple(np.argwhere(beyond(numbers, limit))[0].tolist()))
        at_frac = frac if asked is None else asked
        if limit < 1:
            msg = (
                f"frac={at_frac} leaves no room for numbers beyond {limit:.4g} among {s.n} parties, not even for a "
                "count of rows: pass a smaller frac="
            )
            raise PrecisionError(msg) from None
        msg = f"{what}{where} exceeds {limit:.4g}, the most for {s.n} parties at frac={at_frac}: scale the data or pass a smaller frac="
        # The cause would say to declare a larger bound, which nobody declares here.
        raise PrecisionError(msg) from None


@overload
def reveal_sum(s: Session, mine: Encoded, *, terms: Terms = ()) -> Coroutine[Any, Any, NDArray[Any]]: ...
@overload
def reveal_sum(s: Session, mine: Encoded, to: Receivers | None, terms: Terms = ()) -> Coroutine[Any, Any, NDArray[Any] | None]: ...
def reveal_sum(s: Session, mine: Encoded, to: Receivers | None = None, terms: Terms = ()) -> Coroutine[Any, Any, NDArray[Any] | None]:
    """Reveal the sum of what all parties have.  `terms` say what it means: the protocol, its public parameters, and the columns' names.

    Nothing else says so: the sum of a mean and that of a sum are opened alike, and each party would read the total in its own way.
    """
    return s.reveal(s.zero(mine.words.shape, frac=mine.frac, terms=terms).add_own(mine), to)


@contextmanager
def noting(names: tuple[str, ...], labels: tuple[str, ...] = ()) -> Iterator[None]:
    """Add notes to a Disagreement in the body: this party's columns if they have names, and its rows if they have `labels`.

    Labels may be data.  The columns and labels of others never come here: only lineages are compared.
    """
    try:
        yield
    except Disagreement as fault:
        if names:
            fault.add_note(
                f"this party's columns are {', '.join(map(repr, names))}; all parties pass frames with the same ones in the same order"
            )
        if labels:
            fault.add_note(
                "this party's rows are added by their place, and have an index that does not count from 0: all parties pass the same "
                "index in the same order, such as frame.reindex(agreed) with fill_value=0 for sums, or frame.reset_index(drop=True) where "
                "the rows have no meaning of their own"
            )
        raise


def checked_ddof(ddof: Any) -> float:
    """Return `ddof` as a float.  Raises ConfigError for anything that is no number, or below 0."""
    if not isinstance(ddof, Real) or not float(ddof) >= 0:
        msg = f"ddof={ddof!r} must be a number, 0 or more"
        raise ConfigError(msg)
    return float(ddof)


def enough_rows(count: float, ddof: int) -> None:
    """Raise ConfigError unless so many pooled rows have a variance."""
    if count <= ddof:
        not_empty(count)
        msg = f"{count:g} pooled rows are too few for ddof={ddof}: pass a smaller ddof, or more rows"
        raise ConfigError(msg)


def not_empty(count: float, what: str = "row", *, lacks: str = "no mean") -> float:
    """Return the number of pooled rows.  Raises ConfigError if there are none."""
    if count == 0:
        msg = f"the pool is empty: no party has any {what}, so there is {lacks}"
        raise ConfigError(msg)
    return count
