"""Correlations by name: what the shares at a range are, in terms of masks (papers: beaver91, turbospeedz, patra21, catrina10).

A relation ties a range of every party's `share` stream (`bit-share` for bits) to masks.  All parties but one expand their stream there;
the one, the receiver, gets the correction that makes the shares add up (XOR, for bits) to the relation's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpc import bits, carry, sets
from mpc.canonical import pack_sequence, unpack_sequence
from mpc.errors import PeerMisbehaved, ProgramError
from mpc.expressions import MAX_WORDS, NAMED_NODES, Expression, Range, unpack_expression, unpack_range
from mpc.ring import BITS, WORD, Words, count

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.streams import Ranges

HALF = np.dtype("<u4")
_TOP = WORD.type(BITS - 1)
MAX_FACTORS = 12
"""Masked values whose product takes one relation, which doubles with each."""
SHORT_NODES = 2 * NAMED_NODES // MAX_FACTORS
"""What the name of a mask may have so that a relation between so many fits where one between two of NAMED_NODES does."""
MAX_TERMS = 1 << 13
"""Words that the product of k factors may take, 2^k for each element: beyond, they cost the dealer more than an opening costs the parties."""
MAX_OPERANDS = 4
"""Bits whose product takes one round."""
MAX_KEY = 65_000
"""Bytes of the name of a relation: it is asked for in one message."""
PRODUCTS, QUOTIENT = "products ", "quotient "
MAX_CONTINUED = 2
"""Masked values by which a quotient is multiplied before it is truncated anew."""
SHARE, BIT_SHARE, MASK, BIT_MASK = "share", "bit-share", "mask", "bit-mask"


class Part(NamedTuple):
    """One array of a correction."""

    dtype: np.dtype[Any]
    words: int

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return self.words * self.dtype.itemsize


class Layout(NamedTuple):
    """The arrays of a share, one after the other: `nbytes` in all, in `words` of a stream; each alone takes `apart` words."""

    parts: tuple[Part, ...]
    nbytes: int
    words: int
    apart: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """How a relation of one kind is laid out and what its value is.  `layout` and `bit_words` are of a number of elements."""

    usage: str
    expressions: int
    masks: int
    parameters: int
    layout: Callable[[int], tuple[Part, ...]]
    bit_words: Callable[[int], tuple[int, ...]]
    value: Callable[[Relation, list[Words], list[Words]], list[Words]]


class Relation:
    """`kind` says what `out` holds: a function of the values of `expressions` and of the bit masks at `bits`.

    `key` is its name as canonical bytes: equal exactly if the relations are.
    """

    __slots__ = ("bits", "expressions", "key", "kind", "layout", "out", "parameters")

    def __init__(
        self, kind: str, parameters: tuple[int, ...], expressions: tuple[Expression, ...], bits: tuple[Range, ...], out: Range
    ) -> None:
        self.kind = kind
        self.parameters = parameters
        self.expressions = expressions
        self.bits = bits
        self.out = out
        self.layout = layout_of(kind, _elements(parameters, expressions))
        self.key = pack_sequence((kind, parameters, [expression.tree for expression in expressions], bits, out))

    @classmethod
    def fresh(
        cls, ranges: Ranges, kind: str, parameters: tuple[int, ...], expressions: tuple[Expression, ...] = (), bits: tuple[Range, ...] = ()
    ) -> Relation:
        """A relation whose shares nobody had before: they are the next words of the stream."""
        words = layout_of(kind, _elements(parameters, expressions)).words
        relation = cls(kind, parameters, expressions, bits, ranges.take(KINDS[kind].usage, (words,)))
        if len(relation.key) > MAX_KEY:
            # At every party, not only at the one that asks for it.
            msg = (
                "a correlation between these masked values has too long a name to ask for, since they are made of many others in a deep call: "
                "use x.share() of one, or call from further out"
            )
            raise ProgramError(msg)
        return relation

    def __repr__(self) -> str:
        return f"Relation({self.kind!r}, {self.parameters}, {self.expressions}, {self.bits}, {self.out})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Relation) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def usage(self) -> str:
        """Which stream its shares are from."""
        return KINDS[self.kind].usage

    @property
    def nbytes(self) -> int:
        """Bytes of a correction."""
        return self.layout.nbytes

    def split(self, words: Words) -> list[Words]:
        """The arrays of a share, as views of its words."""
        parts = self.layout.parts
        if len(parts) == 1 and parts[0].dtype is WORD:
            return [words.reshape(-1)]
        raw, at, views = words.reshape(-1).view(np.uint8), 0, []
        for part in parts:
            views.append(raw[at : at + part.nbytes].view(part.dtype))
            at += part.nbytes
        return views

    def value(self, expressions: list[Words], masks: list[Words]) -> list[Words]:
        """What the shares sum to, from the whole masks.  Dealer only."""
        return KINDS[self.kind].value(self, expressions, masks)


@lru_cache(maxsize=1 << 10)
def layout_of(kind: str, elements: int) -> Layout:
    """How the share of a relation of so many elements is laid out."""
    parts = KINDS[kind].layout(elements)
    nbytes = sum(part.nbytes for part in parts)
    return Layout(parts, nbytes, _in_words(nbytes), tuple(_in_words(part.nbytes) for part in parts))


def _in_words(nbytes: int) -> int:
    return -(-nbytes // WORD.itemsize)


def _elements(parameters: tuple[int, ...], expressions: tuple[Expression, ...]) -> int:
    return count(expressions[0].shape) if expressions else parameters[0]


def _words(*sizes: int) -> tuple[Part, ...]:
    return tuple(Part(WORD, size) for size in sizes)


def _circuit_words(size: int, parts: int) -> int:
    blocks, width = bits.grid(size)
    return parts * blocks * width


def _circuit(
    material: int, opened: tuple[int, int], tree: int, make: Callable[[Words], Words], trees: Callable[..., Words]
) -> tuple[Kind, Kind]:
    """The two relations of a comparison on one chunk: products of a mask's bits, and products of the bit masks of its openings."""
    of_mask = Kind(
        BIT_SHARE,
        1,
        0,
        0,
        lambda m: _words(_circuit_words(m, material)),
        lambda _: (),
        lambda _, values, __: [make(bits.blocked(values[0].reshape(-1)))],
    )
    of_tree = Kind(
        BIT_SHARE,
        0,
        1,
        1,
        lambda m: _words(_circuit_words(m, tree)),
        lambda m: (_circuit_words(m, sum(opened)),),
        lambda relation, _, masks: [trees(masks[0], bits.grid(relation.parameters[0])[0])],
    )
    return of_mask, of_tree


