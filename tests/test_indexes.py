"""Parties compare all of a public index; equal indexes have equal encodings, also after an array has changed."""

from __future__ import annotations

import numpy as np
import pytest

from mpc.values.indexes import REMEMBERED, index_data

SHAPE = (6, 5, 4)
ROWS = np.array([0, 5, 3])
KEYS = [
    ROWS,
    ROWS.astype(np.int8),
    (slice(None), ROWS[:, None] % 5, np.array([0, 1])),
    (..., [0, 3, 1]),
    [True, False, True, True, False, True],
    np.arange(6) % 2 == 0,
    (2, np.array([], np.int64)),
    (np.array(4), slice(1, 3), [1, 0]),
    np.zeros((0, 3), np.int64),
    (ROWS[::-1], None, 2),
]


def written(key):
    """The encoding of docs/wire.md: the list of the entries, arrays as nested lists, anything else as a text."""
    entries = key if isinstance(key, tuple) else (key,)
    return repr([np.asarray(entry).tolist() if isinstance(entry, np.ndarray | list) else repr(entry) for entry in entries])


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_an_index_of_arrays_is_written_as_the_list_of_its_entries(key):
    assert [repr(index_data(key, SHAPE)) for _ in range(2)] == [written(key)] * 2


def test_arrays_that_differ_in_one_element_are_written_otherwise():
    for size in (REMEMBERED // 8, REMEMBERED):
        one = np.arange(size)
        other = one.copy()
        other[size // 2] += 1
        texts = [repr(index_data(key, (2 * size,))) for key in (one, other, one)]
        assert texts[0] == texts[2] == written(one)
        assert texts[1] == written(other)


def test_an_array_that_a_program_changes_is_written_anew():
    rows = ROWS.copy()
    before = repr(index_data(rows, SHAPE))
    rows[0] = 1
    assert (before, repr(index_data(rows, SHAPE))) == ("[[0, 5, 3]]", "[[1, 5, 3]]")
