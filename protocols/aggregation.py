"""Sums and means over the parties' own data: one round, and nothing but the result is revealed.

Everything local stays local: a party's rows enter as their sums, so a million rows cost what one costs.  `frac` is the public number
of fractional bits of a sum: n parties have 62 - log2(n) - frac bits before the point, and are off by at most n / 2^(frac + 1) together.
`to` names who gets the result (everyone by default); the others get None and learn nothing.  Where a party has a frame, all have frames with
columns of the same names in one order, and where it has a series with a name, all have series of that name: anything else is a Disagreement,
which has this party's columns in a note, and nothing is revealed.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mpc import (
    AShare,
    BShare,
    ConfigError,
    Cost,
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
from protocols.declare import Receivers, declared, reveal_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from numpy.typing import ArrayLike, NDArray

    from mpc import Encoded

    Terms = tuple[float | str, ...]

WEIGHT_BITS = 9
"""Bits that the total weight of a pool must have above its rounding."""


def sum_cost(n: int, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Cost:  # noqa: ARG001
    """What `secure_sum` costs."""
    return reveal_cost(np.size(x))


@overload
async def secure_sum(s: Session, /, x: ArrayLike, *, frac: int = 20, to: Receivers) -> NDArray[Any] | None: ...
@overload
async def secure_sum(s: Session, /, x: ArrayLike, *, frac: int = 20, to: None = None) -> NDArray[Any]: ...
@declared(sum_cost, reveals="the sum")
async def secure_sum(s: Session, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> NDArray[Any] | None:
    """Sum over the parties, elementwise.  x: own floats of equal shape -> the same shape, at the receivers: float64, int64 for frac=0

    With frac=0 each addend is rounded to a whole number, halves to the even one.  Rows are added by their place: where the index of a party's frame
    or series is not 0, 1, ..., such as the groups of a `groupby`, all have the same index in one order, or it is a Disagreement.
    rounds 1 · bytes 8 per element and peer · reveals the sum (among n = 2 each learns the other's addend) · takes no correlation
    """
    not_shared(x)
    names, labels = column_names(x), row_labels(x)
    # A job passes the sums of its rows, one for each column.
    place = partial(_column, of=x) if names and np.shape(x) == (len(names),) else partial(_element, names=names)
    with noting(names, labels):
        return await pooled(s, own(s, x, "a value", frac=frac, place=place), to, ("secure_sum", *names, *labels))


def mean_cost(n: int, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Cost:  # noqa: ARG001
    """What `mean` costs."""
    return reveal_cost(width(x) + 1)


@overload
async def mean(s: Session, /, x: ArrayLike, *, frac: int = 20, to: Receivers) -> Floats | None: ...
@overload
async def mean(s: Session, /, x: ArrayLike, *, frac: int = 20, to: None = None) -> Floats: ...
@declared(mean_cost, reveals="the mean and the number of rows")
async def mean(s: Session, x: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Floats | None:
    """Mean over the pooled rows of all parties.  x: own rows (n_i, d) or (n_i,) -> (d,) or a number, at the receivers

    rounds 1 · bytes 8(d + 1) per peer · reveals Σx / n and n, hence also Σx · takes no correlation
    A party may have no rows, np.empty((0, d)) or np.empty(0) as the others have; ConfigError if nobody has any.
    """
    rows = own_rows(x)
    with noting(names := column_names(x)):
        revealed = await pooled(
            s, own_sums(s, np.append(rows.sum(axis=0), len(rows)), x, frac=checked_frac(frac)), to, (f"mean {rows.shape[1:]}", *names)
        )
    if revealed is None:
        return None
    *total, count = revealed
    # Of single numbers it is numpy's scalar, which does what a 0-d array does, and is a float besides.
    average: Floats = np.divide(np.reshape(total, rows.shape[1:]), not_empty(count))
    return average


def weighted_mean_cost(n: int, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Cost:  # noqa: ARG001
    """What `weighted_mean` costs."""
    return reveal_cost(width(x) + 1)


@overload
async def weighted_mean(s: Session, /, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: Receivers) -> Floats | None: ...
@overload
async def weighted_mean(s: Session, /, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: None = None) -> Floats: ...
@declared(weighted_mean_cost, reveals="the weighted mean and the total weight")
async def weighted_mean(s: Session, x: ArrayLike, w: ArrayLike, *, frac: int = 20, to: Receivers | None = None) -> Floats | None:
    """Mean over the pooled rows, each with its own weight.  x: (n_i, d) or (n_i,), w: (n_i,) or (n_i, 1), not negative -> (d,) or a number, at the receivers

    rounds 1 · bytes 8(d + 1) per peer · reveals Σwx / Σw and Σw, hence also Σwx · takes no correlation
    ConfigError if the pool has no weight, PrecisionError if Σw is so small that `frac` leaves fewer than three digits of it.
    """
    rows, weights = own_rows(x), own_rows(w)
    # As a frame of one column has them.
    weights = weights.reshape(len(weights)) if weights.shape[1:] == (1,) else weights
    if weights.shape != (len(rows),):
        msg = f"{len(rows)} rows need weights of shape ({len(rows)},), not {weights.shape}"
        raise ProgramError(msg)
    # NaN compares as false.
    if (bad := ~((weights >= 0) & (weights < np.inf))).any():
        row = int(np.argmax(bad))
        msg = f"weight {row} is {'negative' if weights[row] < 0 else 'not a finite number'}; weights say how often a row counts"
        raise ConfigError(msg)
    sums = np.append(np.tensordot(weights, rows, axes=1), weights.sum())
    with noting(names := (*(of_rows := column_names(x)), *column_names(w))):
        revealed = await pooled(s, own_sums(s, sums, x, w, frac=frac), to, (f"weighted_mean {rows.shape[1:]}", float(len(of_rows)), *names))
    if revealed is None:
        return None
    *total, weight = revealed
    least = s.n * 2.0 ** (WEIGHT_BITS - frac)
    if 0 < weight < least:
        msg = f"all weights together are less than {least:.2g}, too little for frac={frac}: multiply every weight by a constant, or pass a larger frac="
        raise PrecisionError(msg)
    average: Floats = np.divide(np.reshape(total, rows.shape[1:]), not_empty(weight, f"weight that frac={frac} tells from 0"))
    return average


def not_shared(x: object) -> None:
    """ProgramError for a share, where a party's own data are needed."""
    if isinstance(x, AShare | BShare | Masked):
        msg = (
            f"these are for what each party has itself, not for {type(x).__name__}: shares add up by x.sum(axis=0), and their mean is "
            "await mpc.scale(s, x.sum(axis=0), 1 / rows)"
        )
        raise ProgramError(msg)


def row_labels(x: object) -> tuple[str, ...]:
    """One text of what the index of a frame or series calls its rows; nothing where it counts from 0, or where there is none."""
    # Never what `__getattr__` makes up, and no method, as lists have one of this name.
    if callable(inspect.getattr_static(x, "index", print)):
        return ()
    labels = getattr(x, "index")  # noqa: B009  an object of any type
    if np.array_equal(labels, np.arange(len(labels))):
        return ()
    # By what they show: a label of two levels is a tuple, in which the types of numbers would differ.
    return (repr([[str(part) for part in label] if isinstance(label, tuple) else str(label) for label in labels]),)


def own_rows(x: ArrayLike) -> Floats:
    """This party's data as float64 with one row per record."""
    not_shared(x)
    rows: Floats = as_numbers(x).astype(np.float64, copy=False)
    if not rows.ndim:
        msg = "rows of shape (n, d) or (n,) are needed, not a single number"
        raise ProgramError(msg)
    return rows


def width(x: ArrayLike) -> int:
    """Numbers in a row."""
    return int(np.prod(np.shape(x)[1:]))


def checked_frac(frac: int) -> int:
    """ConfigError for fewer than 0 fractional bits where a number of rows is encoded with them, too; what is no number is refused where it encodes."""
    given: Any = frac
    if isinstance(given, Real) and frac < 0:
        msg = f"frac={frac}: sums that come with the number of rows have at least 0 fractional bits; scale the data instead"
        raise ConfigError(msg)
    return frac


def own_sums(
    s: Session, sums: Floats, *data: ArrayLike, frac: int, what: str = "a sum over this party's rows", asked: int | None = None
) -> Encoded:
    """This party's `sums` over its `data` as ring words.  PrecisionError names the datum that is no number, or the column whose sum does not
    fit and how to make it fit.  The sums begin with those of the columns of the first of `data`.  The caller of the protocol `asked` for a frac.
    """
    if not np.isfinite(sums).all():
        for each in data:
            own(s, each, "a value", frac=frac, place=partial(_element, names=column_names(each)))
    return own(s, sums, what, frac=frac, place=partial(_column, of=data[0] if data else ()), asked=asked)


def _element(at: tuple[int, ...], names: tuple[str, ...] = ()) -> str:
    """Which element of an array is meant, whose columns have these names."""
    match at:
        case ():
            return ""
        case (row,):
            return f" (row {row})"
        case (row, column):
            return f" (row {row}, {column_of(column, names)})"
        case _:
            return f" (index {at})"


def _column(at: tuple[int, ...], of: ArrayLike) -> str:
    """Which column of a table is meant by a place among sums that begin with those of its columns."""
    names, columns = column_names(of), width(of) if np.ndim(of) == 2 else 0
    return f" ({column_of(at[-1], names)})" if at[-1] < max(columns, len(names)) else ""


def own(
    s: Session, values: ArrayLike, what: str, *, frac: int, place: Callable[[tuple[int, ...]], str] = _element, asked: int | None = None
) -> Encoded:
    """This party's `values` as ring words, with a remedy that helps if they do not fit: `place` says which of them."""
    try:
        return s.encode(values, frac=frac)
    except PrecisionError:
        numbers = as_numbers(values)
        if not np.isfinite(numbers).all():
            raise
        limit = s.encode(0, frac=frac).bound
        where = place(tuple(np.argwhere(beyond(numbers, limit))[0].tolist()))
        at_frac = frac if asked is None else asked
        msg = f"{what}{where} exceeds {limit:.4g}, the most for {s.n} parties at frac={at_frac}: scale the data or pass a smaller frac="
        # The cause would say to declare a larger bound, which nobody declares here.
        raise PrecisionError(msg) from None


@overload
def pooled(s: Session, mine: Encoded, *, terms: Terms = ()) -> Coroutine[Any, Any, NDArray[Any]]: ...
@overload
def pooled(s: Session, mine: Encoded, to: Receivers | None, terms: Terms = ()) -> Coroutine[Any, Any, NDArray[Any] | None]: ...
def pooled(s: Session, mine: Encoded, to: Receivers | None = None, terms: Terms = ()) -> Coroutine[Any, Any, NDArray[Any] | None]:
    """Reveal the sum of what all parties have.  `terms` are what it means: the protocol, what is public of it, and the columns' names.

    Nothing else says it: the sum of a mean and that of a sum are opened alike, and each party would read the total in its own way.
    """
    return s.reveal(s.zero(mine.words.shape, frac=mine.frac, terms=terms).add_own(mine), to)


@contextmanager
def noting(names: tuple[str, ...], labels: tuple[str, ...] = ()) -> Iterator[None]:
    """A Disagreement within gets notes of this party's columns, if they have names, and of its rows, if these have `labels`, which may be data.

    Those of others never come here: only lineages are compared.
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
                "this party's rows are added by their place, and have an index that does not count from 0: all parties pass the same index in the same "
                "order, such as frame.reindex(agreed, fill_value=0), or frame.reset_index(drop=True) where the rows have no meaning of their own"
            )
        raise


def checked_ddof(ddof: Any) -> float:
    """`ddof` as a float; ConfigError for what is no number."""
    if not isinstance(ddof, Real):
        msg = f"ddof={ddof!r} must be a number"
        raise ConfigError(msg)
    return float(ddof)


def enough_rows(count: float, ddof: int) -> None:
    """ConfigError unless so many pooled rows have a variance."""
    if count <= ddof:
        not_empty(count)
        msg = f"{count:g} pooled rows are too few for ddof={ddof}: pass a smaller ddof, or more rows"
        raise ConfigError(msg)


def not_empty(count: float, what: str = "row", *, lacks: str = "no mean") -> float:
    """The number of pooled rows; ConfigError if there are none."""
    if count == 0:
        msg = f"the pool is empty: no party has any {what}, so there is {lacks}"
        raise ConfigError(msg)
    return count