def _spread(relation: Relation, masks: list[Words]) -> Words:
    return bits.spread(masks[0], relation.parameters[0])


def _chosen(relation: Relation, values: list[Words], masks: list[Words]) -> list[Words]:
    rho = _spread(relation, masks)
    return [rho, rho * values[0].reshape(-1)]


def _parted(mask: Words, drop: int) -> tuple[Words, Words]:
    """Of a value under this mask, r = -mask is what is added to it: r >> m and the top bit of r."""
    r = np.negative(mask.reshape(-1))
    return r >> WORD.type(drop), r >> _TOP


def _truncation(relation: Relation, values: list[Words], _: list[Words]) -> list[Words]:
    high, top = _parted(values[0], *relation.parameters)
    return [high, top.astype(HALF)]


def _quotient_kind(factors: int) -> Kind:
    """For a quotient times so many masked values, truncated anew: what lacks are the products of their masks with both parts of the earlier r."""
    halves = (1 << factors) - 1

    def value(relation: Relation, values: list[Words], _: list[Words]) -> list[Words]:
        (before, drop), (earlier, *masks, rho) = relation.parameters, values
        high, top = _parted(rho, drop)
        products = np.empty((halves, high.size), WORD)
        sets.products([b.reshape(-1) for b in masks], products, np.multiply)
        # In the order of sets whose last factor is a part of the earlier r.
        shifted, tops = (products * part for part in _parted(earlier, before))
        without = products[sets.of_several(factors) - 1]
        return [high, np.concatenate([without, shifted]).reshape(-1), top.astype(HALF), tops.astype(HALF).reshape(-1)]

    return Kind(
        SHARE,
        factors + 2,
        0,
        2,
        lambda m: (Part(WORD, m), Part(WORD, (2 * halves - factors) * m), Part(HALF, m), Part(HALF, halves * m)),
        lambda _: (),
        value,
    )


def products_of(ranges: Ranges, masks: tuple[Expression, ...]) -> Relation:
    """A fresh relation of all products of two and more of these masks."""
    return Relation.fresh(ranges, f"{PRODUCTS}{len(masks)}", (), masks)


