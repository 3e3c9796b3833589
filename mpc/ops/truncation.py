"""Truncation: dropping fractional bits with an error of at most one unit in the last place (papers: catrina10, dalskov20).

c = x + 2^62 + r is opened with a mask r that the dealer knows, and a wrapped sum is corrected on shares. Unlike a truncation by each party
of its own share, this one is never far off. `mpc.ops.quotients` has the formula.
"""

from __future__ import annotations

import math
from contextlib import closing
from operator import index
from typing import TYPE_CHECKING

import numpy as np

from mpc.errors import PrecisionError, ProgramError
from mpc.fixed_point import FRAC
from mpc.ledger import Cost, together
from mpc.naming import expressions
from mpc.naming.correlations import DROPPED, Relation
from mpc.naming.scope import running
from mpc.ops import matrices, quotients
from mpc.ops.arithmetic import checked_product, masks_product, own_term, product_bound, product_lineage, product_work
from mpc.ops.chains import continued
from mpc.ops.declare import CHUNK, Like, Operand, cut, in_chunks, masking, op, opening
from mpc.ops.quotients import LIMIT, Dividend, Rounded
from mpc.ring import broadcast, count
from mpc.tabular import as_numbers
from mpc.values.derived import Derived, Truncation
from mpc.values.fixed import constant
from mpc.values.joining import concatenate
from mpc.values.masked import Masked
from mpc.values.secret import lineage_of
from mpc.values.shares import AShare

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from mpc.naming.expressions import Expression
    from mpc.op_session import OpSession
    from mpc.ring import Words


KEPT = 10
"""Bits that every public factor keeps if its product can show them."""


def trunc_cost(n: int, x: Operand, drop: int) -> Cost:  # noqa: ARG001  12 bytes whatever is dropped
    """The cost of `trunc`."""
    size = count(x.shape)
    return together(Cost(dealer=12 * size), *(masking(n, Like.part(x, stop - start)) for start, stop in cut(size)))


@op(trunc_cost, source="dalskov20", opens="x - a, uniform", leaks="with the exact quotient, one comparison on the dropped bits")
async def trunc(s: OpSession, x: AShare | Masked, drop: int) -> AShare:
    """Drops `drop` (1 to 32) fractional bits of x: rounded down, or one unit in the last place above that.

    rounds 1 (0 if Masked) · bytes 8 per element and peer · dealer 12 per element
    raises PrecisionError unless |x| < 2^62 as a word, ProgramError for another `drop`
    """
    drop = check_drop(x.bound, x.frac, drop)
    if x.size <= CHUNK:
        return Dividend(x.frac, x.bound, x.lineage).quotient(s, await _truncated(s, x, drop), drop)
    parts = await in_chunks(s, _trunc, cut(x.size), (x.reshape(-1),), drop)
    return concatenate(parts).reshape(x.shape)


def check_drop(bound: float, frac: int, drop: int) -> int:
    """Return `drop` as a Python int; raises unless a value within `bound` can lose so many bits."""
    if not isinstance(drop, int | np.integer) or not 1 <= drop <= DROPPED:
        msg = f"a truncation drops 1 to {DROPPED} bits, not {drop}"
        raise ProgramError(msg)
    if not bound * 2.0**frac < LIMIT:
        msg = (
            f"a value up to {bound:.4g} with {frac} fractional bits is too large to truncate (limit {2.0 ** (62 - frac):.4g}). "
            "Declare a smaller bound=, use a smaller frac=, or scale the data."
        )
        raise PrecisionError(msg)
    return index(drop)


async def _trunc(s: OpSession, x: AShare | Masked, drop: int) -> AShare:
    """One chunk, which does not remember how it was rounded: for all chunks that would take as much memory as the whole."""
    return Dividend(x.frac, x.bound, x.lineage).truncated(s, (await _truncated(s, x, drop)).words, drop)


async def _truncated(s: OpSession, x: AShare | Masked, drop: int) -> Rounded:
    name = s.name_mask(x)
    # c = d + 2^62 with r = -a, so that a masked value needs no further opening.
    with closing(_begin(s, name, drop)) as fetching:
        c = quotients.biased(await s.difference(x, name))
        high, top = await fetching
    return Rounded(await quotients.rounded(s, c, high, top, drop, x.shape), c, name)


def _begin(s: OpSession, name: Expression, drop: int) -> Coroutine[Any, Any, list[Words]]:
    scope = running(s)
    return s.source.begin(scope, Relation.fresh(scope.ranges, "truncation", (drop,), (name,)))


