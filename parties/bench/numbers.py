"""Data for the workloads, made only from a label, so that a check makes it again and needs no copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpc.prg import Stream

if TYPE_CHECKING:
    from mpc import Floats

_PUBLIC_SEED = bytes(32)
"""Made-up data are no secret."""


def uniform(label: str, party: int, start: int, stop: int, limit: float) -> Floats:
    """Return elements start:stop of the data that `party` has under `label`: uniform within `limit` of 0."""
    words = Stream(_PUBLIC_SEED, ("benchmark", label, party)).slice(0, start, stop)
    words >>= np.uint64(11)
    real = words.astype(np.float64)
    real *= limit * 2.0**-52
    real -= limit
    return real


def normal(label: str, party: int, shape: tuple[int, ...], deviation: float = 1.0) -> Floats:
    """Return normal numbers around 0: the cosines of Box and Muller's pairs."""
    size = int(np.prod(shape))
    radius = uniform(f"{label} radius", party, 0, size, 0.5)
    radius += 0.5 + 2.0**-54
    np.log(radius, out=radius)
    radius *= -2 * deviation**2
    np.sqrt(radius, out=radius)
    radius *= np.cos(uniform(f"{label} angle", party, 0, size, np.pi))
    return radius.reshape(shape)
