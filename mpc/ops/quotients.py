"""Quotients, which are what a truncation gives, and products of them with masked values (papers: catrina10, dalskov20).

From c = x + 2^62 + r, which is open, x / 2^m is (c >> m) - (r >> m) + (1 - msb c)·2^(64-m)·(msb r) - 2^(62-m), with error 0 or one unit in
the last place.  r >> m and msb r are dealt, the latter mod 2^32 only, since it is multiplied by 2^(64-m).  So a quotient is C + M, where C is public and
of M = k·(msb r) - (r >> m) the dealer knows both parts: times masked values it is linear in products that can be dealt before anything is opened.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mpc import correlations, expressions
from mpc.correlations import MAX_CONTINUED, QUOTIENT, SHORT_NODES, Relation
from mpc.derived import Done, Quotient, Truncation
from mpc.expressions import NAMED_NODES
from mpc.ledger import Cost
from mpc.ops.declare import Operand, opening
from mpc.ops.later import Later, watched
from mpc.ring import count, frozen
from mpc.scope import running
from mpc.secret import lineage_of
from mpc.sets import folded
from mpc.unmade import begin, make

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mpc.derived import Opened
    from mpc.expressions import Expression
    from mpc.masked import Masked
    from mpc.ring import Words
    from mpc.scope import Scope
    from mpc.session import Session
    from mpc.shares import AShare
    from mpc.unmade import Held

MAX_DROP = 32
MAX_EXPONENT = 1000
"""Of a scale that floats can hold together with a bound."""
MAX_NODES = 2 * NAMED_NODES - MAX_CONTINUED * SHORT_NODES
"""What the name of a quotient's mask may have so that a relation of it and as many short ones fits into a message."""
LIMIT = 2.0**62
"""What a word stays below that is truncated."""


def lifted(opened: Words) -> Words:
    """C = x + 2^(k-2) + r from x + r, in words of k bits; flat, since numpy warns where 0-d words wrap."""
    return opened.reshape(-1) + opened.dtype.type(1 << (8 * opened.dtype.itemsize - 2))


async def rounded(s: Session, c: Words, high: Words, top: Words, drop: int, shape: tuple[int, ...]) -> Words:
    """This party's share of a quotient; see `truncated`."""
    return await s.compute(_shaped, shape, c, high, top, drop, s.first, shape)


def _shaped(c: Words, high: Words, top: Words, drop: int, first: bool, shape: tuple[int, ...]) -> Words:  # noqa: FBT001
    return truncated(c, high, top, drop, first=first).reshape(shape)


def truncated(c: Words, high: Words, top: Words, drop: int, *, first: bool) -> Words:
    """This party's share of x >> drop, from c = x + 2^(k-2) + r open and shares of r >> drop and of the top bit of r; words of k bits."""
    share = _lost(c, drop)
    share *= top.astype(c.dtype)
    share -= high
    if first:
        share += _whole(c, drop)
    return share


def _whole(c: Words, drop: int) -> Words:
    word, width = c.dtype.type, 8 * c.dtype.itemsize
    whole = c >> word(drop)
    whole -= word(1 << (width - 2 - drop))
    return whole


def _lost(c: Words, drop: int) -> Words:
    # The carry out of x + 2^(k-2) + r is lost mod 2^k; it happened just if r's top bit is 1 and c's is 0.
    word, width = c.dtype.type, 8 * c.dtype.itemsize
    return (~c >> word(width - 1)) << word(width - drop)


def wrapped(s: Session, words: Held, frac: int, bound: float, drop: int, lineage: int, origin: Truncation | None = None) -> AShare:
    """The share of a value of `frac` bits that lost `drop`."""
    # One unit in the last place more than the value itself.
    return s.share(words, frac=frac - drop, bound=bound + 2.0 ** (drop - frac), lineage=lineage, origin=origin)


def continues(z: Operand, y: Operand) -> bool:
    """Whether z·y is linear in what can be dealt before it is asked for."""
    return z.is_quotient and y.is_masked and z.shape == y.shape


def is_few(shape: tuple[int, ...], factors: int, dropped: int) -> bool:
    """Whether a quotient times so many factors, which lose so many bits, may be opened at once."""
    return factors <= MAX_CONTINUED and dropped <= MAX_DROP and count(shape) << factors + 2 <= correlations.MAX_TERMS


def extends(z: Operand, y: Operand, drop: int) -> bool:
    """Whether z·y, truncated, is opened in place of z.  A function of public numbers, so it is the same at all parties and in a dry run."""
    if not (z.since and y.factors and is_few(z.shape, z.since + 1, z.dropped + drop)):
        return False
    exponent = z.frac + z.dropped + y.frac
    return exponent < MAX_EXPONENT and (z.bound + 2.0**-z.frac) * y.bound * 2.0**exponent < LIMIT