def fused_cost(operation: str, n: int, x: Operand, y: Operand) -> Cost:
    """The cost of `mul_trunc` and `matmul_trunc`."""
    shape = expressions.product_shape(x.shape, y.shape) if operation == "matmul" else broadcast(x.shape, y.shape)
    size = count(shape)
    if operation == "mul" and x.shape == y.shape and size > CHUNK:
        sizes = [stop - start for start, stop in cut(size)]
        parts = [masking(n, Like.part(x, chunk), Like.part(y, chunk)).then(opening(n, chunk)) for chunk in sizes]
        return together(Cost(dealer=12 * size), *parts)
    return masking(n, x, y).then(opening(n, size)).then(Cost(dealer=12 * size))


def mul_trunc_cost(n: int, x: Operand, y: Operand, drop: int) -> Cost:
    """The cost of `mul_trunc`."""
    for z, other in ((x, y), (y, x)):
        if continued.continues(z, other):
            return continued.cost(n, z, other, drop)
    return fused_cost("mul", n, x, y)


def matmul_trunc_cost(
    n: int,
    x: Operand,
    y: Operand,
    drop: int,  # noqa: ARG001
    *,
    bound: float | None = None,  # noqa: ARG001
    plus: Operand | None = None,  # noqa: ARG001
) -> Cost:
    """The cost of `matmul_trunc`."""
    kind = matrices.kind_of(x, y)
    return fused_cost("matmul", n, x, y) if kind is None else matrices.cost(n, kind, x, y)


_FUSED_OPENS = "x - a, y - b and x·y - rho, uniform"
_FUSED_LEAKS = "with the exact quotient, one comparison on the dropped bits"


@op(mul_trunc_cost, source="dalskov20", opens=_FUSED_OPENS, leaks=_FUSED_LEAKS)
async def mul_trunc(s: OpSession, x: AShare | Masked, y: AShare | Masked, drop: int) -> AShare:
    """The product x * y without its last `drop` fractional bits; the exact product is never shared.

    rounds 2 (1 if both are Masked) · bytes 8 per element and peer of each AShare and per output · dealer 12 per output

    A result of `trunc`, `mul_trunc` or `matmul_trunc` of m <= 2^17 elements is a *quotient*. Its product with a Masked of its shape: rounds
    1 · bytes 8 · dealer 24. That product is opened only when something reads it. A further product of this kind is opened in its place,
    together with it, and rounded once: for k masked factors rounds 1 in all, and
    - bytes 8 · dealer 56, for k = 2, m <= 512, at most 32 bits dropped in all, and a product below 2^62 as a word before any are dropped;
    - bytes 24 · dealer 12 + 16 (3·2^k - 1 - k), for k from 2 to 6, m <= 8, 2^k m <= 2^8, at most 96 bits dropped in all, and a product
      below 2^126. Each factor must then be a result of `Session.mask` of at most 4096 elements, or a view of one; it is masked again once:
      rounds 1 · bytes 24 · dealer 24.
    Any other reader of a pending product opens that product alone. One of m <= 512 elements that no further product can join is opened
    beside the program.
    """
    shape = checked_product("mul", x, y)
    drop = check_drop(x.bound * y.bound, x.frac + y.frac, drop)
    for z, other in ((x, y), (y, x)):
        if isinstance(z, Derived) and isinstance(z.origin, Truncation) and isinstance(other, Masked) and continued.continues(z, other):
            return await continued.product(s, z, z.origin, other, drop)
    if x.shape == y.shape and x.size > CHUNK:
        parts = await in_chunks(s, _part, cut(x.size), (x.reshape(-1), y.reshape(-1)), drop)
        return concatenate(parts).reshape(shape)
    return await _fused(s, x, y, "mul", drop, _elementwise(x, y))


