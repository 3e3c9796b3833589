"""Shares of numbers, or of bits, joined into one, as numpy joins arrays. Local."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mpc.errors import ProgramError
from mpc.values.bshare import BShare, rearranged
from mpc.values.numpy_calls import in_numpy
from mpc.values.secret import Secret, check_operand, lineage_of, same_home
from mpc.values.shares import AShare, rescaling
from mpc.values.unmade import applied

if TYPE_CHECKING:
    from collections.abc import Callable

S = TypeVar("S", AShare, BShare)
"""Numbers, or bits."""


@in_numpy(np.concatenate)
def concatenate(shares: Iterable[S], axis: int = 0) -> S:
    """AShares of one scale, or BShares, joined along `axis`, as numpy does.  Local."""
    first, *more = parts = _joinable(shares, "concatenate")
    number = first.axis(axis)
    around = first.shape[:number], first.shape[number + 1 :]
    for share in more:
        if share.ndim != first.ndim or (share.shape[:number], share.shape[number + 1 :]) != around:
            msg = f"shapes {first.shape} and {share.shape} do not join along axis {number}"
            raise ProgramError(msg)
    lineage = lineage_of("concatenate", number, *(share.lineage for share in parts))

    def join(*arrays: Any) -> Any:
        return np.concatenate(arrays, axis=number)

    if isinstance(first, BShare):
        return rearranged(lineage, join, *parts)
    return _numbers(parts, join, lineage)


def _numbers(parts: list[AShare], join: Callable[..., Any], lineage: int) -> AShare:
    first, *more = parts
    for share in more:
        if share.frac != first.frac:
            msg = f"shares with {first.frac} and {share.frac} fractional bits cannot be joined; {rescaling(first.frac, share.frac)}"
            raise ProgramError(msg)
    owner = first.owner if all(share.owner == first.owner for share in more) else None
    joined = applied(join, *(share.held for share in parts))
    return AShare(joined, frac=first.frac, bound=max(share.bound for share in parts), home=first.home, lineage=lineage, owner=owner)


@in_numpy(np.stack)
def stack(shares: Iterable[S], axis: int = 0) -> S:
    """AShares of one shape and scale, or BShares of one shape, along a new axis, as numpy does.  Local."""
    first, *more = parts = _joinable(shares, "stack")
    for share in more:
        if share.shape != first.shape:
            msg = f"shapes {first.shape} and {share.shape} do not stack: all must be the same"
            raise ProgramError(msg)
    place = first.reshape(*first.shape, 1).axis(axis)
    return concatenate([share.reshape(*share.shape[:place], 1, *share.shape[place:]) for share in parts], place)


def _joinable(shares: Iterable[S], taker: str) -> list[S]:
    """One or more shares as a list, all of numbers or all of bits; ProgramError for anything else."""
    given: object = shares
    if isinstance(given, Secret) or not isinstance(given, Iterable):
        msg = f"what is joined comes as a list of shares, not as one {type(shares).__name__}"
        raise ProgramError(msg)
    parts = list(shares)
    if not parts:
        msg = "there are no shares to join: a share of no elements is s.zero(0)"
        raise ProgramError(msg)
    # Both kinds: the bits can become numbers.
    is_of_bits = any(isinstance(share, BShare) for share in parts) and not any(isinstance(share, AShare) for share in parts)
    for share in parts:
        check_operand(share, (BShare if is_of_bits else AShare,), taker, None)
        same_home(parts[0], share)
    return parts
