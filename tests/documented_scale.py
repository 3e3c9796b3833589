"""The product of a share and public reals, written from docs/wire.md alone."""

from __future__ import annotations

import math
import struct

import numpy as np

from tests.documented import b2, encoded, lineage, printed
from tests.documented_chain import LENGTHS, Multiplier
from tests.documented_party import ROUNDS

FACTORS = (0.6, 0.3, 1e-6, (0.3, -0.01, 0.002), (2e-6, 0.0, 1e-6))
"""In turn: the third and the last take two truncations."""
DROP = 20


class Scaler(Multiplier):
    """Zoe, who also multiplies by public reals."""

    async def scaled(self, number, values):
        """Add ann's input and this one, then the cumulative sums, scale and reveal, as 2 more calls of the program."""
        first = 1 + 24 * ROUNDS + sum(LENGTHS[before % len(LENGTHS)] + 5 for before in range(ROUNDS)) + 2 * number
        m, factor, zero, bound = len(values), np.array(FACTORS[number % len(FACTORS)]), 15 * ROUNDS + 2 * number, 2.0**21
        x, y = (lineage("input", lineage("zero", zero + owner, 20), owner, m, printed(bound / 2)) for owner in (0, 1))
        share, history, bound = np.cumsum(encoded(values)), lineage("cumsum", lineage("add", x, y), printed((0,))), m * bound
        shift, frac = precision(bound, 20, factor)
        if shift:
            bound *= 2.0**-shift
            share, history = await self.trunc(f"{first}.0", share, lineage("ldexp", history, printed((20 + shift, bound))), shift)
            bound += 2.0**-20
        whole = np.rint(factor * 2.0 ** (shift + frac)).astype(np.int64)
        bound *= float(abs(whole).max())
        history = lineage("scale", history, constant(whole), printed(bound))
        history = lineage("ldexp", history, printed((20 + frac, bound * 2.0**-frac)))
        last = await self.trunc(f"{first}.{1 if shift else 0}", share * whole.view(np.uint64), history, frac)
        return await self.reveal(str(first + 1), *last)


def constant(whole):
    return lineage("constant", int.from_bytes(b2(struct.pack(f"<{whole.size}q", *whole.reshape(-1).tolist()), 15), "little"), *whole.shape)


def exponent(number):
    """The least e such that number < 2^e; 0 for 0."""
    return math.floor(math.log2(number)) + 1 if number else 0


def precision(bound, f, factor, drop=DROP):
    """shift and frac."""
    sizes = [abs(float(each)) for each in factor.reshape(-1) if each]
    if not sizes:
        return 0, drop
    least, most = max(0, -exponent(min(sizes))), max(0, -exponent(max(sizes)))
    room = 62 - f - exponent(bound * max(sizes) * (1 + 2.0**-10))
    once = max(drop, min(drop + least, room, 32))
    if once - most >= min(drop, 20):
        return 0, once
    shift = min(most, 32)
    return shift, max(drop, min(drop + least - shift, room, 32))
