"""The words of mask expressions, as the dealer makes them: all words of one, or only a part, for which no more of its masks is read than
needed.

Streams are seekable, so the cost of a part depends on its number of words, wherever they are in their masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc.kernels.cross import cross
from mpc.kernels.halting import check_halted
from mpc.kernels.products import matmul
from mpc.naming.expressions import MATRIX_PRODUCTS, numpy_index, pair_differences
from mpc.ring import WORD, count, zeros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpc.naming.expressions import Expression, Places, Wanted
    from mpc.ring import Words

    Leaf = Callable[[Expression, Wanted], Words]

SPARSE = 4
"""Words of a span per wanted word, above which the wanted words are made one by one: that takes about as long as so many consecutive
words.
"""
LITTLE = 1 << 14
"""Words up to which a whole is made for any part of it: making it takes no longer."""
ELEMENTWISE: dict[str, Callable[[Words, Words], Words]] = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def evaluate(expression: Expression, leaf: Leaf, shares: Sequence[Leaf] = ()) -> Words:
    """The words of an expression; `leaf(mask, wanted)` gives flat words of a mask, `shares` each party's share of them."""
    check_halted()
    operation, parameters = expression.operation, expression.parameters
    if not expression.parts:
        return leaf(expression, slice(0, count(expression.shape))).reshape(expression.shape)
    if takes_few(expression):
        return _span(expression, 0, count(expression.shape), leaf, shares).reshape(expression.shape)
    if operation == "cross":
        return cross(*([evaluate(part, share) for share in shares] for part in expression.parts))
    values = [evaluate(part, leaf, shares) for part in expression.parts]
    match operation:
        case "index":
            return np.asarray(values[0][numpy_index(parameters)])
        case "transpose":
            return values[0].transpose(parameters)
        case "reshape":
            return values[0].reshape(parameters)
        case "sum":
            return np.asarray(values[0].sum(axis=parameters[0], dtype=values[0].dtype))
        case "pairs":
            return np.asarray(pair_differences(values[0]))
        case "scale":
            return np.asarray(values[0] * np.full((), parameters[0], values[0].dtype))
        case "matmul":
            return matmul(*values)
        case "stack":
            return np.stack(values)
        case _:
            return np.asarray(ELEMENTWISE[operation](*values))


def leading_rows(expression: Expression) -> int | None:
    """The place of the first word of an index that takes one row or consecutive rows whole, as most slices do; None for other indexes."""
    (inner,) = expression.parts
    first, *rest = expression.parameters
    if first is None or len(rest) + 1 != len(inner.shape):
        return None
    start, _, step = first if isinstance(first, tuple) else (first, 1, 1)
    if step != 1 or any(entry != (0, extent, 1) for entry, extent in zip(rest, inner.shape[1:], strict=True)):
        return None
    return int(start) * count(inner.shape[1:])


def first_word(view: Expression) -> int | None:
    """The place of the view's first word in its mask if its words are consecutive there; None otherwise."""
    place = 0
    while view.parts:
        first = leading_rows(view) if view.operation == "index" else 0 if view.operation == "reshape" else None
        if first is None:
            return None
        place += first
        (view,) = view.parts
    return place


def takes_few(expression: Expression) -> bool:
    """Whether it is an index for which the whole operand is not made."""
    if expression.operation != "index":
        return False
    whole = count(expression.parts[0].shape)
    return leading_rows(expression) is not None or (whole > LITTLE and SPARSE * count(expression.shape) <= whole)


def in_part(expression: Expression) -> bool:
    """Whether consecutive words of its flat value are made of as many words of each of its parts, and of no others."""
    operation, parts = expression.operation, expression.parts
    if operation == "index":
        return leading_rows(expression) is not None
    return (
        not parts
        or operation in {"reshape", "scale"}
        or (operation in ELEMENTWISE and all(part.shape == expression.shape for part in parts))
    )


def needed(expression: Expression, words: int) -> list[tuple[Expression, int]]:
    """Its parts, except of a matrix product, each with the most words of it that are made for `words` consecutive words."""
    operation, parts, most = expression.operation, expression.parts, words
    if operation == "pairs":
        rows, extent = words // max(1, expression.shape[-1]) + 2, parts[0].shape[-1]
        most = min(2 * SPARSE * words, rows * extent)
    elif operation != "stack" and not in_part(expression):
        most = SPARSE * words * addends(expression)
    same = [operation in ELEMENTWISE and part.shape == expression.shape for part in parts]
    return [(part, min(words if alike else most, count(part.shape))) for part, alike in zip(parts, same, strict=True)]


def addends(expression: Expression) -> int:
    """The number of words of a part from which each word is made."""
    if expression.operation == "sum":
        return int(expression.parts[0].shape[expression.parameters[0]])
    return 2 if expression.operation == "pairs" else 1


def _span(expression: Expression, start: int, stop: int, leaf: Leaf, shares: Sequence[Leaf]) -> Words:
    """Words start:stop of the flat value."""
    if not expression.parts:
        return leaf(expression, slice(start, stop))
    if expression.operation == "stack":
        return _span_of_stack(expression, start, stop, leaf, shares)
    if not in_part(expression):
        return _scattered(expression, np.arange(start, stop), leaf, shares)
    first = (leading_rows(expression) or 0) if expression.operation == "index" else 0
    return _applied(expression, stop - start, *(_span(part, first + start, first + stop, leaf, shares) for part in expression.parts))


