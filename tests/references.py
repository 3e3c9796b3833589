"""The plaintext reference of every op, and operands in every form that an op takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpc.kernels import bits
from mpc.ops.declare import CHUNK
from mpc.ring import WORD, signed
from mpc.values.shares import AShare

if TYPE_CHECKING:
    from collections.abc import Callable

EDGES = (0, 1, -1, 2**62, -(2**62), -(2**63), 2**63 - 1)


@dataclass(frozen=True)
class Case:
    """How an op is tried: operands ("x" a number, "b" bits) within +-2^`reach`, and its reference on words and bits."""

    reference: Callable
    kinds: str
    shapes: tuple
    large: tuple
    parameters: tuple = ()
    reach: int = 63
    slack: int = 0
    """How many units in the last place the result may lie above the reference."""


PAIRS = (
    ((), ()),
    ((0,), (0,)),
    ((3,), (3,)),
    ((2, 3), (2, 3)),
    ((2, 1), (1, 4)),
    ((3, 0), (1, 1)),
    ((), (5,)),
)
SINGLES = (((),), ((0,),), ((3,),), ((2, 3),), ((2, 0, 3),), ((130,),))
MATRICES = (
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((2, 2, 3), (3, 2)),
)
VECTORS = (((3,), (3,)), ((0,), (0,)), ((1,), (1,)), ((200,), (200,)))
CHOICES = (((), ()), ((0,), (0,)), ((3,), (3,)), ((2, 3), (2, 3)), ((3,), (2, 3)), ((), (2, 3)))
MANY = CHUNK + 4500
TWICE, ONCE, TALL = ((MANY,), (MANY,)), ((MANY,),), ((300, 40), (40, 250))


def shifted(words, drop):
    """Words divided by 2^drop, rounded down."""
    return (signed(words) >> drop).view(WORD)


def below(x, y, drop):
    return shifted(x * y, drop)


CASES = {
    "mul": Case(np.multiply, "xx", PAIRS, TWICE),
    "matmul": Case(np.matmul, "xx", MATRICES, TALL),
    "dot": Case(np.dot, "xx", VECTORS, TWICE),
    "square": Case(lambda x: x * x, "x", SINGLES, ONCE),
    "trunc": Case(shifted, "x", SINGLES, ONCE, (20,), 62, 1),
    "mul_trunc": Case(below, "xx", PAIRS, TWICE, (9,), 30, 1),
    "matmul_trunc": Case(lambda x, y, drop: shifted(np.asarray(x @ y), drop), "xx", MATRICES, TALL, (17,), 28, 1),
    "scale": Case(lambda x, factor, drop: shifted(x * WORD.type(int(factor * 2**drop)), drop), "x", SINGLES, ONCE, (1.5, 4), 57, 1),
    "ltz": Case(lambda x: signed(x) < 0, "x", SINGLES, ONCE),
    "eqz": Case(lambda x: x == 0, "x", SINGLES, ONCE),
    "b2a": Case(lambda b: b.astype(WORD), "b", SINGLES, ONCE),
    "select": Case(lambda b, x: b.astype(WORD) * x, "bx", CHOICES, TWICE),
    "and_": Case(np.bitwise_and, "bb", PAIRS, TWICE),
    "or_": Case(np.bitwise_or, "bb", PAIRS, TWICE),
    "xor": Case(np.bitwise_xor, "bb", PAIRS, TWICE),
    "not_": Case(lambda b: 1 - b, "b", SINGLES, ONCE),
}


def values_for(case, number, shape, seed):
    """Plain words or bits: edges within reach, then random words; of some edge pairs the products are edges again."""
    rng = np.random.default_rng([seed, number, *shape])
    size = int(np.prod(shape))
    if case.kinds[number] == "b":
        return rng.integers(0, 2, shape, dtype=np.uint8)
    limit = 1 << case.reach
    edges = [word for word in (*EDGES, limit - 1, -limit) if -limit <= word < limit]
    rng.shuffle(edges)
    words = rng.integers(-limit, limit, size, dtype=np.int64)
    words[: min(size, len(edges))] = edges[:size]
    return words.view(WORD).reshape(shape)


def split(words, n, seed):
    """n words arrays that sum to `words`, for tests that need shares of any word."""
    rng = np.random.default_rng([seed, *words.shape])
    shares = rng.integers(0, 2**64, (n - 1, *words.shape), dtype=np.uint64)
    # At least 1-d: numpy warns where scalars wrap.
    last = np.atleast_1d(words) - shares.sum(axis=0, dtype=np.uint64)
    return [*shares, last.reshape(words.shape)]


def total(shares):
    """The sum of the parties' words."""
    return np.sum(shares, axis=0, dtype=WORD)


def shared(s, words, lineage, *, bound=1.0, frac=0):
    """A share of any words, whatever bound is claimed."""
    return s._ops.share(split(words, s.n, lineage)[s.index], frac=frac, bound=bound, lineage=lineage)


