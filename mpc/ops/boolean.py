"""Logic on XOR shares: xor and not are local, and_ takes one opening (paper: beaver91)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc import bits
from mpc.bshare import BShare
from mpc.correlations import BIT_MASK, Relation
from mpc.errors import ProgramError
from mpc.ledger import Cost
from mpc.ops.declare import Operand, op, opening
from mpc.ring import broadcast, count
from mpc.scope import running
from mpc.shares import constant_lineage, lineage_of, same_home

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mpc.ring import Words
    from mpc.session import Session

ALL = np.array((1 << 64) - 1, np.uint64)


def free(n: int, *operands: Operand) -> Cost:  # noqa: ARG001  local whatever the operands
    """What a local op costs."""
    return Cost()


def and_cost(n: int, x: Operand, y: Operand) -> Cost:
    """What `and_` and `or_` cost."""
    words = bits.word_count(count(broadcast(x.shape, y.shape)))
    return opening(n, 2 * words).beside(Cost(dealer=8 * words))


def _aligned(x: BShare, y: BShare) -> tuple[BShare, BShare]:
    same_home(x, y)
    try:
        shape = broadcast(x.shape, y.shape)
    except ValueError:
        msg = f"bits of shapes {x.shape} and {y.shape} do not broadcast"
        raise ProgramError(msg) from None
    return x.broadcast_to(shape), y.broadcast_to(shape)


def _public(s: Session, like: BShare, y: ArrayLike) -> BShare:
    """Public bits as a share that party 0 holds alone."""
    array = np.asarray(y)
    if array.dtype != np.bool_:
        msg = f"public bits are an array of bool, not of {array.dtype}"
        raise ProgramError(msg)
    words = bits.pack(array.reshape(-1))
    return BShare(words if s.first else np.zeros_like(words), array.shape, home=like.home, lineage=constant_lineage(words))


@op(free, source="beaver91", opens="nothing")
async def xor(s: Session, x: BShare, y: BShare | ArrayLike) -> BShare:
    """X ^ y with broadcasting; y may be public bits.  rounds 0 · bytes 0"""
    x, y = _aligned(x, y if isinstance(y, BShare) else _public(s, x, y))
    return s.bit_share(x.words ^ y.words, x.shape, lineage_of("xor", x.lineage, y.lineage))


@op(free, source="beaver91", opens="nothing")
async def not_(s: Session, x: BShare) -> BShare:
    """1 - x.  rounds 0 · bytes 0"""
    return s.bit_share(x.words ^ ALL if s.first else x.words, x.shape, lineage_of("not", x.lineage))


@op(and_cost, source="beaver91", opens="x ^ rho and y ^ sigma, uniform")
async def and_(s: Session, x: BShare, y: BShare) -> BShare:
    """X & y with broadcasting.  rounds 1 · bytes 1/4 per element and peer · dealer 1/8 per element"""
    x, y = _aligned(x, y)
    words = x.words.shape
    scope = running(s)
    rho, sigma = (scope.ranges.take(BIT_MASK, words) for _ in range(2))
    relation = Relation.fresh(scope.ranges, "and", (x.size,), (), (rho, sigma))
    fetching = s.source.begin(scope, relation)
    try:
        left, right = s.bit_mask(rho, x.words), s.bit_mask(sigma, y.words)
        hidden = np.concatenate([x.words ^ left, y.words ^ right])
        opened = await s.open_bits(hidden, [x.lineage, y.lineage], [relation.key])
        (c,) = await fetching
    finally:
        fetching.close()
    size = words[0]
    result = await s.compute(_and, words, opened[:size], left, opened[size:], right, c, s.first)
    return s.bit_share(result, x.shape, lineage_of("and", x.lineage, y.lineage))


def _and(d: Words, a: Words, e: Words, b: Words, c: Words, first: bool) -> Words:  # noqa: FBT001
    # x & y = (a ^ d)(b ^ e).
    out: Words = d & (b ^ e if first else b)
    out ^= a & e
    out ^= c
    return out


@op(and_cost, source="beaver91", opens="x ^ rho and y ^ sigma, uniform")
async def or_(s: Session, x: BShare, y: BShare) -> BShare:
    """X | y with broadcasting.  rounds 1 · bytes 1/4 per element and peer · dealer 1/8 per element"""
    x, y = _aligned(x, y)
    both = await and_(s, x, y)
    return s.bit_share(x.words ^ y.words ^ both.words, x.shape, lineage_of("or", x.lineage, y.lineage))
