"""Groups of factors: the product of several is opened under a mask of its own, and is one factor in their place (decisions 0016, 0024).

An opening goes on beside the program, and only whoever reads the words of a product waits for it.  Groups that need nothing of each other are opened
together: one relation, one message and one scope for all of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mpc.kernels.sets import folded
from mpc.ledger import Cost, together
from mpc.naming import correlations, expressions
from mpc.naming.correlations import MASK, products_of
from mpc.naming.expressions import NAMED_NODES
from mpc.ops.declare import opening
from mpc.ring import count
from mpc.values.derived import Group
from mpc.values.secret import lineage_of
from mpc.values.unmade import begin, make

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.ring import Words
    from mpc.session import Session
    from mpc.values.derived import Factor, Opened
    from mpc.values.shares import AShare

MANY = 10
"""Where so many factors may be known, groups are of plain factors alone, or of groups alone, so that only few wait for others; else of all that a product has."""
GROUP = 8
"""Factors of a group, where many are known."""
NODES = 2 * NAMED_NODES
"""What the names of the masks in one relation may have to fit into a message, as those of two masked values do."""
WAITING = 1 << 8
"""Words of factors that a product may have which nobody reads, before groups of them are opened."""


@lru_cache(maxsize=1 << 10)
def most_factors(shape: tuple[int, ...]) -> int:
    """Of how many factors the words of a product of this shape can be made without an opening."""
    return min(correlations.MAX_FACTORS, (correlations.MAX_TERMS // max(count(shape), 1)).bit_length() - 1)


@lru_cache(maxsize=1 << 10)
def most_waiting(shape: tuple[int, ...]) -> int:
    """How many factors such a product may have until somebody reads it."""
    most = most_factors(shape)
    return max(most, WAITING // max(count(shape), 1)) if most >= MANY else most


def chosen(are_groups: Sequence[bool]) -> list[list[int]]:
    """Which of many factors become groups: the plain ones or the groups, whichever are more.  One list for each place in a group; the groups are the rows."""
    plain = 2 * sum(are_groups) <= len(are_groups)
    pool = [at for at, is_group in enumerate(are_groups) if is_group != plain]
    size = min(GROUP, len(pool))
    rows = len(pool) // size
    # Neighbours, which are often rows of one masked value, are in one list: together they have a short name.
    return [pool[place * rows : (place + 1) * rows] for place in range(size)]


def dealt(size: int, factors: int) -> Cost:
    """What the dealer sends for a product of so many factors."""
    return Cost(dealer=8 * ((1 << factors) - 1 - factors) * size)


def cost(n: int, size: int, plain: int, groups: int, limit: int) -> tuple[Cost, int]:
    """What it costs until at most `limit` of these factors of `size` elements are left, and how many are."""
    total, factors = Cost(), [*[(True, 0)] * groups, *[(False, 0)] * plain]
    while len(factors) > limit:
        columns = chosen([is_group for is_group, _ in factors])
        taken, rows = {at for column in columns for at in column}, len(columns[0])
        depth = 1 + max(factors[at][1] for at in taken)
        opened = Cost(depth, opening(n, size).payload * rows)
        total = together(total, opened, *[dealt(size, len(columns))] * rows)
        factors = [*(each for at, each in enumerate(factors) if at not in taken), *[(True, depth)] * rows]
    return total, len(factors)


def grouped(s: Session, scope: Scope, factors: Sequence[Factor], limit: int) -> Sequence[Factor]:
    """At most `limit` factors of the same product; what groups of them lack is asked for now, and they are opened beside the program."""
    while len(factors) > limit:
        columns = chosen([isinstance(factor, Group) for factor in factors])
        taken = {at for column in columns for at in column}
        rest = [factor for at, factor in enumerate(factors) if at not in taken]
        rows = _rows([factors[at] for at in taken], len(columns))
        for start in range(0, len(columns[0]), rows):
            rest += _groups(s, scope, [[factors[at] for at in column[start : start + rows]] for column in columns])
        factors = rest
    return factors


def _rows(factors: Sequence[Factor], size: int) -> int:
    """How many groups of so many of these factors one relation may have: its words are few, and its name fits into a message."""
    terms = (correlations.MAX_TERMS >> size) // max(count(factors[0].shape), 1)
    return max(1, min(terms, NODES // (size * max(factor.name.nodes for factor in factors))))


def _groups(s: Session, around: Scope, columns: list[list[Factor]]) -> list[Group]:
    # A scope of its own, whose rounds count for whoever waits for the groups.
    scope, shape = around.child("group"), (len(columns[0]), *columns[0][0].shape)
    name = expressions.mask(scope.ranges.take(MASK, shape))
    lineage = lineage_of("mul", *(factor.lineage for column in columns for factor in column))
    stacks = tuple([expressions.stack([factor.name for factor in column]) for column in columns])
    fetching = s.source.begin(scope, products_of(scope.ranges, stacks))
    opening = s.beside(_opened(s, scope, columns, fetching, name, lineage), fetching)
    names = [expressions.index(name, expressions.normal_index(row, shape)) for row in range(shape[0])]
    return [Group(each, lineage_of("index", lineage, row), scope, opening, (row, ...)) for row, each in enumerate(names)]


async def _opened(
    s: Session,
    scope: Scope,
    columns: list[list[Factor]],
    fetching: Coroutine[Any, Any, list[Words]],
    name: Expression,
    lineage: int,
) -> Opened:
    opened = [[await factor.opened(scope) for factor in column] for column in columns]
    (words,) = await fetching
    return await s.open_masked(scope, await s.compute(_products, name.shape, opened, words, s.first), name, lineage)


def _products(columns: list[list[Opened]], dealt: Words, first: bool) -> Words:  # noqa: FBT001
    differences_and_masks = (zip(*column, strict=True) for column in columns)
    return product_of([(np.stack(differences), np.stack(masks)) for differences, masks in differences_and_masks], dealt, first)


def product_of(opened: Sequence[Opened], dealt: Words, first: bool) -> Words:  # noqa: FBT001
    """This party's share of the product of factors, of which each is open but for a mask, from what was `dealt` of these masks."""
    differences, masks = ([words.reshape(-1) for words in part] for part in zip(*opened, strict=True))
    return folded(differences, masks, dealt, first=first).reshape(opened[0][0].shape)


async def group_of(s: Session, around: Scope, product: AShare, factors: Sequence[Factor]) -> Group:
    """One factor in place of all of `product`: its words are opened."""
    scope = around.child("group")
    await s.room(scope)
    name = expressions.mask(scope.ranges.take(MASK, product.shape))
    lineage = lineage_of("mul", *(factor.lineage for factor in factors))
    await begin(scope, [product.held])
    return Group(name, lineage, scope, s.beside(_opened_words(s, scope, product, name, lineage)), (...,))


async def _opened_words(s: Session, scope: Scope, product: AShare, name: Expression, lineage: int) -> Opened:
    await make(scope, [product.held])
    return await s.open_masked(scope, product.words, name, lineage)
