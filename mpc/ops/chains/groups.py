"""Groups of factors: the product of several is opened under its own mask and replaces them as one factor (decisions 0016, 0024).

An opening continues beside the program, and only readers of a product's words wait for it. Groups that do not need each other are opened
together: one relation, one message and one scope for all of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mpc.kernels.sets import folded
from mpc.ledger import Cost, together
from mpc.naming import correlations, expressions
from mpc.naming.correlations import products_of
from mpc.ops.declare import dealt_products, opening
from mpc.ring import count
from mpc.values.derived import Pending
from mpc.values.secret import lineage_of
from mpc.values.unmade import begin, make

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.op_session import OpSession
    from mpc.ring import Words
    from mpc.values.derived import Factor, Opened
    from mpc.values.shares import AShare

F = TypeVar("F")

MANY = 10
"""Known factors from which groups are made within one level, so that early factors do not wait for late ones; below, of all factors of
a product.
"""
GROUP = 8
"""Factors of a group, if many are known."""
WAITING = 1 << 8
"""Words of factors that an unread product may have before groups of them are opened."""


@lru_cache(maxsize=1 << 10)
def most_factors(shape: tuple[int, ...]) -> int:
    """The number of factors from which the words of a product of this shape can be made without an opening."""
    return min(correlations.MAX_FACTORS, (correlations.MAX_TERMS // max(count(shape), 1)).bit_length() - 1)


@lru_cache(maxsize=1 << 10)
def most_waiting(shape: tuple[int, ...]) -> int:
    """The number of factors that such a product may have until somebody reads it."""
    most = most_factors(shape)
    return max(most, WAITING // max(count(shape), 1)) if most >= MANY else most


def chosen(levels: Sequence[int]) -> list[list[list[int]]]:
    """Which of many factors become groups, by their levels: 0 for single ones; a group is one above its highest factor.

    Groups come from every level that has enough, whose factors are available at the same time. Otherwise they come from the lowest level,
    joined by the next ones while it is short: so new factors do not enter old groups. For each such pool, one list per place in a group:
    the groups are the rows.
    """
    pools: dict[int, list[int]] = {}
    for at, level in enumerate(levels):
        pools.setdefault(level, []).append(at)
    in_order = [pools[level] for level in sorted(pools)]
    enough = [pool for pool in in_order if len(pool) >= GROUP]
    if enough:
        return list(map(_places, enough))
    lowest: list[int] = []
    while len(lowest) < GROUP // 2:
        lowest += in_order.pop(0)
    return [_places(lowest[:GROUP])]


def _places(pool: list[int]) -> list[list[int]]:
    size = min(GROUP, len(pool))
    rows = len(pool) // size
    # Neighbours, which are often rows of one masked value, are in one list: together they have a short name.
    return [pool[place * rows : (place + 1) * rows] for place in range(size)]


def cost(n: int, size: int, levels: Sequence[int], limit: int) -> tuple[Cost, int]:
    """The cost until at most `limit` factors of `size` elements and these levels are left, and the number that is left."""
    total, factors = Cost(), [(level, 0) for level in levels]
    while len(factors) > limit:
        pools = chosen([level for level, _ in factors])
        rest = _rest(factors, pools)
        for columns in pools:
            rows = len(columns[0])
            level, depth = (1 + max(factors[at][which] for column in columns for at in column) for which in range(2))
            opened = Cost(depth, opening(n, size).payload * rows)
            total = together(total, opened, *[dealt_products(len(columns), size)] * rows)
            rest += [(level, depth)] * rows
        factors = rest
    return total, len(factors)


def grouped(s: OpSession, scope: Scope, factors: Sequence[Factor], limit: int) -> Sequence[Factor]:
    """At most `limit` factors of the same product. The corrections for its groups are asked for now, and they are opened beside the
    program.
    """
    while len(factors) > limit:
        pools = chosen([factor.level for factor in factors])
        rest = _rest(factors, pools)
        for columns in pools:
            rows = _rows([factors[at] for column in columns for at in column], len(columns))
            for start in range(0, len(columns[0]), rows):
                rest += _groups(s, scope, [[factors[at] for at in column[start : start + rows]] for column in columns])
        factors = rest
    return factors


def _rest(factors: Sequence[F], pools: list[list[list[int]]]) -> list[F]:
    taken = {at for columns in pools for column in columns for at in column}
    return [factor for at, factor in enumerate(factors) if at not in taken]


def _rows(factors: Sequence[Factor], size: int) -> int:
    """How many groups of `size` of these factors fit into one relation: its words are few, and its name fits into a message."""
    terms = (correlations.MAX_TERMS >> size) // max(count(factors[0].shape), 1)
    return max(1, min(terms, correlations.MAX_NAMES // (size * max(factor.name.length for factor in factors))))


def _groups(s: OpSession, around: Scope, columns: list[list[Factor]]) -> list[Pending]:
    # A scope of its own, whose rounds count for whoever waits for the groups.
    scope, shape = around.child("group"), (len(columns[0]), *columns[0][0].shape)
    level = 1 + max(factor.level for column in columns for factor in column)
    name = scope.ranges.mask(shape)
    lineage = lineage_of("mul", *(factor.lineage for column in columns for factor in column))
    stacks = tuple([expressions.stack([factor.name for factor in column]) for column in columns])
    fetching = s.source.begin(scope, products_of(scope.ranges, stacks))
    opening = s.tasks.start(_opened(s, scope, columns, fetching, name, lineage), fetching)
    names = [expressions.index(name, expressions.normal_index(row, shape)) for row in range(shape[0])]
    return [Pending(each, lineage_of("index", lineage, row), scope, opening, (row, ...), level) for row, each in enumerate(names)]


async def _opened(
    s: OpSession,
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
    """This party's share of the product of factors, each opened under a mask, from the `dealt` products of these masks."""
    differences, masks = ([words.reshape(-1) for words in part] for part in zip(*opened, strict=True))
    return folded(differences, masks, dealt, first=first).reshape(opened[0][0].shape)


async def group_of(s: OpSession, around: Scope, product: AShare, factors: Sequence[Factor]) -> Pending:
    """One factor in place of all of `product`: its words are opened."""
    scope = around.child("group")
    await s.tasks.room()
    name = scope.ranges.mask(product.shape)
    lineage = lineage_of("mul", *(factor.lineage for factor in factors))
    await begin(scope, [product.held])
    opening = s.tasks.start(_opened_words(s, scope, product, name, lineage))
    return Pending(name, lineage, scope, opening, (...,), 1 + max(factor.level for factor in factors))


async def _opened_words(s: OpSession, scope: Scope, product: AShare, name: Expression, lineage: int) -> Opened:
    await make(scope, [product.held])
    return await _under(s, scope, product.words, name, lineage)


async def _under(s: OpSession, scope: Scope, words: Words, name: Expression, lineage: int) -> Opened:
    """The opened words - a, and this party's share of a, for the fresh mask `name` of their shape."""
    hidden = s.hide(name, words)
    opened = await s.open_hidden(scope, hidden, name, lineage)
    return opened.reshape(words.shape), words - hidden.reshape(words.shape)
