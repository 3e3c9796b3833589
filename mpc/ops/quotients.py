"""Quotients: the results of truncations (papers: catrina10, dalskov20).

Let c = x + 2^(k-2) + r, in words of k bits, be open. Then x / 2^m is (c >> m) - (r >> m) + (1 - msb c)·2^(k-m)·(msb r) - 2^(k-2-m), with
error 0 or one unit in the last place. r >> m and msb r are dealt, the latter mod 2^32 only, since it is multiplied by 2^(k-m). So a
quotient is C + M, where C is public and the dealer knows both parts of M = K·(msb r) - (r >> m).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mpc.kernels import wide
from mpc.kernels.wide import WIDTH
from mpc.naming.correlations import MAX_NAMES, MAX_WIDE, SHORT
from mpc.ops.declare import CHUNK
from mpc.ring import BITS, WORD
from mpc.values.derived import Done, Quotient, Truncation
from mpc.values.secret import lineage_of

if TYPE_CHECKING:
    from mpc.kernels.wide import Numbers
    from mpc.naming.expressions import Expression
    from mpc.op_session import OpSession
    from mpc.ring import Words
    from mpc.values.shares import AShare
    from mpc.values.unmade import Held

LIMIT, WIDE_LIMIT = 2.0**62, 2.0 ** (WIDTH - 2)
"""Limits of a word, and of a number mod 2^128, that is truncated."""
MAX_NAME = MAX_NAMES - MAX_WIDE * SHORT
"""Most bytes in the name of a quotient's mask, so that a relation between it and MAX_WIDE short ones fits into a message."""


class Rounded(NamedTuple):
    """The result of a truncation: this party's words, the opened c, and the name of its mask."""

    words: Words
    c: Words
    name: Expression

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


def biased(opened: Words) -> Words:
    """The words c = x + 2^(k-2) + r, of k bits, from x + r; flat, since numpy warns where 0-d words wrap."""
    return opened.reshape(-1) + opened.dtype.type(1 << (8 * opened.dtype.itemsize - 2))


def biased_numbers(lanes: Words) -> Numbers:
    """As `biased`, for numbers mod 2^128, from the sum of their lanes."""
    return wide.array([(value + (1 << (WIDTH - 2))) % (1 << WIDTH) for value in wide.opened(lanes)], (-1,))


async def rounded(s: OpSession, c: Words | Numbers, high: Words, top: Words, drop: int, shape: tuple[int, ...]) -> Words:
    """This party's share of a quotient; see `truncated`."""
    return await s.compute(_shaped, shape, c, high, top, drop, s.first, shape)


def _shaped(c: Words | Numbers, high: Words, top: Words, drop: int, first: bool, shape: tuple[int, ...]) -> Words:  # noqa: FBT001
    return truncated(c, high, top, drop, first=first).reshape(shape)


def truncated(c: Words | Numbers, high: Words, top: Words, drop: int, *, first: bool) -> Words:
    """This party's share of x >> drop, from the opened c = x + 2^(k-2) + r and shares of r >> drop and of the top bit of r."""
    share = lost_carry(c, drop)
    share *= top.astype(share.dtype)
    share -= high
    if first:
        share += public_part(c, drop)
    return share


def public_part(c: Words | Numbers, drop: int) -> Words:
    """C as words, from the opened c."""
    if c.dtype == object:
        return wide.low([part for part, _ in public_numbers(c, drop)])
    word, width = c.dtype.type, 8 * c.dtype.itemsize
    part = c >> word(drop)
    part -= word(1 << (width - 2 - drop))
    return part


def lost_carry(c: Words | Numbers, drop: int) -> Words:
    """K as words."""
    if c.dtype == object:
        return wide.low([carry for _, carry in public_numbers(c, drop)])
    # The carry out of x + 2^(k-2) + r is lost mod 2^k; it happened exactly if r's top bit is 1 and c's is 0.
    word, width = c.dtype.type, 8 * c.dtype.itemsize
    return (~c >> word(width - 1)) << word(width - drop)


def public_numbers(c: Words | Numbers, drop: int) -> list[tuple[int, int]]:
    """C and K of each element, as integers, which do not wrap."""
    width = WIDTH if c.dtype == object else 8 * c.dtype.itemsize
    bias, carry = 1 << (width - 2 - drop), 1 << (width - drop)
    return [((value >> drop) - bias, 0 if value >> (width - 1) else carry) for value in c.tolist()]


class Dividend(NamedTuple):
    """A value to truncate, with its number of fractional bits; for a product, also the share that is added to it."""

    frac: int
    bound: float
    lineage: int
    plus: AShare | None = None

    async def added(self, s: OpSession, product: Words) -> Words:
        """This party's share of the sum, in the memory of its share of the product."""
        if self.plus is not None:
            await s.made(self.plus)
            product += self.plus.words * WORD.type((1 << self.frac - self.plus.frac) % (1 << BITS))
        return product

    def truncated(self, s: OpSession, words: Words, drop: int, origin: Truncation | None = None) -> AShare:
        """The dividend with `drop` bits fewer, as a share whose words at this party are `words`."""
        return wrapped(s, words, self.frac, self.bound, drop, lineage_of("trunc", self.lineage, drop), origin)

    def quotient(self, s: OpSession, rounded: Rounded, drop: int) -> AShare:
        """As `truncated`, but remembering how it was rounded, unless it is larger than a chunk or the name of its mask is too long."""
        words, c, name = rounded
        remembers = words.size <= CHUNK and name.length <= MAX_NAME
        return self.truncated(s, words, drop, Truncation(Quotient(lambda: name, drop, Done((c, words)))) if remembers else None)


def wrapped(s: OpSession, words: Held, frac: int, bound: float, drop: int, lineage: int, origin: Truncation | None = None) -> AShare:
    """The share of a value of `frac` bits that lost `drop`."""
    # One unit in the last place more than the value itself.
    return s.share(words, frac=frac - drop, bound=bound + 2.0 ** (drop - frac), lineage=lineage, origin=origin)
