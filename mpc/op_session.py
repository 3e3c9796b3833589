"""A session as the bodies of ops see it: their operands, masks, openings and correlations, and the shares that they make.

A program holds a `Session`, which has none of this: an op has masked whatever it opens.
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
    """The object that the bodies of ops get in place of the session of their call; it also makes the program's calls."""

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
        """A call of `scope` was cancelled before it was done: this ends the session, since its peers would wait for it."""
        self.engine.cancelled(scope)

    @property
    def first(self) -> bool:
        """Whether this party adds the public constants of an op."""
        return self.index == 0

    @property
    def source(self) -> Source:
        """The source of correlations."""
        return self.engine.source

    @property
    def tasks(self) -> SessionTasks | DryTasks:
        """The tasks that run beside the program and end before the session."""
        return self.engine.tasks

    # -- operands and masks ------------------------------------------------------------------------------------

    def operand(self, x: Any, kinds: tuple[type[Secret], ...], taker: str) -> Any:
        """Return `x` if it is a secret of one of these kinds and of this session; ProgramError otherwise.

        A dry run also accepts its program's secrets of the real run and returns them without their contents.
        """
        home = self.engine.takes
        check_operand(x, kinds, taker, home)
        return self.emptied(x) if home is None and x.home is not self.home else x

    def emptied(self, argument: Any) -> Any:
        """`argument` with every secret in it in its form for this dry run."""
        return emptied(argument, self.home, self.engine.zeros)

    def zeros(self, shape: tuple[int, ...]) -> Words:
        """Read-only zero words."""
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
        """All `values` masked, in one opening of the running call, or of `scope` if given. Ops name their masks before they open."""
        return await masking.masked(self.engine, running(self) if scope is None else scope, values, names)

    async def difference(self, x: AShare | Masked, name: Expression) -> Words:
        """`x` minus its mask, as flat public words. If x is not masked yet, masks it under `name` and discards the mask."""
        return await masking.difference(self.engine, running(self), x, name)

    def hide(self, name: Expression, words: Words) -> Words:
        """This party's `words`, flat, minus its share of the fresh mask `name`."""
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
        """The awaitable `kernel(*arguments)`, words of `shape`; in a thread if its `work`, in word operations, is large. A dry run
        skips it.
        """
        return self.engine.compute(kernel, shape, arguments, work)

    def share(self, words: Held, *, frac: int, bound: float, lineage: int, origin: Truncation | Factors | None = None) -> AShare:
        """Wrap the result of an op. Another call on the same operands makes another sharing, so the scope is part of its lineage."""
        lineage = lineage_of("share", lineage, *running(self).path)
        if origin is not None:
            return Derived(words, origin, frac=frac, bound=bound, home=self.home, lineage=lineage)
        return AShare(words, frac=frac, bound=bound, home=self.home, lineage=lineage)

    def bit_share(self, words: Words, shape: tuple[int, ...], lineage: int) -> BShare:
        """Wrap the bits that an op computed."""
        return BShare(words, shape, home=self.home, lineage=lineage)