def _products_kind(factors: int) -> Kind:
    return Kind(
        SHARE,
        factors,
        0,
        0,
        lambda m: _words(((1 << factors) - 1 - factors) * m),
        lambda _: (),
        lambda _, values, __: [sets.several(values, np.multiply).reshape(-1)],
    )


def _and_kind(masks: int) -> Kind:
    return Kind(
        BIT_SHARE,
        0,
        masks,
        1,
        lambda m: _words(((1 << masks) - 1 - masks) * bits.word_count(m)),
        lambda m: (bits.word_count(m),) * masks,
        lambda _, __, values: [sets.several(values).reshape(-1)],
    )


_SIGN, _SIGN_TREE = _circuit(carry.SIGN_MATERIAL, carry.SIGN_OPENED, carry.SIGN_TREE, carry.sign_material, carry.sign_tree)
_ZERO, _ZERO_TREE = _circuit(carry.ZERO_MATERIAL, carry.ZERO_OPENED, carry.ZERO_TREE, carry.zero_material, carry.zero_tree)

KINDS: dict[str, Kind] = {
    # The value of the expression itself: products of masks.
    "value": Kind(SHARE, 1, 0, 0, _words, lambda _: (), lambda _, values, __: [values[0].reshape(-1)]),
    # r >> m, and the top bit of r = -mask; that is needed mod 2^m only, m <= 32.
    "truncation": Kind(
        SHARE,
        1,
        0,
        1,
        lambda m: (Part(WORD, m), Part(HALF, m)),
        lambda _: (),
        _truncation,
    ),
    # As a truncation, and products with the parts of an earlier one, those of its top bit mod 2^l only.
    **{f"{QUOTIENT}{number}": _quotient_kind(number) for number in range(1, MAX_CONTINUED + 1)},
    # All products of two and more of so many masks.
    **{f"{PRODUCTS}{number}": _products_kind(number) for number in range(2, MAX_FACTORS + 1)},
    # A random bit in both kinds of sharing (a daBit): the bit mask, shared additively.
    "bit": Kind(
        SHARE,
        0,
        1,
        1,
        _words,
        lambda m: (bits.word_count(m),),
        lambda r, _, masks: [_spread(r, masks)],
    ),
    # A random bit, and it times the value.
    "choice": Kind(
        SHARE,
        1,
        1,
        1,
        lambda m: _words(m, m),
        lambda m: (bits.word_count(m),),
        _chosen,
    ),
    # All ANDs of two and more of so many bit masks.
    **{f"and {number}": _and_kind(number) for number in range(2, MAX_OPERANDS + 1)},
    "sign": _SIGN,
    "sign tree": _SIGN_TREE,
    "zero": _ZERO,
    "zero tree": _ZERO_TREE,
}


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
    if not all(type(parameter) is int and 0 <= parameter <= MAX_WORDS for parameter in parameters):
        raise ValueError(parameters)
    if kind.startswith(("truncation", QUOTIENT)) and not all(1 <= parameter <= 32 for parameter in parameters):
        raise ValueError(parameters)
    if kind in {"sign tree", "zero tree"} and not parameters[0]:
        raise ValueError(parameters)
    known: dict[object, Expression] = {}
    named = tuple([unpack_expression(each, known) for each in expressions])
    relation = Relation(kind, parameters, named, tuple(map(unpack_range, masks)), out)
    elements = _elements(parameters, relation.expressions)
    if expressions and masks and elements != parameters[0]:
        raise ValueError(parameters)
    # Of a quotient times one masked value, there are no more words than those of the elements: any number may be.
    if (kind.startswith(PRODUCTS) or kind == f"{QUOTIENT}{MAX_CONTINUED}") and elements << len(expressions) > MAX_TERMS:
        raise ValueError(elements)
    if any(each.shape != relation.expressions[0].shape for each in relation.expressions):
        raise ValueError(expressions)
    if out.shape != (relation.layout.words,):
        raise ValueError(out)
    if tuple(where.shape for where in relation.bits) != tuple((size,) for size in rules.bit_words(elements)):
        raise ValueError(masks)
    return relation


def correction_tag(session: bytes, key: bytes, size: int) -> bytes:
    """The tag of the correction of the relation `key`, `size` bytes after the session's prefix: a function of the name alone."""
    return blake2b(session + key, digest_size=size, person=b"beaver/correct").digest()


def receiver(tag: bytes, n: int) -> int:
    """Which party gets the correction of `tag`: a public function of the tag, so that the work rotates."""
    return int.from_bytes(tag[-4:], "little") % n
