"""Products of a quotient and masked values, truncated: several of them in one opening (papers: catrina10, dalskov20).

A quotient is C + M, and the dealer knows both parts of M = K·(msb r) - (r >> m). So its product with masked values y = d + a is linear in
products of the a and these parts, which can be dealt before anything is opened. Two factors fit into words of 64 bits; for few elements six
fit into numbers mod 2^128. For these, the masked values are masked again once; see `lift`.
"""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from mpc.kernels import wide
from mpc.kernels.sets import folded, of_several
from mpc.kernels.wide import LANES
from mpc.later import Opens, watched
from mpc.ledger import Cost
from mpc.naming import correlations
from mpc.naming.correlations import (
    DROPPED,
    MAX_CONTINUED,
    MAX_WIDE,
    QUOTIENT,
    WIDE,
    WIDE_DROPPED,
    Relation,
    layout_of,
)
from mpc.naming.scope import running
from mpc.ops.chains.lift import lifted_name, lifted_whole, lifting_of, open_numbers, part_of
from mpc.ops.declare import Operand, opening
from mpc.ops.quotients import LIMIT, WIDE_LIMIT, biased, biased_numbers, lost_carry, public_numbers, public_part, rounded, wrapped
from mpc.ring import count
from mpc.values.derived import Quotient, Truncation
from mpc.values.secret import lineage_of
from mpc.values.unmade import begin, make

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mpc.kernels.wide import Numbers
    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.op_session import OpSession
    from mpc.ops.chains.lift import Lifted
    from mpc.ring import Words
    from mpc.values.derived import Opened
    from mpc.values.masked import Masked
    from mpc.values.shares import AShare
    from mpc.values.unmade import Held

MAX_EXPONENT = 1000
"""The largest exponent of a scale that floats can hold together with a bound."""


def continues(z: Operand, y: Operand) -> bool:
    """Whether z·y is linear in values that can be dealt before it is asked for."""
    return z.is_quotient and y.is_masked and z.shape == y.shape


def kind_for(shape: tuple[int, ...], k: int, dropped: int, largest: float, *, liftable: bool) -> str | None:
    """The kind of relation that opens a quotient times k factors at once, after it loses `dropped` bits in all; None if there is none."""
    size = count(shape)
    if k <= MAX_CONTINUED and dropped <= DROPPED and largest < LIMIT and size << k + 2 <= correlations.MAX_TERMS:
        return QUOTIENT
    few = liftable and size <= correlations.MAX_WIDE_ELEMENTS and size << k <= correlations.MAX_WIDE_TERMS
    return WIDE if few and k <= MAX_WIDE and dropped <= WIDE_DROPPED and largest < WIDE_LIMIT else None


def joint_kind(z: Operand, y: Operand, drop: int) -> str | None:
    """The kind of relation that opens z·y, truncated, in place of z, or None. A function of public numbers: the same at all parties and
    in a dry run.
    """
    exponent = z.frac + z.dropped + y.frac
    if not (z.since and y.factor_count and exponent < MAX_EXPONENT):
        return None
    largest = (z.bound + 2.0**-z.frac) * y.bound * 2.0**exponent
    return kind_for(z.shape, z.since + 1, z.dropped + drop, largest, liftable=z.is_liftable and y.is_liftable)


def cost(n: int, z: Operand, y: Operand, drop: int) -> Cost:
    """The cost of z·y, truncated, if z is available or is opened together with it."""
    kind, size = joint_kind(z, y, drop), count(z.shape)
    relation = f"{kind}{z.since + 1}" if kind else f"{QUOTIENT}1"
    return opening(n, LANES * size if kind == WIDE else size).then(Cost(dealer=layout_of(relation, size).nbytes))


class Steps:
    """The factors of a product: a quotient and masked values, which have lost `drop` bits in all. The product is opened under the mask
    `name`.
    """

    __slots__ = ("_name", "_scope", "base", "drop", "factors", "is_wide", "lineage")

    def __init__(self, scope: Scope, base: Quotient, factors: tuple[Masked, ...], drop: int, lineage: int, *, is_wide: bool) -> None:
        self.base = base
        self.factors = factors
        self.drop = drop
        self.lineage = lineage
        self.is_wide = is_wide
        self._scope = scope
        self._name: Expression | None = None

    def name(self) -> Expression:
        """Named on first use, since most pending products are never opened. It is the only mask of its scope, so its name does not
        depend on when.
        """
        if self._name is None:
            shape, ranges = self.factors[0].shape, self._scope.ranges
            self._name = ranges.wide_mask(shape) if self.is_wide else ranges.mask(shape)
        return self._name


async def product(s: OpSession, z: AShare, origin: Truncation, y: Masked, drop: int) -> AShare:
    """The product of a quotient and a masked value, truncated; see `mul_trunc`."""
    scope = running(s)
    kind = joint_kind(z, y, drop) if origin.base is not None else None
    if origin.base is not None and kind is not None:
        base, factors, dropped = origin.base, (*origin.factors, y), origin.quotient.drop + drop
    else:
        if origin.base is not None:
            await begin(scope, [z.held])
        base, factors, dropped = origin.quotient, (y,), drop
    liftable = y.is_liftable and (kind is None or origin.liftable)
    if kind == WIDE:
        # The others have begun if what they wait for is wide.
        fresh = [lifting_of(s, each) for each in ((y,) if origin.is_wide else factors)]
        if any(each.words is None for each in fresh):
            await begin(scope, fresh)
    lineage = lineage_of("trunc", lineage_of("mul", z.lineage, y.lineage), drop)
    steps = Steps(scope, base, factors, dropped, lineage, is_wide=kind == WIDE)
    held: Held
    held = words = QuotientWords(s, scope, z.shape, partial(_begin, s, scope, steps))
    if y.factor_count and kind_for(z.shape, len(factors) + 1, dropped + drop, 0.0, liftable=liftable):
        # A further product like this one needs no opening of it.
        truncation = Truncation(Quotient(steps.name, dropped, words), base, factors, liftable, steps.is_wide)
        if watched(s):
            await make(scope, [words])
    else:
        held = await words.at_once()
        # It keeps the name of its steps, not the steps.
        name = steps.name()
        truncation = Truncation(Quotient(lambda: name, dropped, words))
    return wrapped(s, held, z.frac + y.frac, z.bound * y.bound, drop, lineage, truncation)


