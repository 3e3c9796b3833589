"""Correlations by name: what the shares at a range are, in terms of masks (papers: beaver91, turbospeedz, patra21, catrina10).

A relation ties a range of every party's `share` stream (`bit-share` for bits) to masks. All parties but one expand their stream there. The
remaining one, the receiver, gets the correction that makes the shares add up (XOR, for bits) to the relation's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpc.canonical import pack_sequence
from mpc.errors import ProgramError
from mpc.kernels import bits, carry, rounding, sets, wide
from mpc.kernels.rounding import HALF
from mpc.naming.expressions import MAX_SCOPE, NAMED_NODES, Expression, Range
from mpc.naming.streams import BIT_SHARE, SHARE
from mpc.ring import WORD, Words, count

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.naming.streams import Ranges

MAX_FACTORS = 12
"""Most masked values in one relation of products; the relation's size doubles with each."""
SHORT_NODES = 2 * NAMED_NODES // MAX_FACTORS
"""Most nodes in a mask's name, so that MAX_FACTORS names fit into one relation."""
MAX_TERMS = 1 << 13
"""Most words of the product of k factors, 2^k per element: beyond, they cost the dealer more than an opening costs the parties."""
MAX_OPERANDS = 4
"""Most bits whose AND takes one round."""
MAX_KEY = 65_000
"""Most bytes in a relation's name: one message asks for it."""
MAX_NAMES = MAX_KEY - MAX_SCOPE - 200
"""Most bytes in the names of all masks of a relation."""
SHORT = MAX_NAMES // MAX_FACTORS
"""Most bytes in a mask's name, so that MAX_FACTORS names fit into one relation."""
PRODUCTS, QUOTIENT, WIDE, LIFT = "products ", "quotient ", "wide ", "lift"
MATRIX = "matrix "
MAX_MATRIX = 1 << 16
"""Most bytes of the products that the dealer shares one by one for a matrix product with a quotient: beyond, they take longer than the
opening that they save.
"""
MAX_CONTINUED = 2
"""Most masked values by which a quotient is multiplied before it is truncated again."""
MAX_WIDE = 6
"""Most such masked values in numbers mod 2^128."""
MAX_WIDE_ELEMENTS, MAX_WIDE_TERMS = 8, 1 << 8
"""Most elements of such a product, and of elements times 2^k: beyond, Python integers take longer than the openings that they save."""
MAX_LIFTED = 1 << 12
"""Most elements of a masked value that may be masked again as numbers mod 2^128."""
DROPPED, WIDE_DROPPED = 32, 96
"""Most bits that words and numbers mod 2^128 may lose: the top bit of r is dealt mod 2^32."""


class Part(NamedTuple):
    """One array of a correction."""

    dtype: np.dtype[Any]
    words: int
    wide: bool = False
    """Whether every two words are a number mod 2^128."""

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return self.words * self.dtype.itemsize


class Layout(NamedTuple):
    """The arrays of a share, in order: `nbytes` in all, in `words` of a stream; each array alone takes `apart` words."""

    parts: tuple[Part, ...]
    nbytes: int
    words: int
    apart: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """The layout and the value of relations of one kind.

    `layout` takes the relation's `sizes_of`. `value` takes its parameters, the values of its expressions, and its bit masks. `bit_words`
    takes the number of elements and gives the number of words of each bit mask. `expressions` and `parameters` are their numbers.
    """

    usage: str
    layout: Callable[..., tuple[Part, ...]]
    value: Callable[[tuple[int, ...], list[Words], list[Words]], list[Words]]
    expressions: int = 0
    parameters: int = 0
    bit_words: Callable[[int], tuple[int, ...]] = lambda _: ()


