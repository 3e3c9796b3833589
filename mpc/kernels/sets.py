"""Products of sets of factors, and how they are folded: a set S of k factors is an index whose bit i stands for factor i."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from mpc.ring import WORD, Words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


def products(factors: Iterable[Words], out: Words, combine: np.ufunc = np.bitwise_and) -> None:
    """The product (of bits if `combine` is AND) of every non-empty set S into out[S - 1], out (2^k - 1, ...)."""
    for index, factor in enumerate(factors):
        size = 1 << index
        out[size - 1] = factor
        combine(out[: size - 1], factor, out=out[size : 2 * size - 1])


@cache
def of_several(k: int) -> NDArray[np.intp]:
    """The sets of two or more of k factors, in order."""
    return np.array([members for members in range(1 << k) if members & (members - 1)], np.intp)


def several(factors: Sequence[Words], combine: np.ufunc = np.bitwise_and) -> Words:
    """The products of the sets of two or more, in order: k factors (...) -> (2^k - 1 - k, ...)."""
    all_sets = np.empty(((1 << len(factors)) - 1, *factors[0].shape), WORD)
    products(factors, all_sets, combine)
    return all_sets.take(of_several(len(factors)) - 1, axis=0)


def folded(differences: Sequence[Words], masks: Sequence[Words], dealt: Words, *, first: bool) -> Words:
    """This party's share of the product of all d + a, from shares of each a (m,) and of the products of two or more (..., m); any word
    width.
    """
    terms = np.empty((1 << len(masks), masks[0].size), masks[0].dtype)
    terms[0] = first
    for index, a in enumerate(masks):
        terms[1 << index] = a
    sets = of_several(len(masks))
    terms[sets] = dealt.reshape(len(sets), terms.shape[1])
    # Row S is a share of the product of the a in S; each d takes the place of its a in the sets without that a.
    for d in reversed(differences):
        half = len(terms) // 2
        terms = terms[:half] * d + terms[half:]
    return np.asarray(terms[0])
