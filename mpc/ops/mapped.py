"""A masked matrix times a quotient, truncated, in one opening (papers: dalskov20, turbospeedz; decision 0029).

A quotient is z = C - (q >> l) + K·(msb q), where C and K are public once it is open, and the dealer knows q.  With X = D + A,

    X z = D z + A C - A (q >> l) + sum of K_j A_ij (msb q_j)

of which the dealer shares A (q >> l), and every A_ij (msb q_j) by itself, mod 2^32: so they can be asked for before z is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpc.kernels.products import matmul
from mpc.ledger import Cost
from mpc.naming import expressions
from mpc.naming.correlations import MAP, MASK, MAX_MAPPED, Relation, layout_of
from mpc.naming.scope import running
from mpc.ops.declare import Operand, opening
from mpc.ops.quotients import lifted, lost_in, rounded, whole_of
from mpc.ring import WORD, count
from mpc.values.derived import Done, Known, Quotient, Truncation
from mpc.values.unmade import begin, make

if TYPE_CHECKING:
    from mpc.ops.quotients import Whole
    from mpc.ring import Words
    from mpc.session import Session
    from mpc.values.derived import Derived
    from mpc.values.masked import Masked
    from mpc.values.shares import AShare


def maps(x: Operand, z: Operand) -> bool:
    """Whether x @ z is linear in what can be dealt before it is asked for."""
    return bool(x.is_masked and x.factors and z.is_quotient) and len(x.shape) == 2 and len(z.shape) == 1 and count(x.shape) <= MAX_MAPPED


def cost(n: int, x: Operand) -> Cost:
    """What x @ z, truncated, costs."""
    rows, columns = x.shape
    return opening(n, rows).then(Cost(dealer=layout_of(MAP, columns, rows * columns, rows).nbytes))


async def product(s: Session, x: Masked, z: Derived, origin: Truncation, whole: Whole, drop: int) -> AShare:
    """The sum of x @ z and what is added to it, truncated; see `matmul_trunc`."""
    scope, quotient = running(s), origin.quotient
    if origin.base is not None:
        # It waits for a further factor, which this is none: it is opened by itself.
        await begin(scope, [z.held])
    rho = expressions.mask(scope.ranges.take(MASK, x.shape[:1]))
    fetching = s.source.begin(scope, Relation.fresh(scope.ranges, MAP, (quotient.drop, drop), (quotient.mask, x.name, rho)))
    try:
        c, share = await quotient.opening.result(scope)
        high, products, top, tops = await fetching
        await make(scope, [x.held])
        own = await s.compute(_times, rho.shape, x, share, c, quotient.drop, products, tops)
        c = lifted(await s.open_hidden(scope, s.hide(rho, await whole.added(s, own)), rho, whole.lineage))
        words = await rounded(s, c, high, top, drop, rho.shape)
    finally:
        fetching.close()
    return whole.truncated(s, words, drop, Truncation(Quotient(Known(rho), drop, Done((c, words)))))


def _times(x: Masked, z: Words, c: Words, before: int, products: Words, tops: Words) -> Words:
    """This party's share of X z; `z` is that of the quotient."""
    words = matmul(x.difference, z)
    words += matmul(x.mask, whole_of(c, before))
    words += matmul(tops.reshape(x.shape).astype(WORD), lost_in(c, before))
    words -= products
    return words
