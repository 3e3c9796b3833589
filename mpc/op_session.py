"""A session as the bodies of ops see it: their operands, masks, openings and correlations, and the shares that they make.

A program holds a `Session`, which has none of this: whatever it opens, an op has masked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc import masking
from mpc.naming.scope import Scope, running
from mpc.naming.streams import MASK
from mpc.values.bshare import BShare
from mpc.values.derived import Derived, Factors, Truncation
from mpc.values.masked import Masked
from mpc.values.secret import check_operand, emptied, lineage_of, secrets_in
from mpc.values.shares import AShare
from mpc.values.unmade import make

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from mpc.engine import Engine
    from mpc.messaging.session_tasks import SessionTasks
    from mpc.naming.expressions import Expression, Range
    from mpc.preprocessing.plan import DryTasks
    from mpc.preprocessing.source import Source
    from mpc.ring import Words
    from mpc.values.secret import Secret
    from mpc.values.unmade import Held


class OpSession:
    """What the bodies of ops get for the session that they are called with; it makes the calls of the program, too."""

    unbegun: dict[Scope, Coroutine[Any, Any, Any]] | None = None
    """In a dry run, the calls that were made and have not begun."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.home = engine, engine.home
        self.index, self.n = self.home.index, self.home.n
        self.root = Scope((), "", 0)

    def check_alive(self) -> None:
        """Raise the session's fault, if it has one."""
        self.engine.exchange.check_alive()

    def cancelled(self, scope: Scope) -> None:
        """A call of `scope` was cancelled before it was done: this ends the session, for its peers would wait for it."""
        self.engine.cancelled(scope)

    @property
    def first(self) -> bool:
        """Whether this party adds the public constants of an op."""
        return self.index == 0

    @property
    def source(self) -> Source:
        """Where correlations come from."""
        return self.engine.source

    @property
    def tasks(self) -> SessionTasks | DryTasks:
        """What goes on while the program does, and ends before the session."""
        return self.engine.tasks

    # -- operands and masks ------------------------------------------------------------------------------------

    def operand(self, x: Any, kinds: tuple[type[Secret], ...], taker: str) -> Any:
        """`x`, if it is a secret of one of these kinds and of this session; ProgramError otherwise.

        A dry run takes those that its program holds of the real one, too, without their contents.
        """
        home = self.engine.takes
        check_operand(x, kinds, taker, home)
        return self.emptied(x) if home is None and x.home is not self.home else x

    def emptied(self, argument: Any) -> Any:
        """`argument` with every secret in it as this dry run knows it."""
        return emptied(argument, self.home, self.engine.zeros)

    def zeros(self, shape: tuple[int, ...]) -> Words:
        """Zero words to read only."""
        return self.engine.zeros(shape)

    async def made(self, *outcomes: Any) -> None:
        """Make the words of all shares and masked values in `outcomes`; see `Session.made`."""
        scope = running(self)
        try:
            await make(scope, [x.held for x in secrets_in(outcomes) if isinstance(x, AShare | Masked) and x.home is self.home])
        except asyncio.CancelledError:
            self.cancelled(scope)
            raise

    def name_mask(self, x: AShare | Masked) -> Expression:
        """The mask of `x`: its own if it is masked, else a fresh one of the current scope; the owner's alone for a private input."""
        if isinstance(x, Masked):
            return x.name
        return running(self).ranges.mask(x.shape, x.owner)

    async def masked(
        self, values: Sequence[AShare | Masked], names: Sequence[Expression], scope: Scope | None = None
    ) -> tuple[Masked, ...]:
        """All of these masked, in one opening of the call that runs if no `scope` is given.  Ops name their masks before they open."""
        return await masking.masked(self.engine, running(self) if scope is None else scope, values, names)

    async def difference(self, x: AShare | Masked, name: Expression) -> Words:
        """That of x from its mask, flat; a fresh one of this `name`, of which nothing is kept, if it is not masked yet."""
        return await masking.difference(self.engine, running(self), x, name)

    def hide(self, name: Expression, words: Words) -> Words:
        """This party's `words`, flat, less its share of the fresh mask `name`."""
        return masking.hide(self.engine, name, words)

    def mask_words(self, where: Range, usage: str = MASK) -> Words:
        """This party's share of the mask at `where`, to be spent on one share alone."""
        return self.engine.streams.mask(where, usage)

    # -- openings, kernels and results -------------------------------------------------------------------------

    async def open_hidden(self, scope: Scope, words: Words, name: Expression, lineage: int) -> Words:
        """The sum of every party's `words`, flat, which the caller hid under its fresh mask `name`."""
        return await self.engine.exchange.open(scope, "fused", words, [lineage], [name.tree], np.add)

    async def open_bits(self, words: Words, lineages: Sequence[int], keys: Sequence[bytes]) -> Words:
        """Open the XOR of every party's `words`, which the caller hid under fresh bit masks."""
        return await self.engine.exchange.open(running(self), "bits", words, lineages, keys, np.bitwise_xor)

    def compute(self, kernel: Callable[..., Words], shape: tuple[int, ...], *arguments: Any, work: int = 0) -> Coroutine[Any, Any, Words]:
        """`kernel(*arguments)`, words of `shape`, to be awaited; in a thread if it is `work` word operations long.  A dry run skips it."""
        return self.engine.compute(kernel, shape, arguments, work)

    def share(self, words: Held, *, frac: int, bound: float, lineage: int, origin: Truncation | Factors | None = None) -> AShare:
        """Wrap the result of an op; what another call makes of the same operands is another sharing, so the scope is part of its lineage."""
        lineage = lineage_of("share", lineage, *running(self).path)
        if origin is not None:
            return Derived(words, origin, frac=frac, bound=bound, home=self.home, lineage=lineage)
        return AShare(words, frac=frac, bound=bound, home=self.home, lineage=lineage)

    def bit_share(self, words: Words, shape: tuple[int, ...], lineage: int) -> BShare:
        """Wrap bits, the result of an op."""
        return BShare(words, shape, home=self.home, lineage=lineage)