class QuotientWords(Opens["Opened"]):
    """The words of a quotient; c is opened for them."""

    __slots__ = ()

    def words_of(self, outcome: Opened) -> Words:
        """See Later."""
        _, words = outcome
        return words


def _begin(s: OpSession, of: Scope, steps: Steps, scope: Scope) -> tuple[Coroutine[Any, Any, Opened], Coroutine[Any, Any, list[Words]]]:
    """The work in `scope`, and the correction that it fetches: that of the only relation of the op's own scope `of`."""
    kind, name_of, opened = (WIDE, lifted_name, _opened_wide) if steps.is_wide else (QUOTIENT, attrgetter("name"), _opened)
    names = (steps.base.name, *map(name_of, steps.factors), steps.name())
    relation = Relation.fresh(of.ranges, f"{kind}{len(steps.factors)}", (steps.base.drop, steps.drop), names)
    fetching = s.source.begin(scope, relation)
    return opened(s, scope, steps, fetching), fetching


async def _opened(s: OpSession, scope: Scope, steps: Steps, fetching: Coroutine[Any, Any, list[Words]]) -> Opened:
    base, factors, drop, rho = steps.base, steps.factors, steps.drop, steps.name()
    c, z = await base.opening.result(scope)
    high, products, top, tops = await fetching
    await make(scope, [y.held for y in factors])
    own = await s.compute(_times, rho.shape, z, c, base.drop, factors, products, tops, s.first)
    c = biased(await s.open_hidden(scope, s.hide(rho, own), rho, steps.lineage))
    return c, await rounded(s, c, high, top, drop, rho.shape)


def _times(z: Words, c: Words, drop: int, factors: tuple[Masked, ...], products: Words, tops: Words, first: bool) -> Words:  # noqa: FBT001
    halves = (1 << len(factors)) - 1
    public, carry, m = public_part(c, drop), lost_carry(c, drop), z.reshape(-1)
    if first:
        m = m - public
    # Products with M, of the sets that come last: those with K·msb(r), minus those with r >> m.
    dealt = products.reshape(2 * halves - len(factors), -1)
    dealt[-halves:] = carry * tops.reshape(halves, -1) - dealt[-halves:]
    differences, masks = [y.difference.reshape(-1) for y in factors], [y.mask.reshape(-1) for y in factors]
    return folded([*differences, public], [*masks, m], dealt, first=first).reshape(z.shape)


async def _opened_wide(s: OpSession, scope: Scope, steps: Steps, fetching: Coroutine[Any, Any, list[Words]]) -> Opened:
    base, drop, rho = steps.base, steps.drop, steps.name()
    c, _ = await base.opening.result(scope)
    wholes = [(y, await lifted_whole(scope, y)) for y in steps.factors]
    high, products, top = await fetching
    own = await s.compute(_wide_times, rho.where.shape, c, base.drop, wholes, products, s.first, rho.shape)
    lanes = await open_numbers(s, scope, own, s.mask_words(rho.where), rho, steps.lineage)
    c = await s.compute(biased_numbers, (count(rho.shape),), lanes)
    return c, await rounded(s, c, high, top, drop, rho.shape)


def _wide_times(
    c: Words | Numbers,
    drop: int,
    factors: list[tuple[Masked, Lifted]],
    products: Words,
    first: bool,  # noqa: FBT001
    shape: tuple[int, ...],
) -> Words:
    publics = public_numbers(c, drop)
    size = len(publics)
    # The products that are multiplied by K come last.
    dealt = wide.integers(products if any(carry for _, carry in publics) else products[: -2 * size << len(factors)])
    parts = [[numbers.reshape(-1).tolist() for numbers in part_of(y, whole)] for y, whole in factors]
    own = [
        _wide_folded(publics[at], [d[at] for d, _ in parts], [mask[at] for _, mask in parts], dealt[at::size], first=first)
        for at in range(size)
    ]
    return wide.words_of(own).reshape(*shape, 2)


def _wide_folded(parts: tuple[int, int], differences: list[int], masks: list[int], dealt: list[int], *, first: bool) -> int:
    """For one element, this party's share of (C + M) times all d + a."""
    public, carry = parts
    sets, several = 1 << len(masks), of_several(len(masks)).tolist()
    alone = [0] * sets
    alone[0] = int(first)
    for number, mask in enumerate(masks):
        alone[1 << number] = mask
    for number, product in zip(several, dealt, strict=False):
        alone[number] = product
    shifted, tops = dealt[len(several) : len(several) + sets], dealt[len(several) + sets :]
    # Row S is a share of the product of the masks in S and of C + M; each d takes the place of its mask in the sets without that mask.
    terms = [public * product - less for product, less in zip(alone, shifted, strict=True)]
    if carry:
        terms = [term + carry * top for term, top in zip(terms, tops, strict=True)]
    for d in reversed(differences):
        half = len(terms) // 2
        terms = [d * lower + upper for lower, upper in zip(terms[:half], terms[half:], strict=True)]
    return terms[0]
