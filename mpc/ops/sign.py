"""Comparison with zero, by the carry of a public number and a secret mask (papers: catrina10b, turbospeedz).

x = e + a, where e is open and the dealer knows the bits of a. The first four bits of every group need no round, and two merges of four
groups each leave the carry into bit 63. mpc.kernels.carry has the circuit.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from mpc.kernels import bits, carry
from mpc.ledger import Cost, together
from mpc.naming.correlations import Relation
from mpc.naming.scope import running
from mpc.naming.streams import BIT_MASK
from mpc.ops.declare import CHUNK, Like, Operand, in_chunks, masking, op, opening
from mpc.ring import count
from mpc.values.masked import Masked, masked_lineage
from mpc.values.secret import lineage_of

if TYPE_CHECKING:
    from mpc.op_session import OpSession
    from mpc.ring import Words
    from mpc.values.bshare import BShare
    from mpc.values.shares import AShare


def _cost(n: int, x: Operand, opened: tuple[int, int], dealt: int) -> Cost:
    total = Cost()
    for start, stop in bits.chunks(count(x.shape), CHUNK):
        blocks, width = bits.grid(stop - start)
        words = blocks * width
        openings = opening(n, opened[0] * words).then(opening(n, opened[1] * words))
        chunk = masking(n, Like.part(x, stop - start)).then(openings).then(Cost(dealer=8 * dealt * words))
        total = together(total, chunk)
    return total


def ltz_cost(n: int, x: Operand) -> Cost:
    """The cost of `ltz`."""
    return _cost(n, x, carry.SIGN_OPENED, carry.SIGN_MATERIAL + carry.SIGN_TREE)


def eqz_cost(n: int, x: Operand) -> Cost:
    """The cost of `eqz`."""
    return _cost(n, x, carry.ZERO_OPENED, carry.ZERO_MATERIAL + carry.ZERO_TREE)


@op(ltz_cost, source="catrina10b", opens="x - a, and the inputs of two merges under fresh bit masks, uniform")
async def ltz(s: OpSession, x: AShare | Masked) -> BShare:
    """Whether x < 0, elementwise; exact for every signed word.

    rounds 3 (2 if Masked) · bytes 8 + 4.125 per element and peer (4.125 if Masked) · dealer 41.125 per element
    """
    return await _compared(s, x, "sign")


@op(eqz_cost, source="catrina10b", opens="x - a, and the inputs of two merges under fresh bit masks, uniform")
async def eqz(s: OpSession, x: AShare | Masked) -> BShare:
    """Whether x == 0, elementwise; exact for every word.

    rounds 3 (2 if Masked) · bytes 8 + 2.5 per element and peer (2.5 if Masked) · dealer 36.875 per element
    """
    return await _compared(s, x, "zero")


_CIRCUITS: dict[str, type[carry.LessThanZero | carry.EqualsZero]] = {"sign": carry.LessThanZero, "zero": carry.EqualsZero}


async def _compared(s: OpSession, x: AShare | Masked, kind: str) -> BShare:
    if not x.size:
        return s.bit_share(s.zeros((0,)), x.shape, lineage_of(kind, x.lineage))
    parts = await in_chunks(s, _compare, bits.chunks(x.size, CHUNK), (x.reshape(-1),), kind)
    words = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return s.bit_share(words, x.shape, lineage_of(kind, x.lineage))


async def _compare(s: OpSession, x: AShare | Masked, kind: str) -> Words:
    """One chunk: this party's packed words of the result."""
    circuit = _CIRCUITS[kind](first=s.first)
    blocks, width = bits.grid(x.size)
    part = blocks * width
    name = s.name_mask(x)
    scope = running(s)
    rho = scope.ranges.take(BIT_MASK, (sum(circuit.opened) * part,))
    of_mask = Relation.fresh(scope.ranges, kind, (), (name,))
    of_tree = Relation.fresh(scope.ranges, f"{kind} tree", (x.size,), (), (rho,))
    sizes, lineage = [size * part for size in circuit.opened], x.lineage if isinstance(x, Masked) else masked_lineage(x, name)
    with closing(s.source.begin(scope, of_mask)) as fetching_material, closing(s.source.begin(scope, of_tree)) as fetching_tree:
        difference = await s.difference(x, name)
        (material,) = await fetching_material
        # The masks are spent on the opened values of both merges, which the circuit computes; the first mask words go to the first merge.
        masks = s.mask_words(rho, BIT_MASK)
        share = await s.compute(circuit.start, (sizes[0],), difference, material, masks)
        # The material of the first step is most of the memory: it is freed here.
        del difference, material, masks
        merged = await s.open_bits(share, [lineage], [of_tree.key])
        (tree,) = await fetching_tree
        share = await s.compute(circuit.merge, (sizes[1],), merged, tree)
        del merged, tree
        return await s.compute(circuit.finish, (part,), await s.open_bits(share, [lineage], [of_tree.key]))
