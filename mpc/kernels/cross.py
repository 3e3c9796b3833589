"""Matrix products of secrets with one local product per party, where Beaver's take two (paper: beaver91; decision 0023).

With d = x - a and e = y - b open, and weights g_i that sum to 1, the parties' terms

    g_i (d + a_i / g_i)(e + b_i / g_i) = g_i d e + d b_i + a_i e + a_i b_i / g_i

sum to x y minus the *cross*, which is a b minus the sum of all a_i b_i / g_i. The dealer shares the cross in place of a b, with as many
words and shares as uniform.

Two parties have weights of 1/2, which words do not have: their terms are halves of (d + 2 a_i)(e + 2 b_i) mod 2^65. Both products are odd
where d e is, so one party rounds up and the other down, and nothing is lost; the cross is -(a_0 - a_1)(b_0 - b_1). Three parties have the
weights 1, 1 and -1, and the cross is (a_0 + a_2)(b_1 + b_2) + (a_1 + a_2)(b_0 + b_2). For n parties the dealer multiplies n - 1 times, so
for more than three it needs more time than they save.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from mpc.kernels.products import halved, is_large, matmul
from mpc.ring import WORD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.ring import Words

    Shape = tuple[int, ...]

PARTIES = (2, 3)
_ONE = WORD.type(1)


def pays(n: int, a: Shape, b: Shape) -> bool:
    """Whether n parties multiply shapes (m, k), (k, n) so: public, and the same on every machine. Small products and stacks are fast
    without it.
    """
    return n in PARTIES and len(a) == len(b) == 2 and is_large(a, b)


def term(index: int, n: int, d: Words, a: Words, e: Words, b: Words) -> Words:
    """The term that party `index` of n adds to x y, from its own shares of a and b: (m, k), (k, n) -> (m, n)."""
    if n == 2:
        # d + 2 a is 2 u + the lowest bit of d.
        u, v = d >> _ONE, e >> _ONE
        u += a
        v += b
        return halved(u, d, v, e, up=index == 0)
    # The last weight is -1, and -(d - a)(e - b) is (d - a)(b - e).
    return matmul(d - a, b - e) if index == n - 1 else matmul(d + a, e + b)


def cross(a: Sequence[Words], b: Sequence[Words]) -> Words:
    """The difference between x y and all terms, from the shares of all parties: (m, k), (k, n) -> (m, n). Dealer only."""
    if len(a) == 2:
        return matmul(a[0] - a[1], b[1] - b[0])
    # In parallel if the dealer has two cores: no party makes two products, so none should wait for them.
    with ThreadPoolExecutor(1, "cross") as beside:
        second = beside.submit(copy_context().run, lambda: matmul(a[1] + a[2], b[0] + b[2]))
        words = matmul(a[0] + a[2], b[1] + b[2])
        words += second.result()
    return words
