"""Public indexes as data, by which parties tell whether they take the same elements."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mpc.errors import ProgramError
from mpc.naming.expressions import normal_index
from mpc.ring import outline
from mpc.values.secret import Secret

REMEMBERED = 1 << 15
"""Bytes of arrays up to which an index's text is cached: writing it takes longer than sending the elements taken."""


def basic_index(key: Any, shape: tuple[int, ...]) -> Any:
    """A public index of integers and slices as data; ValueError for arrays, IndexError where numpy raises one."""
    if type(key) is int and shape and -shape[0] <= key < shape[0]:
        # By far the most common case; the general code takes as long as sending a message.
        return (key % shape[0], *[(0, extent, 1) for extent in shape[1:]])
    for entry in key if isinstance(key, tuple) else (key,):
        if isinstance(entry, Secret):
            msg = "a secret is never an index; use select or a one-hot product"
            raise ProgramError(msg)
    outline(shape)[key]
    return normal_index(key, shape)


class Listed:
    """The entries of an index, some of them public arrays, written as a list: `[[0, 2], 'slice(0, 2, None)']`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def index_data(key: Any, shape: tuple[int, ...]) -> Any:
    """Any public index as data. Nothing is left out, so that parties that take different elements of equal shape differ."""
    try:
        return basic_index(key, shape)
    except ProgramError:
        raise
    except (ValueError, TypeError):
        entries = [
            np.asarray(entry) if isinstance(entry, np.ndarray | list) else repr(entry)
            for entry in (key if isinstance(key, tuple) else (key,))
        ]
    arrays = [entry for entry in entries if isinstance(entry, np.ndarray)]
    if sum(array.nbytes for array in arrays) > REMEMBERED or any(array.dtype.hasobject for array in arrays):
        return Listed(repr([entry if isinstance(entry, str) else entry.tolist() for entry in entries]))
    return Listed(_text(*[entry if isinstance(entry, str) else (entry.dtype.str, entry.shape, entry.tobytes()) for entry in entries]))


@lru_cache(maxsize=1 << 6)
def _text(*entries: str | tuple[str, tuple[int, ...], bytes]) -> str:
    return repr([entry if isinstance(entry, str) else np.ndarray(entry[1], entry[0], entry[2]).tolist() for entry in entries])
