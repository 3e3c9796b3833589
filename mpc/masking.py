"""Shares less fresh masks, opened (paper: turbospeedz)."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from mpc.later import Opens
from mpc.naming.correlations import MAX_LIFTED
from mpc.ring import frozen
from mpc.values.masked import Masked
from mpc.values.shares import AShare
from mpc.values.unmade import make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.engine import Engine
    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.ring import Words
    from mpc.session import Session


class Difference(Opens["Words"]):
    """That of a masked value from its mask, which is public once it is there."""

    __slots__ = ()
    few = MAX_LIFTED

    def take(self, outcome: Words) -> None:
        """See Later.  What is opened is flat."""
        self.words = frozen(outcome.reshape(self.shape))


async def mask(s: Session, engine: Engine, scope: Scope, x: AShare, name: Expression) -> Masked:
    """`x` under the mask `name`, for the call of `scope`; one of few elements is opened beside the program (decision 0027)."""
    await make(scope, [x.held])
    a = _share(engine, x, name)
    difference = Difference(s, scope, x.shape, lambda own: (_opened(engine, own, [x], [name], (x.words - a).reshape(-1), x.owner),))
    held = await difference.at_once()
    await engine.departure(scope)
    return Masked.of(x, held, a, name)


async def masked(engine: Engine, scope: Scope, values: Sequence[AShare | Masked], names: Sequence[Expression]) -> tuple[Masked, ...]:
    """All of these masked, for an op of `scope`: those that are not yet under their `names`, in one opening; those that are, with their differences."""
    fresh = [(x, name) for x, name in zip(values, names, strict=True) if isinstance(x, AShare)]
    opened = iter(await _masked(engine, scope, fresh) if fresh else ())
    everything = tuple([next(opened) if isinstance(x, AShare) else x for x in values])
    await make(scope, [x.held for x in everything])
    return everything


async def _masked(engine: Engine, scope: Scope, fresh: Sequence[tuple[AShare, Expression]]) -> list[Masked]:
    values, names = zip(*fresh, strict=True)
    await make(scope, [x.held for x in values])
    # Each mask hides one value: its range was taken for this value and streams are never read for another.
    masks = [_share(engine, x, name) for x, name in fresh]
    hidden = [(x.words - a).reshape(-1) for x, a in zip(values, masks, strict=True)]
    owners = {x.owner for x in values}
    # Values of several owners travel as one opening: to all but the owner a private input is 0 - 0.
    owner = values[0].owner if len(owners) == 1 else None
    opened = await _opened(engine, scope, values, names, hidden[0] if len(hidden) == 1 else np.concatenate(hidden), owner)
    stops = accumulate(x.size for x in values)
    parts = [opened[stop - x.size : stop].reshape(x.shape) for stop, x in zip(stops, values, strict=True)]
    return [Masked.of(x, part, a, name) for x, part, a, name in zip(values, parts, masks, names, strict=True)]


async def _opened(
    engine: Engine, scope: Scope, values: Sequence[AShare], names: Sequence[Expression], hidden: Words, owner: int | None
) -> Words:
    lineages, trees = [x.lineage for x in values], [name.tree for name in names]
    if owner is not None:
        return await engine.exchange.publish(scope, "mask", hidden, owner, lineages, trees)
    return await engine.exchange.open(scope, "mask", hidden, lineages, trees, np.add)


def _share(engine: Engine, x: AShare, name: Expression) -> Words:
    # An owner mask is the owner's stream alone; the others' words of a private input are 0 and stay so.
    if name.owner is not None and name.owner != engine.home.index:
        return engine.zeros(x.shape)
    return engine.streams.mask(name.where, x.words)
