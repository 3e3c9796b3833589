"""numpy functions called with a secret: local ones work as in numpy, the others raise an error that names the right call."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from mpc.errors import ProgramError
from mpc.ring import outline

if TYPE_CHECKING:
    from collections.abc import Callable

C = TypeVar("C", bound="Callable[..., Any]")


def _reshaped(function: Any) -> Callable[..., Any]:
    """A numpy function that keeps all elements in their order."""
    return lambda a, *given, **named: a.reshape(function(outline(a.shape), *given, **named).shape)


def _transposed(function: Any) -> Callable[..., Any]:
    """A numpy function that puts axes in another order."""
    # Applied to an array whose extents are the numbers of its axes, it gives a shape that is their new order.
    return lambda a, *given, **named: a.transpose(function(outline(tuple(range(a.ndim))), *given, **named).shape)


def _selected(function: Any) -> Callable[..., Any]:
    """A numpy function that selects elements of the array: applied to their places, it says which."""
    return lambda a, *given, **named: a.ravel()[function(np.arange(a.size).reshape(a.shape), *given, **named)]


def _along(function: Any) -> Callable[..., Any]:
    """A numpy function that selects elements along an axis."""

    def call(a: Any, which: Any, axis: Any = None) -> Any:
        if axis is None:
            return a.ravel()[function(np.arange(a.size), which)]
        number = a.axis(axis)
        return a[(*[slice(None)] * number, function(np.arange(a.shape[number]), which))]

    return call


def _split(function: Any) -> Callable[..., Any]:
    """A numpy function that cuts an axis into parts."""

    def call(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Any]:
        number = ary.axis(axis)
        parts = function(np.arange(ary.shape[number]), indices_or_sections)
        return [ary[(*[slice(None)] * number, slice(*((part[0], part[-1] + 1) if part.size else (0, 0))))] for part in parts]

    return call


def _backwards(m: Any, axis: Any) -> tuple[slice, ...]:
    gone = range(m.ndim) if axis is None else [m.axis(each) for each in (axis if isinstance(axis, tuple) else (axis,))]
    return tuple(slice(None, None, -1 if at in gone else 1) for at in range(m.ndim))


def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    outer = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = outer.shape[-2:]
    # Regularly spaced elements of a flattened matrix: a slice, so that the mask of a masked value keeps a name.
    length = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    start = max(offset, 0) - min(offset, 0) * columns
    flat = outer.reshape(*outer.shape[:-2], rows * columns)
    return flat[..., start : start + length * (columns + 1) : columns + 1]


NUMPY: dict[Any, Callable[..., Any]] = {
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a: a.size,
    np.ravel: lambda a: a.ravel(),
    np.reshape: lambda a, shape: a.reshape(shape),
    np.transpose: lambda a, axes=None: a.T if axes is None else a.transpose(axes),
    np.sum: lambda a, axis=None, *, keepdims=False: a.sum(axis, keepdims=keepdims),
    np.cumsum: lambda a, axis=None: a.cumsum(axis),
    np.expand_dims: _reshaped(np.expand_dims),
    np.squeeze: _reshaped(np.squeeze),
    np.swapaxes: _transposed(np.swapaxes),
    np.moveaxis: _transposed(np.moveaxis),
    np.flip: lambda m, axis=None: m[_backwards(m, axis)],
    np.flipud: lambda m: m[::-1],
    np.fliplr: lambda m: m[:, ::-1],
    np.take: _along(np.take),
    np.repeat: _along(np.repeat),
    np.delete: _along(np.delete),
    np.tile: _selected(np.tile),
    np.roll: _selected(np.roll),
    np.broadcast_to: _selected(np.broadcast_to),
    np.split: _split(np.split),
    np.array_split: _split(np.array_split),
    np.diagonal: _diagonal,
    np.trace: lambda a, offset=0, axis1=0, axis2=1: _diagonal(a, offset, axis1, axis2).sum(-1),
    np.diag: lambda v, k=0: _diagonal(v, k) if v.ndim != 1 else v[np.diag(np.arange(v.size), k)] * np.diag(np.ones(v.size, int), k),
}
"""The implementations of numpy functions for secrets, with the arguments that they accept; `in_numpy` adds more."""
_INSTEAD: dict[Any, str] = {
    np.mean: "await mpc.scale(s, x.sum(axis), 1 / count), where count says how many elements each sum has",
    np.cumsum: "shares have it: x.share() of a Masked is one",
    np.dot: "await mpc.dot(s, x, y) of two vectors, await mpc.matmul(s, x, y) of matrices",
    np.round: "await mpc.trunc(s, x, bits) drops the last bits, and may give one unit more",
    np.zeros_like: "s.zero(x.shape, frac=x.frac)",
    np.where: "await protocols.select(s, bit, x, y)",
    np.clip: "await protocols.clip(s, x, low, high)",
    np.max: "await protocols.maximum(s, x)",
    np.min: "await protocols.minimum(s, x)",
    np.argmax: "await protocols.argmax(s, x)",
    np.argmin: "await protocols.argmin(s, x)",
    np.sort: "await protocols.sort(s, x)",
    np.argsort: "await protocols.ranks(s, x) gives the place of each element",
    np.vstack: "mpc.concatenate(shares, axis=0); of 1-d shares, mpc.stack(shares)",
    np.hstack: "mpc.concatenate(shares, axis=1); of 1-d shares, mpc.concatenate(shares)",
    np.maximum: "await protocols.select(s, await protocols.less_than(s, x, y), y, x); of x and 0, await protocols.relu(s, x)",
    np.minimum: (
        "await protocols.select(s, await protocols.less_than(s, x, y), x, y); "
        "of x and what is public, await protocols.clip(s, x, None, high)"
    ),
    np.less: "await protocols.less_than(s, x, y)",
    np.less_equal: "await protocols.less_equal(s, x, y)",
    np.greater: "await protocols.less_than(s, y, x)",
    np.greater_equal: "await protocols.less_equal(s, y, x)",
    np.equal: "await protocols.equal(s, x, y)",
    np.not_equal: "await mpc.not_(s, await protocols.equal(s, x, y))",
    np.square: "await mpc.square(s, x)",
    np.fabs: "await protocols.absolute(s, x)",
    np.sign: "await mpc.ltz(s, x) tells what is negative, await mpc.eqz(s, x) what is 0",
    np.signbit: "await mpc.ltz(s, x)",
    np.vecdot: "await mpc.dot(s, x, y) of two vectors",
    np.logical_and: "await mpc.and_(s, x, y) of bits",
    np.logical_or: "await mpc.or_(s, x, y) of bits",
    np.logical_xor: "await mpc.xor(s, x, y) of bits",
    np.logical_not: "await mpc.not_(s, x) of bits",
}
"""For numpy functions that would have to read a secret, the call to use instead."""
_OPERATORS: dict[Any, str] = {
    np.positive: "pos",
    np.negative: "neg",
    np.absolute: "abs",
    np.invert: "invert",
    np.add: "add",
    np.subtract: "sub",
    np.multiply: "mul",
    np.matmul: "matmul",
    np.true_divide: "truediv",
    np.floor_divide: "floordiv",
    np.remainder: "mod",
    np.divmod: "divmod",
    np.power: "pow",
    np.left_shift: "lshift",
    np.right_shift: "rshift",
    np.bitwise_and: "and",
    np.bitwise_or: "or",
    np.bitwise_xor: "xor",
}
"""Python's names of operators that are numpy functions."""
_METHODS = {
    "reduce": "x.sum(axis=0) adds up, await protocols.maximum(s, x, axis=0) gives the largest",
    "accumulate": "x.cumsum(axis=0) adds up",
    "outer": "give x[:, None] and y to the operator, or the call, that does it with x and y",
}
"""For methods of elementwise functions, the call to use instead."""
_NO_PROTOCOL = "there is no protocol for it: docs/protocols.md says what there is, and what there is not"
_OTHER = "docs/protocols.md and docs/ops.md list the calls that do; what only moves elements is an index, x[places] with public places"


