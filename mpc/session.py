"""One run of one job: inputs, openings, correlations and reveals of one party, in step with all others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc import fixed_point
from mpc.errors import ConfigError, ProgramError
from mpc.exchange import Exchange
from mpc.fixed_point import BOUND, FRAC
from mpc.ledger import Ledger
from mpc.ring import Words, zeros
from mpc.scope import Scope, current, protocol
from mpc.shares import AShare, Encoded, Home, Masked, lineage_of
from mpc.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from mpc.agreement import Agreed
    from mpc.correlations import MaskName
    from mpc.mesh import Mesh
    from mpc.preprocessing.source import Source
    from mpc.streams import Watch

Revealed = Any


class Session:
    """What a program gets: `index`, `n`, `names`, `cost`, `log`, and the calls below.

    Calls that return at once are local; what is awaited may use the network.
    """

    def __init__(self, agreed: Agreed, mesh: Mesh, source: Source, watch: Watch | None = None) -> None:
        self.names = agreed.job.parties
        self.n = len(self.names)
        self.index = self.names.index(mesh.identity.name)
        self.cost = Ledger()
        self.log = logging.LoggerAdapter(mesh.log, {"job": agreed.job.name})
        self.root = Scope((), "", 0)
        me = mesh.identity.name
        pairs = {index: agreed.seeds[name] for index, name in enumerate(self.names) if name != me}
        self._streams = Streams(self.index, agreed.seeds[agreed.job.members[-1]], pairs, watch)
        self._home = Home(self.index, self.n, agreed.session)
        self._exchange = Exchange(agreed, mesh, self.cost)
        self._source = source
        source.attach(self._exchange, self._streams)

    def __repr__(self) -> str:
        return f"Session(party {self.index} of {self.n}, {self.names[self.index]})"

    def check_alive(self) -> None:
        """Raise the session's fault, if it has one."""
        self._exchange.check_alive()

    # -- own values and inputs ---------------------------------------------------------------------------------

    def encode(self, values: ArrayLike, *, frac: int = FRAC, bound: float | None = None) -> Encoded:
        """This party's own reals as ring words.  `bound` defaults to what n addends may reach without overflow.

        Raises PrecisionError for NaN, infinity and values beyond `bound`, naming row and column.
        """
        limit = fixed_point.headroom(frac, self.n) if bound is None else bound
        return Encoded(fixed_point.encode(values, frac=frac, bound=limit), frac, limit)

    def zero(self, shape: int | tuple[int, ...], *, frac: int = FRAC) -> AShare:
        """A fresh sharing of zero; rounds 0, bytes 0.  Uniform to any n - 1 parties."""
        extent = (shape,) if isinstance(shape, int) else tuple(shape)
        scope = current(self)
        where = scope.ranges.take("zero", extent)
        return AShare(
            self._streams.zero(where),
            frac=frac,
            bound=0.0,
            home=self._home,
            lineage=lineage_of("zero", *scope.path, where.block, frac, *extent),
        )

    def input(
        self,
        values: ArrayLike | None,
        owner: int | str,
        shape: int | tuple[int, ...] | None = None,
        *,
        frac: int = FRAC,
        bound: float = BOUND,
    ) -> AShare:
        """The private `values` of party `owner` as shares of all; everyone else passes None and the public `shape`.

        rounds 0 · bytes 0 · reveals nothing but the shape.  Raises PrecisionError at the owner as `encode` does.
        """
        number = self.party(owner)
        if number == self.index:
            if values is None:
                msg = f"party {self.names[number]} is the owner of this input and must pass its values"
                raise ProgramError(msg)
            mine = self.encode(values, frac=frac, bound=bound)
            extent: tuple[int, ...] = mine.words.shape
            declared = (shape,) if isinstance(shape, int) else shape
            if declared is not None and tuple(declared) != extent:
                msg = f"the input has shape {extent}, but the declared public shape is {tuple(declared)}"
                raise ProgramError(msg)
        else:
            if values is not None or shape is None:
                msg = f"party {self.names[number]} owns this input: pass values=None and its public shape="
                raise ProgramError(msg)
            extent = (shape,) if isinstance(shape, int) else tuple(shape)
            mine = Encoded(zeros(extent), frac, bound)
        share = self.zero(extent, frac=frac)
        lineage = lineage_of("input", share.lineage, number)
        return AShare(share.words + mine.words, frac=frac, bound=bound, home=self._home, lineage=lineage)

    @protocol
    async def inputs(self, values: ArrayLike, *, frac: int = FRAC, bound: float = BOUND) -> list[AShare]:
        """Everyone's private `values` as shares, in party order; the shapes may differ and become public.

        rounds 1 · bytes 8 per axis and peer · reveals the shapes
        """
        array = np.asarray(values)
        shapes = await self._exchange.announce(current(self), array.shape)
        return [
            self.input(array if owner == self.index else None, owner, shape, frac=frac, bound=bound) for owner, shape in enumerate(shapes)
        ]

    # -- openings and outputs ----------------------------------------------------------------------------------

    @protocol
    async def mask(self, x: AShare) -> Masked:
        """Open x - a for a fresh mask a: every later product with x is free of openings (paper: turbospeedz).

        rounds 1 · bytes 8 per element and peer · dealer 0 · opens x - a, uniform
        """
        (masked,) = await self.masked((x,), (self.take_mask(x),))
        return masked

    def take_mask(self, x: AShare) -> MaskName:
        """Name a fresh mask for `x` in the current scope."""
        return current(self).ranges.take("mask", x.shape)

    async def masked(self, xs: Iterable[AShare], names: Iterable[MaskName]) -> tuple[Masked, ...]:
        """Open x - a for several values in one message.  For ops, which name their masks before they open."""
        values, chosen = tuple(xs), tuple(names)
        # Each mask hides one value: its range was taken for this value and streams are never read for another.
        masks = [self._streams.mask(name, hides=x.words) for x, name in zip(values, chosen, strict=True)]
        hidden = [(x.words - a).ravel() for x, a in zip(values, masks, strict=True)]
        flat = hidden[0] if len(hidden) == 1 else np.concatenate(hidden)
        opened = await self._exchange.open(current(self), "mask", flat, [x.lineage for x in values], chosen)
        parts = np.split(opened, np.cumsum([part.size for part in hidden])[:-1])
        return tuple(Masked(x, part.reshape(x.shape), a, name) for x, part, a, name in zip(values, parts, masks, chosen, strict=True))

    @protocol
    async def reveal(self, x: AShare, to: int | str | Iterable[int | str] | None = None) -> Revealed:
        """The value of `x` at the receivers `to` (all by default) as float64, exact int64 where frac is 0; None elsewhere.

        rounds 1 · bytes 8 per element and receiver · reveals x to the receivers and nothing to others
        """
        receivers = self._receivers(to)
        # Re-randomised afresh: what a receiver sees of each share is uniform but for the sum.
        fresh = x.words + self._streams.zero(current(self).ranges.take("zero", x.shape))
        scope = current(self)
        total = await self._exchange.to_receivers(scope, fresh.ravel(), receivers, x.lineage, x.shape)
        names = ",".join(self.names[i] for i in receivers)
        self.log.info("revealed %s shape=%s to=%s", scope.label, x.shape, names)
        return None if total is None else fixed_point.decode(total.reshape(x.shape), x.frac)

    def _receivers(self, to: int | str | Iterable[int | str] | None) -> tuple[int, ...]:
        if to is None:
            return tuple(range(self.n))
        listed = (to,) if isinstance(to, int | str) else tuple(to)
        if not listed:
            msg = "reveal needs at least one receiver"
            raise ProgramError(msg)
        return tuple(sorted({self.party(entry) for entry in listed}))

    def party(self, who: int | str) -> int:
        """The index of a party given by index or name."""
        if isinstance(who, str):
            if who not in self.names:
                msg = f"{who!r} is no party of this session; they are {', '.join(self.names)}"
                raise ConfigError(msg)
            return self.names.index(who)
        if not 0 <= who < self.n:
            msg = f"there is no party {who}: this session has {self.n}, numbered from 0"
            raise ConfigError(msg)
        return who

    # -- for ops -----------------------------------------------------------------------------------------------

    @property
    def source(self) -> Source:
        """Where correlations come from."""
        return self._source

    def share(self, words: Words, *, frac: int, bound: float, lineage: int) -> AShare:
        """Wrap the result of an op."""
        return AShare(words, frac=frac, bound=bound, home=self._home, lineage=lineage)

    # -- the end -----------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """The program is done: hand over what the others still need, then say so."""
        await self._exchange.finish()

    def abort(self, fault: BaseException) -> None:
        """The program raised `fault` here: every peer is told where, never what."""
        self._exchange.leave_early(fault)
