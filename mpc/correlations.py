"""Correlations by name: what the shares at a range are, in terms of masks (papers: beaver91, turbospeedz, catrina10).

A relation ties a range of every party's `share` stream (`bit-share` for bits) to masks.  All parties but one expand their stream there;
the one, the receiver, gets the correction that makes the shares add up (XOR, for bits) to the relation's value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpc import bits, carry
from mpc.canonical import joined, pack_sequence, unpack
from mpc.errors import PeerMisbehaved
from mpc.expressions import MAX_WORDS, Expression, Range, unpack_expression, unpack_range
from mpc.ring import BITS, WORD, Words, count

if TYPE_CHECKING:
    from collections.abc import Callable

HALF = np.dtype("<u4")
SHARE, BIT_SHARE, MASK, BIT_MASK = "share", "bit-share", "mask", "bit-mask"


class Part(NamedTuple):
    """One array of a correction."""

    dtype: np.dtype[Any]
    words: int

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return self.words * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Kind:
    """How a relation of one kind is laid out and what its value is."""

    usage: str
    expressions: int
    masks: int
    parameters: int
    layout: Callable[[Relation], tuple[Part, ...]]
    bit_words: Callable[[Relation], tuple[int, ...]]
    value: Callable[[Relation, list[Words], list[Words]], list[Words]]


@dataclass(frozen=True, slots=True)
class Relation:
    """`kind` says what `out` holds: a function of the values of `expressions` and of the bit masks at `bits`.

    `key` is its name as canonical bytes: equal exactly if the relations are.
    """

    kind: str
    parameters: tuple[int, ...]
    expressions: tuple[Expression, ...]
    bits: tuple[Range, ...]
    out: Range
    key: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        expressions = joined(*[expression.key for expression in self.expressions])
        masks = joined(*[where.key for where in self.bits])
        key = joined(pack_sequence(self.kind), pack_sequence(self.parameters), expressions, masks, self.out.key)
        object.__setattr__(self, "key", key)

    @property
    def usage(self) -> str:
        """Which stream its shares are from."""
        return KINDS[self.kind].usage

    @property
    def layout(self) -> tuple[Part, ...]:
        """The arrays of a share, one after the other."""
        return KINDS[self.kind].layout(self)

    @property
    def nbytes(self) -> int:
        """Bytes of a correction."""
        return sum(part.nbytes for part in self.layout)

    def split(self, words: Words) -> list[Words]:
        """The arrays of a share, as views of its words."""
        raw, at, views = words.reshape(-1).view(np.uint8), 0, []
        for part in self.layout:
            views.append(raw[at : at + part.nbytes].view(part.dtype))
            at += part.nbytes
        return views

    def value(self, expressions: list[Words], masks: list[Words]) -> list[Words]:
        """What the shares sum to, from the whole masks.  Dealer only."""
        return KINDS[self.kind].value(self, expressions, masks)


def out_words(layout: tuple[Part, ...]) -> int:
    """Stream words that hold the arrays of `layout`."""
    return -(-sum(part.nbytes for part in layout) // WORD.itemsize)


def _size(relation: Relation) -> int:
    return count(relation.expressions[0].shape)


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
        lambda relation: _words(_circuit_words(_size(relation), material)),
        lambda _: (),
        lambda _, values, __: [make(bits.blocked(values[0].reshape(-1)))],
    )
    of_tree = Kind(
        BIT_SHARE,
        0,
        1,
        1,
        lambda relation: _words(_circuit_words(relation.parameters[0], tree)),
        lambda relation: (_circuit_words(relation.parameters[0], sum(opened)),),
        lambda relation, _, masks: [trees(masks[0], bits.grid(relation.parameters[0])[0])],
    )
    return of_mask, of_tree


def _spread(relation: Relation, masks: list[Words]) -> Words:
    return bits.spread(masks[0], relation.parameters[0])


def _chosen(relation: Relation, values: list[Words], masks: list[Words]) -> list[Words]:
    rho = _spread(relation, masks)
    return [rho, rho * values[0].reshape(-1)]


_SIGN, _SIGN_TREE = _circuit(carry.SIGN_MATERIAL, carry.SIGN_OPENED, carry.SIGN_TREE, carry.sign_material, carry.sign_tree)
_ZERO, _ZERO_TREE = _circuit(carry.ZERO_MATERIAL, carry.ZERO_OPENED, carry.ZERO_TREE, carry.zero_material, carry.zero_tree)

KINDS: dict[str, Kind] = {
    # The value of the expression itself: products of masks.
    "value": Kind(SHARE, 1, 0, 0, lambda r: _words(_size(r)), lambda _: (), lambda _, values, __: [values[0].reshape(-1)]),
    # r >> m, and the top bit of r; that is needed mod 2^m only, m <= 32.
    "truncation": Kind(
        SHARE,
        1,
        0,
        1,
        lambda r: (Part(WORD, _size(r)), Part(HALF, _size(r))),
        lambda _: (),
        lambda r, values, _: [
            (flat := values[0].reshape(-1)) >> WORD.type(r.parameters[0]),
            (flat >> WORD.type(BITS - 1)).astype(HALF),
        ],
    ),
    # A random bit in both kinds of sharing (a daBit): the bit mask, shared additively.
    "bit": Kind(
        SHARE,
        0,
        1,
        1,
        lambda r: _words(r.parameters[0]),
        lambda r: (bits.word_count(r.parameters[0]),),
        lambda r, _, masks: [_spread(r, masks)],
    ),
    # A random bit, and it times the value.
    "choice": Kind(
        SHARE,
        1,
        1,
        1,
        lambda r: _words(r.parameters[0], r.parameters[0]),
        lambda r: (bits.word_count(r.parameters[0]),),
        _chosen,
    ),
    # The AND of two bit masks.
    "and": Kind(
        BIT_SHARE,
        0,
        2,
        1,
        lambda r: _words(bits.word_count(r.parameters[0])),
        lambda r: (bits.word_count(r.parameters[0]),) * 2,
        lambda _, __, masks: [masks[0] & masks[1]],
    ),
    "sign": _SIGN,
    "sign tree": _SIGN_TREE,
    "zero": _ZERO,
    "zero tree": _ZERO_TREE,
}


def unpack_relation(key: object, peer: str) -> Relation:
    """The relation of this key; PeerMisbehaved on anything else, before anything is allocated."""
    try:
        match unpack(key) if isinstance(key, bytes) else None:
            case [str() as kind, list() as parameters, list() as expressions, list() as masks, out] if kind in KINDS:
                relation = Relation(
                    kind,
                    tuple(_number(parameter) for parameter in parameters),
                    tuple(map(unpack_expression, expressions)),
                    tuple(map(unpack_range, masks)),
                    unpack_range(out),
                )
                _check(relation)
                # A key that parties would not have written is none: every relation has one name.
                if relation.key == key:
                    return relation
    except (ValueError, TypeError, IndexError, OverflowError):
        pass
    raise PeerMisbehaved(peer, "asked for a relation that is not defined")


def _number(data: object) -> int:
    if type(data) is not int or not 0 <= data <= MAX_WORDS:
        raise ValueError(data)
    return data


def _check(relation: Relation) -> None:
    kind = KINDS[relation.kind]
    numbers = (len(relation.expressions), len(relation.bits), len(relation.parameters))
    if numbers != (kind.expressions, kind.masks, kind.parameters):
        raise ValueError(numbers)
    if relation.kind == "truncation" and not 1 <= relation.parameters[0] <= 32:
        raise ValueError(relation.parameters)
    if relation.kind in {"sign tree", "zero tree"} and not relation.parameters[0]:
        raise ValueError(relation.parameters)
    if kind.expressions and kind.masks and _size(relation) != relation.parameters[0]:
        raise ValueError(relation.parameters)
    if relation.out.shape != (out_words(relation.layout),):
        raise ValueError(relation.out)
    if tuple(where.shape for where in relation.bits) != tuple((size,) for size in kind.bit_words(relation)):
        raise ValueError(relation.bits)


def correction_tag(session: bytes, key: bytes, size: int) -> bytes:
    """The tag of the correction of the relation `key`, `size` bytes after the session's prefix: a function of the name alone."""
    return blake2b(session + key, digest_size=size, person=b"beaver/correct").digest()


def receiver(tag: bytes, n: int) -> int:
    """Which party gets the correction of `tag`: a public function of the tag, so that the work rotates."""
    return int.from_bytes(tag[-4:], "little") % n