@op(matmul_trunc_cost, source="dalskov20", opens=_FUSED_OPENS, leaks=_FUSED_LEAKS)
async def matmul_trunc(
    s: OpSession, x: AShare | Masked, y: AShare | Masked, drop: int, *, bound: float | None = None, plus: AShare | None = None
) -> AShare:
    """The matrix product x @ y, plus `plus`, without the last `drop` fractional bits; the exact product is never shared.

    `plus` has the shape of the product, and at most its frac, which is the sum of those of x and y. `bound` is a public bound of x @ y +
    `plus` that the caller can prove, tighter than the one from the bounds of x, y and `plus` and the number of addends.

    rounds 2 (1 if both are Masked) · bytes 8 per element and peer of each AShare and per output · dealer 12 per output

    A *quotient* is a result of `trunc`, `mul_trunc` or `matmul_trunc`. If x is Masked, (m, k), and y is a quotient, (k, n) or (k,): rounds
    1 · bytes 8 per output · dealer 20 per output and 4 m k n, as long as 4 m k n is at most 2^16. If x is a quotient, too, the same with 8
    in place of 4.
    """
    shape, frac = checked_product("matmul", x, y, bound), x.frac + y.frac
    most, lineage = product_bound("matmul", x, y, bound), product_lineage("matmul", x, y, bound)
    if plus is not None:
        plus = s.operand(plus, (AShare,), "matmul_trunc")
        if plus.shape != shape or plus.frac > frac:
            msg = (
                f"what is added has shape {plus.shape} and {plus.frac} fractional bits: "
                f"give it that of the product, {shape}, and no more than its {frac}"
            )
            raise ProgramError(msg)
        most, lineage = most + plus.bound if bound is None else most, lineage_of("plus", lineage, plus.lineage, plus.frac)
    drop, dividend = check_drop(most, frac, drop), Dividend(frac, most, lineage, plus)
    kind = matrices.kind_of(x, y)
    if kind is not None:
        return await matrices.product(s, kind, x, y, dividend, drop)
    return await _fused(s, x, y, "matmul", drop, dividend)


async def _part(s: OpSession, x: AShare | Masked, y: AShare | Masked, drop: int) -> AShare:
    dividend = _elementwise(x, y)
    return dividend.truncated(s, (await _rounded(s, x, y, "mul", drop, dividend)).words, drop)


def _elementwise(x: AShare | Masked, y: AShare | Masked) -> Dividend:
    return Dividend(x.frac + y.frac, x.bound * y.bound, lineage_of("mul", x.lineage, y.lineage))


async def _fused(s: OpSession, x: AShare | Masked, y: AShare | Masked, operation: str, drop: int, dividend: Dividend) -> AShare:
    return dividend.quotient(s, await _rounded(s, x, y, operation, drop, dividend), drop)


async def _rounded(s: OpSession, x: AShare | Masked, y: AShare | Masked, operation: str, drop: int, dividend: Dividend) -> Rounded:
    names = [s.name_mask(x), s.name_mask(y)]
    product = masks_product(s.n, operation, *names)
    rho = running(s).ranges.mask(product.shape)
    # The parties' own terms sum to x·y minus a·b or their cross, and so do the words opened under rho: the mask is rho + a·b, and a·b is
    # never dealt.
    name = expressions.combine("add", rho, product)
    with closing(_begin(s, name, drop)) as fetching:
        hidden = await _hidden(s, x, y, names, operation, rho, dividend)
        c = quotients.biased(await s.open_hidden(running(s), hidden, rho, dividend.lineage))
        high, top = await fetching
        return Rounded(await quotients.rounded(s, c, high, top, drop, product.shape), c, name)


async def _hidden(
    s: OpSession, x: AShare | Masked, y: AShare | Masked, names: list[Expression], operation: str, rho: Expression, dividend: Dividend
) -> Words:
    """This party's term of x·y under the mask `rho`. The words opened for it and its shares of those masks, twice the operands, are
    freed here.
    """
    left, right = await s.masked((x, y), names)
    own = await s.compute(own_term, rho.shape, s.index, s.n, left, right, operation, work=product_work(operation, left, right))
    return s.hide(rho, await dividend.added(s, own))


def _precision(x: Operand, factor: ArrayLike, drop: int) -> tuple[int, int]:
    """How many bits x loses before it is multiplied, and the factors' number of fractional bits after that.

    Factors below 1/2 get more fractional bits than `drop`, so that they keep as many significant ones. One truncation is enough as long as
    it leaves the largest factor FRAC of these, or `drop` if that is less.
    """
    sizes = np.abs(as_numbers(factor).astype(np.float64))
    sizes = sizes[sizes > 0]
    if not sizes.size or not np.isfinite(sizes).all():
        return 0, drop
    least, most = (max(0, -math.frexp(size)[1]) for size in (sizes.min(), sizes.max()))
    # Rounding up may make a factor a little larger.
    room = math.frexp(LIMIT)[1] - 1 - x.frac - math.frexp(x.bound * sizes.max() * (1 + 2.0**-KEPT))[1]
    once = max(drop, min(drop + least, room, DROPPED))
    if once - most >= min(drop, FRAC):
        return 0, once
    shift = min(most, DROPPED)
    return shift, max(drop, min(drop + least - shift, room, DROPPED))


