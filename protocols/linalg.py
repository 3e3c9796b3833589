"""Linear systems on shares, without a division (papers: newton-schulz, beaver91)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

import mpc
from mpc import AShare, BShare, Masked, Session, protocol
from protocols.declare import op_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

A_FRAC = 32
"""Fractional bits of a matrix of correlations: its rounding, over the smallest eigenvalue, limits how exact the solution is."""
B_FRAC = 58
W_FRAC = 26
V_FRAC = 20
STEPS = 22
"""The iteration reaches every eigenvalue above about d / 2^STEPS; with more steps, V would outgrow the ring if there is a smaller one."""
TRUE_STEPS = 2
"""The last steps, which recompute I - AV and so correct the rounding that the others, of half their rounds, have accumulated."""
START_FRAC = 24
E_FRAC = 30
"""Fractional bits of the first I - AV; its rounding doubles with every step, so later steps need fewer."""
ROOM = 1.25
"""The factor by which rounding may pass a bound."""
REFINEMENTS: Sequence[tuple[int, float]] = ((34, ROOM * 2.0**7), (37, ROOM * 2.0**4), (38, ROOM * 2.0**3))
"""Fractional bits of each residual, and the bound of the correction that follows from it (docs/precision.md)."""
LARGEST = 2.0**11
"""|w| <= sqrt(V_jj b'Vb) <= 2^11 sqrt(1.5 / d) for d >= 2, since V <= 2^STEPS / d and b'Vb <= 1.5.

docs/precision.md has the proof, and d = 1.
"""
SINGULAR = 0.35
"""The bound of trace(I - AV) before the last step; an eigenvalue that is out of reach contributes 1."""


@protocol
async def solve(s: Session, a: AShare, b: AShare) -> tuple[AShare, BShare, AShare]:
    """Solve A w = b for a matrix A of correlations (symmetric, positive semidefinite, diagonal at most about 1) and |b| <= 1.

    a: (d, d) with A_FRAC, b: (d,) with B_FRAC -> w: (d,) with W_FRAC, one bit: 1 if A is singular or nearly so, and w is then 0, and V,
    close to the inverse of A, (d, d) with V_FRAC.
    V <- V(2I - AV) from V = I/d (I/2 for d = 1); then w <- w + V(b - Aw).

    rounds 41 for d <= 20, 62 for d <= 25, 64 for d <= 128, else 68 · reveals nothing
    """
    system = await s.mask(a)
    v, residue = await _inverse(s, system)
    inverse, regular = await asyncio.gather(s.mask(v), mpc.ltz(s, residue - SINGULAR))
    # If A is singular, corrections of w could outgrow their bounds: from here on, b is then 0.
    w = await _refined(s, system, inverse, await mpc.select(s, regular, b))
    return w, await mpc.not_(s, regular), v


@protocol
async def _inverse(s: Session, a: Masked) -> tuple[AShare, AShare]:
    """Return V close to the inverse of A, and trace(I - AV) before the last step."""
    d = len(a)
    start = _start(d)
    v = product = await _nearly_inverse(s, a)
    for step in range(STEPS - TRUE_STEPS, STEPS):
        (inverse,) = await _factors(s, v)
        # The eigenvalues of AV are within [0, 1], those of V at most double.
        product = await mpc.matmul_trunc(s, -a, inverse, A_FRAC, bound=2.0)
        v = await mpc.matmul_trunc(s, inverse, product, V_FRAC, bound=ROOM * 2.0 ** (step + 1) * start + 1, plus=2 * v)
    every = np.arange(d)
    return v, product[every, every].sum() + float(d)


async def _factors(s: Session, *values: AShare) -> Sequence[AShare | Masked]:
    """Return the values masked once for all of their products, or unmasked if such a product takes one opening anyway."""
    if all(op_cost("matmul_trunc", s.n, x, x, 1).rounds == 1 for x in values):
        return values
    masked: list[Masked] = await asyncio.gather(*(s.mask(x) for x in values))
    return masked


@protocol
async def _nearly_inverse(s: Session, a: Masked) -> AShare:
    """Return V after all steps but the true ones: V <- V(I + E) beside E <- E·E, since I - AV = E and all are polynomials in A.

    rounds 1 a step for d <= 20, else 2
    """
    d, last = len(a), STEPS - TRUE_STEPS - 1
    start, one = _start(d), np.eye(d)
    # Exactly the start of V, so that E is I - AV to its last bit.
    first = (a * round(start * 2.0**START_FRAC)).ldexp(-START_FRAC)
    e = -await mpc.trunc(s, first, first.frac - E_FRAC) + one
    v = s.zero((d, d), frac=_fracs(0, d)[1]) + one * start
    for step in range(last):
        residue, inverse = await _factors(s, e, v)
        finer, coarser = _fracs(step, d), _fracs(step + 1, d)
        e, v = await asyncio.gather(
            mpc.matmul_trunc(s, residue, residue, 2 * finer[0] - coarser[0], bound=ROOM),
            mpc.matmul_trunc(s, inverse, residue, sum(finer) - coarser[1], bound=ROOM * 2.0 ** (step + 1) * start, plus=v),
        )
    return await mpc.matmul_trunc(s, v, e, sum(_fracs(last, d)) - V_FRAC, bound=ROOM * 2.0 ** (last + 1) * start, plus=v)


def _start(d: int) -> float:
    """Return the factor of I in the first V: about 1/d."""
    return round(2.0**START_FRAC / max(d, 2)) / 2.0**START_FRAC


def _fracs(step: int, d: int) -> tuple[int, int]:
    """Return the fractional bits of E and V before a step: together one less with each step, as the bound of V doubles."""
    # V is smaller than 2^step by the factor d; more than 11 bits would be too many to drop at once at the end.
    return E_FRAC - step // 2, E_FRAC + min(d.bit_length() - 1, 11) - (step + 1) // 2


@protocol
async def _refined(s: Session, a: Masked, inverse: Masked, b: AShare) -> AShare:
    first = await mpc.trunc(s, b, B_FRAC - 28)
    w = await mpc.matmul_trunc(s, inverse, first, V_FRAC + 28 - W_FRAC, bound=LARGEST)
    for frac, bound in REFINEMENTS:
        residual = await mpc.trunc(s, b - await mpc.matmul(s, a, w, bound=2.0), B_FRAC - frac)
        correction = await mpc.matmul_trunc(s, inverse, residual, V_FRAC + frac - W_FRAC, bound=bound)
        w = (w + correction).assume_bound(LARGEST, "both are approximations of the same solution")
    return w
