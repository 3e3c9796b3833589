"""One run of one job as one party's program sees it: its inputs, masked values and reveals, in step with all others."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar, overload

import numpy as np

from mpc import masking
from mpc.engine import Dry
from mpc.errors import ConfigError, PeerMisbehaved, ProgramError
from mpc.fixed_point import BOUND, FRAC, as_bound, fractional_bits, headroom, rounded_bound
from mpc.ledger import Release
from mpc.messaging.exchange import announced
from mpc.naming import correlations, expressions
from mpc.naming.scope import Scope, close_innermost, close_unbegun, current, protocol, running, within
from mpc.naming.streams import ZERO, ZERO_XOR
from mpc.op_session import OpSession
from mpc.preprocessing.plan import DryExchange, DrySource, Plan, Planning, run_dry
from mpc.program import called
from mpc.ring import count
from mpc.tabular import refuse_frame, shape_of
from mpc.values.bshare import BShare
from mpc.values.secret import check_axes, extent_of, lineage_of, parameter_lineage
from mpc.values.shares import AShare, Encoded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from mpc.engine import Hearing
    from mpc.ring import Words
    from mpc.values.masked import Masked
    from mpc.values.secret import Extent, Secret

P = ParamSpec("P")
R = TypeVar("R")
Receivers: TypeAlias = "int | str | Iterable[int | str]"
"""The receivers of a result, by index or name."""
_SILENT = logging.LoggerAdapter(logging.Logger("beaver", 1), {})  # noqa: LOG001  nobody is to hear of what a dry run reveals
_SILENT.logger.addHandler(logging.NullHandler())


class Session:
    """What a program gets: `index`, `n`, `names`, `id`, `cost`, `log`, and the calls below.

    Calls that return at once are local; awaited ones may use the network. `client` gets results besides the parties, if there is one: what
    is revealed to everyone is revealed to it, too. It opens
    only what it masks (`mask`) or reveals: ops open everything else, and only their bodies get the `OpSession`.
    """

    def __init__(self, names: Sequence[str], ops: OpSession, log: logging.LoggerAdapter[logging.Logger], client: str = "") -> None:
        self.names = tuple(names)
        self.index, self.n = ops.index, ops.n
        self.id = ops.home.session
        """Unique to this session, and the same at all parties."""
        self.cost = ops.engine.cost
        self.log = log
        self.releases: Counter[Release] = Counter()
        """What was revealed so far, and how often."""
        self.announcements: Counter[Release] = Counter()
        """What the parties told each other so far by `announce`, and how often."""
        self._ops, self._engine = ops, ops.engine
        self._client = client
        self._receiver_names = (*self.names, client) if client else self.names

    def __repr__(self) -> str:
        return f"Session(party {self.index} of {self.n}, {self.names[self.index]})"

    async def run(self, program: Callable[Concatenate[Session, P], Awaitable[R]], /, *arguments: P.args, **parameters: P.kwargs) -> R:
        """Await `program(s, *arguments, **parameters)`, with its correlations asked for ahead as far as a dry run can name them; return its
        result.

        The program runs twice, first in a dry run on shapes alone. So it must have no side effects, such as appending to a list from
        outside, and must do the same in both runs. Pass every share that it uses as an argument, or in a list, tuple or dictionary: the dry
        run gets them without contents. The words of all shares that the program returns are made.
        """
        scope = current(self._ops)
        # Keep nothing else of the dry run: all its names would live as long as the program.
        named = await self._ask_ahead(scope, program, arguments, parameters)
        try:
            outcome = await program(self, *arguments, **parameters)
        finally:
            # If the program failed midway, the dealer knows the rest by names that nothing else may have.
            scope.skip(named)
        await self.made(outcome)
        return outcome

    async def _ask_ahead(
        self, scope: Scope, program: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], parameters: dict[str, Any]
    ) -> Scope:
        """Do the dry run and ask for its correlations; return the scope of all names that it used."""
        dry, plan = dry_run(self.names, self.index, client=self._client, source=Planning)
        ops: OpSession = within(dry)
        # Names continue from this scope's position: no used name is used again.
        ops.root = scope.twin()
        ops.unbegun = {}

        async def on_shapes() -> None:
            await dry.made(await called(program, dry, *ops.emptied(arguments), **ops.emptied(parameters)))

        try:
            await run_dry(on_shapes(), plan)
            await self._engine.ask(plan)
        except asyncio.CancelledError:
            self._ops.cancelled(scope)
            raise
        finally:
            close_unbegun(ops)
        return ops.root

    # -- own values and inputs ---------------------------------------------------------------------------------

    def encode(self, values: ArrayLike, *, frac: int = FRAC, bound: float | None = None) -> Encoded:
        """This party's own reals as ring words. `bound` defaults to the largest that n addends cannot overflow.

        Raises PrecisionError for NaN, infinity and values beyond `bound`, naming row and column.
        """
        frac = fractional_bits(frac)
        limit = headroom(frac, self.n) if bound is None else as_bound(bound)
        return Encoded(self._engine.encode(values, frac, limit), frac, rounded_bound(limit, frac))

    def zero(self, shape: Extent, *, frac: int = FRAC, terms: tuple[float | str, ...] = ()) -> AShare:
        """A sharing of zero; rounds 0, bytes 0. `terms` are public settings or names; if another party's differ, opening it is a
        Disagreement.
        """
        extent, frac, scope = extent_of(shape), fractional_bits(frac), current(self._ops)
        # Zero words at every party: no share leaves its party without a fresh mask or a fresh zero sharing (decision 0007).
        lineage = lineage_of("zero", *scope.path, scope.ranges.take(ZERO, ()).block, frac, *extent, *map(parameter_lineage, terms))
        return AShare(self._engine.zeros(extent), frac=frac, bound=0.0, home=self._ops.home, lineage=lineage)

    def input(
        self, values: ArrayLike | None, owner: int | str, shape: Extent | None = None, *, frac: int = FRAC, bound: float = BOUND
    ) -> AShare:
        """The private `values` of party `owner` as shares of all parties; all others pass None and the public `shape`.

        The default bound suits sums and comparisons: values to be multiplied need bounds whose product fits, such as 2^10 each with 20
        fractional bits.
        rounds 0 · bytes 0 · reveals nothing but the shape. Raises PrecisionError at the owner as `encode` does.
        """
        number, frac, bound = self.party(owner), fractional_bits(frac), as_bound(bound)
        if number == self.index:
            if values is None:
                msg = f"party {self.names[number]} is the owner of this input and must pass its values"
                raise ProgramError(msg)
            words = self.encode(values, frac=frac, bound=bound).words
            if shape is not None and extent_of(shape) != words.shape:
                msg = f"the input has shape {words.shape}, but the declared public shape is {extent_of(shape)}"
                raise ProgramError(msg)
        else:
            if values is not None or shape is None:
                msg = f"party {self.names[number]} owns this input: pass values=None and its public shape="
                raise ProgramError(msg)
            words = self._engine.zeros(extent_of(shape))
        lineage = lineage_of("input", self.zero((), frac=frac).lineage, number, *words.shape, parameter_lineage(bound))
        return AShare(words, frac=frac, bound=rounded_bound(bound, frac), home=self._ops.home, lineage=lineage, owner=number)

    def given(self, words: Words | None, shape: Extent, *, frac: int, bound: float) -> AShare:
        """Data that a client split among the parties; `words` is this party's share, None in a dry run. rounds 0 · reveals nothing"""
        extent, frac = extent_of(shape), fractional_bits(frac)
        lineage = lineage_of("given", self.zero((), frac=frac).lineage, *extent, parameter_lineage(float(bound)))
        words = self._engine.zeros(extent) if words is None else words
        return AShare(words, frac=frac, bound=rounded_bound(bound, frac), home=self._ops.home, lineage=lineage)

    @protocol
    async def announce(self, numbers: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Every party's `numbers`, in party order: a shape, or up to 32 other integers from 0 to 2^37, such as a number of columns.

        rounds 1 · bytes 8 x 33 per peer · reveals the numbers to all parties · raises ProgramError for other numbers, PeerMisbehaved for
        a peer's
        """
        mine = announced(numbers)
        scope = current(self._ops)
        self.announcements[_release(scope, (len(mine),), self.names)] += 1
        return await self._engine.exchange.announce(scope, mine)

    @protocol
    async def inputs(self, values: ArrayLike, *, frac: int = FRAC, bound: float = BOUND) -> list[AShare]:
        """Every party's private `values` as shares, in party order; the shapes may differ and become public. For `bound` see `input`.

        rounds 1 · bytes 8 x 33 per peer · reveals the shapes. Raises PrecisionError as `encode` does, PeerMisbehaved for an impossible
        shape, ProgramError for a frame or series: the parties' columns and rows may differ here, so the program must compare names and
        index itself.
        """
        refuse_frame(values, "s.inputs")
        mine = shape_of(values)
        check_axes(mine)
        shapes = await self.announce(mine)
        for name, shape in zip(self.names, shapes, strict=True):
            if count(shape) > expressions.MAX_WORDS:
                raise PeerMisbehaved(name, f"announced an input of shape {shape}, which has more than {expressions.MAX_WORDS} elements")
        return [
            self.input(values if owner == self.index else None, owner, shape, frac=frac, bound=bound) for owner, shape in enumerate(shapes)
        ]

    async def made(self, *outcomes: Any) -> None:
        """Make the words of all shares and masked values in `outcomes`: words may be missing until somebody reads them. Ops do this by
        themselves.

        rounds, bytes and dealer are those that `mul` and `mul_trunc` state for products that something reads
        """
        await self._ops.made(*outcomes)

    def operand(self, x: Any, kinds: tuple[type[Secret], ...], taker: str) -> Any:
        """Return `x`, for a protocol named `taker`, if it is a secret of one of these kinds and of this session; ProgramError otherwise.

        A dry run also accepts its program's secrets of the real session and returns them without their contents.
        """
        return self._ops.operand(x, kinds, taker)

    def compute(self, kernel: Callable[..., Words], shape: tuple[int, ...], *arguments: Any, work: int = 0) -> Coroutine[Any, Any, Words]:
        """The awaitable `kernel(*arguments)`, this party's words of `shape`; in a thread if its `work`, in word operations, is large. A
        dry run skips it.
        """
        return self._ops.compute(kernel, shape, *arguments, work=work)

    # -- openings and outputs ----------------------------------------------------------------------------------

    @protocol
    async def mask(self, x: AShare) -> Masked:
        """Open x - a for a fresh mask a: later products with x do not have to open it again (paper: turbospeedz).

        rounds 1 · bytes 8 per element and peer (a private input: from its owner only) · dealer 0 · opens x - a, uniform

        An x of at most 4096 elements is opened beside the program: only readers of the result wait.
        """
        ops = self._ops
        x = ops.operand(x, (AShare,), "mask")
        scope = running(ops)
        masked = await masking.mask(ops, scope, x, ops.name_mask(x))
        if masked.size <= correlations.MAX_LIFTED:
            masked.place = (*scope.path, 0)
        return masked

    @overload
    async def reveal(self, /, x: BShare, to: Receivers) -> NDArray[np.bool_] | None: ...
    @overload
    async def reveal(self, /, x: BShare, to: None = None) -> NDArray[np.bool_]: ...
    @overload
    async def reveal(self, /, x: AShare, to: Receivers) -> NDArray[Any] | None: ...
    @overload
    async def reveal(self, /, x: AShare, to: None = None) -> NDArray[Any]: ...
    @protocol
    async def reveal(self, x: AShare | BShare, to: Receivers | None = None) -> NDArray[Any] | None:
        """The value of `x` at the receivers `to` (all by default): float64, int64 if frac is 0, bool for bits; None elsewhere.

        rounds 1 · bytes 8 per element (1/8 per bit) and receiver · reveals x to the receivers and nothing to others
        raises ConfigError for a receiver that takes no part, ProgramError if there is none
        """
        x = self.operand(x, (AShare, BShare), "reveal")
        receivers = self.receivers(to)
        to_names = tuple(self._receiver_names[i] for i in receivers)
        scope, shape, lineage = current(self._ops), x.shape, x.lineage
        await self.made(x)
        usage, combine, frac = (ZERO_XOR, np.bitwise_xor, None) if isinstance(x, BShare) else (ZERO, np.add, x.frac)
        fresh = self._engine.streams.zero(scope.ranges.take(usage, x.words.shape), usage)
        # Re-randomised afresh, in the memory of the zero sharing: the shares that a receiver sees are uniform but for their sum.
        if frac is None:
            fresh ^= x.words
        else:
            fresh += x.words
        del x  # as large as the total, which may reuse its memory
        # Before a share leaves: what a failure leaves half sent was revealed, too.
        self.releases[_release(scope, shape, to_names)] += 1
        self.cost.revealing += 1
        try:
            total: Any = await self._engine.exchange.to_receivers(scope, fresh.reshape(-1), receivers, lineage, shape, combine)
        finally:
            self.cost.revealing -= 1
        self.log.info("revealed %s shape=%s to=%s", scope.label, shape, ",".join(to_names))
        return None if total is None else self._engine.plain(shape, frac, total)

    def receivers(self, to: Receivers | None) -> tuple[int, ...]:
        """The indices of the receivers `to`: all if None. The client, if there is one, comes after the parties."""
        if to is None:
            return tuple(range(len(self._receiver_names)))
        listed: tuple[Any, ...] = tuple(to) if np.iterable(to) and not isinstance(to, str) else (to,)
        if not listed:
            msg = "reveal needs at least one receiver"
            raise ProgramError(msg)
        return tuple(sorted({self.n if self._client and entry in (self.n, self._client) else self.party(entry) for entry in listed}))

    def everyone(self, to: Receivers | None) -> bool:
        """Whether everyone who may get results gets this one."""
        return len(self.receivers(to)) == len(self._receiver_names)

    def party(self, who: int | str) -> int:
        """The index of a party given by index or name."""
        if isinstance(who, str):
            if who not in self.names:
                msg = f"{who!r} is no party of this session; they are {', '.join(self.names)}"
                raise ConfigError(msg)
            return self.names.index(who)
        try:
            # True is not party 1, nor is 1.5.
            number = -1 if isinstance(who, bool | np.bool_) else index(who)
        except TypeError:
            number = -1
        if not 0 <= number < self.n:
            msg = f"there is no party {who}: this session has {self.n}, numbered from 0"
            raise ConfigError(msg)
        return number


def _release(scope: Scope, shape: tuple[int, ...], to: tuple[str, ...]) -> Release:
    return Release("/".join(call.rpartition(".")[0] for call in scope.label.split("/")), shape, to)


def dry_run(
    names: Sequence[str], index: int, hearing: Hearing = DryExchange, client: str = "", source: type[DrySource] = DrySource
) -> tuple[Session, Plan]:
    """A session of party `index` on shapes alone, and the plan that it fills."""
    engine, plan = Dry.of(names, index, hearing, source)
    ops = OpSession(engine)
    plan.closes = partial(close_innermost, ops)
    return Session(names, ops, _SILENT, client), plan
