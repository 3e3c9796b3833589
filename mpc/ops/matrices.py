"""Matrix products with a quotient, truncated, in one opening (papers: dalskov20, turbospeedz; decision 0029).

A quotient is z = C - h + K·t, where C and K are public once it is open. h = q >> l and t, the top bit of q, follow from q, the negative of
a mask that the dealer knows. With X = D + A

    X z = D z + A C - A h + sum over j of K_j A_ij t_j

The dealer shares -A h, and every A_ij t_j by itself, mod 2^32: so they can be asked for before z is available. If X is a quotient, too,
then D is its C, and A its K·t - h: there h h is summed up, and -t_ij h_j and -h_ij t_j come one by one. No product of top bits is needed,
since the product of both K is 0 mod 2^64.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from mpc.kernels.products import matmul
from mpc.ledger import Cost
from mpc.naming import expressions
from mpc.naming.correlations import MATRIX, MAX_MATRIX, Relation, layout_of
from mpc.naming.scope import running
from mpc.ops.declare import Operand, opening
from mpc.ops.quotients import Rounded, biased, lost_carry, public_part, rounded
from mpc.ring import WORD, count
from mpc.values.derived import Derived, Truncation
from mpc.values.masked import Masked
from mpc.values.unmade import begin, make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.naming.correlations import Layout
    from mpc.op_session import OpSession
    from mpc.ops.quotients import Dividend
    from mpc.ring import Words
    from mpc.values.derived import Opened
    from mpc.values.shares import AShare

ONE, TWO = f"{MATRIX}1", f"{MATRIX}2"


def kind_of(x: Operand, z: Operand) -> str | None:
    """The kind of relation that opens x @ z only once, or None. A function of public data: the same at all parties and in a dry run."""
    kind = None if not z.is_quotient else TWO if x.is_quotient else ONE if x.is_masked and x.factor_count else None
    if kind is None or len(x.shape) != 2 or len(z.shape) not in {1, 2}:
        return None
    return kind if 0 < _layout(kind, x, z).parts[-1].nbytes <= MAX_MATRIX else None


def _layout(kind: str, x: Operand, z: Operand) -> Layout:
    columns = count(z.shape[1:])
    return layout_of(kind, count(x.shape) * columns, x.shape[0] * columns)


def cost(n: int, kind: str, x: Operand, z: Operand) -> Cost:
    """The cost of x @ z, truncated."""
    return opening(n, x.shape[0] * count(z.shape[1:])).then(Cost(dealer=_layout(kind, x, z).nbytes))


async def product(s: OpSession, kind: str, x: AShare | Masked, z: AShare | Masked, dividend: Dividend, drop: int) -> AShare:
    """The sum of x @ z and the added share, truncated; see `matmul_trunc`."""
    scope, factors = running(s), [x] if isinstance(x, Masked) else []
    known = [each for each in (x, z) if isinstance(each, Derived)]
    origins = [each.origin for each in known if isinstance(each.origin, Truncation)]
    # A quotient that waits for a further factor, which this is none of, is opened by itself.
    await begin(scope, [each.held for each, origin in zip(known, origins, strict=True) if origin.base is not None])
    quotients = [origin.quotient for origin in origins]
    rho = scope.ranges.mask(expressions.product_shape(x.shape, z.shape))
    drops = [quotient.drop for quotient in quotients]
    names = (*[each.name for each in factors], *[quotient.name for quotient in quotients], rho)
    with closing(s.source.begin(scope, Relation.fresh(scope.ranges, kind, (*drops, drop), names))) as fetching:
        opened = [await quotient.opening.result(scope) for quotient in quotients]
        await make(scope, [each.held for each in factors])
        high, products, top, alone = await fetching
        own = await s.compute(_times, rho.shape, factors, opened, drops, products, alone, s.first)
        c = biased(await s.open_hidden(scope, s.hide(rho, await dividend.added(s, own)), rho, dividend.lineage))
        words = await rounded(s, c, high, top, drop, rho.shape)
    return dividend.quotient(s, Rounded(words, c, rho), drop)


def _times(
    factors: Sequence[Masked],
    opened: Sequence[Opened],
    drops: Sequence[int],
    products: Words,
    alone: Words,
    first: bool,  # noqa: FBT001
) -> Words:
    """This party's share of X z, from what was opened of each quotient and its shares of them."""
    *left, (z_public, z_carry, z) = [_parts(c, share, drop) for (c, share), drop in zip(opened, drops, strict=True)]
    columns = count(z.shape[1:])
    by_tops = alone.astype(WORD).reshape(len(opened), -1, len(z), columns)
    words: Words = products.reshape(-1, columns) + np.einsum("ijl,jl->il", by_tops[-1], z_carry.reshape(-1, columns))
    if left:
        ((d, lost, x),) = left
        a = x - d if first else x
        words += np.einsum("ijl,ij->il", by_tops[0], lost)
    else:
        d, a = factors[0].difference, factors[0].mask
    words = words.reshape(d.shape[:1] + z.shape[1:])
    words += matmul(d, z)
    words += matmul(a, z_public)
    return words


def _parts(c: Words, share: Words, drop: int) -> tuple[Words, Words, Words]:
    """C, K, and this party's share of a quotient, in its shape."""
    return public_part(c, drop).reshape(share.shape), lost_carry(c, drop).reshape(share.shape), share
