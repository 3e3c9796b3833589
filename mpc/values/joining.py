"""Shares joined to one, as numpy joins arrays.  Local."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mpc.errors import ProgramError
from mpc.values.numpy_calls import in_numpy
from mpc.values.secret import Secret, lineage_of, same_home
from mpc.values.shares import AShare, rescaling
from mpc.values.unmade import applied


@in_numpy(np.concatenate)
def concatenate(shares: Iterable[AShare], axis: int = 0) -> AShare:
    """Shares of one scale joined along `axis`, as numpy does.  Local."""
    first, *more = parts = _joinable(shares)
    number = first.axis(axis)
    around = first.shape[:number], first.shape[number + 1 :]
    for share in more:
        same_home(first, share)
        if share.frac != first.frac:
            msg = f"shares with {first.frac} and {share.frac} fractional bits cannot be joined; {rescaling(first.frac, share.frac)}"
            raise ProgramError(msg)
        if share.ndim != first.ndim or (share.shape[:number], share.shape[number + 1 :]) != around:
            msg = f"shapes {first.shape} and {share.shape} do not join along axis {number}"
            raise ProgramError(msg)
    owner = first.owner if all(share.owner == first.owner for share in more) else None
    joined = applied(lambda *arrays: np.concatenate(arrays, axis=number), *(share.held for share in parts))
    lineage = lineage_of("concatenate", number, *(share.lineage for share in parts))
    return AShare(joined, frac=first.frac, bound=max(share.bound for share in parts), home=first.home, lineage=lineage, owner=owner)


@in_numpy(np.stack)
def stack(shares: Iterable[AShare], axis: int = 0) -> AShare:
    """Shares of one shape and scale along a new axis, as numpy does.  Local."""
    first, *more = parts = _joinable(shares)
    for share in more:
        if share.shape != first.shape:
            msg = f"shapes {first.shape} and {share.shape} do not stack: all must be the same"
            raise ProgramError(msg)
    place = first.reshape(*first.shape, 1).axis(axis)
    return concatenate([share.reshape(*share.shape[:place], 1, *share.shape[place:]) for share in parts], place)


def _joinable(shares: object) -> list[AShare]:
    """One share or more; ProgramError for anything else."""
    if isinstance(shares, Secret) or not isinstance(shares, Iterable):
        msg = f"what is joined comes as a list of AShares, not as one {type(shares).__name__}"
        raise ProgramError(msg)
    parts = []
    for share in shares:
        if not isinstance(share, AShare):
            msg = f"only AShares are joined, not {type(share).__name__}; x.share() of a Masked is one"
            raise ProgramError(msg)
        parts.append(share)
    if not parts:
        msg = "there are no shares to join: a share of no elements is s.zero(0)"
        raise ProgramError(msg)
    return parts