def _span_of_stack(expression: Expression, start: int, stop: int, leaf: Leaf, shares: Sequence[Leaf]) -> Words:
    check_halted()
    words, size = np.empty(stop - start, WORD), max(1, count(expression.shape[1:]))
    for number in range(start // size, -(-stop // size)):
        begin = number * size
        low, high = max(start, begin), min(stop, begin + size)
        words[low - start : high - start] = _span(expression.parts[number], low - begin, high - begin, leaf, shares)
    return words


def _at(expression: Expression, places: Places, leaf: Leaf, shares: Sequence[Leaf]) -> Words:
    """The words of the flat value at these places, from the span around them unless they are far apart."""
    low, high = (int(places.min()), int(places.max()) + 1) if places.size else (0, 0)
    if high - low > SPARSE * places.size:
        return _scattered(expression, places, leaf, shares)
    return _span(expression, low, high, leaf, shares)[places - low]


def _scattered(expression: Expression, places: Places, leaf: Leaf, shares: Sequence[Leaf]) -> Words:
    """As `_at`, from the places in its parts where these words come from, if known."""
    check_halted()
    if not places.size:
        # An empty value may have extents that are larger than any array.
        return zeros((0,))
    if not expression.parts:
        return leaf(expression, places)
    if expression.operation in MATRIX_PRODUCTS:
        return evaluate(expression, leaf, shares).reshape(-1)[places]
    if expression.operation == "stack":
        return _of_stack(expression, places, leaf, shares)
    return _applied(expression, places.size, *(_at(part, origins, leaf, shares) for part, origins in _origins(expression, places)))


def _applied(expression: Expression, words: int, *values: Words) -> Words:
    """`words` words of the value, from flat words of its parts."""
    match expression.operation:
        case "scale":
            return values[0] * np.full((), expression.parameters[0], values[0].dtype)
        case "pairs":
            return values[0][:words] - values[0][words:]
        case "sum":
            return np.asarray(values[0].reshape(words, addends(expression)).sum(axis=1, dtype=values[0].dtype))
        case "index" | "transpose" | "reshape":
            return values[0]
    return ELEMENTWISE[expression.operation](*values)


def _of_stack(expression: Expression, places: Places, leaf: Leaf, shares: Sequence[Leaf]) -> Words:
    size, order = count(expression.shape[1:]), np.argsort(places, kind="stable")
    places = places[order]
    starts = np.searchsorted(places, np.arange(len(expression.parts) + 1) * size)
    words = np.empty(places.size, WORD)
    for number in np.flatnonzero(np.diff(starts)).tolist():
        chosen = slice(starts[number], starts[number + 1])
        places[chosen] -= number * size
        words[order[chosen]] = _at(expression.parts[number], places[chosen], leaf, shares)
    return words


def _origins(expression: Expression, places: Places) -> Iterator[tuple[Expression, Places]]:
    """Each part, with the places in its flat value from which the words at `places` are made."""
    shape, (part, *_) = expression.shape, expression.parts
    match expression.operation:
        case "reshape" | "scale":
            yield part, places
        case "transpose":
            steps = _steps(part.shape)
            yield part, _moved(places, shape, [steps[axis] for axis in expression.parameters])
        case "index":
            yield part, _of_index(expression, places)
        case "pairs":
            yield part, _of_pairs(part.shape[-1], places)
        case "sum":
            yield part, _of_sum(part.shape, expression.parameters[0], places)
        case _:
            for each in expression.parts:
                if each.shape == shape:
                    yield each, places
                    continue
                # Along a broadcast axis of one element, the place does not move.
                steps = [0 if extent == 1 else step for extent, step in zip(each.shape, _steps(each.shape), strict=True)]
                yield each, _moved(places, shape, [0] * (len(shape) - len(steps)) + steps)


def _steps(shape: tuple[int, ...]) -> list[int]:
    """For each axis, the distance in the flat value between neighbours along it."""
    return [count(shape[axis + 1 :]) for axis in range(len(shape))]


def _moved(places: Places, shape: tuple[int, ...], steps: Sequence[int]) -> Places:
    """The places of the words at `places` of a view of `shape`, in a flat value in which its axes have these steps."""
    moved, numbers = np.zeros_like(places), np.empty_like(places)
    size, within = 1, 0
    for extent, step in zip(reversed(shape), reversed(steps), strict=True):
        if extent == 1:
            continue
        if step != within:
            # A step along this axis takes back all those along the axis within it, whose end was reached.
            np.floor_divide(places, size, out=numbers)
            numbers *= step - within
            moved += numbers
        size, within = size * extent, step * extent
    return moved


def _of_index(expression: Expression, places: Places) -> Places:
    first, steps, inner = 0, [], iter(_steps(expression.parts[0].shape))
    for entry in expression.parameters:
        if entry is None:
            steps.append(0)
        elif isinstance(entry, int):
            first += entry * next(inner)
        else:
            start, _, step = entry
            size = next(inner)
            first += start * size
            steps.append(step * size)
    moved = _moved(places, expression.shape, steps)
    moved += first
    return moved


def _of_pairs(extent: int, places: Places) -> Places:
    """The places of all first elements, then of the second ones."""
    pairs, numbers = extent * (extent - 1) // 2, np.arange(extent)
    begins = numbers * (2 * extent - numbers - 1) // 2
    within = places - places // pairs * pairs
    both = np.empty((2, places.size), np.intp)
    both[0] = np.searchsorted(begins, within, "right") - 1
    both[1] = within - begins[both[0]] + both[0] + 1
    both += places // pairs * extent
    return both.reshape(-1)


def _of_sum(shape: tuple[int, ...], axis: int, places: Places) -> Places:
    """The places of the addends of the first word, then of the next."""
    extent, size = shape[axis], count(shape[axis + 1 :])
    before = places // size
    first = before * (extent - 1) * size + places
    return (first[:, None] + np.arange(extent) * size).reshape(-1)
