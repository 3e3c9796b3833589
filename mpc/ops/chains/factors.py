"""Products that remember their masked factors, so that a further product need not open them (papers: patra21, turbospeedz).

(d1 + a1)·(d2 + a2)·... is linear in the products of the masks, which can be dealt before anything is opened. If the factors become too
many, groups of them are opened, and each group is one factor in their place; see `mpc.ops.chains.groups`. While a program does nothing but
multiply on, its product waits with many factors: then its groups are opened side by side. An operand that is no factor yet is masked beside
the program (decision 0025). A product is made when somebody reads its words: the next product does not.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mpc.later import Later, Opens, watched
from mpc.ledger import Cost, together
from mpc.naming.correlations import products_of
from mpc.naming.scope import running
from mpc.ops.chains.groups import MANY, group_of, grouped, most_factors, most_waiting, product_of
from mpc.ops.chains.groups import cost as groups_cost
from mpc.ops.declare import Operand, dealt_products, masking, opening
from mpc.ring import count
from mpc.values.derived import Derived, Factors, Pending
from mpc.values.masked import Masked, masked_lineage
from mpc.values.secret import lineage_of
from mpc.values.shares import AShare
from mpc.values.unmade import begin, make

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.op_session import OpSession
    from mpc.ring import Words
    from mpc.values.derived import Factor, Opened


def is_known(x: Operand, y: Operand) -> bool:
    """Whether the product of x and y remembers its factors."""
    if x.shape != y.shape or (x.is_masked and not x.factor_count) or (y.is_masked and not y.factor_count):
        return False
    return most_factors(x.shape) > 1


def cost(n: int, x: Operand, y: Operand) -> Cost:
    """The cost of the product of x and y, if it remembers its factors; its words are made."""
    size, most, fresh = count(x.shape), most_factors(x.shape), [z for z in (x, y) if not z.factor_count]
    if most >= MANY:
        groups = [*x.groups, *y.groups]
        plain = x.factor_count + y.factor_count - len(groups)
        opened, left = groups_cost(n, size, groups + [0] * plain, most - len(fresh))
        return together(masking(n, *fresh), opened, dealt_products(left + len(fresh), size))
    sides = [x.factor_count or 1, y.factor_count or 1]
    whole = _whole_sides(sides, most)
    left = sum(1 if side in whole else k for side, k in enumerate(sides))
    return together(masking(n, *fresh), *[opening(n, size)] * len(whole), dealt_products(left, size))


def _whole_sides(counts: Sequence[int], most: int) -> list[int]:
    """The operands, x (0) or y (1), that become one factor each, given their numbers of factors and the limit `most`: the one with
    more, or both.
    """
    larger = int(counts[1] > counts[0])
    if sum(counts) <= most:
        return []
    return [larger] if 1 + counts[1 - larger] <= most else [0, 1]


async def product(s: OpSession, x: AShare | Masked, y: AShare | Masked) -> AShare:
    """The product of all factors of x and y. Operands that are no factors yet are masked beside the program; no words are made until
    something reads them.
    """
    scope, most, sides = running(s), most_factors(x.shape), [_factors(x), _factors(y)]
    many = (x.factor_count or 1) + (y.factor_count or 1)
    if many > most and many > (limit := _may_wait(scope, x, y, most)):
        known = await _fewer(s, scope, (x, y), sides, limit)
    else:
        known = sides[0] + sides[1]
    fresh = tuple(z for z in (x, y) if isinstance(z, AShare) and not z.factor_count)
    if fresh:
        known = (*known, *await _masked(s, scope, fresh))
        await s.tasks.pace()
    # If a product has more factors than are dealt for, its groups are opened when somebody reads it.
    kind = Later if len(known) <= most else Opens
    words: Later[Words] = kind(s, scope, x.shape, partial(_begin, s, scope, known))
    if watched(s):
        await make(scope, [words])
    frac, bound, lineage = x.frac + y.frac, x.bound * y.bound, lineage_of("mul", x.lineage, y.lineage)
    return s.share(words, frac=frac, bound=bound, lineage=lineage, origin=Factors(known, scope.path))


async def _masked(s: OpSession, scope: Scope, fresh: tuple[AShare, ...]) -> list[Pending]:
    """The operands that are no factors yet, masked beside the program in one opening."""
    aside, names = scope.aside(), [s.name_mask(z) for z in fresh]
    await s.tasks.room()
    await begin(scope, [z.held for z in fresh])
    opening = s.tasks.start(_opened(s, aside, fresh, names))
    return [Pending(name, masked_lineage(z, name), aside, opening, (row,)) for row, (z, name) in enumerate(zip(fresh, names, strict=True))]


async def _opened(s: OpSession, scope: Scope, fresh: tuple[AShare, ...], names: list[Expression]) -> Opened:
    masked = await s.masked(fresh, names, scope)
    return np.stack([each.difference for each in masked]), np.stack([each.mask for each in masked])


def _begin(
    s: OpSession, of: Scope, factors: Sequence[Factor], scope: Scope
) -> tuple[Coroutine[Any, Any, Words], Coroutine[Any, Any, list[Words]]]:
    """The work that makes a product's words, and the correction that it fetches: that of the only relation of the op's own scope `of`."""
    few = grouped(s, scope, factors, most_factors(factors[0].shape))
    fetching = s.source.begin(scope, products_of(of.ranges, tuple([factor.name for factor in few])))
    return _words(s, scope, few, fetching), fetching


def _factors(z: AShare | Masked) -> tuple[Factor, ...]:
    """The factors of z that are masked already, or will be."""
    if isinstance(z, Masked):
        return (z,)
    return z.origin.values if isinstance(z, Derived) and isinstance(z.origin, Factors) else ()


async def _fewer(
    s: OpSession, scope: Scope, operands: tuple[AShare | Masked, ...], sides: list[tuple[Factor, ...]], limit: int
) -> tuple[Factor, ...]:
    """The known factors of both operands, with groups in place of some: at most `limit` with the factors that are not known yet."""
    if limit >= MANY:
        await s.tasks.room()
        known = tuple(grouped(s, scope, sides[0] + sides[1], limit - sides.count(())))
        await s.tasks.sent()
        await s.tasks.pace()
        return known
    for side in _whole_sides([len(factors) or 1 for factors in sides], limit):
        operand = operands[side]
        if isinstance(operand, AShare):
            sides[side] = (await group_of(s, scope, operand, sides[side]),)
    await s.tasks.pace()
    return sides[0] + sides[1]


def _may_wait(scope: Scope, x: AShare | Masked, y: AShare | Masked, most: int) -> int:
    """How many factors the product may have: more than the `most` that are dealt for if it continues the product of the call just
    before, until it is read.
    """
    # If an operand has no factors, its words are masked, and read for that.
    goes_on = most >= MANY and x.factor_count and y.factor_count and (_was_last(scope, x) or _was_last(scope, y))
    return most_waiting(x.shape) if goes_on else most


def _was_last(scope: Scope, z: AShare | Masked) -> bool:
    """Whether z is the product of the call just before, so that no op has read it. Depends on the program alone, so all parties agree."""
    return isinstance(z, Derived) and isinstance(z.origin, Factors) and scope.comes_after(z.origin.call)


async def _words(s: OpSession, scope: Scope, factors: Sequence[Factor], fetching: Coroutine[Any, Any, list[Words]]) -> Words:
    """This party's share of the product of all factors."""
    opened = [await factor.opened(scope) for factor in factors]
    (dealt,) = await fetching
    return await s.compute(product_of, factors[0].shape, opened, dealt, s.first)