class Relation:
    """A relation: `kind` says what `out` holds, as a function of the values of `expressions` and of the bit masks at `bits`.

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
        self.layout = layout_of(kind, *sizes_of(kind, parameters, expressions))
        self.key = pack_sequence((kind, parameters, [expression.tree for expression in expressions], bits, out))

    @classmethod
    def fresh(
        cls, ranges: Ranges, kind: str, parameters: tuple[int, ...], expressions: tuple[Expression, ...] = (), bits: tuple[Range, ...] = ()
    ) -> Relation:
        """A relation with fresh shares: they are the next words of the stream."""
        words = layout_of(kind, *sizes_of(kind, parameters, expressions)).words
        relation = cls(kind, parameters, expressions, bits, ranges.take(KINDS[kind].usage, (words,)))
        if len(relation.key) > MAX_KEY:
            # Checked at every party, not only at the one that asks for it.
            msg = (
                "a correlation between these masked values has too long a name to ask for, "
                "since they are made of many others in a deep call: "
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
        """The stream of its shares."""
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

    def less(self, value: list[Words], share: Words) -> list[Words]:
        """The arrays of `value` minus a share of it. Dealer only."""
        if self.usage == BIT_SHARE:
            return [np.bitwise_xor(part, other, out=part) for part, other in zip(value, self.split(share), strict=True)]
        return [
            wide.minus(array, other) if part.wide else np.subtract(array, other, out=array)
            for part, array, other in zip(self.layout.parts, value, self.split(share), strict=True)
        ]

    def value(self, expressions: list[Words], masks: list[Words]) -> list[Words]:
        """The sum of the shares, from the whole masks. Dealer only."""
        return KINDS[self.kind].value(self.parameters, expressions, masks)


@lru_cache(maxsize=1 << 10)
def layout_of(kind: str, *sizes: int) -> Layout:
    """The layout of a share of a relation with these sizes; see `sizes_of`."""
    parts = KINDS[kind].layout(*sizes)
    nbytes = sum(part.nbytes for part in parts)
    return Layout(parts, nbytes, _in_words(nbytes), tuple(_in_words(part.nbytes) for part in parts))


def _in_words(nbytes: int) -> int:
    return -(-nbytes // WORD.itemsize)


def elements_of(parameters: tuple[int, ...], expressions: tuple[Expression, ...]) -> int:
    """The number of elements of a relation with these parameters and expressions."""
    return count(expressions[0].shape) if expressions else parameters[0]


def sizes_of(kind: str, parameters: tuple[int, ...], expressions: tuple[Expression, ...]) -> tuple[int, ...]:
    """The sizes that determine a layout: the number of elements; for a matrix product with a quotient, the number of products of single
    elements and the number of elements of the result.
    """
    if not kind.startswith(MATRIX):
        return (elements_of(parameters, expressions),)
    left, _, rho = expressions
    return count(left.shape) * count(rho.shape[1:]), count(rho.shape)


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
        lambda m: _words(_circuit_words(m, material)),
        lambda _, values, __: [make(bits.blocked(values[0].reshape(-1)))],
        expressions=1,
    )
    of_tree = Kind(
        BIT_SHARE,
        lambda m: _words(_circuit_words(m, tree)),
        lambda parameters, _, masks: [trees(masks[0], bits.grid(parameters[0])[0])],
        parameters=1,
        bit_words=lambda m: (_circuit_words(m, sum(opened)),),
    )
    return of_mask, of_tree


def _bit(parameters: tuple[int, ...], _: list[Words], masks: list[Words]) -> list[Words]:
    return [bits.spread(masks[0], parameters[0])]


def _choice(parameters: tuple[int, ...], values: list[Words], masks: list[Words]) -> list[Words]:
    (rho,) = _bit(parameters, values, masks)
    return [rho, rho * values[0].reshape(-1)]


def _rounding(deal: Callable[..., list[Words]]) -> Callable[[tuple[int, ...], list[Words], list[Words]], list[Words]]:
    return lambda parameters, values, _: deal(*values, *parameters)


def _quotient_kind(k: int) -> Kind:
    """The kind for a quotient times k masked values, truncated again: with the products of their masks and both parts of the earlier r."""
    halves = (1 << k) - 1
    return Kind(
        SHARE,
        lambda m: (Part(WORD, m), Part(WORD, (2 * halves - k) * m), Part(HALF, m), Part(HALF, halves * m)),
        _rounding(rounding.of_products),
        expressions=k + 2,
        parameters=2,
    )


def _matrix_kind(quotients: int) -> Kind:
    """The kind for the matrix product of a masked value, or a quotient, and a quotient, truncated again."""
    return Kind(
        SHARE,
        lambda terms, m: (Part(WORD, m), Part(WORD, m), Part(HALF, m), Part(HALF, quotients * terms)),
        _rounding(rounding.of_map if quotients == 1 else rounding.of_quotients),
        expressions=3,
        parameters=quotients + 1,
    )


def _wide_kind(k: int) -> Kind:
    """As `_quotient_kind` in numbers mod 2^128, with the earlier r's parts alone, too."""
    terms = 3 * (1 << k) - 1 - k
    return Kind(
        SHARE,
        lambda m: (Part(WORD, m), Part(WORD, 2 * terms * m, wide=True), Part(HALF, m)),
        _rounding(rounding.of_wide_products),
        expressions=k + 2,
        parameters=2,
    )


