"""Comparisons of shares, and the largest element of many (papers: catrina10b, valiant75).

A comparison is right while |a - b| < 2^63 as a word.  Public bounds that do not guarantee this raise PrecisionError before anything is
sent.  A public number is rounded to the fractional bits of the share that it is compared with, as an input is.
"""

from __future__ import annotations

import asyncio
from functools import cache, lru_cache
from operator import sub
from typing import TYPE_CHECKING, Any

import numpy as np

import mpc
from mpc import AShare, BShare, Cost, Like, Masked, ProgramError, Session, as_numbers, mask_cost
from protocols.declare import declared, like, op_cost

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ROUND = 1 << 12
"""How many comparisons of a tournament are worth one round: about 200 kB, or 20 ms at 100 Mbit/s."""
FEW = 1 << 7
"""Elements up to which the list of all opponents is kept for the next time: 150 kB.

For more elements, making the list takes less time than comparing by it.
"""


def less_cost(n: int, a: Any, b: Any) -> Cost:
    """Return the cost of `less_than` and `less_equal`."""
    return op_cost("ltz", n, compared(a, b))


def equal_cost(n: int, a: Any, b: Any) -> Cost:
    """Return the cost of `equal`."""
    return op_cost("eqz", n, compared(a, b))


@declared(less_cost, reveals="nothing", source="catrina10b")
async def less_than(s: Session, a: AShare | Masked | ArrayLike, b: AShare | Masked | ArrayLike) -> BShare:
    """Whether a < b, elementwise with broadcasting; one side may be public numbers.  Right while |a - b| < 2^63 as a word.

    rounds 3 (2 if Masked, unless a larger public array repeats it) · bytes 8 + 4.125 per element and peer (4.125 if Masked) · reveals
    nothing
    """
    return await mpc.ltz(s, difference(a, b))


@declared(less_cost, reveals="nothing", source="catrina10b")
async def less_equal(s: Session, a: AShare | Masked | ArrayLike, b: AShare | Masked | ArrayLike) -> BShare:
    """Whether a <= b, elementwise with broadcasting; one side may be public numbers.  Right while |a - b| < 2^63 as a word.

    rounds 3 (2 if Masked, unless a larger public array repeats it) · bytes 8 + 4.125 per element and peer (4.125 if Masked) · reveals
    nothing
    """
    return await mpc.not_(s, await mpc.ltz(s, difference(b, a)))


@declared(equal_cost, reveals="nothing", source="catrina10b")
async def equal(s: Session, a: AShare | Masked | ArrayLike, b: AShare | Masked | ArrayLike) -> BShare:
    """Whether a == b, elementwise with broadcasting; one side may be public numbers.  Right while |a - b| < 2^63 as a word.

    rounds 3 (2 if Masked, unless a larger public array repeats it) · bytes 8 + 2.5 per element and peer (2.5 if Masked) · reveals nothing
    """
    return await mpc.eqz(s, difference(a, b))


def compared(a: Any, b: Any) -> Like:
    """Return what `difference` gives, as far as the cost needs it."""
    whole, secret = like(a, b), [side for side in (a, b) if isinstance(side, AShare | Masked | Like)]
    # Repeated by a larger array of public numbers, a masked value no longer has a name for its mask, and is masked again.
    return Like(whole.shape, whole.is_masked and like(*secret).shape == whole.shape, whole.owner)


def difference(a: AShare | Masked | ArrayLike, b: AShare | Masked | ArrayLike) -> AShare | Masked:
    """Return the difference a - b, of which at least one is secret, at no cost.

    It is Masked if neither is a share and public numbers leave its shape unchanged.
    """
    secret = [side for side in (a, b) if isinstance(side, AShare | Masked)]
    if not secret:
        msg = "neither side is a share or a masked value; compare public numbers with numpy"
        raise ProgramError(msg)
    try:
        if any(side.is_masked for side in secret) and not compared(a, b).is_masked:
            a, b = (side.share() if isinstance(side, Masked) else side for side in (a, b))
        # A frame or column on the left might subtract by rules of its own.
        less: AShare | Masked = sub(a if isinstance(a, AShare | Masked) else as_numbers(a), b)
    except ValueError:
        msg = f"shapes {like(a).shape} and {like(b).shape} do not broadcast"
        raise ProgramError(msg) from None
    return less


# -- the largest of many -------------------------------------------------------------------------------------------


