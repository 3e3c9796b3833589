"""From bits to numbers, by random bits that are shared in both ways (paper: rotaru19)."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from mpc.errors import ProgramError
from mpc.kernels import bits
from mpc.ledger import Cost, together
from mpc.naming.correlations import Relation
from mpc.naming.scope import protocol, running
from mpc.naming.streams import BIT_MASK
from mpc.ops.declare import CHUNK, Like, Operand, in_chunks, masking, op, opening
from mpc.ring import count
from mpc.values.joining import concatenate
from mpc.values.secret import lineage_of, same_home

if TYPE_CHECKING:
    from mpc.naming.expressions import Expression
    from mpc.op_session import OpSession
    from mpc.ring import Words
    from mpc.values.bshare import BShare
    from mpc.values.masked import Masked
    from mpc.values.shares import AShare


def _chunks(size: int) -> list[tuple[int, int]]:
    return bits.chunks(size, CHUNK) or [(0, 0)]


def b2a_cost(n: int, b: Operand) -> Cost:
    """The cost of `b2a`."""
    size = count(b.shape)
    parts = (opening(n, bits.word_count(stop - start)) for start, stop in _chunks(size))
    return together(Cost(dealer=8 * size), *parts)


@op(b2a_cost, source="rotaru19", opens="b ^ rho, uniform")
async def b2a(s: OpSession, b: BShare) -> AShare:
    """Bits as integers 0 and 1 (frac 0).  rounds 1 · bytes 1/8 per element and peer · dealer 8 per element"""
    flat = b.reshape(-1)
    parts = await in_chunks(s, _b2a, _chunks(b.size), (flat,))
    return concatenate(parts).reshape(b.shape)


def _relation(s: OpSession, kind: str, size: int, expressions: tuple[Expression, ...]) -> Relation:
    ranges = running(s).ranges
    rho = ranges.take(BIT_MASK, (bits.word_count(size),))
    return Relation.fresh(ranges, kind, (size,), expressions, (rho,))


@protocol
async def _open_bit(s: OpSession, b: BShare, relation: Relation) -> Words:
    """Open beta = b ^ rho."""
    hidden = b.words ^ s.mask_words(relation.bits[0], BIT_MASK)
    return await s.open_bits(hidden, [b.lineage], [relation.key])


async def _b2a(s: OpSession, b: BShare) -> AShare:
    relation = _relation(s, "bit", b.size, ())
    with closing(s.source.begin(running(s), relation)) as fetching:
        opened = await _open_bit(s, b, relation)
        (rho,) = await fetching
    words = await s.compute(_flipped, (b.size,), opened, rho, s.first)
    return s.share(words, frac=0, bound=1.0, lineage=lineage_of("b2a", b.lineage))


def _flipped(opened: Words, rho: Words, first: bool) -> Words:  # noqa: FBT001
    # beta ^ rho = beta + (1 - 2 beta) rho.
    beta = bits.spread(opened, rho.size)
    out = rho * (1 - 2 * beta)
    if first:
        out += beta
    return out


def select_cost(n: int, b: Operand, x: Operand) -> Cost:  # noqa: ARG001  b broadcasts to x
    """The cost of `select`."""
    size = count(x.shape)
    parts = (opening(n, bits.word_count(stop - start)).beside(masking(n, Like.part(x, stop - start))) for start, stop in _chunks(size))
    return together(Cost(dealer=16 * size), *parts)


@op(select_cost, source="rotaru19", opens="b ^ rho, and x - a unless x is Masked, uniform")
async def select(s: OpSession, b: BShare, x: AShare | Masked) -> AShare:
    """Picks x where b is 1, else 0; the shape is that of x, and b broadcasts to it.

    rounds 1 · bytes 1/8 per element and peer, and 8 unless x is Masked · dealer 16 per element
    opens b ^ rho, and x - a unless x is Masked, uniform · raises ProgramError if b does not broadcast
    """
    same_home(b, x)
    try:
        aligned = b.broadcast_to(x.shape)
    except ProgramError:
        msg = f"bits of shape {b.shape} do not broadcast to {x.shape}, the shape of what they select"
        raise ProgramError(msg) from None
    parts = await in_chunks(s, _select, _chunks(x.size), (aligned.reshape(-1), x.reshape(-1)))
    return concatenate(parts).reshape(x.shape)


async def _select(s: OpSession, b: BShare, x: AShare | Masked) -> AShare:
    name = s.name_mask(x)
    relation = _relation(s, "choice", x.size, (name,))
    with closing(s.source.begin(running(s), relation)) as fetching:
        masked, opened = await asyncio.gather(_masked_as(s, x, name), _open_bit(s, b, relation))
        rho, product = await fetching
    words = await s.compute(_chosen, x.shape, masked, opened, rho, product, s.first)
    return s.share(words, frac=x.frac, bound=x.bound, lineage=lineage_of("select", b.lineage, x.lineage))


@protocol
async def _masked_as(s: OpSession, x: AShare | Masked, name: Expression) -> Masked:
    (masked,) = await s.masked((x,), (name,))
    return masked


def _chosen(x: Masked, opened: Words, rho: Words, product: Words, first: bool) -> Words:  # noqa: FBT001
    # b·x = beta·x + (1 - 2 beta)(rho·e + rho·a), with x = a + e and e open.
    beta = bits.spread(opened, rho.size)
    flipped = rho * x.difference
    flipped += product
    flipped *= 1 - 2 * beta
    own = x.mask + x.difference if first else x.mask
    flipped += beta * own
    return np.asarray(flipped)