def products_of(ranges: Ranges, masks: tuple[Expression, ...]) -> Relation:
    """A fresh relation of all products of two or more of these masks."""
    return Relation.fresh(ranges, f"{PRODUCTS}{len(masks)}", (), masks)


def _products_kind(k: int) -> Kind:
    return Kind(
        SHARE,
        lambda m: _words(((1 << k) - 1 - k) * m),
        lambda _, values, __: [sets.several(values, np.multiply).reshape(-1)],
        expressions=k,
    )


def _and_kind(k: int) -> Kind:
    return Kind(
        BIT_SHARE,
        lambda m: _words(((1 << k) - 1 - k) * bits.word_count(m)),
        lambda _, __, values: [sets.several(values).reshape(-1)],
        parameters=1,
        bit_words=lambda m: (bits.word_count(m),) * k,
    )


_SIGN, _SIGN_TREE = _circuit(carry.SIGN_MATERIAL, carry.SIGN_OPENED, carry.SIGN_TREE, carry.sign_material, carry.sign_tree)
_ZERO, _ZERO_TREE = _circuit(carry.ZERO_MATERIAL, carry.ZERO_OPENED, carry.ZERO_TREE, carry.zero_material, carry.zero_tree)

KINDS: dict[str, Kind] = {
    # The value of the expression itself: products of masks. A reversed view is not contiguous.
    "value": Kind(SHARE, _words, lambda _, values, __: [np.ascontiguousarray(values[0]).reshape(-1)], expressions=1),
    # r >> m, and the top bit of r = -mask, mod 2^m only, m <= 32.
    "truncation": Kind(SHARE, lambda m: (Part(WORD, m), Part(HALF, m)), _rounding(rounding.of_truncation), expressions=1, parameters=1),
    # As a truncation, and products with the parts of an earlier one, those of its top bit mod 2^l only.
    **{f"{QUOTIENT}{number}": _quotient_kind(number) for number in range(1, MAX_CONTINUED + 1)},
    # As a truncation, and products with the parts of one or two earlier ones: with r >> l summed up, with a top bit one by one.
    **{f"{MATRIX}{number}": _matrix_kind(number) for number in (1, 2)},
    **{f"{WIDE}{number}": _wide_kind(number) for number in range(2, MAX_WIDE + 1)},
    # r = -mask as a number mod 2^128, and its top bit.
    LIFT: Kind(SHARE, lambda m: (Part(WORD, 2 * m, wide=True), Part(WORD, m)), _rounding(rounding.of_lifting), expressions=1),
    # All products of two or more of so many masks.
    **{f"{PRODUCTS}{number}": _products_kind(number) for number in range(2, MAX_FACTORS + 1)},
    # A random bit in both kinds of sharing (a daBit): the bit mask, shared additively.
    "bit": Kind(SHARE, _words, _bit, parameters=1, bit_words=lambda m: (bits.word_count(m),)),
    # A random bit, and the bit times the value.
    "choice": Kind(SHARE, lambda m: _words(m, m), _choice, expressions=1, parameters=1, bit_words=lambda m: (bits.word_count(m),)),
    # All ANDs of two or more of so many bit masks.
    **{f"and {number}": _and_kind(number) for number in range(2, MAX_OPERANDS + 1)},
    "sign": _SIGN,
    "sign tree": _SIGN_TREE,
    "zero": _ZERO,
    "zero tree": _ZERO_TREE,
}


def receiver(tag: bytes, n: int) -> int:
    """The party that gets the correction of `tag`: a public function of the tag, so that the work rotates."""
    return int.from_bytes(tag[-4:], "little") % n
