"""Matrix products mod 2^64: numpy has no BLAS for integers, so large ones use another backend (`mpc.kernels.limbs`, or PyTorch).

Every backend gives the same words, so parties with different machines stay in step.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.kernels import limbs
from mpc.kernels.halting import check_halted
from mpc.ring import WORD, Words, count, signed, zeros

if TYPE_CHECKING:
    from collections.abc import Callable

    Shape = tuple[int, ...]

# Measured on two cores. PyTorch's int64 loops are competitive only with AVX-512; with AVX2 they were twenty times slower than limbs.
LIMBS_FROM = 32  # multiplications per word that is split or joined; below, numpy's integers are faster
TORCH_FROM = 1 << 30  # multiplications; below, loading PyTorch takes longer than it could save
TORCH_ROWS = 1 << 10  # of a product that PyTorch makes at a time: it cannot be halted meanwhile


def matmul(a: Words, b: Words) -> Words:
    """The product mod 2^64 with the shapes of numpy's `@`: (..., m, k), (..., k, n) -> (..., m, n); 1-d factors are a row a, a column b.

    The result is contiguous, and 0-d for two 1-d factors. Narrower words are multiplied mod their own width.
    """
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        message = f"no matrix product of shapes {a.shape} and {b.shape}: the columns of the first must be as many as the rows of the second"
        raise ValueError(message)
    left = a[None] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    product = BACKENDS[backend(left.shape, right.shape, a.dtype)](left, right)
    if a.ndim == 1:
        product = product[..., 0, :]
    if b.ndim == 1:
        product = product[..., 0]
    return product


def backend(a: Shape, b: Shape, dtype: np.dtype[Any]) -> str:
    """The backend in BACKENDS for (..., m, k), (..., k, n): public, since it depends only on shapes, dtype and this machine."""
    if dtype != WORD or not is_large(a, b):
        return "integers"
    m, k, n = _extents(a, b)
    return "torch" if m * k * n >= TORCH_FROM and _torch_pays() else "limbs"


def is_large(a: Shape, b: Shape) -> bool:
    """Whether a product of words is too large for numpy's integers: the same on every machine, and known without loading anything."""
    m, k, n = _extents(a, b)
    return m * k * n >= LIMBS_FROM * (m * k + k * n + m * n)


def _extents(a: Shape, b: Shape) -> tuple[int, int, int]:
    # A stack times one matrix is one tall product.
    return count(a[:-1]) if len(b) == 2 else a[-2], a[-1], b[-1]


def by_integers(a: Words, b: Words) -> Words:
    """(..., m, k), (..., k, n) -> (..., m, n) in numpy's integers.

    einsum has faster loops than `@` and orders them by the strides; its innermost loop must not be the shorter of m and n.
    """
    if a.shape[-2] <= b.shape[-1]:
        a = np.ascontiguousarray(a)
    else:
        b = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
    return np.ascontiguousarray(np.einsum("...ij,...jk->...ik", a, b))


def by_limbs(a: Words, b: Words) -> Words:
    """(..., m, k), (..., k, n) -> (..., m, n) of 64-bit words in float64 BLAS."""
    return _by_matrices(a, b, limbs.add_product)


def by_torch(a: Words, b: Words) -> Words:
    """(..., m, k), (..., k, n) -> (..., m, n) of 64-bit words in PyTorch's int64, which wraps as words do."""
    return _by_matrices(a, b, _torch_product)


def _by_matrices(a: Words, b: Words, put: Callable[[Words, Words, Words], None]) -> Words:
    """(..., m, k), (..., k, n) -> (..., m, n) by `put(a, b, product)` for single matrices; `product` is 0 before."""
    if b.ndim == 2:  # a stack times one matrix is one tall product
        product = zeros((*a.shape[:-1], b.shape[-1]))
        m = count(a.shape[:-1])
        put(a.reshape(m, a.shape[-1]), b, product.reshape(m, b.shape[-1]))
        return product
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left, right = np.broadcast_to(a, stack + a.shape[-2:]), np.broadcast_to(b, stack + b.shape[-2:])
    product = zeros((*stack, a.shape[-2], b.shape[-1]))
    for place in np.ndindex(stack):
        put(left[place], right[place], product[place])
    return product


def _torch_product(a: Words, b: Words, product: Words) -> None:
    torch = _torch()
    # PyTorch warns of read-only memory and refuses negative strides; such factors are copied.
    left, right = (torch.from_numpy(np.require(signed(words), requirements=["C", "W"])) for words in (a, b))
    out = torch.from_numpy(signed(product))
    for start in range(0, len(a), TORCH_ROWS):
        check_halted()
        rows = slice(start, start + TORCH_ROWS)
        torch.matmul(left[rows], right, out=out[rows])


def halved(u: Words, d: Words, v: Words, e: Words, *, up: bool) -> Words:
    """Half of (2 u + d) @ (2 v + e) mod 2^65, for words u (m, k) and v (k, n) and the lowest bits of d and e, of the same shapes; `up`
    says whether odd elements are rounded up.
    """
    name = backend(u.shape, v.shape, u.dtype)
    return halved_by_limbs(u, d, v, e, up=up) if name == "limbs" else halved_by_words(u, d, v, e, up=up, product=BACKENDS[name])


def halved_by_words(u: Words, d: Words, v: Words, e: Words, *, up: bool, product: Callable[[Words, Words], Words]) -> Words:
    """As `halved`, as u (2 v + e) + d v + d e / 2, by a product of words."""
    d, e = d & WORD.type(1), e & WORD.type(1)
    # d e counts to at most k, which floats hold: float32 up to 2^24, in half the time.
    kind = np.float32 if len(v) < 2**24 else np.float64
    odd = (d.astype(kind) @ e.astype(kind)).astype(np.int64)
    odd += up
    odd >>= 1
    words = product(u, (v << WORD.type(1)) + e)
    words += product(d, v)
    words += odd.view(WORD)
    return words


def halved_by_limbs(u: Words, d: Words, v: Words, e: Words, *, up: bool) -> Words:
    """As `halved`, in float64 BLAS."""
    product = zeros((len(u), v.shape[1]))
    limbs.add_half(u, d, v, e, product, np.full(product.shape, up, np.int64))
    return product


BACKENDS: dict[str, Callable[[Words, Words], Words]] = {"integers": by_integers, "limbs": by_limbs, "torch": by_torch}


@cache
def _torch() -> Any:
    """PyTorch, loaded on first use; None if it is absent or cannot load."""
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError):
        return None


def _torch_pays() -> bool:
    torch = _torch()
    return torch is not None and torch.backends.cpu.get_cpu_capability() == "AVX512"