def maximum_cost(n: int, a: Any, axis: int | None = None) -> Cost:
    """Return the cost of `maximum` and `minimum`."""
    total, rows = Cost(), rows_of(a.shape, axis)
    for number, (groups, size) in enumerate(_levels(*rows)):
        picked = op_cost("select", n, Like((groups, size)), Like((groups, size), is_masked=True))
        total = total.then(_winners_cost(n, groups, size, None if number else a.owner)).then(picked)
    return total


def argmax_cost(n: int, a: Any, axis: int | None = None) -> Cost:
    """Return the cost of `argmax` and `argmin`."""
    total, rows = Cost(), rows_of(a.shape, axis)
    for number, (groups, size) in enumerate(levels := _levels(*rows)):
        each = Like((groups, size))
        picked = op_cost("select", n, each, each) if number else op_cost("b2a", n, each)
        if number < len(levels) - 1:
            picked = picked.beside(op_cost("select", n, each, Like((groups, size), is_masked=True)))
        total = total.then(_winners_cost(n, groups, size, None if number else a.owner)).then(picked)
    return total


def _winners_cost(n: int, groups: int, size: int, owner: int | None) -> Cost:
    total = mask_cost(n, Like((groups, size), owner=owner)).then(op_cost("ltz", n, Like((groups, size * (size - 1) // 2), is_masked=True)))
    left = size - 1
    while left > 1:
        left, parts = _parts(left)
        total = total.then(op_cost("and_", n, *[Like((groups, left, size))] * parts))
    return total


def _parts(left: int) -> tuple[int, int]:
    """(rows, parts): how to cut `left` rows into up to four parts of equal length, which may overlap."""
    rows = -(-left // mpc.MAX_OPERANDS)
    return rows, -(-left // rows)


@declared(maximum_cost, reveals="nothing", source="valiant75")
async def maximum(s: Session, a: AShare | Masked, axis: int | None = None) -> AShare:
    """The largest element, of all or along `axis` as in numpy.  a: (m,) -> 0-d

    A tournament in which all pairs of a group are compared at once; the fewer elements are left, the larger the groups (see `_levels`).
    rounds for m = 2, 10, 100, 10,000, 10^6: 4, 6, 8, 22, 47 (n > 3: one more for each large opening)
    bytes per peer 24 m at 10,000 and 20 m at 10^6 · dealer 130 m and 74 m · reveals nothing
    """
    x, shape = _as_rows(s.operand(a, (AShare, Masked), "maximum"), axis)
    for groups, size in _levels(*x.shape):
        masked = await s.mask(_grouped(x, groups, size))
        x = await _picked(s, await _winners(s, masked), masked, len(x))
    return x[:, 0].reshape(shape)


@declared(maximum_cost, reveals="nothing", source="valiant75")
async def minimum(s: Session, a: AShare | Masked, axis: int | None = None) -> AShare:
    """The smallest element, of all or along `axis` as in numpy.  Rounds, bytes and what is revealed: as `maximum`."""
    return -await maximum(s, -s.operand(a, (AShare, Masked), "minimum"), axis)


@declared(argmax_cost, reveals="nothing", source="valiant75")
async def argmax(s: Session, a: AShare | Masked, axis: int | None = None) -> AShare:
    """The place of the largest element, the first among equals, of all or along `axis` as in numpy.  a: (m,) -> 0-d with frac 0

    rounds as `maximum` · bytes per peer 29 m at 10,000 and at 10^6 · dealer 147 m and 98 m · reveals nothing
    """
    x, shape = _as_rows(s.operand(a, (AShare, Masked), "argmax"), axis)
    rows = len(x)
    places: AShare | NDArray[np.int64] = np.broadcast_to(np.arange(x.shape[1]), x.shape)
    for groups, size in _levels(*x.shape):
        masked = await s.mask(_grouped(x, groups, size))
        won = await _winners(s, masked)
        kept = [_grouped(places, groups, size), *([masked] if groups > rows else [])]
        places, *values = await asyncio.gather(*(_picked(s, won, each, rows) for each in kept))
        x = values[0] if values else x
    return places[:, 0].reshape(shape) if isinstance(places, AShare) else s.zero(shape, frac=0)


@declared(argmax_cost, reveals="nothing", source="valiant75")
async def argmin(s: Session, a: AShare | Masked, axis: int | None = None) -> AShare:
    """The place of the smallest element, the first among equals.  Rounds, bytes and what is revealed: as `argmax`."""
    return await argmax(s, -s.operand(a, (AShare, Masked), "argmin"), axis)


@mpc.protocol
async def _winners(s: Session, x: Masked) -> BShare:
    """Return which element of each row is the largest, the first among equals: (groups, size) bits, one 1 in each row."""
    smaller = await mpc.ltz(s, x.pairs())
    pair, first = opponents(x.shape[1])
    # An element beats a later one unless it is smaller, and an earlier one if that is smaller.
    beats = await mpc.xor(s, smaller[:, pair], first)
    while (left := beats.shape[1]) > 1:
        rows, parts = _parts(left)
        # The last part may overlap the one before, which changes nothing: b & b = b.
        starts = [min(part * rows, left - rows) for part in range(parts)]
        beats = await mpc.and_(s, *(beats[:, start : start + rows] for start in starts))
    return beats[:, 0]


def opponents(size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(size - 1, size) each: the number of the pair in which an element meets its r-th opponent, and whether it is the pair's first."""
    return _few_opponents(size) if size <= FEW else _opponents(size)


def _opponents(size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    number = np.zeros((size, size), np.int64)
    i, j = np.triu_indices(size, 1)
    number[i, j] = number[j, i] = np.arange(i.size)
    element = np.arange(size)
    opponent = (element + np.arange(1, size)[:, None]) % size
    return number[element, opponent], element < opponent


_few_opponents = lru_cache(maxsize=64)(_opponents)


@mpc.protocol
async def _picked(s: Session, won: BShare, x: Masked | AShare | NDArray[np.int64], rows: int) -> AShare:
    """Return the element of each row of x that won: (groups, size) -> (rows, groups / rows)."""
    chosen = await mpc.select(s, won, x) if isinstance(x, AShare | Masked) else await mpc.b2a(s, won) * x
    return chosen.sum(axis=1, bound=chosen.bound).reshape(rows, -1)


def rows_of(shape: tuple[int, ...], axis: int | None) -> tuple[int, int]:
    """Return the number of rows, and of elements in each row."""
    size = int(np.prod(shape))
    length = size if axis is None else shape[axis]
    return (size // length if length else 0), length


def with_last(x: AShare | Masked, axis: int) -> list[int]:
    """Return all axes, with this one last."""
    last = x.axis(axis)
    return [*(other for other in range(x.ndim) if other != last), last]


def _as_rows(a: AShare | Masked, axis: int | None) -> tuple[AShare, tuple[int, ...]]:
    """Return the share as rows of elements that meet each other, and the shape of the result."""
    x = a.share() if isinstance(a, Masked) else a
    order = [] if axis is None else with_last(x, axis)
    shape = tuple(x.shape[other] for other in order[:-1])
    rows, length = rows_of(x.shape, axis)
    if not length:
        msg = (
            f"a share of shape {x.shape} has no largest or smallest element along "
            f"{'all axes' if axis is None else f'axis {axis}'}: it is empty there"
        )
        raise ProgramError(msg)
    return (x.transpose(*order) if order else x).reshape(rows, length), shape


def _grouped(x: Any, groups: int, size: int) -> Any:
    """Return rows of elements as groups of neighbours.  The last element repeats as often as needed, and loses to itself."""
    rows, length = x.shape
    if groups * size != rows * length:
        x = x[:, np.minimum(np.arange(groups // rows * size), length - 1)]
    return x.reshape(groups, size)


@lru_cache(maxsize=256)
def _levels(rows: int, length: int) -> tuple[tuple[int, int], ...]:
    """(number of groups, their size) of each level of the cheapest tournament; a round counts as much as ROUND comparisons.

    A level takes one round to mask, two to compare, one to pick the winners, and log4 of the opponents to find the element that beat all of
    them.
    """

    @cache
    def best(left: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        options = []
        for depth in range((left - 2).bit_length() + 1):
            groups = -(-left // min(left, 1 + 2**depth))
            size = -(-left // groups)
            cost, rest = best(groups) if groups > 1 else (0, ())
            here = ROUND * (4 + ((size - 2).bit_length() + 1) // 2) + rows * groups * size * (size - 1) // 2
            options.append((here + cost, ((rows * groups, size), *rest)))
        return min(options)

    return best(length)[1] if rows and length > 1 else ()
