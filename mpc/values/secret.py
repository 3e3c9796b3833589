"""What all secrets of a session have in common: a home, a lineage, and contents that nobody reads.

Operations that would leak or silently mislead (`bool`, `==`, `float`, iteration, pickling) raise ProgramError and name the right call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache
from hashlib import blake2b
from inspect import iscoroutine
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

import numpy as np

from mpc.errors import ProgramError
from mpc.ring import MAX_NDIM, Words, count, reshaped
from mpc.values.numpy_calls import as_numpy, as_operator, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpc.values.masked import Masked

    Blanks = Callable[[tuple[int, ...]], Words]

Extent = int | tuple[int, ...]
_MERSENNE = (1 << 127) - 1


class ValueWatch(Protocol):
    """Observes every share that is made, even those that nobody would read; the simulator's bound oracle implements it."""

    def makes(self, party: int, lineage: int, words: Words, frac: int, bound: float) -> None:
        """`party` holds `words` of a share whose value is within `bound`."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a share lives: this party's index among the n parties of one session."""

    index: int
    n: int
    session: bytes
    watch: ValueWatch | None = field(default=None, compare=False, repr=False)
    twins: dict[int, tuple[Masked, Masked]] = field(default_factory=dict, compare=False, repr=False)
    """In a dry run, the masked values given to it, by identity, each with its copy without contents: so all views of one value share
    one copy.
    """


def lineage_of(operation: str, *parents: int) -> int:
    """The origin of a value as a number of 127 bits: equal at all parties exactly if they computed the same thing.

    A polynomial hash: it finds honest programs that differ, and is no defence against a forger (see the threat model).
    """
    value = _named(operation)
    for parent in parents:
        value = (value * 0x1F123BB5_9E3779B9_7F4A7C15 + parent + 1) % _MERSENNE
    return value


@cache
def _named(operation: str) -> int:
    return int.from_bytes(operation.encode()[:15], "little")


def parameter_lineage(what: object) -> int:
    """The lineage of a public parameter, from its text in Python: 1, 1.0 and True differ; numpy's numbers and texts count as Python's."""
    return int.from_bytes(blake2b(repr(_plain(what)).encode(), digest_size=15).digest(), "little")


def _plain(what: Any) -> Any:
    if isinstance(what, np.generic | np.ndarray):
        # The whole text: numpy abbreviates long arrays.
        return what.tolist()
    return type(what)(map(_plain, what)) if type(what) in (tuple, list) else what


@lru_cache(maxsize=1 << 12)
def integers_lineage(parameters: tuple[Any, ...]) -> int:
    """The lineage of integers, tuples of them and None, which programs use again and again. Unlike 1 and 1.0, equal ones have the same
    text.
    """
    return parameter_lineage(parameters)


def constant_lineage(words: Words) -> int:
    """The lineage of a public constant: constants that differ between parties, even only in order, are found before a reveal."""
    digest = blake2b(np.ascontiguousarray(words, "<u8").data, digest_size=15).digest()
    return lineage_of("constant", int.from_bytes(digest, "little"), *words.shape)


def _refuse(what: str, instead: str) -> Callable[..., NoReturn]:
    def method(self: object, *_: object, **__: object) -> NoReturn:  # numpy asks for an array with copy=
        msg = f"{what} of this {type(self).__name__} would need its secret contents; {instead}"
        raise ProgramError(msg)

    return method


def extent_of(shape: Extent) -> tuple[int, ...]:
    """A public shape given by a program, as a tuple; ProgramError if it is no shape."""
    try:
        extent = (index(shape),) if isinstance(shape, int | np.integer) else tuple(map(index, shape))
        is_shape = isinstance(shape, int | np.integer | tuple)
    except TypeError:
        extent, is_shape = (-1,), False
    if any(each < 0 for each in extent):
        # If data were taken for a shape, show no value of them, not even integers.
        given = repr(shape) if is_shape else type(shape).__name__
        msg = f"a shape is a number of elements, or a tuple of them, not {given}"
        raise ProgramError(msg)
    return extent


