"""The labels that the index of a frame, a series or a dataset's table gives its rows: they say which rows of two arguments, or two parties,
belong together.

Arrays and lists have no index, nor have frames of polars and Arrow: their rows belong together by their place.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import numpy as np

from mpc import ConfigError

SEVERAL = 1 << 11
"""Labels that are written out at once.  For more, dates take longer than 10 ms, so a thread writes them out and heartbeats go on."""


def index_of(x: object) -> Any:
    """Return the index of a pandas frame or series, or of anything that works like one, such as a table; None if rows have no index."""
    # Never what `__getattr__` makes up, and no method: lists have one of this name.
    labels: Any = None if callable(inspect.getattr_static(x, "index", print)) else getattr(x, "index")  # noqa: B009  an object of any type
    return labels if hasattr(labels, "equals") else None


async def row_labels(*data: object) -> tuple[str, ...]:
    """Return one text of the row labels of the first index among `data` that does not count from 0; nothing if there is none."""
    for labels in map(index_of, data):
        if labels is None:
            continue
        text = await asyncio.to_thread(_text, labels) if len(labels) > SEVERAL else _text(labels)
        if text:
            return (text,)
    return ()


def _text(labels: Any) -> str:
    """Return the labels as they print; empty if they count from 0."""
    if np.array_equal(labels, np.arange(len(labels))):
        return ""
    # Compared as they print: a label of two levels is a tuple, in which the types of numbers would differ.
    return repr([[str(part) for part in label] if isinstance(label, tuple) else str(label) for label in labels])


def check_paired(name: str, x: object, other: str, y: object) -> None:
    """Raise ConfigError if both arguments of a party have an index, and these differ: by their place, rows would not belong together.

    An index that counts from 0 is an index too: the other argument may have been sorted or filtered, or may have lost its own index.
    """
    mine, others = index_of(x), index_of(y)
    # With other lengths the shapes are wrong, and the caller that knows the right ones reports that.
    if mine is None or others is None or len(mine) != len(others) or mine.equals(others) or others.equals(mine):
        return
    msg = (
        f"the rows of {other} are labelled differently from those of {name} (their pandas indexes differ): pass {other}.loc[{name}.index], "
        f"or where rows belong together by their place, {other}.to_numpy()"
    )
    raise ConfigError(msg)
