"""Masked values as numbers mod 2^128, under their own masks, for products that exceed 64 bits (papers: catrina10, turbospeedz).

Let d = y - a be open mod 2^64, r = -a and c = d + 2^62. Then, as integers with |y| < 2^62, y = c - 2^62 - r + 2^64·(1 - msb c)·(msb r).
Shares of r and of msb r as numbers give shares of y as a number. That is opened minus a fresh mask, once for all products with y and with
views of it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mpc.kernels import wide
from mpc.kernels.wide import LANES
from mpc.later import Opens
from mpc.naming.correlations import LIFT, Relation
from mpc.naming.scope import Scope, running
from mpc.naming.streams import check_hides
from mpc.ops.quotients import biased, public_numbers
from mpc.ring import count
from mpc.values.secret import lineage_of
from mpc.values.unmade import Unmade, make

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mpc.kernels.wide import Numbers
    from mpc.naming.expressions import Expression
    from mpc.op_session import OpSession
    from mpc.ring import Words
    from mpc.values.masked import Masked
    from mpc.values.secret import Blanks


class Lifted(NamedTuple):
    """The public difference of a value from its wide mask, and this party's share of that mask."""

    difference: Numbers
    mask: Numbers

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class Lifting(Opens[Lifted]):
    """The second masking of `whole`, under the mask `name`; other values are views of `whole`."""

    __slots__ = ("name",)

    def __init__(self, s: OpSession, whole: Masked, place: tuple[int, ...]) -> None:
        # The op that masked it has reserved this scope for it: whoever begins it, all parties give it the same name.
        scope = Scope(place, "lift", 0, parent=running(s))
        self.name = scope.ranges.wide_mask(whole.shape)
        super().__init__(s, scope, whole.shape, partial(_begin, s, scope, whole, self.name))

    def words_of(self, outcome: Lifted) -> Numbers:
        """See Later."""
        return outcome.difference

    def at(self, blank: Blanks) -> Ready | None:
        """This lifting without contents if it has begun; otherwise a dry run begins it as the real one will."""
        return Ready(self.name, blank) if self._start is None else None


class Ready(Unmade):
    """The placeholder for a Lifting in a dry run that begins later."""

    __slots__ = ("_lifted", "name")

    def __init__(self, name: Expression, blank: Blanks) -> None:
        super().__init__(name.shape, blank(name.shape))
        self.name = name
        self._lifted = Lifted(blank(name.shape), blank(name.shape))

    async def result(self, _: Scope) -> Lifted:
        """See Lifting."""
        return self._lifted

    def at(self, _: Blanks) -> Ready:
        """See Lifting."""
        return self


def lifting_of(s: OpSession, y: Masked) -> Lifting | Ready:
    """The lifting of the value that `y`, which must be liftable, is a view of."""
    while y.view is not None:
        y = y.view.whole
    if y.lifting is None and y.place is not None:
        y.lifting = Lifting(s, y, y.place)
    lifting: Lifting | Ready = y.lifting
    return lifting


def lifted_name(y: Masked) -> Expression:
    """The name of its wide mask; its lifting has begun."""
    if y.view is None:
        name: Expression = y.lifting.name
        return name
    return y.view.name(lifted_name(y.view.whole))


async def lifted_whole(scope: Scope, y: Masked) -> Lifted:
    """The value that `y` is a view of, under that mask."""
    while y.view is not None:
        y = y.view.whole
    whole: Lifted = await y.lifting.result(scope)
    return whole


def part_of(y: Masked, whole: Lifted) -> Lifted:
    """The part of `whole` that is `y`."""
    if y.view is None:
        return whole
    # For one element numpy gives the integer itself, of which there are no further views.
    return Lifted(*[np.asarray(y.view.apply(numbers), object) for numbers in part_of(y.view.whole, whole)])


def _begin(
    s: OpSession, of: Scope, whole: Masked, name: Expression, scope: Scope
) -> tuple[Coroutine[Any, Any, Lifted], Coroutine[Any, Any, list[Words]]]:
    fetching = s.source.begin(scope, Relation.fresh(of.ranges, LIFT, (), (whole.name,)))
    return _lifted(s, scope, whole, name, fetching), fetching


async def _lifted(s: OpSession, scope: Scope, whole: Masked, name: Expression, fetching: Coroutine[Any, Any, list[Words]]) -> Lifted:
    r, top = await fetching
    await make(scope, [whole.held])
    own = await s.compute(_own, name.where.shape, whole.difference, r, top, s.first)
    mask = s.mask_words(name.where)
    lanes = await open_numbers(s, scope, own, mask, name, lineage_of("lift", whole.lineage))
    return Lifted(await s.compute(_opened, whole.shape, lanes, whole.shape), await s.compute(wide.numbers, whole.shape, mask, whole.shape))


def _own(difference: Words, r: Words, top: Words, first: bool) -> Words:  # noqa: FBT001
    # The quotient of y that has lost no bits, C - r + K·(msb r), in numbers.
    publics = public_numbers(biased(difference), 0)
    own = [(first and public) - r + carry * top for (public, carry), r, top in zip(publics, wide.integers(r), top.tolist(), strict=True)]
    return wide.words_of(own).reshape(*difference.shape, 2)


def _opened(lanes: Words, shape: tuple[int, ...]) -> Numbers:
    return wide.array(wide.opened(lanes), shape)


async def open_numbers(s: OpSession, scope: Scope, own: Words, mask: Words, name: Expression, lineage: int) -> Words:
    """The sum of all parties' lanes of numbers minus their fresh wide mask."""
    check_hides(name.where, own)
    # A party's number minus its part of the mask is uniform, and its lanes are a function of it.
    hidden = await s.compute(wide.hidden, (LANES * count(name.shape),), own, mask)
    return await s.open_hidden(scope, hidden, name, lineage)
