"""Products of secrets (papers: beaver91, patra21, turbospeedz).

With d = x - a and e = y - b open, z = d·b + a·e + c + d·e: every party has shares of a and b, one correction makes c = a·b, and the public
d·e is added at party 0. Large matrix products among two or three parties need one local product per party (`mpc.kernels.cross`). Products
that remember their masked factors are in `mpc.ops.chains.factors`.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.errors import ProgramError
from mpc.fixed_point import BOUND, as_bound, check_fits, fits
from mpc.kernels import cross
from mpc.kernels.products import matmul as ring_matmul
from mpc.ledger import Cost, together
from mpc.naming import expressions
from mpc.naming.correlations import Relation
from mpc.naming.scope import running
from mpc.ops.chains import factors
from mpc.ops.declare import CHUNK, Like, Operand, cut, in_chunks, masking, op
from mpc.ring import broadcast, count
from mpc.values.joining import concatenate
from mpc.values.secret import lineage_of, parameter_lineage, same_home

if TYPE_CHECKING:
    from mpc.naming.expressions import Expression
    from mpc.op_session import OpSession
    from mpc.ring import Words
    from mpc.values.fixed import Fixed
    from mpc.values.masked import Masked
    from mpc.values.shares import AShare


def value_relation(s: OpSession, expression: Expression) -> Relation:
    """A fresh sharing of the value of a mask expression."""
    return Relation.fresh(running(s).ranges, "value", (), (expression,))


def mask_cost(n: int, x: Operand) -> Cost:
    """The cost of `mask`."""
    return masking(n, x)


def mul_cost(n: int, x: Operand, y: Operand) -> Cost:
    """The cost of `mul`."""
    shape = broadcast(x.shape, y.shape)
    if factors.is_known(x, y):
        return factors.cost(n, x, y)
    dealer = Cost(dealer=8 * count(shape))
    if _by_chunks(x, y):
        return together(
            *(masking(n, *(Like.part(operand, stop - start) for operand in (x, y))) for start, stop in cut(count(shape)))
        ).beside(dealer)
    return masking(n, x, y).beside(dealer)


def _by_chunks(x: Operand, y: Operand) -> bool:
    return x.shape == y.shape and count(x.shape) > CHUNK


@op(mul_cost, source="beaver91", opens="x - a and y - b, uniform")
async def mul(s: OpSession, x: AShare | Masked, y: AShare | Masked) -> AShare:
    """The product x * y, elementwise with broadcasting; its frac is the sum of both.

    rounds 1 (0 if both are Masked) · bytes 8 per element and peer of each AShare · dealer 8 per output element
    opens x - a and y - b, uniform · raises PrecisionError before anything is sent if the product may overflow

    A product of two operands of one shape, of m elements, remembers its k masked factors if k <= 12 and 2^k m <= 2^13. An operand that is
    neither Masked nor such a product is masked beside the program: only readers of the result wait. The others are not opened again: if
    both are such, rounds 0 · bytes 0 · dealer 8 (2^k - 1 - k) per element, once something reads the result. Other ops and reveals read it,
    a further product does not. If the factors would be too many, groups of them become one factor each. The product of a group is opened
    beside the program under its own mask: bytes 8 per element, group and peer, rounds 1 for readers of the result, and 1 more if groups
    make a group. If m <= 8, a chain of products, each made by the call right after the one before, waits with up to 256 / m factors: its
    groups are opened when something reads it.
    """
    shape = checked_product("mul", x, y)
    if factors.is_known(x, y):
        return await factors.product(s, x, y)
    if _by_chunks(x, y):
        parts = await in_chunks(s, _product, cut(x.size), (x.reshape(-1), y.reshape(-1)), "mul")
        return concatenate(parts).reshape(shape)
    return await _product(s, x, y, "mul")


def matmul_cost(n: int, x: Operand, y: Operand, *, bound: float | None = None) -> Cost:  # noqa: ARG001
    """The cost of `matmul`."""
    return masking(n, x, y).beside(Cost(dealer=8 * count(expressions.product_shape(x.shape, y.shape))))


@op(matmul_cost, source="beaver91", opens="x - a and y - b, uniform")
async def matmul(s: OpSession, x: AShare | Masked, y: AShare | Masked, *, bound: float | None = None) -> AShare:
    """The matrix product x @ y with numpy's shape rules; its frac is the sum of both.

    `bound` is a public bound of the product that the caller can prove, tighter than the one from the bounds of x and y and the number of
    addends.

    rounds 1 (0 if both are Masked) · bytes 8 per element and peer of each AShare · dealer 8 per output element
    opens x - a and y - b, uniform · raises PrecisionError before anything is sent if the product may overflow
    """
    checked_product("matmul", x, y, bound)
    return await _product(s, x, y, "matmul", bound)


@op(matmul_cost, source="beaver91", opens="x - a and y - b, uniform")
async def dot(s: OpSession, x: AShare | Masked, y: AShare | Masked) -> AShare:
    """The inner product of two vectors (k,), (k,) -> 0-d.

    rounds 1 (0 if both are Masked) · bytes 8 per element and peer of each AShare · dealer 8
    opens x - a and y - b, uniform · raises ProgramError for other shapes, PrecisionError if the product may overflow
    """
    if x.ndim != 1 or y.ndim != 1:
        msg = f"dot takes two vectors, not shapes {x.shape} and {y.shape}; use matmul"
        raise ProgramError(msg)
    checked_product("matmul", x, y)
    return await _product(s, x, y, "matmul")


def square_cost(n: int, x: Operand) -> Cost:
    """The cost of `square`."""
    size = count(x.shape)
    return together(Cost(dealer=8 * size), *(masking(n, Like.part(x, stop - start)) for start, stop in cut(size)))


@op(square_cost, source="beaver91", opens="x - a, uniform")
async def square(s: OpSession, x: AShare | Masked) -> AShare:
    """The square of x, elementwise; its frac is twice that of x.

    rounds 1 (0 if Masked) · bytes 8 per element and peer · dealer 8 per element
    opens x - a, uniform · raises PrecisionError before anything is sent if the square may overflow
    """
    checked_product("mul", x, x)
    parts = await in_chunks(s, _square, cut(x.size), (x.reshape(-1),))
    return concatenate(parts).reshape(x.shape)


def checked_product(operation: str, x: Fixed, y: Fixed, bound: float | None = None) -> tuple[int, ...]:
    """The shape of a product of operands of one session that cannot overflow; ProgramError or PrecisionError otherwise."""
    same_home(x, y)
    try:
        shape = expressions.product_shape(x.shape, y.shape) if operation == "matmul" else broadcast(x.shape, y.shape)
    except ValueError:
        fit = "form a matrix product" if operation == "matmul" else "broadcast"
        msg = f"shapes {x.shape} and {y.shape} do not {fit}"
        raise ProgramError(msg) from None
    most, frac = product_bound(operation, x, y, bound), x.frac + y.frac
    if not fits(most, frac):
        check_fits(most, frac, f"the product of values up to {_said(x.bound)} and {_said(y.bound)}")
    return shape


def _said(bound: float) -> str:
    return f"{bound:.4g} (the default bound=)" if bound == BOUND else f"{bound:.4g}"


def product_bound(operation: str, x: Fixed, y: Fixed, known: float | None = None) -> float:
    """The bound of a product: the `known` one, or else the product of the bounds of x and y, for a matrix product times the number of
    addends.
    """
    if known is not None:
        return as_bound(known)
    return x.bound * y.bound * (max(x.shape[-1], 1) if operation == "matmul" else 1)


def product_lineage(operation: str, x: Fixed, y: Fixed, known: float | None = None) -> int:
    """The lineage of a product. A `known` bound is part of it, since all parties must claim the same."""
    return lineage_of(operation, x.lineage, y.lineage, *(() if known is None else (parameter_lineage(float(known)),)))


async def _product(s: OpSession, x: AShare | Masked, y: AShare | Masked, operation: str, known: float | None = None) -> AShare:
    names = [s.name_mask(x), s.name_mask(y)]
    relation = value_relation(s, masks_product(s.n, operation, *names))
    with closing(s.source.begin(running(s), relation)) as fetching:
        left, right = await s.masked((x, y), names)
        (c,) = await fetching
    shape = relation.expressions[0].shape
    words = await s.compute(
        _combined, shape, s.index, s.n, left, right, c.reshape(shape), operation, work=product_work(operation, left, right)
    )
    bound = product_bound(operation, x, y, known)
    return s.share(words, frac=x.frac + y.frac, bound=bound, lineage=product_lineage(operation, x, y, known))


def product_work(operation: str, x: Fixed, y: Fixed) -> int:
    """Roughly the word operations of a product; sixteen multiply-adds of a matrix product take as long as one other operation."""
    if operation != "matmul":
        return 4 * max(x.size, y.size)
    return expressions.multiplications(x.shape, y.shape) // 4


def masks_product(n: int, operation: str, a: Expression, b: Expression) -> Expression:
    """The expression of two masks that the dealer shares: their product, or the cross of a matrix product if that pays."""
    crosses = operation == "matmul" and cross.pays(n, a.shape, b.shape)
    return expressions.combine("cross" if crosses else operation, a, b)


def own_term(index: int, n: int, x: Masked, y: Masked, operation: str) -> Words:
    """The term that party `index` of n adds to x·y: its share of x·y minus its share of `masks_product`."""
    d, a, e, b = x.difference, x.mask, y.difference, y.mask
    if operation == "matmul" and cross.pays(n, d.shape, e.shape):
        return cross.term(index, n, d, a, e, b)
    return beaver(d, a, e, b, operation, first=index == 0)


def beaver(d: Words, a: Words, e: Words, b: Words, operation: str, *, first: bool) -> Words:
    """d·b + a·e, and d·e at the first party; of any word width."""
    times: Any = ring_matmul if operation == "matmul" else np.multiply
    # d·b + d·e in one product.
    words: Words = np.asarray(times(d, b + e if first else b))
    words += times(a, e)
    return words


def _combined(index: int, n: int, x: Masked, y: Masked, c: Words, operation: str) -> Words:
    words = own_term(index, n, x, y, operation)
    words += c
    return words


async def _square(s: OpSession, x: AShare | Masked) -> AShare:
    name = s.name_mask(x)
    relation = value_relation(s, expressions.combine("mul", name, name))
    with closing(s.source.begin(running(s), relation)) as fetching:
        (opened,) = await s.masked((x,), (name,))
        (c,) = await fetching
    words = await s.compute(_squared, x.shape, opened, c.reshape(x.shape), s.first)
    return s.share(words, frac=2 * x.frac, bound=x.bound**2, lineage=lineage_of("square", x.lineage))


def _squared(x: Masked, c: Words, first: bool) -> Words:  # noqa: FBT001
    # d·a + a·d + c, and d·d at the first party.
    two_a = x.mask << c.dtype.type(1)
    return np.asarray(x.difference * (two_a + x.difference if first else two_a) + c)
