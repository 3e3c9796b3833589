"""What functions of numpy do that are called with a secret: what is local as numpy does it, and an error that names the right call for the rest."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from mpc.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable

C = TypeVar("C", bound="Callable[..., Any]")

NUMPY: dict[Any, Callable[..., Any]] = {
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a: a.size,
    np.ravel: lambda a: a.ravel(),
    np.reshape: lambda a, shape: a.reshape(shape),
    np.transpose: lambda a, axes=None: a.T if axes is None else a.transpose(axes),
    np.sum: lambda a, axis=None, *, keepdims=False: a.sum(axis, keepdims=keepdims),
}
"""What functions of numpy do with a secret, with those of their arguments that it knows; and those that `in_numpy` names."""
_INSTEAD: dict[Any, str] = {
    np.mean: "await mpc.scale(s, x.sum(axis=0), 1 / rows)",
    np.dot: "await mpc.dot(s, x, y) of two vectors, await mpc.matmul(s, x, y) of matrices",
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
}
"""The call that does what a function of numpy would do with what it cannot read."""


def in_numpy(function: Any) -> Callable[[C], C]:
    """Let numpy's `function`, where it is called with secrets, be what this decorates."""

    def decorate(call: C) -> C:
        NUMPY[function] = call
        return call

    return decorate


def elsewhere(function: Any) -> Callable[..., NoReturn]:
    """What a secret does in place of that function: a ProgramError that names the call which does it."""

    def method(self: object, *_: object, **__: object) -> NoReturn:
        instead = _INSTEAD.get(function, "docs/protocols.md and docs/ops.md list the calls that do")
        msg = f"numpy's {function.__name__} does not work on a secret such as this {type(self).__name__}; {instead}"
        raise ProgramError(msg)

    return method


def as_numpy(secret: object, function: Any, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
    """`function(*arguments, **parameters)`, where `secret` is among the arguments; ProgramError for what it does not do with one."""
    call = NUMPY.get(function)
    if call is None:
        return elsewhere(function)(secret)
    try:
        signature(call).bind(*arguments, **parameters)
    except TypeError as fault:
        msg = f"numpy's {function.__name__} takes less of a secret than of an array: {fault}"
        raise ProgramError(msg) from None
    return call(*arguments, **parameters)
