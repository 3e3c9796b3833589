"""How a large opening is split: each party sums one stripe and sends the total to all (reduce-scatter and all-gather)."""

from __future__ import annotations

SCATTER_WORDS = 1 << 12


def scatters(n: int, words: int) -> bool:
    """Whether an opening of `words` words uses reduce-scatter and all-gather: a public choice, by n and shape only."""
    return n > 3 and words >= SCATTER_WORDS


def stripes(n: int, words: int) -> list[tuple[int, int]]:
    """The range of words that each of n parties sums: all equal, but for a shorter last one."""
    each = -(-words // n)
    return [(min(each * i, words), min(each * (i + 1), words)) for i in range(n)]