def owned(s, words, lineage, *, bound=1.0):
    """A private input of the last party but one."""
    owner = s.n - 2
    mine = words if s.index == owner else np.zeros_like(words)
    return AShare(mine, frac=0, bound=bound, home=s.zero(()).home, lineage=lineage, owner=owner)


def shared_bits(s, plain, lineage):
    """XOR shares of bits, junk after the last one included."""
    words = bits.pack(plain.reshape(-1))
    rng = np.random.default_rng([lineage, words.size])
    others = rng.integers(0, 2**64, (s.n - 1, words.size), dtype=np.uint64)
    mine = [*others, words ^ np.bitwise_xor.reduce(others, axis=0)][s.index]
    return s._ops.bit_share(mine, plain.shape, lineage)


async def plain_share(s, words, lineage):
    return shared(s, words, lineage)


async def strided(s, words, lineage):
    """A share whose words are neither contiguous nor in forward order."""
    if not words.ndim:
        return shared(s, np.stack([words, words]), lineage)[1]
    return shared(s, np.repeat(words, 2, axis=0)[::-1], lineage)[::-2]


async def private(s, words, lineage):
    return owned(s, words, lineage)


async def opened(s, x):
    """`x` masked, and open before the program goes on, so that its cost is not counted in what follows."""
    value = await s.mask(x)
    await s.made(value)
    return value


class Turns:
    """`work`, awaited; `waited` says whether it ever waited for something, and not only let others have a turn."""

    def __init__(self, work):
        self._work = work
        self.waited = False

    def __await__(self):
        steps = self._work.__await__()
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            self.waited = self.waited or step is not None
            yield step


async def on_its_way(s, x):
    """`x` masked, whose difference is still on its way: a reader waits until it is open."""
    return await s.mask(x)


async def masked(s, words, lineage, mask=opened):
    return await mask(s, shared(s, words, lineage))


async def private_masked(s, words, lineage, mask=opened):
    return await mask(s, owned(s, words, lineage))


def padded(words):
    rows = words.reshape(1) if not words.ndim else words
    zero = np.zeros((1, *rows.shape[1:]), WORD)
    return np.concatenate([zero, rows, zero])


async def sliced(s, words, lineage, mask=opened):
    """Rows of something larger that was masked once."""
    whole = await mask(s, shared(s, padded(words), lineage))
    return whole[1] if not words.ndim else whole[1:-1]


async def transposed(s, words, lineage, mask=opened):
    return (await mask(s, shared(s, np.array(words.T, order="C"), lineage))).T


async def linear(s, words, lineage, mask=opened):
    """3 x - y of two masked values."""
    x = np.random.default_rng(lineage).integers(0, 2**64, words.shape, dtype=np.uint64)
    x = np.asarray(x)
    both = await mask(s, shared(s, x, lineage)), await mask(s, shared(s, np.asarray(x * WORD.type(3) - words), lineage + 1))
    return both[0] * 3 - both[1]


async def backwards(s, words, lineage, mask=opened):
    """Every second row from the end."""
    if not words.ndim:
        return (await mask(s, shared(s, np.stack([words, words]), lineage)))[-1]
    return (await mask(s, shared(s, np.repeat(words, 2, axis=0)[::-1], lineage)))[::-2]


async def whole_bits(s, plain, lineage):
    return shared_bits(s, plain, lineage)


async def sliced_bits(s, plain, lineage):
    rows = plain.reshape(1) if not plain.ndim else plain
    zero = np.zeros((1, *rows.shape[1:]), np.uint8)
    whole = shared_bits(s, np.concatenate([zero, rows, zero]), lineage)
    return whole[1] if not plain.ndim else whole[1:-1]


async def transposed_bits(s, plain, lineage):
    return shared_bits(s, np.array(plain.T, order="C"), lineage).T


FORMS = (plain_share, masked, strided, private, sliced, transposed, linear, private_masked, backwards)
BIT_FORMS = (whole_bits, sliced_bits, transposed_bits)


def form_of(kind, number):
    """The form with this number, for an operand of this kind."""
    forms = BIT_FORMS if kind == "b" else FORMS
    return forms[number % len(forms)]


def added_up(values):
    """The sum of masked values in as few steps as possible: its mask's name is long, but not deep."""
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=False)
        values = [*(left + right for left, right in pairs), *values[len(values) // 2 * 2 :]]
    return values[0].assume_bound(1.0, "a lie, or of zeros")


def check_words(name, values, words):
    """Compare all parties' words of the result of one op with its reference; return the shape that it should have."""
    case = CASES[name]
    expected = np.asarray(case.reference(*values, *case.parameters))
    if expected.dtype == np.uint64:
        summed = np.sum(words, axis=0, dtype=np.uint64)
        above = signed(np.atleast_1d(summed - expected))
        assert ((above >= 0) & (above <= case.slack)).all(), (name, values, summed, expected)
    else:
        found = bits.unpack(np.bitwise_xor.reduce(words), expected.size).reshape(expected.shape)
        assert np.array_equal(found, expected), (name, values)
    return expected.shape