def cost(n: int, z: Operand, y: Operand, drop: int) -> Cost:
    """What z·y, truncated, costs, where z is there or is opened together with it."""
    factors, size = z.since + 1 if extends(z, y, drop) else 1, count(z.shape)
    sets = (1 << factors) - 1
    return opening(n, size).then(Cost(dealer=(8 * (1 + 2 * sets - factors) + 4 * (1 + sets)) * size))


class Steps(NamedTuple):
    """What a product is of: a quotient and masked values, which have lost `drop` bits in all; it is opened under the mask `rho`."""

    base: Quotient
    factors: tuple[Masked, ...]
    drop: int
    rho: Expression
    lineage: int


async def product(s: Session, z: AShare, origin: Truncation, y: Masked, drop: int) -> AShare:
    """The product of a quotient and a masked value, truncated; see `mul_trunc`."""
    scope = running(s)
    if origin.base is not None and extends(z, y, drop):
        base, factors, dropped = origin.base, (*origin.factors, y), origin.quotient.drop + drop
    else:
        if origin.base is not None:
            await begin(scope, [z.held])
        base, factors, dropped = origin.quotient, (y,), drop
    lineage = lineage_of("trunc", lineage_of("mul", z.lineage, y.lineage), drop)
    steps = Steps(base, factors, dropped, expressions.mask(scope.ranges.take("mask", z.shape)), lineage)
    words: Held
    if y.factors and is_few(z.shape, len(factors) + 1, dropped + drop) and base.mask.nodes <= MAX_NODES:
        # A further product like this one takes no opening of it.
        words = later = QuotientWords(s, scope, z.shape, partial(_begin, s, scope, steps))
        truncation = Truncation(Quotient(steps.rho, dropped, later), base, factors)
        if watched(s):
            await make(scope, [later])
    else:
        work, fetching = _begin(s, scope, steps, scope)
        try:
            c, words = await work
        finally:
            fetching.close()
        truncation = Truncation(Quotient(steps.rho, dropped, Done((c, words))))
    return wrapped(s, words, z.frac + y.frac, z.bound * y.bound, drop, lineage, truncation)


class QuotientWords(Later["Opened"]):
    """The words of a quotient, and what was opened for them, c."""

    __slots__ = ("_c",)

    @property
    def opens(self) -> bool:
        """See Unmade."""
        return True

    def take(self, outcome: Opened) -> None:
        """See Later."""
        self._c, words = outcome
        self.words = frozen(words)

    async def result(self, scope: Scope) -> Opened:
        """See Opening; somebody has begun it."""
        await self.finish(scope)
        scope.depth = max(scope.depth, self.depth)
        return self._c, self.there()


def _begin(s: Session, of: Scope, steps: Steps, scope: Scope) -> tuple[Coroutine[Any, Any, Opened], Coroutine[Any, Any, list[Words]]]:
    """The work in `scope`, and what it fetches: the only relation of the op's own scope `of`."""
    names = (steps.base.mask, *(y.name for y in steps.factors), steps.rho)
    relation = Relation.fresh(of.ranges, f"{QUOTIENT}{len(steps.factors)}", (steps.base.drop, steps.drop), names)
    fetching = s.source.begin(scope, relation)
    return _opened(s, scope, steps, fetching), fetching


async def _opened(s: Session, scope: Scope, steps: Steps, fetching: Coroutine[Any, Any, list[Words]]) -> Opened:
    base, factors, drop, rho, lineage = steps
    c, z = await base.opening.result(scope)
    high, products, top, tops = await fetching
    own = await s.compute(_times, rho.shape, z, c, base.drop, factors, products, tops, s.first)
    opened, _ = await s.open_masked(scope, own, rho, lineage)
    c = lifted(opened)
    return c, await rounded(s, c, high, top, drop, rho.shape)


def _times(z: Words, c: Words, drop: int, factors: tuple[Masked, ...], products: Words, tops: Words, first: bool) -> Words:  # noqa: FBT001
    halves = (1 << len(factors)) - 1
    whole, lost, m = _whole(c, drop), _lost(c, drop), z.reshape(-1)
    if first:
        m = m - whole
    # Products with M, of sets that come last: those with k·msb(r), less those with r >> m.
    dealt = products.reshape(2 * halves - len(factors), -1)
    dealt[-halves:] = lost * tops.reshape(halves, -1) - dealt[-halves:]
    differences, masks = [y.difference.reshape(-1) for y in factors], [y.mask.reshape(-1) for y in factors]
    return folded([*differences, whole], [*masks, m], dealt, first=first).reshape(z.shape)
