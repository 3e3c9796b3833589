"""Names of correlated randomness: what a mask and a product of masks are, as canonical data (paper: beaver91).

A mask is only a name.  Party i's share of it is a range of its `mask` stream; the dealer can rebuild the whole.  A relation
says how the `out` range is tied to masks; every party but the receiver expands its `share` stream there, and the receiver's
share is the correction that the dealer sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.canonical import pack
from mpc.errors import PeerMisbehaved
from mpc.prg import blocks_for
from mpc.ring import Words, count

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NDIM = 32
MAX_SCOPE = 1024
MAX_WORDS = 1 << 28


@dataclass(frozen=True, slots=True)
class Range:
    """`shape` words of a stream of `scope`, from `block` on."""

    scope: str
    block: int
    shape: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """How many blocks it covers."""
        return blocks_for(count(self.shape))

    def pack(self) -> list[Any]:
        """Canonical data for the wire."""
        return [self.scope, self.block, list(self.shape)]


MaskName = Range


@dataclass(frozen=True, slots=True)
class Product:
    """out = left * right, elementwise with broadcasting."""

    left: MaskName
    right: MaskName
    out: Range

    def pack(self) -> list[Any]:
        """Canonical data for the wire."""
        return ["mul", self.left.pack(), self.right.pack(), self.out.pack()]

    @property
    def key(self) -> bytes:
        """The name as bytes: equal exactly if the relations are."""
        return pack(self.pack())

    def value(self, mask: Callable[[MaskName], Words]) -> Words:
        """What the shares of `out` sum to, from the whole masks.  Dealer only."""
        return np.asarray(mask(self.left) * mask(self.right))


def unpack_range(data: object, peer: str) -> Range:
    """The Range that `pack` wrote; PeerMisbehaved on anything else, before anything is allocated."""
    match data:
        case [str() as scope, int() as block, list() as shape] if (
            len(scope) <= MAX_SCOPE
            and type(block) is int
            and 0 <= block < 1 << 60
            and len(shape) <= MAX_NDIM
            and all(type(extent) is int and 0 <= extent <= MAX_WORDS for extent in shape)
            and count(extents := tuple(int(extent) for extent in shape)) <= MAX_WORDS
        ):
            return Range(scope, block, extents)
    raise PeerMisbehaved(peer, "asked for a range of randomness that cannot exist")


def unpack_relation(data: object, peer: str) -> Product:
    """The relation that `pack` wrote; PeerMisbehaved on anything else."""
    match data:
        case ["mul", left, right, out]:
            product = Product(unpack_range(left, peer), unpack_range(right, peer), unpack_range(out, peer))
            try:
                shape = np.broadcast_shapes(product.left.shape, product.right.shape)
            except ValueError:
                shape = (-1,)
            if shape == product.out.shape:
                return product
    raise PeerMisbehaved(peer, "asked for a relation that is not defined")


def receiver(tag: bytes, n: int) -> int:
    """Which party gets the correction of `tag`: a public function of the tag, so that the work rotates."""
    return int.from_bytes(tag[-4:], "little") % n
