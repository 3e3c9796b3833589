"""Relations that a peer asks for by name: checked before memory is allocated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpc.canonical import unpack_sequence
from mpc.errors import PeerMisbehaved
from mpc.naming import correlations
from mpc.naming.correlations import (
    DROPPED,
    KINDS,
    LIFT,
    MATRIX,
    PRODUCTS,
    QUOTIENT,
    WIDE,
    WIDE_DROPPED,
    Relation,
    elements_of,
)
from mpc.naming.expressions import (
    MATRIX_PRODUCTS,
    MAX_DEPTH,
    MAX_MACS,
    MAX_SCOPE,
    MAX_WORDS,
    Range,
    add_up,
    combine,
    index,
    mask,
    multiplications,
    pairs,
    product_shape,
    reshape,
    scale,
    stack,
    transpose,
    wide,
)
from mpc.ring import MAX_NDIM, count

if TYPE_CHECKING:
    from mpc.naming.expressions import Expression


def undefined(peer: str) -> PeerMisbehaved:
    """The fault of a `peer` that asked for something that is no relation."""
    return PeerMisbehaved(peer, "asked for a relation that is not defined")


def unpack_relation(key: bytes, peer: str) -> Relation:
    """The relation with this key; PeerMisbehaved for anything else, before memory is allocated."""
    try:
        match unpack_sequence(key):
            case (str() as kind, tuple() as parameters, tuple() as expressions, tuple() as masks, out) if kind in KINDS:
                relation = _relation(kind, parameters, expressions, masks, unpack_range(out))
                # Every relation has exactly one name: a key that parties would not write is invalid.
                if relation.key == key:
                    return relation
    except (ValueError, TypeError, IndexError, OverflowError):
        pass
    raise undefined(peer)


def _relation(kind: str, parameters: tuple[Any, ...], expressions: tuple[Any, ...], masks: tuple[Any, ...], out: Range) -> Relation:
    """The relation with these parts; ValueError if no party would name it."""
    rules, numbers = KINDS[kind], (len(expressions), len(parameters))
    if numbers != (rules.expressions, rules.parameters):
        raise ValueError(numbers)
    if not all(type(parameter) is int and parameter >= 0 for parameter in parameters):
        raise ValueError(parameters)
    if kind in {"sign tree", "zero tree"} and not parameters[0]:
        raise ValueError(parameters)
    known: dict[object, Expression] = {}
    named = tuple([unpack_expression(each, known) for each in expressions])
    relation = Relation(kind, parameters, named, tuple(map(unpack_range, masks)), out)
    elements = elements_of(parameters, named)
    _check_parameters(relation, elements)
    if expressions and masks and elements != parameters[0]:
        raise ValueError(parameters)
    # A quotient times one masked value has no more words than its elements, so their number is not limited.
    has_terms = kind.startswith(PRODUCTS) or kind == f"{QUOTIENT}{correlations.MAX_CONTINUED}"
    if (kind == LIFT and elements > correlations.MAX_LIFTED) or any(map(_is_large, named)):
        raise ValueError(elements)
    if has_terms and elements << len(expressions) > correlations.MAX_TERMS:
        raise ValueError(elements)
    if kind.startswith(MATRIX):
        _check_matrices(relation)
    elif any(each.shape != named[0].shape for each in named):
        raise ValueError(expressions)
    if out.shape != (relation.layout.words,):
        raise ValueError(out)
    if tuple(where.shape for where in relation.bits) != tuple((size,) for size in rules.bit_words(elements)):
        raise ValueError(masks)
    return relation


def _check_matrices(relation: Relation) -> None:
    """ValueError unless the masks are of two matrices, or a matrix and a vector, and their product, with as many products one by one as
    parties may use.
    """
    left, right, last = relation.expressions
    if len(left.shape) != 2 or len(right.shape) > 2 or product_shape(left.shape, right.shape) != last.shape:
        raise ValueError(relation)
    # With none of them, the dealer would make whole matrices of any size for nothing.
    if not 0 < relation.layout.parts[-1].nbytes <= correlations.MAX_MATRIX:
        raise ValueError(relation)


def _is_large(expression: Expression) -> bool:
    """Whether it has a wide mask with more numbers than any party lifts: the dealer reads them as Python integers."""
    return expression.is_wide and any(count(leaf.shape) > correlations.MAX_LIFTED for leaf in expression.leaves())


def _check_parameters(relation: Relation, elements: int) -> None:
    """ValueError if the parameters do not fit the kind, or masks are wide where they may not be."""
    kind, parameters, masks = relation.kind, relation.parameters, relation.expressions
    if kind.startswith((QUOTIENT, WIDE)):
        earlier, *factors, last = masks
        _check_drops((earlier, last), parameters)
        is_wide = kind.startswith(WIDE)
        if any(each.is_wide != is_wide for each in (*factors, last)):
            raise ValueError(masks)
        if is_wide and (elements > correlations.MAX_WIDE_ELEMENTS or elements << len(factors) > correlations.MAX_WIDE_TERMS):
            raise ValueError(elements)
        return
    if kind.startswith(MATRIX):
        # One mask fewer than there are parameters belongs to quotients; those of masked values come first.
        masked = 3 - len(parameters)
        _check_drops(masks[masked:], parameters)
        if any(each.is_wide for each in (*masks[:masked], masks[-1])):
            raise ValueError(masks)
        return
    if any(each.is_wide for each in masks) or not all(parameter <= MAX_WORDS for parameter in parameters):
        raise ValueError(masks)
    if kind == "truncation":
        _check_drops(masks, parameters)


def _check_drops(masks: tuple[Expression, ...], drops: tuple[int, ...]) -> None:
    if not all(1 <= drop <= (WIDE_DROPPED if mask.is_wide else DROPPED) for mask, drop in zip(masks, drops, strict=True)):
        raise ValueError(drops)


def unpack_range(data: object) -> Range:
    """The Range in `data`; ValueError for anything else, before memory is allocated."""
    match data:
        case (str() as scope, int() as block, tuple() as shape) if (
            len(scope) <= MAX_SCOPE
            and type(block) is int
            and 0 <= block < 1 << 60
            and len(shape) <= MAX_NDIM
            and all(type(extent) is int and 0 <= extent <= MAX_WORDS for extent in shape)
            and _fits(shape)
        ):
            return Range(scope, block, shape)
    raise ValueError(data)


def unpack_expression(data: object, masks: dict[object, Expression], depth: int = MAX_DEPTH) -> Expression:
    """The expression in `data`, built by the functions that parties use; ValueError if there is none.

    If parties would have written the data differently, the expression's `key` differs from the data: the caller compares them. `masks`
    remembers the masks of one relation, whose expressions are often rows of one mask.
    """
    match data:
        case ("mask" | "wide" as operation, tuple() as where, ()):
            # Data that are equal but not valid, such as True for 1, fail the caller's comparison as well.
            known = masks.get((operation, where))
            if known is None:
                known = masks[operation, where] = mask(unpack_range(where)) if operation == "mask" else wide(unpack_range(where))
            return known
        case ("own", (scope, block, shape, int() as owner), ()) if type(owner) is int and owner >= 0:
            return mask(unpack_range((scope, block, shape)), owner)
        case (str() as operation, tuple() as parameters, (first, *others)) if depth:
            parts = [unpack_expression(part, masks, depth - 1) for part in (first, *others)]
            built = _rebuild(operation, parameters, parts)
            if any(part.is_wide for part in parts) and not built.is_wide:
                raise ValueError(operation)
            if _fits(built.shape):
                return built
    raise ValueError(data)


def _rebuild(operation: str, parameters: tuple[Any, ...], parts: list[Expression]) -> Expression:
    match operation, parameters, parts:
        case "index", _, [of] if _indexes(parameters, of.shape):
            return index(of, parameters)
        case "transpose", _, [of] if _whole(parameters) and sorted(parameters) == list(range(len(of.shape))):
            return transpose(of, parameters)
        case "reshape", _, [of] if _whole(parameters):
            return reshape(of, parameters)
        case "sum", (axis,), [of] if type(axis) is int and 0 <= axis < len(of.shape):
            return add_up(of, axis)
        case "pairs", (), [of] if of.shape:
            return pairs(of)
        case "scale", (int() as factor,), [of]:
            return scale(of, factor)
        case "stack", (), _:
            return stack(parts)
        case (("add" | "sub" | "mul" | "matmul" | "cross"), (), [left, right]):
            if operation == "cross" and not (left.is_linear and right.is_linear and len(left.shape) == len(right.shape) == 2):
                raise ValueError(operation)
            if operation in MATRIX_PRODUCTS and multiplications(left.shape, right.shape) > MAX_MACS:
                raise ValueError(operation)
            return combine(operation, left, right)
        case _:
            raise ValueError(operation)


def _fits(shape: tuple[int, ...]) -> bool:
    """Whether an array of `shape` may be made. An empty array has extents, too: there is none beyond a limit, and parts of it may have
    words.
    """
    return (count(shape) or count(tuple(filter(None, shape)))) <= MAX_WORDS


def _whole(parameters: tuple[Any, ...]) -> bool:
    return all(type(number) is int and number >= 0 for number in parameters)


def _indexes(normal: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    """Whether `normal` is what `normal_index` gives for `shape`: anything else could reach words beyond the mask that was bound."""
    entries = [entry for entry in normal if entry is not None]
    return len(entries) == len(shape) and all(map(_within, entries, shape))


def _within(entry: Any, extent: int) -> bool:
    match entry:
        case int():
            return type(entry) is int and 0 <= entry < extent
        case (start, taken, step) if all(type(number) is int for number in entry):
            last = start + (taken - 1) * step
            return step != 0 and taken >= 0 and (not taken or (0 <= start < extent and 0 <= last < extent))
    return False
