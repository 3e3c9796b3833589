"""Products that remember their masked factors, so that a further product needs no opening of them (papers: patra21, turbospeedz).

(d1 + a1)·(d2 + a2)·... is linear in the products of the masks, which can be dealt before anything is opened.  Where the factors become too many,
several of them are opened as a group, beside the program, and the group is one factor in their place.  A product that opens nothing is made when
somebody reads its words: the next product does not.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from mpc.kernels.sets import folded
from mpc.ledger import Cost, together
from mpc.naming import correlations, expressions
from mpc.naming.correlations import products_of
from mpc.naming.scope import running
from mpc.ops.declare import Operand, masking, opening
from mpc.ops.later import Later, watched
from mpc.ring import count
from mpc.values.derived import Derived, Factors, Group
from mpc.values.masked import Masked
from mpc.values.secret import lineage_of
from mpc.values.shares import AShare
from mpc.values.unmade import begin, make

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.ring import Words
    from mpc.session import Session
    from mpc.values.derived import Factor, Opened
    from mpc.values.unmade import Held

MANY = 10
"""Where so many factors may be remembered, a group is of plain ones alone, or of groups alone: there are more groups, but only few wait for others."""


@lru_cache(maxsize=1 << 10)
def most_factors(shape: tuple[int, ...]) -> int:
    """How many factors a product of this shape may remember."""
    return min(correlations.MAX_FACTORS, (correlations.MAX_TERMS // max(count(shape), 1)).bit_length() - 1)


def is_known(x: Operand, y: Operand) -> bool:
    """Whether the product of x and y remembers its factors."""
    if x.shape != y.shape or (x.is_masked and not x.factors) or (y.is_masked and not y.factors):
        return False
    return most_factors(x.shape) > 1


class Numbers(NamedTuple):
    """How many factors are plain, and how many are groups."""

    plain: int
    groups: int

    @classmethod
    def of(cls, z: Operand) -> Numbers:
        """Of an operand.  What is not masked yet will be one factor."""
        return cls(z.factors - z.groups, z.groups) if z.factors else cls(1, 0)

    def next_group(self, most: int) -> Numbers:
        """Which of these factors become one group, where `most` may be known."""
        if most >= MANY and 2 * self.plain >= most:
            return Numbers(self.plain, 0)
        return Numbers(0, self.groups) if most >= MANY and 2 * self.groups >= most else self

    def after(self, group: Numbers) -> Numbers:
        """What is known when these of them have become a group."""
        return Numbers(self.plain - group.plain, self.groups - group.groups + 1)


class Grouping(NamedTuple):
    """Of which operand, x (0) or y (1), which factors become a group, and whether these are all that it has."""

    side: int
    numbers: Numbers
    whole: bool


def groupings(x: Operand, y: Operand) -> list[Grouping]:
    """What becomes a group, one after the other, for x·y to have no more factors than may be known."""
    most, sides, found = most_factors(x.shape), [Numbers.of(x), Numbers.of(y)], []
    while sum(map(sum, sides)) > most:
        larger = int(sum(sides[1]) > sum(sides[0]))
        before, group = sides[larger], sides[larger].next_group(most)
        found.append(Grouping(larger, group, group == before))
        sides[larger] = before.after(group)
    return found


def cost(n: int, x: Operand, y: Operand) -> Cost:
    """What the product of x and y costs, if it remembers its factors."""
    size, factors, opened = count(x.shape), (x.factors or 1) + (y.factors or 1), [Cost(), Cost()]
    for side, numbers, whole in groupings(x, y):
        # A further group of the same operand has the one before among its own; the words of all factors are those of the operand.
        opened[side] = opened[side].then(opening(n, size).beside(_dealt(size, 0 if whole else sum(numbers))))
        factors -= sum(numbers) - 1
    return together(masking(n, *(z for z in (x, y) if not z.factors)), *opened, _dealt(size, factors))


def _dealt(size: int, factors: int) -> Cost:
    return Cost(dealer=8 * ((1 << factors) - 1 - factors) * size)


async def product(s: Session, x: AShare | Masked, y: AShare | Masked) -> AShare:
    """The product of all factors of x and y.  What is no factor yet is masked now; where nothing is, no words are made before something reads them."""
    scope, groups = running(s), x.groups + y.groups
    if (x.factors or 1) + (y.factors or 1) > most_factors(x.shape):
        known, groups = await _grouped(s, x, y)
    else:
        known = (*_factors(x), *_factors(y))
    masks = tuple([factor.name for factor in known])
    words: Held
    if x.factors and y.factors:
        words = Later(s, scope, x.shape, partial(_begin, s, scope, known, masks))
        if watched(s):
            await make(scope, [words])
    else:
        fresh = tuple(z for z in (x, y) if isinstance(z, AShare) and not z.factors)
        masks += (names := tuple([s.take_mask(z) for z in fresh]))
        # Asked for beside the opening, which takes as long.
        fetching = s.source.begin(scope, products_of(scope.ranges, masks))
        try:
            known = (*known, *await s.masked(fresh, names))
            words = await _words(s, scope, known, fetching)
        finally:
            fetching.close()
    frac, bound, lineage = x.frac + y.frac, x.bound * y.bound, lineage_of("mul", x.lineage, y.lineage)
    return s.share(words, frac=frac, bound=bound, lineage=lineage, origin=Factors(known, groups))


def _begin(s: Session, of: Scope, factors: tuple[Factor, ...], masks: tuple[Expression, ...], scope: Scope) -> tuple[Any, Any]:
    """Words of a product, whose relation is the only one of the op's own scope `of`: the work, and what it fetches."""
    fetching = s.source.begin(scope, products_of(of.ranges, masks))
    return _words(s, scope, factors, fetching), fetching


