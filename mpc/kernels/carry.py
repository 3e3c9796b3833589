"""Comparison on packed bits: the carry of e + a into bit 63, and whether e + a is 0, for a public e and a secret mask a.

A value x is shared as e + a. Its sign is e63 ^ a63 ^ (carry into bit 63). That carry is the carry of (e | 2^63) + (a & (2^63 - 1)) out of
bit 63: there bit 63 passes a carry on and makes none. With g_i = e_i a_i and p_i = e_i ^ a_i, a group of bits makes a carry (G) or passes
one on (P):

four bits    (G, P) are linear in the 15 products of four bits of a, which the dealer shares: no round
four groups  G = G3 ^ P3 G2 ^ P3 P2 G1 ^ P3 P2 P1 G0 and P = P3 P2 P1 P0, twice: 16 groups, 4, 1; a round each

The products of the two merges are computed from values opened under fresh mask bits rho, with dealt products of the rho. x = 0 uses the
same tree with P alone, on (e - 1) ^ a, whose bits are all 1 exactly then.

Elements come as one chunk of `bits.blocked`, (B, 64, W). Three times, four rows of words exchange lanes (`lanes.transpose`), so that each
array holds what its step combines. At the end the result of element 64 q + t of a block is bit q of word t, as in `bits`. All shares are
XOR shares. Flat arrays of *parts* have B W words per part: one bit per element.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mpc.kernels import bits
from mpc.kernels.lanes import LOW_QUARTER, ONES, TOP_NIBBLE, nibbles, regroup, regroup2
from mpc.kernels.sets import products, several
from mpc.ring import WORD, Words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# Parts of the flat arrays, one bit per element each.
SIGN_MATERIAL = 8 * 16 + 7 * 15  # products of the bits of a
SIGN_OPENED = (6 * 4 + 3, 6)  # values opened, and so masks, of the two merges
SIGN_TREE = 15 * 4 + 7 * 3 + 15  # products of the masks of both merges
ZERO_MATERIAL = 15 * 16
ZERO_OPENED = (4 * 4, 4)
ZERO_TREE = 11 * 4 + 11


def fold(shares: Sequence[Words], factors: Words | Sequence[Words]) -> list[Words]:
    """The XOR over all sets S of shares[S] times the AND of the public factors outside S, over the last factor alone, the last two, ...,
    all.

    If shares[S] shares the product of the secret bits r_i in S, the results share the products of the bits factors_i ^ r_i.
    """
    rest, results = list(shares), []
    for factor in reversed(factors):
        half = len(rest) // 2
        rest = [_add_product(rest[half + index], rest[index], factor) for index in range(half)]
        results.append(rest[0])
    return results


def _add_product(start: Words, left: Words, right: Words) -> Words:
    out: Words = left & right
    out ^= start
    return out


def _one(*, first: bool) -> Words:
    """This party's share of 1, the empty product: the first party adds it."""
    return np.array(ONES if first else 0, WORD)


def by_set(singles: Iterable[Words], dealt: Iterable[Words], *, first: bool) -> list[Words]:
    """Shares of the products of k bits by set: of none, of one (the bit itself), of several (dealt, in the order of their sets)."""
    of_several = iter(dealt)
    out = [_one(first=first)]
    for single in singles:
        out += [single, *islice(of_several, len(out) - 1)]
    return out


# Four bits


class Nibbles(NamedTuple):
    """Shares of how four bits treat a carry, (B, 16, W) each in the order of `nibbles`, and of the sign before its carry, (B, W) packed."""

    generate: Words
    propagate: Words
    sign: Words

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