def new_shape(shape: tuple[int, ...], *target: Any) -> tuple[int, ...]:
    """The shape that numpy's reshape(*target) gives; ProgramError if it does not fit."""
    try:
        return reshaped(shape, *target)
    except (TypeError, ValueError) as fault:
        msg = f"shape {shape} does not become {target[0] if len(target) == 1 else target}: {fault}"
        raise ProgramError(msg) from None


def check_axes(shape: tuple[int, ...]) -> None:
    """ProgramError for an array with more axes than a named array may have."""
    if len(shape) > MAX_NDIM:
        msg = f"an array has at most {MAX_NDIM} axes here, not {len(shape)}"
        raise ProgramError(msg)


class Secret:
    """What all secrets have in common: a shape, a home, a lineage, and no readable contents."""

    __slots__ = ("home", "lineage", "shape")
    # Above a data frame's: with a frame or its column on the left, the share handles the operation.
    __pandas_priority__ = 5000
    __hash__ = object.__hash__
    is_share = False
    """Whether it is an AShare, which most ops take."""
    how_to_share = ""
    """In messages where an AShare is needed: how to get one from this."""

    def __init__(self, shape: tuple[int, ...], home: Home, lineage: int) -> None:
        check_axes(shape)
        self.shape = shape
        self.home = home
        self.lineage = lineage

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, party={self.home.index})"

    def at(self, home: Home, blank: Blanks) -> Self:
        """This value without its contents in another home, for a dry run to compute with."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return count(self.shape)

    def _linear(self, operation: str, parameters: Any, apply: Callable[[Any], Any]) -> Self:
        """Apply `apply` to the words of the secret. `parameters` are public data that identify `apply`."""
        raise NotImplementedError

    def axis(self, axis: Any) -> int:
        """The number, from 0 on, of an axis that may be counted from the last back; ProgramError if there is none."""
        if isinstance(axis, Secret):
            msg = (
                f"an axis is a number, not {type(axis).__name__}; "
                "of two shares, the larger elements are select(s, await less_than(s, x, y), y, x)"
            )
            raise ProgramError(msg)
        try:
            number: int = range(self.ndim)[axis.__index__()]
        except (AttributeError, IndexError):
            msg = f"there is no axis {axis!r} in shape {self.shape}"
            raise ProgramError(msg) from None
        return number

    def reshape(self, *shape: int | tuple[int, ...]) -> Self:
        """The same elements in another shape."""
        raise NotImplementedError

    def transpose(self, *axes: int | tuple[int, ...]) -> Self:
        """The axes in another order, reversed by default."""
        listed = tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        order = tuple([self.axis(axis) for axis in listed]) if axes else tuple(reversed(range(self.ndim)))
        if sorted(order) != list(range(self.ndim)):
            msg = f"{listed} names not every axis of shape {self.shape} once"
            raise ProgramError(msg)
        return self._linear("transpose", order, lambda array: array.transpose(order))

    @property
    def T(self) -> Self:  # noqa: N802  numpy's name
        """The transpose."""
        return self.transpose()

    def ravel(self) -> Self:
        """The same elements along one axis."""
        return self.reshape(self.size)

    flatten = ravel

    def __len__(self) -> int:
        if not self.shape:
            msg = "a 0-d secret has no length"
            raise TypeError(msg)
        return self.shape[0]

    def __array_function__(self, function: Any, _: object, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
        """The result of a numpy function called with this secret."""
        return as_numpy(self, function, arguments, parameters)

    def __array_ufunc__(self, function: np.ufunc, method: str, *operands: Any, **parameters: Any) -> Any:
        """The result of an elementwise numpy function, also for operators of an array to the left of this secret."""
        secret = operands[0] if isinstance(operands[0], Secret) else self
        return as_operator(secret, function, method, operands, parameters)

    if not TYPE_CHECKING:
        # Hidden from type checkers, so that they report any use: a method declared never to return would hide all code after it.
        __bool__ = _refuse("the truth value", "compare with protocols.less_than and reveal the bit")
        __eq__ = _refuse("equality", "use protocols.equal, or `is` for the same object")
        __ne__ = _refuse("inequality", "use protocols.equal")
        __lt__ = __le__ = __gt__ = __ge__ = _refuse("the order", "use protocols.less_than")
        __float__ = __int__ = __index__ = __complex__ = _refuse("the number", "await s.reveal(x)")

        def __iter__(self) -> Iterator[NoReturn]:
            # Refused at the first step: a TypeError before that, such as a ProgramError, is replaced by numpy's own in np.concatenate(x).
            yield _refuse("iteration", "index it, or await s.reveal(x); numpy joins a list of shares")(self)

        __contains__ = _refuse("membership", "compare with protocols.equal")
        __array__ = _refuse("the array", "await s.reveal(x)")
        mean, dot, clip, max, min = map(elsewhere, (np.mean, np.dot, np.clip, np.max, np.min))
        argmax, argmin, sort, argsort, cumsum = map(elsewhere, (np.argmax, np.argmin, np.sort, np.argsort, np.cumsum))
        __reduce__ = __reduce_ex__ = _refuse("pickling", "a share belongs to one session and never leaves it")


def emptied(argument: Any, home: Home, blank: Blanks) -> Any:
    """`argument` with every secret in it, also in lists, tuples and dictionaries, in its form for a dry run."""
    kind = type(argument)
    # By type alone: asking the placeholder of a revealed value for its class ends the dry run.
    if issubclass(kind, Secret):
        return argument.at(home, blank)
    if issubclass(kind, dict):
        return {key: emptied(value, home, blank) for key, value in argument.items()}
    # Not their subclasses: only a named tuple itself knows how it is built.
    return kind(emptied(part, home, blank) for part in argument) if kind in (list, tuple) else argument


def secrets_in(argument: Any) -> list[Secret]:
    """Every secret in `argument`, also in lists, tuples and dictionaries, in order."""
    found, seen, stack = [], set[int](), [argument]
    while stack:
        each = stack.pop()
        kind = type(each)
        if issubclass(kind, Secret):
            found.append(each)
        elif issubclass(kind, dict | list | tuple) and id(each) not in seen:
            seen.add(id(each))
            stack += reversed(each.values() if issubclass(kind, dict) else each)
    return found


def check_operand(x: object, kinds: tuple[type[Secret], ...], taker: str, home: Home | None) -> None:
    """ProgramError unless `x` is a secret of one of these kinds and, if `home` is not None, lives there."""
    if not isinstance(x, kinds):
        msg = f"{taker} takes {' or '.join(kind.__name__ for kind in kinds)} here, not {type(x).__name__}{_instead(x, kinds)}"
        raise ProgramError(msg)
    if home is not None:
        _same(x.home, home)


def _instead(x: object, kinds: tuple[type[Secret], ...]) -> str:
    """The remedy for an operand of none of these kinds, if there is an obvious one."""
    if iscoroutine(x):
        return "; await it first"
    if any(kind.is_share for kind in kinds):
        if isinstance(x, Secret) and x.how_to_share:
            return f"; {x.how_to_share}"
        if isinstance(x, int | float | np.ndarray | np.generic):
            return "; s.zero(shape) + numbers is a share of public ones"
    if isinstance(x, list | tuple) and x and all(isinstance(each, Secret) for each in x):
        return "; mpc.stack(shares) is one share of all"
    return ""


def same_home(x: Secret, y: Secret) -> None:
    """Raise ProgramError unless both live at one party of one session."""
    _same(x.home, y.home)


def _same(one: Home, other: Home) -> None:
    if one is not other and one != other:
        msg = (
            "these values belong to different sessions or parties; a share never leaves its session. "
            "In s.run(program, ...), pass every share that the program uses as an argument, and keep none in a list from outside: "
            "the program runs twice, and what its dry run left there is none of the session."
        )
        raise ProgramError(msg)
