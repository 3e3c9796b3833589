"""The dealer's corrections for relations, from the seeds of all parties (paper: beaver91)."""

from __future__ import annotations

from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING

import numpy as np

from mpc.kernels import wide
from mpc.naming.evaluation import addends, evaluate, first_word, in_part, needed, takes_few
from mpc.naming.expressions import MATRIX_PRODUCTS, multiplications
from mpc.naming.streams import BIT_MASK, MASK
from mpc.ring import WORD, count, zeros

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.messaging.sinks import Bytes
    from mpc.naming.correlations import Relation
    from mpc.naming.expressions import Expression, Wanted
    from mpc.naming.streams import Seed
    from mpc.ring import Words

_OF_ONE_SIZE = {"reshape", "transpose", "scale"}


def correction(relation: Relation, seeds: list[Seed], to: int) -> Bytes:
    """The receiver's share: the relation's value minus (XOR, for bits) the shares that all others expand.

    It tells the receiver nothing of the value: each of those shares is a stream under a seed that the receiver lacks, and is read only
    here.
    """

    def leaf(mask: Expression, wanted: Wanted) -> Words:
        owners = seeds if mask.owner is None else [seeds[mask.owner]]
        return _whole(owners, np.add, lambda seed: seed.some(MASK, mask.where, wanted))

    shares = [partial(_share, seeds, index) for index in range(len(seeds))]
    values = [_numbers(each, seeds) if each.is_wide else evaluate(each, leaf, shares) for each in relation.expressions]
    masks = [_whole(seeds, np.bitwise_xor, methodcaller("words", BIT_MASK, where)) for where in relation.bits]
    parts = relation.value(values, masks)
    for index, seed in enumerate(seeds):
        if index != to:
            parts = relation.less(parts, seed.words(relation.usage, relation.out))
    return np.concatenate([part.view(np.uint8) for part in parts]) if len(parts) > 1 else parts[0].view(np.uint8)


def _share(seeds: list[Seed], index: int, mask: Expression, wanted: Wanted) -> Words:
    """Party `index`'s share of a mask that is not wide."""
    if mask.owner in {None, index}:
        return seeds[index].some(MASK, mask.where, wanted)
    return zeros((wanted.stop - wanted.start if isinstance(wanted, slice) else wanted.size,))


def _numbers(view: Expression, seeds: list[Seed]) -> Words:
    """The numbers of a view of a wide mask: only these become integers, however many the mask has."""
    (mask,) = view.leaves()
    begin = first_word(view)
    if begin is not None:
        end = begin + count(view.shape)
        return _whole(seeds, np.add, lambda seed: wide.numbers(seed.slice(MASK, mask.where, 2 * begin, 2 * end), view.shape))
    places = evaluate(view, lambda _, at: np.arange(at.start, at.stop, dtype=WORD) if isinstance(at, slice) else at.astype(WORD))
    first, stop = (int(places.min()), int(places.max()) + 1) if places.size else (0, 0)
    at = places - WORD.type(first)
    return _whole(
        seeds,
        np.add,
        lambda seed: wide.numbers(seed.slice(MASK, mask.where, 2 * first, 2 * stop).reshape(-1, 2)[at], at.shape),
    )


def _whole(seeds: list[Seed], combine: np.ufunc, share: Callable[[Seed], Words]) -> Words:
    first, *others = seeds
    total = share(first)
    for seed in others:
        combine(total, share(seed), out=total)
    return total


def work_of(relation: Relation) -> int:
    """About the number of word operations that a correction takes."""
    return sum(map(_work, relation.expressions)) + relation.nbytes // 8


def _work(expression: Expression) -> int:
    """The word operations for the value's words: the asking party chooses how many, even for few words."""
    parts, operation = expression.parts, expression.operation
    if takes_few(expression):
        return _work_of_some(expression, count(expression.shape))
    total = sum(map(_work, parts))
    if operation == "pairs":
        # Its places, which exist even if it has no rows.
        total += expression.shape[-1]
    if operation in MATRIX_PRODUCTS:
        left, right = parts
        return total + max(multiplications(left.shape, right.shape), count(left.shape), count(right.shape))
    return total if operation in _OF_ONE_SIZE else total + sum(count(part.shape) for part in parts)


def _work_of_some(expression: Expression, words: int) -> int:
    """As `_work`, for `words` consecutive words; no others are made if `evaluate` can avoid it."""
    parts, operation = expression.parts, expression.operation
    if operation in MATRIX_PRODUCTS:
        return _work(expression) + count(expression.shape)
    total = sum(_work_of_some(part, some) for part, some in needed(expression, words))
    if in_part(expression):
        return total + (words * len(parts) if len(parts) > 1 else 0)
    # Its places; for all pairs also where their rows begin, which exist even without rows.
    return total + words * len(parts) * addends(expression) + (parts[0].shape[-1] if operation == "pairs" else 0)