def sign_material(a: Words) -> Words:
    """Mask words a (B, 64, W) -> the products of the bits of each nibble, SIGN_MATERIAL parts: what `sign_nibbles` needs dealt.

    Per block: 8 arrays (16, W), sets 1..7 of bits 0, 1, 2 and then bit 3 alone, and 7 arrays (15, W), sets 1..7 times bit 3. Bit 63 is in
    no product, so these 7 are undefined in the top nibble and are shortened.
    """
    blocks, _, width = a.shape
    out = np.empty((blocks, SIGN_MATERIAL, width), WORD)
    for block, part in zip(a, out, strict=True):
        whole, short = _sign_rows(part)
        rows = nibbles(block)
        products(rows[:3], whole[:7])
        whole[7] = rows[3]
        products([TOP_NIBBLE.shorten(row) for row in rows[:3]], short)
        short &= TOP_NIBBLE.shorten(rows[3])
    return out.reshape(-1)


def _sign_rows(part: Words) -> tuple[Words, Words]:
    """A block's material as (8, 16, W) and (7, 15, W)."""
    width = part.shape[-1]
    return part[: 8 * 16].reshape(8, 16, width), part[8 * 16 :].reshape(7, 15, width)


def sign_nibbles(e: Words, material: Words, *, first: bool) -> Nibbles:
    """Public e (B, 64, W) and a share of `sign_material(a)` -> the nibbles of (e | 2^63) + (a & (2^63 - 1)), and e63 ^ a63."""
    blocks, _, width = e.shape
    out = Nibbles(np.empty((blocks, 16, width), WORD), np.empty((blocks, 16, width), WORD), np.empty((blocks, width), WORD))
    parts = material.reshape(blocks, SIGN_MATERIAL, width)
    for index in range(blocks):
        _sign_block(nibbles(e[index]), parts[index], Nibbles(*(array[index] for array in out)), first=first)
    return out


def _sign_block(e: Words, part: Words, out: Nibbles, *, first: bool) -> None:
    """With (g, p) of bits 0, 1, 2: the nibble generates e3 (a3 ^ g) ^ a3 g and propagates (e3 ^ a3) p."""
    whole, short = _sign_rows(part)
    low, e3, a3 = e[:3], e[3], whole[7]
    top = e3 ^ a3 if first else a3
    TOP_NIBBLE.gather(top[:-1], out.sign)
    out.sign[...] ^= top[-1] & TOP_NIBBLE.vacant
    # Bit 63 passes every carry on and makes none: e63 = 1, a63 = 0.
    e3 |= TOP_NIBBLE.vacant
    p3 = a3 & TOP_NIBBLE.rest
    generate, propagate = _three_bits(whole[:7], low)
    generate ^= p3
    generate &= e3
    propagate &= e3
    with_a3, more = _three_bits(short, [TOP_NIBBLE.shorten(row) for row in low])
    np.bitwise_xor(generate, TOP_NIBBLE.lengthen(with_a3), out=out.generate)
    propagate ^= TOP_NIBBLE.lengthen(more)
    # The part of p that `_three_bits` leaves out: the products without bits 0, 1, 2 of a.
    if first:
        p3 ^= e3
    for row in low:
        p3 &= row
    np.bitwise_xor(propagate, p3, out=out.propagate)


def _three_bits(sets: Words, e: Words | Sequence[Words]) -> tuple[Words, Words]:
    """(g, p) of bits 0, 1, 2 from the products (7, ...) of a's bits, without the public part e0 e1 e2 of p.

    A `fold` by e2, e1, e0; a single bit of a times the result folded so far is the generated carry.
    """
    generate = e[2] & sets[3]
    rest = [sets[3], *[_add_product(high, low, e[2]) for high, low in zip(sets[4:], sets[:3], strict=True)]]
    for bit in (1, 0):
        half = 1 << bit
        generate ^= e[bit] & rest[half]
        rest = [_add_product(rest[half + index], rest[index], e[bit]) for index in range(half)]
    return generate, rest[0]


def zero_material(a: Words) -> Words:
    """Mask words a (B, 64, W) -> all products of the bits of each nibble, ZERO_MATERIAL parts: per block 15 arrays (16, W), by set."""
    blocks, _, width = a.shape
    out = np.empty((blocks, 15, 16, width), WORD)
    for block, part in zip(a, out, strict=True):
        products(nibbles(block), part)
    return out.reshape(-1)


