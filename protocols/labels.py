"""What the index of a frame, a series or the table of a dataset calls its rows: which rows of two arguments, or of two parties, belong together.

Arrays and lists have no index, and nor have frames of polars and Arrow: their rows belong together by their place.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import numpy as np

from mpc import ConfigError

SEVERAL = 1 << 11
"""Labels that are written out at once; of more, dates take longer than 10 ms, so that it is done in a thread and heartbeats go on."""


def _index(x: object) -> Any:
    """The index of a frame or series of pandas, or of what does as these do, such as a table; None where rows have none."""
    # Never what `__getattr__` makes up, and no method, as lists have one of this name.
    labels: Any = None if callable(inspect.getattr_static(x, "index", print)) else getattr(x, "index")  # noqa: B009  an object of any type
    return labels if hasattr(labels, "equals") else None


async def row_labels(*data: object) -> tuple[str, ...]:
    """One text of what the first index among `data` that does not count from 0 calls its rows; nothing where there is none."""
    for labels in map(_index, data):
        if labels is None:
            continue
        text = await asyncio.to_thread(_text, labels) if len(labels) > SEVERAL else _text(labels)
        if text:
            return (text,)
    return ()


def _text(labels: Any) -> str:
    """What they show; empty where they count from 0."""
    if np.array_equal(labels, np.arange(len(labels))):
        return ""
    # By what they show: a label of two levels is a tuple, in which the types of numbers would differ.
    return repr([[str(part) for part in label] if isinstance(label, tuple) else str(label) for label in labels])


def check_paired(name: str, x: object, other: str, y: object) -> None:
    """ConfigError where both arguments of a party have an index, and these differ: by their place, rows would not belong together.

    An index that counts from 0 is one, too: beside it stands what was sorted or filtered, or lost its own.
    """
    mine, others = _index(x), _index(y)
    # Of other lengths, the shapes are wrong, which is told by whoever knows the right ones.
    if mine is None or others is None or len(mine) != len(others) or mine.equals(others):
        return
    msg = (
        f"the rows of {other} are labelled differently from those of {name} (their pandas indexes differ): pass {other}.loc[{name}.index], or where rows "
        f"belong together by their place, {other}.to_numpy()"
    )
    raise ConfigError(msg)
