"""Masked values as numbers mod 2^128, under masks of their own, for products that 64 bits have no room for (papers: catrina10, turbospeedz).

A value y of which d = y - a is open mod 2^64 is y = c - 2^62 - r + 2^64·(1 - msb c)·(msb r), with r = -a and c = d + 2^62, as integers: |y| is below 2^62.  From
shares of r and of msb r as numbers come shares of y as one, which is opened less a fresh mask, once for all products with it and with views of it.
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
    """The public difference of a value from its wide mask, and this party's share of that."""

    difference: Numbers
    mask: Numbers

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class Lifting(Opens[Lifted]):
    """The masking anew of `whole`, of which others are views, under the mask `name`."""

    __slots__ = ("name",)

    def __init__(self, s: OpSession, whole: Masked, place: tuple[int, ...]) -> None:
        # A scope that the op which masked it has left for this: whoever begins it, all parties name it alike.
        scope = Scope(place, "lift", 0, parent=running(s))
        self.name = scope.ranges.wide_mask(whole.shape)
        super().__init__(s, scope, whole.shape, partial(_begin, s, scope, whole, self.name))

    def words_of(self, outcome: Lifted) -> Numbers:
        """See Later."""
        return outcome.difference

    def at(self, blank: Blanks) -> Ready | None:
        """The same without contents if it has begun; if not, a dry run begins it as the real one will."""
        return Ready(self.name, blank) if self._start is None else None


class Ready(Unmade):
    """Stands for a Lifting in a dry run that begins later."""

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
    """That of what `y` is a view of, which is liftable."""
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
    """What `y` is a view of, under that mask."""
    while y.view is not None:
        y = y.view.whole
    whole: Lifted = await y.lifting.result(scope)
    return whole


def part_of(y: Masked, whole: Lifted) -> Lifted:
    """`y` itself, from that."""
    if y.view is None:
        return whole
    # Of one element numpy gives the integer itself, of which there are no further views.
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
    """The lanes of numbers less their fresh wide mask, summed."""
    check_hides(name.where, own)
    # A party's number less its part of the mask is uniform, and its lanes are a function of it.
    hidden = await s.compute(wide.hidden, (LANES * count(name.shape),), own, mask)
    return await s.open_hidden(scope, hidden, name, lineage)
