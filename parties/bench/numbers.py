"""Data for the workloads: made again from nothing but a label, so that a check needs no copy of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc.prg import Stream

if TYPE_CHECKING:
    from mpc import Floats

_PUBLIC_SEED = bytes(32)
"""Made-up data are no secret."""


def uniform(label: str, party: int, start: int, stop: int, limit: float) -> Floats:
    """Elements start:stop of what `party` has under `label`: uniform within `limit` of 0."""
    words = Stream(_PUBLIC_SEED, ("benchmark", label, party)).slice(0, start, stop)
    words >>= np.uint64(11)
    real = words.astype(np.float64)
    real *= limit * 2.0**-52
    real -= limit
    return real


def normal(label: str, party: int, shape: tuple[int, ...], deviation: float = 1.0) -> Floats:
    """Normal around 0: cosines of Box and Muller's pairs."""
    size = int(np.prod(shape))
    radius = uniform(f"{label} radius", party, 0, size, 0.5)
    radius += 0.5 + 2.0**-54
    np.log(radius, out=radius)
    radius *= -2 * deviation**2
    np.sqrt(radius, out=radius)
    radius *= np.cos(uniform(f"{label} angle", party, 0, size, np.pi))
    return radius.reshape(shape)
