"""Logic on XOR shares: xor and not are local, and_ takes one opening (papers: beaver91, patra21)."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from mpc.errors import ProgramError
from mpc.kernels import bits, carry
from mpc.ledger import Cost
from mpc.naming.correlations import MAX_OPERANDS, Relation
from mpc.naming.scope import running
from mpc.naming.streams import BIT_MASK
from mpc.ops.declare import Operand, dealt_products, op, opening
from mpc.ring import broadcast, count
from mpc.tabular import as_numbers
from mpc.values.bshare import BShare
from mpc.values.secret import Secret, constant_lineage, lineage_of, same_home

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

    from mpc.op_session import OpSession
    from mpc.ring import Words

ALL = np.array((1 << 64) - 1, np.uint64)


def free(n: int, *operands: Operand) -> Cost:  # noqa: ARG001  local whatever the operands
    """The cost of a local op."""
    return Cost()


def and_cost(n: int, *operands: Operand) -> Cost:
    """The cost of `and_` and `or_`."""
    words, k = bits.word_count(count(broadcast(*(each.shape for each in operands)))), len(operands)
    return opening(n, k * words).beside(dealt_products(k, words))


def _aligned(*operands: Any) -> list[BShare]:
    for other in operands:
        if not isinstance(other, BShare):
            msg = f"logic is on shares of bits, not on {type(other).__name__}; ltz and eqz give some, and xor takes public bits"
            raise ProgramError(msg)
        same_home(operands[0], other)
    shape = _common(*(each.shape for each in operands))
    return [each.broadcast_to(shape) for each in operands]


def _common(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return broadcast(*shapes)
    except ValueError:
        msg = f"bits of shapes {', '.join(map(str, shapes[:-1]))} and {shapes[-1]} do not broadcast"
        raise ProgramError(msg) from None


def _flipped(s: OpSession, x: BShare, y: ArrayLike) -> BShare:
    """The XOR of x and public bits y, which party 0 alone adds."""
    flips = as_numbers(y)
    if flips.dtype != np.bool_:
        msg = f"public bits are an array of bool, not of {flips.dtype}"
        raise ProgramError(msg)
    x = x.broadcast_to(_common(x.shape, flips.shape))
    lineage = lineage_of("xor", x.lineage, constant_lineage(bits.pack(flips.reshape(-1))), *flips.shape)
    words = x.words ^ bits.pack(np.broadcast_to(flips, x.shape).reshape(-1)) if s.first else x.words
    return s.bit_share(words, x.shape, lineage)


@op(free, source="beaver91", opens="nothing")
async def xor(s: OpSession, x: BShare, y: BShare | ArrayLike) -> BShare:
    """Exclusive or: x ^ y with broadcasting; y may be public bits.  rounds 0 · bytes 0"""
    if isinstance(x, BShare) and not isinstance(y, Secret):
        return _flipped(s, x, y)
    x, y = _aligned(x, y)
    return s.bit_share(x.words ^ y.words, x.shape, lineage_of("xor", x.lineage, y.lineage))


@op(free, source="beaver91", opens="nothing")
async def not_(s: OpSession, x: BShare) -> BShare:
    """Not: 1 - x.  rounds 0 · bytes 0"""
    return s.bit_share(x.words ^ ALL if s.first else x.words, x.shape, lineage_of("not", x.lineage))


@op(and_cost, source="beaver91", opens="each operand ^ a mask of its own, uniform")
async def and_(s: OpSession, x: BShare, y: BShare, *more: BShare) -> BShare:
    """And: x & y, and up to two more operands, with broadcasting.

    rounds 1 · bytes 1/8 per element, operand and peer · dealer 1/8 per element for two operands, 1/2 for three, 11/8 for four
    opens each operand ^ a mask of its own, uniform · raises ProgramError for more operands, and for shapes that do not broadcast
    """
    operands = _aligned(x, y, *more)
    k, words = len(operands), operands[0].words.shape
    if k > MAX_OPERANDS:
        msg = f"and_ takes two to {MAX_OPERANDS} operands, not {k}: what the dealer sends doubles with each; AND some of them first"
        raise ProgramError(msg)
    scope = running(s)
    ranges = tuple(scope.ranges.take(BIT_MASK, words) for _ in operands)
    relation = Relation.fresh(scope.ranges, f"and {k}", (operands[0].size,), (), ranges)
    with closing(s.source.begin(scope, relation)) as fetching:
        masks = [s.mask_words(where, BIT_MASK) for where in ranges]
        hidden = np.concatenate([each.words ^ mask for each, mask in zip(operands, masks, strict=True)])
        opened = await s.open_bits(hidden, [each.lineage for each in operands], [relation.key])
        (dealt,) = await fetching
    result = await s.compute(_and, words, opened, masks, dealt, s.first)
    return s.bit_share(result, operands[0].shape, lineage_of("and", *(each.lineage for each in operands)))


def _and(opened: Words, masks: list[Words], dealt: Words, first: bool) -> Words:  # noqa: FBT001
    k, size = len(masks), masks[0].size
    shares = carry.by_set(masks, dealt.reshape((1 << k) - 1 - k, size), first=first)
    return carry.fold(shares, opened.reshape(k, size))[-1]


@op(and_cost, source="beaver91", opens="x and y, each ^ a mask of its own, uniform")
async def or_(s: OpSession, x: BShare, y: BShare) -> BShare:
    """Or: x | y with broadcasting.  rounds 1 · bytes 1/4 per element and peer · dealer 1/8 per element"""
    x, y = _aligned(x, y)
    both = await and_(s, x, y)
    return s.bit_share(x.words ^ y.words ^ both.words, x.shape, lineage_of("or", x.lineage, y.lineage))
