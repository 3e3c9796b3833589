"""Matrix products mod 2^64.

numpy has no BLAS for integers, so a large product is taken from float64 BLAS, on digits so small that every sum is exact.

A word is a0 + a1 2^22 + a2 2^42 mod 2^64, with signed digits of 22, 20 and 22 bits. The places of a1 b2 and a2 b1 are 2^64 and more, hence

    a b = a0 b0 + (a0 b1 + a1 b0) 2^22 + (a0 b2 + a2 b0) 2^42 + a1 b1 2^44    mod 2^64

and a0 b1 + a1 b0 = (a0 + a1)(b0 + b1) - a0 b0 - a1 b1 leaves five products where six would be obvious (Karatsuba). The largest factors,
a0 + a1 and b0 + b1, are at most 2^21 + 2^19, so that a sum of 1310 of their products stays within 2^53: DEPTH at a time.

Every backend gives the same words, so parties with different machines stay in step.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.ring import BITS, WORD, Words, count, signed, zeros

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Shape = tuple[int, ...]
    Limbs = NDArray[np.float64]

DIGITS = ((0, 22), (22, 20), (42, 22))  # (place, bits) of a0, a1, a2
BIAS = np.uint64(sum(1 << place + bits - 1 for place, bits in DIGITS))  # makes all digits of a word non-negative, with no carries
WEIGHTS = ((0, 0, 1 - 2**22), (3, 3, 2**22), (1, 1, 2**44 - 2**22), (0, 2, 2**42), (2, 0, 2**42))
TERMS = tuple((i, j, np.uint64(weight % 2**BITS)) for i, j, weight in WEIGHTS)  # limb of a, limb of b, weight of their product
ROWS, DEPTH, COLUMNS = 512, 1024, 1024  # of a tile; beside the result at most 64 MiB are in use, whatever the shapes
CACHED = 1 << 15  # words that are split at a time, so that what lies between word and limbs stays in cache

# Measured on two cores. PyTorch's int64 loops can compete with AVX-512 only; with AVX2 they were twenty times slower than limbs.
LIMBS_FROM = 32  # multiplications per word that is split or joined; below, numpy's integers are faster
TORCH_FROM = 1 << 30  # multiplications; below, loading PyTorch takes longer than it could save


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
    """Which of BACKENDS takes (..., m, k), (..., k, n): public, for it depends on shapes, dtype and this machine only."""
    m, k, n = count(a[:-1]) if len(b) == 2 else a[-2], a[-1], b[-1]
    if dtype != WORD or m * k * n < LIMBS_FROM * (m * k + k * n + m * n):
        return "integers"
    return "torch" if m * k * n >= TORCH_FROM and _torch_pays() else "limbs"


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
    if b.ndim == 2:  # a stack times one matrix is one tall product
        product = zeros((*a.shape[:-1], b.shape[-1]))
        m = count(a.shape[:-1])
        _add_product(a.reshape(m, a.shape[-1]), b, product.reshape(m, b.shape[-1]))
        return product
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left, right = np.broadcast_to(a, stack + a.shape[-2:]), np.broadcast_to(b, stack + b.shape[-2:])
    product = zeros((*stack, a.shape[-2], b.shape[-1]))
    for place in np.ndindex(stack):
        _add_product(left[place], right[place], product[place])
    return product


def by_torch(a: Words, b: Words) -> Words:
    """(..., m, k), (..., k, n) -> (..., m, n) of 64-bit words in PyTorch's int64, which wraps as words do."""
    torch = _torch()
    # PyTorch warns of read-only memory and refuses negative strides; such factors are copied.
    left, right = (torch.from_numpy(np.require(signed(words), requirements=["C", "W"])) for words in (a, b))
    product: NDArray[np.int64] = torch.matmul(left, right).numpy()
    return product.view(WORD)


BACKENDS: dict[str, Callable[[Words, Words], Words]] = {"integers": by_integers, "limbs": by_limbs, "torch": by_torch}


@cache
def _torch() -> Any:
    """PyTorch, loaded when first asked for; None where it is absent or cannot load."""
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError):
        return None


def _torch_pays() -> bool:
    torch = _torch()
    return torch is not None and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _add_product(a: Words, b: Words, product: Words) -> None:
    """Add a (m, k) @ b (k, n) to `product` (m, n) by tiles. b is split once, a once for each COLUMNS columns of b."""
    for column in range(0, b.shape[1], COLUMNS):
        columns = slice(column, column + COLUMNS)
        for depth in range(0, b.shape[0], DEPTH):
            middle = slice(depth, depth + DEPTH)
            _add_band(a[:, middle], limbs(b[middle, columns]), product[:, columns])


def _add_band(a: Words, right: Limbs, product: Words) -> None:
    """Add a (m, k) @ b to `product` (m, n), where `right` (4, k, n) are the limbs of b."""
    for row in range(0, len(a), ROWS):
        rows = slice(row, row + ROWS)
        _add_tile(limbs(a[rows]), right, product[rows])


def _add_tile(left: Limbs, right: Limbs, product: Words) -> None:
    """Add a @ b to `product` (m, n), where `left` (4, m, k) and `right` (4, k, n) are their limbs and k <= DEPTH."""
    for i, j, weight in TERMS:
        product += (left[i] @ right[j]).astype(np.int64).view(WORD) * weight


def limbs(words: Words) -> Limbs:
    """The limbs of 64-bit words (r, c), as (4, r, c): a0, a1, a2 and a0 + a1, with |a0|, |a2| <= 2^21 and |a1| <= 2^19."""
    parts = np.empty((len(DIGITS) + 1, *words.shape))
    step = max(1, CACHED // max(1, words.shape[1]))
    for row in range(0, len(words), step):
        some = parts[:, row : row + step]
        biased = words[row : row + step] + BIAS
        for part, (place, bits) in zip(some, DIGITS, strict=False):
            digit = signed(biased >> np.uint64(place) & np.uint64(2**bits - 1))
            np.subtract(digit, 2 ** (bits - 1), out=part, casting="unsafe")
        np.add(some[0], some[1], out=some[3])
    return parts
