"""Relations that a peer asks for, from their names: checked before anything is allocated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpc.canonical import unpack_sequence
from mpc.errors import PeerMisbehaved
from mpc.naming import correlations
from mpc.naming.correlations import (
    DROPPED,
    KINDS,
    LIFT,
    PRODUCTS,
    QUOTIENT,
    WIDE,
    WIDE_DROPPED,
    Relation,
    elements_of,
)
from mpc.naming.expressions import MAX_WORDS, unpack_expression, unpack_range
from mpc.ring import count

if TYPE_CHECKING:
    from mpc.naming.expressions import Expression, Range


def unpack_relation(key: object, peer: str) -> Relation:
    """The relation of this key; PeerMisbehaved on anything else, before anything is allocated."""
    try:
        match unpack_sequence(key) if isinstance(key, bytes) else None:
            case (str() as kind, tuple() as parameters, tuple() as expressions, tuple() as masks, out) if kind in KINDS:
                relation = _relation(kind, parameters, expressions, masks, unpack_range(out))
                # A key that parties would not have written is none: every relation has one name.
                if relation.key == key:
                    return relation
    except (ValueError, TypeError, IndexError, OverflowError):
        pass
    raise PeerMisbehaved(peer, "asked for a relation that is not defined")


def _relation(kind: str, parameters: tuple[Any, ...], expressions: tuple[Any, ...], masks: tuple[Any, ...], out: Range) -> Relation:
    """ValueError where no party would have named one."""
    rules, numbers = KINDS[kind], (len(expressions), len(masks), len(parameters))
    if numbers != (rules.expressions, rules.masks, rules.parameters):
        raise ValueError(numbers)
    if not all(type(parameter) is int and parameter >= 0 for parameter in parameters):
        raise ValueError(parameters)
    if kind in {"sign tree", "zero tree"} and not parameters[0]:
        raise ValueError(parameters)
    known: dict[object, Expression] = {}
    named = tuple([unpack_expression(each, known) for each in expressions])
    relation = Relation(kind, parameters, named, tuple(map(unpack_range, masks)), out)
    elements = elements_of(parameters, relation.expressions)
    _check_parameters(relation, elements)
    if expressions and masks and elements != parameters[0]:
        raise ValueError(parameters)
    # Of a quotient times one masked value, there are no more words than those of the elements: any number may be.
    has_terms = kind.startswith(PRODUCTS) or kind == f"{QUOTIENT}{correlations.MAX_CONTINUED}"
    if (kind == LIFT and elements > correlations.MAX_LIFTED) or any(map(_is_large, relation.expressions)):
        raise ValueError(elements)
    if has_terms and elements << len(expressions) > correlations.MAX_TERMS:
        raise ValueError(elements)
    if any(each.shape != relation.expressions[0].shape for each in relation.expressions):
        raise ValueError(expressions)
    if out.shape != (relation.layout.words,):
        raise ValueError(out)
    if tuple(where.shape for where in relation.bits) != tuple((size,) for size in rules.bit_words(elements)):
        raise ValueError(masks)
    return relation


def _is_large(expression: Expression) -> bool:
    """Whether it is of a wide mask of more numbers than any party lifts: the dealer reads them as Python's integers."""
    return expression.is_wide and any(count(leaf.shape) > correlations.MAX_LIFTED for leaf in expression.leaves())


def _check_parameters(relation: Relation, elements: int) -> None:
    """ValueError where they are none of this kind, or its masks are wide where they may not be."""
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
    if any(each.is_wide for each in masks) or not all(parameter <= MAX_WORDS for parameter in parameters):
        raise ValueError(masks)
    if kind == "truncation":
        _check_drops(masks, parameters)


def _check_drops(masks: tuple[Expression, ...], drops: tuple[int, ...]) -> None:
    if not all(1 <= drop <= (WIDE_DROPPED if mask.is_wide else DROPPED) for mask, drop in zip(masks, drops, strict=True)):
        raise ValueError(drops)
