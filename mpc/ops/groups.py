"""Groups of factors: the product of several is opened under a mask of its own, and is one factor in their place (decisions 0016, 0024).

An opening goes on beside the program, and only whoever reads the words of a product waits for it.  Groups that need nothing of each other are opened
together: one relation, one message and one scope for all of them.
"""

from __future__ import annotations

from collections import Counter
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
from mpc.values.derived import Pending
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


def chosen(levels: Sequence[int]) -> list[list[int]]:
    """Which of many factors become groups: one list for each place in a group; the groups are the rows.

    They are plain factors, whose level is 0, or groups, whichever are more; of groups those of the lowest level of which there are enough, else all.
    """
    plain = 2 * levels.count(0) >= len(levels)
    pool = [at for at, level in enumerate(levels) if plain is not bool(level)]
    if not plain:
        enough = [level for level, many in sorted(Counter(filter(None, levels)).items()) if many >= GROUP]
        pool = [at for at in pool if levels[at] == enough[0]] if enough else pool
    size = min(GROUP, len(pool))
    rows = len(pool) // size
    # Neighbours, which are often rows of one masked value, are in one list: together they have a short name.
    return [pool[place * rows : (place + 1) * rows] for place in range(size)]


def dealt(size: int, factors: int) -> Cost:
    """What the dealer sends for a product of so many factors."""
    return Cost(dealer=8 * ((1 << factors) - 1 - factors) * size)


def cost(n: int, size: int, levels: Sequence[int], limit: int) -> tuple[Cost, int]:
    """What it costs until at most `limit` factors are left, of `size` elements and these levels, and how many are."""
    total, factors = Cost(), [(level, 0) for level in levels]
    while len(factors) > limit:
        columns = chosen([level for level, _ in factors])
        taken, rows = {at for column in columns for at in column}, len(columns[0])
        level, depth = (1 + max(factors[at][which] for at in taken) for which in range(2))
        opened = Cost(depth, opening(n, size).payload * rows)
        total = together(total, opened, *[dealt(size, len(columns))] * rows)
        factors = [*(each for at, each in enumerate(factors) if at not in taken), *[(level, depth)] * rows]
    return total, len(factors)


def grouped(s: Session, scope: Scope, factors: Sequence[Factor], limit: int) -> Sequence[Factor]:
    """At most `limit` factors of the same product; what groups of them lack is asked for now, and they are opened beside the program."""
    while len(factors) > limit:
        columns = chosen([factor.level for factor in factors])
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


def _groups(s: Session, around: Scope, columns: list[list[Factor]]) -> list[Pending]:
    # A scope of its own, whose rounds count for whoever waits for the groups.
    scope, shape = around.child("group"), (len(columns[0]), *columns[0][0].shape)
    level = 1 + max(factor.level for column in columns for factor in column)
    name = expressions.mask(scope.ranges.take(MASK, shape))
    lineage = lineage_of("mul", *(factor.lineage for column in columns for factor in column))
    stacks = tuple([expressions.stack([factor.name for factor in column]) for column in columns])
    fetching = s.source.begin(scope, products_of(scope.ranges, stacks))
    opening = s.beside(_opened(s, scope, columns, fetching, name, lineage), fetching)
    names = [expressions.index(name, expressions.normal_index(row, shape)) for row in range(shape[0])]
    return [Pending(each, lineage_of("index", lineage, row), scope, opening, (row, ...), level) for row, each in enumerate(names)]


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
    return await _under(s, scope, await s.compute(_products, name.shape, opened, words, s.first), name, lineage)


def _products(columns: list[list[Opened]], dealt: Words, first: bool) -> Words:  # noqa: FBT001
    differences_and_masks = (zip(*column, strict=True) for column in columns)
    return product_of([(np.stack(differences), np.stack(masks)) for differences, masks in differences_and_masks], dealt, first)


def product_of(opened: Sequence[Opened], dealt: Words, first: bool) -> Words:  # noqa: FBT001
    """This party's share of the product of factors, of which each is open but for a mask, from what was `dealt` of these masks."""
    differences, masks = ([words.reshape(-1) for words in part] for part in zip(*opened, strict=True))
    return folded(differences, masks, dealt, first=first).reshape(opened[0][0].shape)


async def group_of(s: Session, around: Scope, product: AShare, factors: Sequence[Factor]) -> Pending:
    """One factor in place of all of `product`: its words are opened."""
    scope = around.child("group")
    await s.room(scope)
    name = expressions.mask(scope.ranges.take(MASK, product.shape))
    lineage = lineage_of("mul", *(factor.lineage for factor in factors))
    await begin(scope, [product.held])
    opening = s.beside(_opened_words(s, scope, product, name, lineage))
    return Pending(name, lineage, scope, opening, (...,), 1 + max(factor.level for factor in factors))


async def _opened_words(s: Session, scope: Scope, product: AShare, name: Expression, lineage: int) -> Opened:
    await make(scope, [product.held])
    return await _under(s, scope, product.words, name, lineage)


async def _under(s: Session, scope: Scope, words: Words, name: Expression, lineage: int) -> Opened:
    """What opening words - a gives, and this party's share of a, for the fresh mask `name` of their shape."""
    a = s.mask_words(name.where, words)
    opened = await s.open_hidden(scope, (words - a).reshape(-1), name, lineage)
    return opened.reshape(words.shape), a
