"""Products of secrets (papers: beaver91, turbospeedz)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc.correlations import Product
from mpc.errors import ProgramError
from mpc.fixed_point import check_fits
from mpc.ledger import Cost
from mpc.ring import count
from mpc.scope import current, protocol
from mpc.shares import AShare, Masked, lineage_of, same_home

if TYPE_CHECKING:
    from mpc.session import Session


def mul_cost(left: tuple[int, ...], right: tuple[int, ...]) -> Cost:
    """What `mul` of two AShares of these shapes costs."""
    out = count(np.broadcast_shapes(left, right))
    return Cost(rounds=1, payload=8 * (count(left) + count(right)), dealer=8 * out)


@protocol
async def mul(s: Session, x: AShare | Masked, y: AShare | Masked) -> AShare:
    """The product x * y, elementwise with broadcasting; its frac is the sum of both.

    rounds 1 (0 if both are Masked) · bytes 8 per element and peer of each AShare · dealer 8 per output element
    opens x - a and y - b, uniform · raises PrecisionError before anything is sent if the product may overflow
    """
    same_home(x, y)
    try:
        shape = np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        msg = f"shapes {x.shape} and {y.shape} do not broadcast"
        raise ProgramError(msg) from None
    frac, bound = x.frac + y.frac, x.bound * y.bound
    check_fits(bound, frac, f"the product of values up to {x.bound:.4g} and {y.bound:.4g}")
    names = [value.name if isinstance(value, Masked) else s.take_mask(value) for value in (x, y)]
    relation = Product(names[0], names[1], current(s).ranges.take("share", shape))
    fetching = s.source.begin(current(s), relation)
    fresh = [(value, name) for value, name in zip((x, y), names, strict=True) if isinstance(value, AShare)]
    try:
        opened = iter(await s.masked(*zip(*fresh, strict=True)) if fresh else ())
        left, right = (next(opened) if isinstance(value, AShare) else value for value in (x, y))
        c = await fetching
    finally:
        fetching.close()
    words = np.asarray(left.difference * right.mask)
    words += left.mask * right.difference
    words += c
    if s.index == 0:
        # x*y = (a + d)(b + e): the public d*e is added once.
        words += left.difference * right.difference
    return s.share(words, frac=frac, bound=bound, lineage=lineage_of("mul", x.lineage, y.lineage))
