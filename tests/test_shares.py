"""Shares: local algebra, bounds, and contents that cannot leak (invariant 34)."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from mpc import AShare, BShare, PrecisionError, ProgramError
from mpc.fixed_point import decode, encode
from mpc.kernels.bits import pack, unpack
from mpc.prg import Stream
from mpc.values.secret import Home, lineage_of, parameter_lineage


def shared(values, n=3, frac=20, bound=2.0**20):
    words = encode(values, frac=frac, bound=bound)
    rest = [Stream(bytes(32), ("t", i)).words(0, words.shape) for i in range(n - 1)]
    parts = [*rest, words - sum(rest) if rest else words]
    return [AShare(part, frac=frac, bound=bound, home=Home(i, n, b"s"), lineage=1) for i, part in enumerate(parts)]


def total(shares):
    return decode(np.asarray(sum(np.atleast_1d(share.words) for share in shares)).reshape(shares[0].shape), shares[0].frac)


X = np.array([[1.5, -2.0, 3.25], [0.0, 4.0, -0.5]])
Y = np.array([[2.0, 2.0, 2.0], [-1.0, 0.5, 0.25]])

LOCAL = {
    "add": (lambda x, y: x + y, X + Y),
    "subtract": (lambda x, y: x - y, X - Y),
    "negate": (lambda x, y: -x, -X),
    "add a public array": (lambda x, y: x + Y, X + Y),
    "public minus secret": (lambda x, y: 1.5 - x, 1.5 - X),
    "public plus secret": (lambda x, y: Y + x, X + Y),
    "scale": (lambda x, y: 3 * x, 3 * X),
    "scale by an array": (lambda x, y: x * np.array([1, -2, 4]), X * [1, -2, 4]),
    "index": (lambda x, y: x[1, ::-1], X[1, ::-1]),
    "transpose": (lambda x, y: x.T, X.T),
    "reshape": (lambda x, y: x.reshape(3, 2), X.reshape(3, 2)),
    "sum": (lambda x, y: x.sum(), X.sum()),
    "sum over rows": (lambda x, y: x.sum(axis=0), X.sum(axis=0)),
    "broadcast": (lambda x, y: x + y[0], X + Y[0]),
    "one element": (lambda x, y: x[0, 1] - y[1, 0], X[0, 1] - Y[1, 0]),
}


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_local_algebra(name, n):
    work, expected = LOCAL[name]
    results = [work(x, y) for x, y in zip(shared(X, n), shared(Y, n), strict=True)]
    assert np.array_equal(total(results), expected)
    assert results[0].shape == np.shape(expected)
    assert results[0].bound >= np.max(np.abs(expected))
    assert len({result.lineage for result in results}) == 1


REFUSED = {
    "bool": (bool, "reveal the bit"),
    "equality": (lambda x: x == x, "protocols.equal"),
    "order": (lambda x: x < 3, "less_than"),
    "float": (float, "reveal"),
    "int": (int, "reveal"),
    "iteration": (list, "reveal"),
    "numpy": (np.asarray, "reveal"),
    "pickling": (pickle.dumps, "never leaves"),
    "copying": (copy.copy, "never leaves"),
    "index": (lambda x: [1, 2][x], "reveal"),
    "secret product": (lambda x: x * x, "await mul"),
    "real factor": (lambda x: x * 0.5, "await mpc.scale"),
    "secret index": (lambda x: x[x], "never an index"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_leak_or_mislead_is_refused(name):
    work, remedy = REFUSED[name]
    (share, *_) = shared(7.0)
    with pytest.raises(ProgramError, match=remedy):
        work(share)


def test_repr_shows_no_contents():
    for share in shared([123.456]):
        assert repr(share) == f"AShare(shape=(1,), frac=20, bound=1.049e+06, party={share.home.index})"


def test_shares_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        shared([1.0])[0].words[0] = 1


def test_mixing_is_refused():
    x = shared([1.0])[0]
    with pytest.raises(ProgramError, match="fractional bits"):
        x + shared([1.0], frac=10)[0]
    elsewhere = AShare(np.zeros(1, np.uint64), frac=20, bound=1.0, home=Home(0, 3, b"other"), lineage=1)
    with pytest.raises(ProgramError, match="different sessions"):
        x + elsewhere


def test_overflow_raises_before_anything_is_sent():
    x = shared([1.0], bound=2.0**42)[0]
    with pytest.raises(PrecisionError, match="Declare a smaller bound="):
        x + x
    with pytest.raises(PrecisionError, match="Declare a smaller bound="):
        shared([1.0])[0] * 2**30


def test_lineage_depends_on_operation_order_and_operands():
    seen = {lineage_of("add", 1, 2), lineage_of("add", 2, 1), lineage_of("sub", 1, 2), lineage_of("add", 1), lineage_of("add", 1, 2, 0)}
    assert len(seen) == 5


def test_bits_repeated_to_a_shape_of_numpy_integers_have_the_history_of_that_shape():
    """Otherwise a party that has such a shape would seem to differ from the others."""
    row = BShare(pack(np.array([1, 0, 1], np.uint8)), (3,), home=Home(0, 2, b"s"), lineage=1)
    repeated = row.broadcast_to((np.int64(5), np.int64(3)))
    assert repeated.lineage == lineage_of("broadcast", 1, parameter_lineage((5, 3)))
    assert unpack(repeated.words, 15).reshape(repeated.shape).tolist() == [[1, 0, 1]] * 5