def zero_nibbles(e: Words, material: Words, *, first: bool) -> Words:
    """Public e (B, 64, W) and a share of `zero_material(a)` -> a share of whether each nibble of (e - 1) ^ a is all ones, (B, 16, W)."""
    blocks, _, width = e.shape
    out = np.empty((blocks, 16, width), WORD)
    for block, part, result in zip(e, material.reshape(blocks, 15, 16, width), out, strict=True):
        result[...] = fold([_one(first=first), *part], nibbles(block - 1))[-1]
    return out


# Four groups, twice


class Merges(NamedTuple):
    """Flat parts of both merges: k arrays (B, 4, W) and l shortened ones (B, 3, W) of the first, k arrays (B, W) of the second."""

    first: Words
    short: Words
    second: Words

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


def _merges(flat: Words, counts: tuple[int, int], blocks: int) -> Merges:
    """Views of `flat` for counts (k, l)."""
    whole, short = counts
    parts = flat.reshape(5 * whole + 3 * short, blocks, -1)
    width = parts.shape[-1]
    cut = 4 * whole
    return Merges(
        parts[:cut].reshape(whole, blocks, 4, width),
        parts[cut:-whole].reshape(short, blocks, 3, width),
        parts[-whole:],
    )


def sign_tree(rho: Words, blocks: int) -> Words:
    """Masks rho of both merges, 27 + 6 parts -> the products of them that the merges need dealt, SIGN_TREE parts.

    A merge masks P1, P2, P3, G0, G1, G2 in this order; the first then P0. Quarter 0 of its words has nothing below and needs no P, so this
    P0 is shortened. A merge needs P1 P2, P1 P3, P2 P3, P1 P2 P3; G0 times sets 1..7 of P1, P2, P3; G1 times those of P2, P3; G2 P3; the
    first then P0 times sets 1..7.
    """
    masks = _merges(rho, (6, 1), blocks)
    flat = np.empty(rho.size // sum(SIGN_OPENED) * SIGN_TREE, WORD)
    out = _merges(flat, (15, 7), blocks)
    _carry_products(masks.first, out.first)
    _carry_products(masks.second, out.second)
    products([LOW_QUARTER.shorten(mask) for mask in masks.first[:3]], out.short)
    out.short[...] &= masks.short
    return flat


def _carry_products(masks: Words, out: Words) -> None:
    sets = np.empty((7, *masks.shape[1:]), WORD)
    products(masks[:3], sets)
    out[:4] = sets[[2, 4, 5, 6]]
    np.bitwise_and(sets, masks[3], out=out[4:11])
    np.bitwise_and(sets[1::2], masks[4], out=out[11:14])
    np.bitwise_and(sets[3], masks[5], out=out[14])


def _carry(kept: Words, opened: Words, masks: Words, dealt: Words, *, first: bool) -> tuple[Words, Words]:
    """G3 ^ P3 G2 ^ P3 P2 G1 ^ P3 P2 P1 G0 and P3 P2 P1, where G3 is `kept` and the other values are opened ^ masks."""
    p = opened[:3]
    high = fold(by_set(masks[:3], dealt[:4], first=first), p)  # P3, P3 P2, P3 P2 P1
    out = kept.copy()
    for index, factors, more in ((3, p, dealt[4:11]), (4, p[1:], dealt[11:14]), (5, p[2:], dealt[14:])):
        out ^= _times(opened[index], high[len(factors) - 1], [masks[index], *more], factors)
    return out, high[-1]


def _times(opened: Words, product: Words, shares: Sequence[Words], factors: Words | Sequence[Words]) -> Words:
    """One more bit, opened ^ shares[0], times the product of the bits of `factors`; shares[S] shares its mask times the masks in S."""
    return _add_product(fold(shares, factors)[-1], opened, product)


def _hide(values: Iterable[Words], masks: Words) -> Words:
    """Values, in order, under their masks: what a merge opens."""
    out = np.concatenate([value.reshape(-1) for value in values])
    out ^= masks
    return out


# Three steps of a party, and two openings between them


class LessThanZero:
    """One party's computation of the signs of e + a, for one chunk: the results of `start` and `merge` are opened, by XOR, before the next
    step.

    A step keeps only what later ones read: a round may take long.
    """

    opened = SIGN_OPENED

    def __init__(self, *, first: bool) -> None:
        self._first = first

    def start(self, e: Words, material: Words, masks: Words) -> Words:
        """Start from the nibbles: 27 parts, from public e (m,), a share of `sign_material(a)`, and a share of the masks rho of both
        merges.
        """
        e = bits.blocked(e)
        self._blocks = len(e)
        self._masks = _merges(masks, (6, 1), self._blocks)
        generate, propagate, self._sign = sign_nibbles(e, material, first=self._first)
        g, p = regroup(generate), regroup(propagate)
        self._top = g[3].copy()
        return _hide([*p[1:], *g[:3], LOW_QUARTER.shorten(p[0])], masks[: -self._masks.second.size])

    def merge(self, opened: Words, tree: Words) -> Words:
        """The first merge: 6 parts, from the opened values and a share of `sign_tree(rho, B)`."""
        rho, dealt = self._masks, _merges(tree, (15, 7), self._blocks)
        values, p0 = opened[: rho.first.size].reshape(rho.first.shape), opened[rho.first.size :].reshape(rho.short.shape[1:])
        carry, three = _carry(self._top, values, rho.first, dealt.first, first=self._first)
        three, *factors = [LOW_QUARTER.shorten(value) for value in (three, *values[:3])]
        four = _times(p0, three, [rho.short[0], *dealt.short], factors)
        g, p = regroup2(carry), regroup2(LOW_QUARTER.lengthen(four))
        self._top, self._rho, self._dealt = g[3].copy(), rho.second.copy(), dealt.second.copy()
        del self._masks
        return _hide([*p[1:], *g[:3]], self._rho.reshape(-1))

    def finish(self, opened: Words) -> Words:
        """The second merge: a share of the signs, packed, from the opened values."""
        rho = self._rho
        carry, _ = _carry(self._top, opened.reshape(rho.shape), rho, self._dealt, first=self._first)
        return (self._sign ^ carry).reshape(-1)


def zero_tree(rho: Words, blocks: int) -> Words:
    """Masks rho of both merges, 16 + 4 parts -> their products, ZERO_TREE parts: the sets of two and more of P0, P1, P2, P3, in order."""
    masks = _merges(rho, (4, 0), blocks)
    flat = np.empty(rho.size // sum(ZERO_OPENED) * ZERO_TREE, WORD)
    out = _merges(flat, (11, 0), blocks)
    out.first[...] = several(list(masks.first))
    out.second[...] = several(list(masks.second))
    return flat


class EqualsZero:
    """As `LessThanZero`, for whether e + a is 0: opens 16 parts and then 4."""

    opened = ZERO_OPENED

    def __init__(self, *, first: bool) -> None:
        self._first = first

    def start(self, e: Words, material: Words, masks: Words) -> Words:
        """16 parts, from public e (m,), a share of `zero_material(a)`, and a share of the masks rho of both merges."""
        e = bits.blocked(e)
        self._blocks = len(e)
        self._masks = _merges(masks, (4, 0), self._blocks)
        return _hide(regroup(zero_nibbles(e, material, first=self._first)), masks[: self._masks.first.size])

    def merge(self, opened: Words, tree: Words) -> Words:
        """4 parts, from the opened values and a share of `zero_tree(rho, B)`."""
        rho, dealt = self._masks, _merges(tree, (11, 0), self._blocks)
        p = fold(by_set(rho.first, dealt.first, first=self._first), opened.reshape(rho.first.shape))[-1]
        self._rho, self._dealt = rho.second.copy(), dealt.second.copy()
        del self._masks
        return _hide(regroup2(p), self._rho.reshape(-1))

    def finish(self, opened: Words) -> Words:
        """A share of whether each element is 0, packed, from the opened values."""
        rho = self._rho
        return fold(by_set(rho, self._dealt, first=self._first), opened.reshape(rho.shape))[-1].reshape(-1)
