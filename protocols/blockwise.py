"""Sums, products and scaled copies of a party's own columns, by blocks of rows that stay in cache: each of them reads the table once.

x is (n, d).  y, if given, is (n,) and becomes the last column, so that k = d + 1.  No temporary array has the size of the table.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpc import Floats

R = TypeVar("R")

ROWS = 2048
"""Rows of a block: with fifty columns they take 0.8 MB."""
RUN = 64
"""Rows of one product: BLAS would spread larger ones over threads, which wait for each other longer than they compute."""
WORK = 16
"""Word operations that an element takes, for `Session.compute`."""
SMALL = 1 << 18
"""Elements up to which a table is processed on the event loop, in about 5 ms.  A thread processes a larger one: heartbeats go on."""


async def locally(kernel: Callable[..., R], x: Floats, *arguments: Any) -> R:
    """Return `kernel(x, *arguments)`, computed in a thread if x is large."""
    return await asyncio.to_thread(kernel, x, *arguments) if x.size > SMALL else kernel(x, *arguments)


def blocks(x: Floats) -> Iterator[slice]:
    """Yield the rows of each block."""
    return (slice(start, start + ROWS) for start in range(0, len(x), ROWS))


def not_finite(x: Floats) -> tuple[tuple[int, ...], int] | None:
    """Return the place of the first number that is not finite, and how many there are; None if there is none."""
    return beyond(x, sys.float_info.max)


def beyond(x: Floats, bound: float) -> tuple[tuple[int, ...], int] | None:
    """Return the place of the first number that is not within the bound, and how many there are; None if there is none."""
    if all((np.abs(x[rows]) <= bound).all() for rows in blocks(x)):
        return None
    bad = np.argwhere(~(np.abs(x) <= bound))
    return tuple(int(index) for index in bad[0]), len(bad)


def products(x: Floats, y: Floats | None) -> Floats:
    """(k + 2, k + 1): the products of all columns about a centre, and of a column of ones; below them the centre, 0 for the ones.

    So the last row but one has the sums about the centre and the number of rows; `about` moves all of it to another centre.  The centre is
    the mean of the first block.  If that has m of n rows, its mean is within √(n / m) standard deviations of the mean of all rows, so few
    digits cancel.
    """
    first = next(blocks(x), slice(0))
    width = x.shape[1] + 1 + (y is not None)
    run = max(16, min(RUN, (1 << 18) // width**2))
    total = np.zeros((width + 1, width))
    # Products beyond float64 become infinite, which no encoding accepts.
    with np.errstate(over="ignore", invalid="ignore"):
        if len(x):
            total[-1, :-1] = np.append(x[first].mean(axis=0), [] if y is None else y[first].mean())
        for _, block in _apart(x, y, total[-1, :-1]):
            whole = len(block) // run * run
            runs = block[:whole].reshape(-1, run, width)
            total[:-1] += np.matmul(runs.transpose(0, 2, 1), runs).sum(axis=0)
            total[:-1] += block[whole:].T @ block[whole:]
    return total


def about(own: Floats, centre: Floats) -> Floats:
    """(k + 1, k + 1): the products that `products` gives, about this centre (k,)."""
    moved = np.append(centre, 0.0) - own[-1]
    sums, rows = own[-2], own[-2, -1]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(own[:-1] + rows * np.outer(moved, moved) - (np.outer(moved, sums) + np.outer(sums, moved)))


def mean(own: Floats) -> Floats:
    """(k,): the means of the columns that `products` was made of; 0 without rows."""
    return np.asarray(own[-1] + own[-2] / max(own[-2, -1], 1.0))[:-1]


def scaled(x: Floats, y: Floats | None, centre: Floats, divisor: Floats, frac: int) -> Floats:
    """(n, k): all columns less their centre, over `divisor`, rounded to multiples of 2^-frac: the ring's values, as floats."""
    result = np.empty((len(x), len(centre)))
    for rows, block in _apart(x, y, centre):
        part = np.divide(block[:, :-1], divisor, out=result[rows])
        part *= 2.0**frac
        np.rint(part, out=part)
        part *= 2.0**-frac
    return result


def _apart(x: Floats, y: Floats | None, centre: Floats) -> Iterator[tuple[slice, Floats]]:
    """Yield blocks of all columns less their centre, and a column of ones, one after the other in the same memory."""
    d = x.shape[1]
    memory = np.ones((min(ROWS, len(x)), len(centre) + 1))
    for rows in blocks(x):
        block = memory[: len(x[rows])]
        np.subtract(x[rows], centre[:d], out=block[:, :d])
        if y is not None:
            np.subtract(y[rows], centre[d], out=block[:, d])
        yield rows, block
