"""What all parties but one see of an op, and whether two inputs look alike to them."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from mpc.kernels import wide
from mpc.kernels.wide import LANE_BITS
from mpc.messaging.exchange import Exchange
from mpc.naming.streams import Streams
from mpc.preprocessing.dealt import Dealt
from mpc.testing import simulate

INPUTS = (0, 1 << 23)


def noted(monkeypatch):
    """All that the parties but the last see, by kind and in order: own streams, corrections, and what the last one sends them."""
    seen = {}

    def note(party, kind, words):
        seen.setdefault((party, kind), []).append(np.array(words).reshape(-1).view(np.uint8).copy())

    mask, opened, published = Streams.mask, Exchange._round, Dealt._corrected

    def noted_mask(self, where, usage="mask"):
        words = mask(self, where, usage)
        note(self._index, usage, words)
        return words

    async def noted_round(self, scope, about, transfers):
        for to, words, *_ in transfers:
            if words is not None and to == "p0":
                # Lanes are noted as the numbers that they are of: uniform words are never all so small.
                lanes = words.size and int(words.max()) < 1 << LANE_BITS
                note(self.index, "sends", wide.words_of(wide.opened(words)) if lanes else words)
        await opened(self, scope, about, transfers)

    async def noted_material(self, plain, *arguments):
        parts = await plain(self, *arguments)
        for part in parts:
            note(self._exchange.index, "material", part)
        return parts

    expanded = Dealt._expanded
    monkeypatch.setattr(Streams, "mask", noted_mask)
    monkeypatch.setattr(Exchange, "_round", noted_round)
    monkeypatch.setattr(Dealt, "_corrected", lambda self, *arguments: noted_material(self, published, *arguments))
    monkeypatch.setattr(Dealt, "_expanded", lambda self, *arguments: noted_material(self, expanded, *arguments))
    return seen


def seen_by_all_but_the_last(seen, n):
    """Their own material, and the messages of the last party, by name."""
    mine = {key: arrays for key, arrays in seen.items() if (key[0] < n - 1) != (key[1] == "sends")}
    return {(*key, number): array for key, arrays in mine.items() for number, array in enumerate(arrays)}


def distance(counts, others):
    """Chi-squared of two histograms of equal totals."""
    total = counts + others
    some = total > 0
    return float(((counts - others)[some] ** 2 / total[some]).sum())


# 255 degrees of freedom: mean 255, standard deviation 22.6; beyond 450 less than once in 10^11 comparisons.
FAR = 450


def check_uniform(view):
    for key, array in view.items():
        if array.size > 4096:
            counts = np.bincount(array, minlength=256)
            assert ((counts - array.size / 256) ** 2 / (array.size / 256)).sum() < FAR, key


def joint(left, right):
    """Histogram of the pairs of lower half bytes at the same places of both arrays."""
    size = min(left.size, right.size) // 8 * 8
    return np.bincount((left[:size] & 15) * 16 + (right[:size] & 15), minlength=256)


def check_alike(view, n, op, *, local=False):
    views = []
    for value in INPUTS:
        view.clear()

        async def program(s, value=value):
            result = await op(s, value)
            await s.made(result)
            return result.words

        results = simulate(n, program)
        views.append(seen_by_all_but_the_last(view, n))
        for index, words in enumerate(results[:-1]):
            views[-1][index, "result", 0] = np.ascontiguousarray(words).reshape(-1).view(np.uint8)
    first, second = views
    assert first.keys() == second.keys()
    assert local or any(key[1] == "sends" for key in first)
    for one in views:
        check_uniform({key: array for key, array in one.items() if key[1] != "result" or not local})
    for left, right in combinations(first, 2):
        assert distance(joint(first[left], first[right]), joint(second[left], second[right])) < FAR, (left, right)
