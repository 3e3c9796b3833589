"""Shares minus fresh masks, opened (paper: turbospeedz)."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from mpc.later import Opens
from mpc.naming.correlations import MAX_LIFTED
from mpc.values.masked import Masked
from mpc.values.shares import AShare
from mpc.values.unmade import make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.engine import Engine
    from mpc.naming.expressions import Expression
    from mpc.naming.scope import Scope
    from mpc.op_session import OpSession
    from mpc.ring import Words


class Difference(Opens["Words"]):
    """The public difference between a value and its mask."""

    __slots__ = ()
    few = MAX_LIFTED

    def words_of(self, outcome: Words) -> Words:
        """See Later. The opened words are flat."""
        return outcome.reshape(self.shape)


async def mask(s: OpSession, scope: Scope, x: AShare, name: Expression) -> Masked:
    """`x` under the mask `name`, for the call of `scope`; few elements are opened beside the program (decision 0027)."""
    engine = s.engine
    await make(scope, [x.held])
    hidden = hide(engine, name, x.words)
    held = await Difference(s, scope, x.shape, lambda own: (_opened(engine, own, [x], [name], hidden),)).at_once()
    await engine.tasks.sent()
    return Masked.of(x, held, _mask(x, hidden), name)


async def masked(engine: Engine, scope: Scope, values: Sequence[AShare | Masked], names: Sequence[Expression]) -> tuple[Masked, ...]:
    """All `values` masked, for an op of `scope`: those not masked yet under their `names`, in one opening; the others with their
    differences.
    """
    fresh = [(x, name) for x, name in zip(values, names, strict=True) if isinstance(x, AShare)]
    opened = iter(await _masked(engine, scope, fresh) if fresh else ())
    everything = tuple([next(opened) if isinstance(x, AShare) else x for x in values])
    await make(scope, [x.held for x in everything])
    return everything


async def difference(engine: Engine, scope: Scope, x: AShare | Masked, name: Expression) -> Words:
    """`x` minus its mask, as flat public words, for an op of `scope`. An unmasked x is masked under `name`; that mask is then discarded."""
    await make(scope, [x.held])
    if isinstance(x, Masked):
        return x.difference.reshape(-1)
    return await _opened(engine, scope, [x], [name], hide(engine, name, x.words))


def hide(engine: Engine, name: Expression, words: Words) -> Words:
    """This party's `words`, flat, minus its share of the fresh mask `name`."""
    # An owner mask is the owner's stream alone; the others' words of a private input are 0 and stay so.
    if name.owner is not None and name.owner != engine.home.index:
        return engine.zeros(words.shape).reshape(-1)
    return engine.streams.hide(name.where, words).reshape(-1)


async def _masked(engine: Engine, scope: Scope, fresh: Sequence[tuple[AShare, Expression]]) -> list[Masked]:
    values, names = zip(*fresh, strict=True)
    await make(scope, [x.held for x in values])
    # Each mask hides one value: its range was taken for this value and streams are never read for another.
    hidden = [hide(engine, name, x.words) for x, name in fresh]
    together = hidden[0] if len(hidden) == 1 else np.concatenate(hidden)
    del hidden  # as large as the opened words, whose opening may take long
    cuts = [slice(stop - x.size, stop) for stop, x in zip(accumulate(x.size for x in values), values, strict=True)]
    opened = await _opened(engine, scope, values, names, together)
    parts = zip(values, cuts, names, strict=True)
    return [Masked.of(x, opened[cut].reshape(x.shape), _mask(x, together[cut]), name) for x, cut, name in parts]


def _mask(x: AShare, hidden: Words) -> Words:
    """This party's share a of x's mask, computed from x - a: so a takes no memory during the opening, which keeps x - a."""
    return x.words - hidden.reshape(x.shape)


async def _opened(engine: Engine, scope: Scope, values: Sequence[AShare], names: Sequence[Expression], hidden: Words) -> Words:
    lineages, trees = [x.lineage for x in values], [name.tree for name in names]
    owner, *others = {x.owner for x in values}
    # Values of several owners travel as one opening: to all but the owner a private input is 0 - 0.
    if owner is not None and not others:
        return await engine.exchange.publish(scope, "mask", hidden, owner, lineages, trees)
    return await engine.exchange.open(scope, "mask", hidden, lineages, trees, np.add)