def in_numpy(function: Any) -> Callable[[C], C]:
    """Make the decorated function the implementation of numpy's `function` for secrets."""

    def decorate(call: C) -> C:
        NUMPY[function] = call
        return call

    return decorate


def elsewhere(function: Any, method: str = "__call__") -> Callable[..., NoReturn]:
    """An implementation for secrets that raises ProgramError and names the call to use instead, or says that there is none."""
    name = function.__name__ if method == "__call__" else f"{function.__name__}.{method}"
    none = _NO_PROTOCOL if isinstance(function, np.ufunc) else _OTHER
    instead = _INSTEAD.get(function, none) if method == "__call__" else _METHODS.get(method, none)

    def refuse(self: object, *_: object, **__: object) -> NoReturn:
        msg = f"numpy's {name} does not work on a secret such as this {type(self).__name__}; {instead}"
        raise ProgramError(msg)

    return refuse


def as_operator(secret: Any, function: np.ufunc, method: str, operands: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
    """The result of an elementwise numpy function for operands of which `secret` is the first secret: that of Python's operator."""
    operator = _OPERATORS.get(function)
    if operator is None or method != "__call__":
        return elsewhere(function, method)(secret)
    if parameters:
        more = "; no array becomes secret in place: for a += x write a = a + x" if "out" in parameters else ""
        msg = (
            f"numpy's {function.__name__} takes less of a secret than of an array: got {', '.join(f'{name}=' for name in parameters)}{more}"
        )
        raise ProgramError(msg)
    left, *right = operands
    return getattr(secret, f"__{operator}__")(*right) if left is secret else getattr(secret, f"__r{operator}__")(left)


def as_numpy(secret: object, function: Any, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
    """`function(*arguments, **parameters)`, with `secret` among the arguments; ProgramError if it is not possible with a secret."""
    call = NUMPY.get(function)
    if call is None:
        return elsewhere(function)(secret)
    try:
        given = signature(call).bind(*arguments, **parameters)
    except TypeError as fault:
        msg = f"numpy's {function.__name__} takes less of a secret than of an array: {fault}"
        raise ProgramError(msg) from None
    what = next(iter(given.arguments.values()))
    if what is not secret and not (isinstance(what, list | tuple) and any(each is secret for each in what)):
        # The secret is a count or a place, which must be public.
        return elsewhere(function)(secret)
    try:
        return call(*arguments, **parameters)
    except ProgramError:
        raise
    except (ArithmeticError, IndexError, TypeError, ValueError) as fault:
        msg = f"numpy's {function.__name__} does not fit a secret of this shape: {fault}"
        raise ProgramError(msg) from None