def _factors(z: AShare | Masked) -> Sequence[Factor]:
    """The factors of z that are masked already, or will be."""
    if isinstance(z, Masked):
        return (z,)
    return z.origin.values if isinstance(z, Derived) and isinstance(z.origin, Factors) else ()


async def _grouped(s: Session, x: AShare | Masked, y: AShare | Masked) -> tuple[tuple[Factor, ...], int]:
    """The factors of x and y, with groups in place of as many as are too many, and how many groups these are."""
    operands, sides = (x, y), [list(_factors(x)), list(_factors(y))]
    for side, numbers, whole in groupings(x, y):
        parts: tuple[list[Factor], list[Factor]] = ([], [])
        for factor in sides[side]:
            parts[bool(numbers.groups if isinstance(factor, Group) else numbers.plain)].append(factor)
        operand = operands[side]
        sides[side] = [*parts[0], await _group(s, parts[1], operand if whole and isinstance(operand, AShare) else None)]
    known = (*sides[0], *sides[1])
    return known, sum(isinstance(factor, Group) for factor in known)


async def _group(s: Session, factors: Sequence[Factor], product: AShare | None) -> Group:
    """A factor in place of several, whose product is opened while the program goes on; of all factors of `product`, that is its words."""
    # A scope of its own, whose rounds count for whoever waits for the group.
    scope = running(s).child("group")
    await s.room(scope)
    name = expressions.mask(scope.ranges.take("mask", factors[0].shape))
    lineage = lineage_of("mul", *(factor.lineage for factor in factors))
    if product is not None:
        await begin(scope, [product.held])
        opening = s.beside(_opened_words(s, scope, product, name, lineage))
    else:
        fetching = s.source.begin(scope, products_of(scope.ranges, tuple(factor.name for factor in factors)))
        opening = s.beside(_opened(s, scope, factors, fetching, name, lineage), fetching)
    return Group(name, lineage, scope, opening)


async def _opened_words(s: Session, scope: Scope, product: AShare, name: Expression, lineage: int) -> Opened:
    await make(scope, [product.held])
    return await s.open_masked(scope, product.words, name, lineage)


async def _opened(
    s: Session, scope: Scope, factors: Sequence[Factor], fetching: Coroutine[Any, Any, list[Words]], name: Expression, lineage: int
) -> Opened:
    words = await _words(s, scope, factors, fetching)
    return await s.open_masked(scope, words, name, lineage)


async def _words(s: Session, scope: Scope, factors: Sequence[Factor], fetching: Coroutine[Any, Any, list[Words]]) -> Words:
    """This party's share of the product of all factors."""
    opened = [await factor.opened(scope) for factor in factors]
    (dealt,) = await fetching
    return await s.compute(_folded, factors[0].shape, opened, dealt, s.first)


def _folded(opened: Sequence[Opened], dealt: Words, first: bool) -> Words:  # noqa: FBT001
    differences, masks = ([words.reshape(-1) for words in part] for part in zip(*opened, strict=True))
    return folded(differences, masks, dealt, first=first).reshape(opened[0][0].shape)
