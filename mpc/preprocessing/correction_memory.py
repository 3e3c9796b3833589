"""How much memory making a correction takes: the asking party chooses shapes, however short its message is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mpc.kernels.limbs import AT_MOST
from mpc.naming.evaluation import addends, in_part, needed, takes_few
from mpc.naming.expressions import MATRIX_PRODUCTS
from mpc.ring import WORD, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpc.naming.correlations import Relation
    from mpc.naming.expressions import Expression

T = TypeVar("T")


class Size(NamedTuple):
    """Sizes of a value in words: kept for it, and in use at the worst moment while it is made."""

    kept: int
    peak: int


def memory_of(relation: Relation, n: int) -> int:
    """About the most bytes in use while `correction` makes the correction of this relation between n parties."""
    values = _together(relation.expressions, lambda each: _value(each, n))
    masks = sum(count(where.shape) for where in relation.bits)
    # The masks and a party's share of one; the arrays of the value, a share of it, and all of them in one.
    made = WORD.itemsize * 2 * masks + 3 * relation.nbytes
    return max(WORD.itemsize * values.peak, WORD.itemsize * values.kept + made)


def _together(parts: Iterable[T], of: Callable[[T], Size]) -> Size:
    """The size of values that are made one after the other, and kept."""
    kept = peak = 0
    for each in map(of, parts):
        peak = max(peak, kept + each.peak)
        kept += each.kept
    return Size(kept, peak)


def _value(expression: Expression, n: int) -> Size:
    operation, parts, words = expression.operation, expression.parts, count(expression.shape)
    if not parts:
        # The sum, and the stream that is added to it.
        return Size(words, 2 * words)
    if takes_few(expression):
        return _part(expression, words, n)
    made = _together(parts * n if operation == "cross" else parts, lambda each: _value(each, n))
    if operation in {"index", "transpose"}:
        return made
    peak = max(made.peak, made.kept + words + _beside(expression, n))
    # Reshaping copies if it must.
    return Size(max(words, made.kept) if operation == "reshape" else words, peak)


def _part(expression: Expression, words: int, n: int) -> Size:
    """The size of `words` consecutive words of a value, as `evaluate` makes them."""
    operation, parts = expression.operation, expression.parts
    if not parts:
        return Size(words, 2 * words)
    if operation in MATRIX_PRODUCTS:
        return _value(expression, n)
    made = _together(needed(expression, words), lambda each: _part(*each, n))
    if in_part(expression):
        return made if operation in {"reshape", "index"} else Size(words, max(made.peak, made.kept + words))
    # Its places, those in a part while they are computed, and those within the span.
    places = words * addends(expression)
    return Size(words, words + max(3 * places, places + made.peak, 3 * places + made.kept))


def _beside(expression: Expression, n: int) -> int:
    """The words that an operation makes beside its value."""
    operation, words = expression.operation, count(expression.shape)
    sizes = [count(part.shape) for part in expression.parts]
    if operation == "pairs":
        # Both elements of each, and their indices: numpy finds these among all possible ones, which are bytes.
        extent = expression.parts[0].shape[-1]
        return 2 * words + extent**2 * 3 // 2
    if operation not in MATRIX_PRODUCTS:
        return 0
    # Factors in another memory order, and limbs.
    product = max(sizes) + min(AT_MOST, 4 * sum(sizes) + words)
    return product if operation == "matmul" else (n - 1) * (sum(sizes) + product) + (n - 2) * words