def _factor(x: Operand, factor: NDArray[Any], drop: int, shift: int, frac: int) -> tuple[Words, float]:
    """factor·2^shift as ring words, and its least bound; PrecisionError if its rounding would show in the product with an x as large as
    its bound.
    """
    exact = np.ldexp(factor.astype(np.float64), shift) if shift else factor
    words, largest = constant(exact, frac)
    lost = np.abs(np.ldexp(words.view(np.int64).astype(np.float64), -frac) - exact)
    seen = (lost > np.abs(exact) * 2.0 ** -min(drop, KEPT)) & (lost * x.bound > 2.0 ** (shift - x.frac))
    if seen.any():
        least = np.abs(factor)[seen].min()
        msg = (
            f"a factor of {least:.4g} would keep fewer than {min(drop, KEPT)} bits beside larger ones, and a share within {x.bound:.4g}: "
            "scale by it alone, or declare a smaller bound="
        )
        raise PrecisionError(msg)
    return words, largest


def _check_scaled(x: Operand, factor: NDArray[Any], largest: float, shift: int, frac: int) -> None:
    """PrecisionError unless all that `scale` truncates is below 2^62 as words: the product with factors within `largest`·2^-shift and,
    where x loses `shift` bits first, x itself.
    """
    # The first truncation may round up.
    reach = math.ldexp(x.bound, -shift) + (math.ldexp(1.0, -x.frac) if shift else 0.0)
    word = max(math.ldexp(reach * largest, x.frac + frac), math.ldexp(x.bound, x.frac) if shift else 0.0)
    if not word < LIMIT:
        msg = (
            f"a share within {x.bound:.4g} with {x.frac} fractional bits is too large to scale by {np.abs(factor).max():.4g} "
            f"(limit {x.bound * (LIMIT / word):.4g}). Declare a smaller bound=, use a smaller frac= or drop=, or scale the data."
        )
        raise PrecisionError(msg)


def scale_cost(n: int, x: Operand, factor: Any, drop: int = FRAC) -> Cost:
    """The cost of `scale`."""
    shape = broadcast(x.shape, np.shape(factor))
    shift, frac = _precision(x, factor, drop)
    if shift:
        return trunc_cost(n, x, shift).then(trunc_cost(n, Like(shape), frac))
    return trunc_cost(n, x if shape == x.shape else Like(shape, x.is_masked, x.owner), frac)


_SCALE_OPENS = "x·factor - a, uniform; in two truncations x - a, then z·factor - b for the truncated z, uniform"


@op(scale_cost, source="dalskov20", opens=_SCALE_OPENS, leaks=_FUSED_LEAKS)
async def scale(s: OpSession, x: AShare | Masked, factor: ArrayLike, drop: int = FRAC) -> AShare:
    """The product of x and public reals `factor`, with the frac of x. They broadcast; a Masked takes one number.

    Factors are rounded to `drop` fractional bits. Factors below 1/2 get more, so that the largest keeps 20 significant bits, or `drop` if
    that is less: the mean of shares is scale(s, x.sum(axis=0), 1 / rows). A small factor of an x with a large bound takes two truncations.

    rounds 1 (0 if Masked) · bytes 8 (0) per element and peer · dealer 12 per element of the result
    in two truncations rounds 2 (1) · bytes 8 (0) per element of x and 8 per element of the result · dealer 12 per element of either
    opens x·factor - a, uniform; in two truncations first x - a, then z·factor - b for the truncated z, uniform
    raises PrecisionError unless |x·factor|·2^drop < 2^62 as a word and, in two truncations, |x| < 2^62 as a word, or if a factor keeps
    fewer than 10 bits and the result could show that, ProgramError unless `drop` is 1 to 32
    """
    drop = check_drop(0.0, x.frac, drop)
    numbers = as_numbers(factor)
    shift, frac = _precision(x, numbers, drop)
    words, largest = _factor(x, numbers, drop, shift, frac)
    _check_scaled(x, numbers, largest, shift, frac)
    if shift:
        x = await trunc(s, x.ldexp(-shift), shift)
    return await trunc(s, (x * words.view(np.int64)).ldexp(-frac), frac)
