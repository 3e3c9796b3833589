"""Chains of products of numbers, written from docs/wire.md alone: groups of factors, groups of groups, and products that wait."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tests.documented import canonical, encoded, lineage, mod64, printed, truncated
from tests.documented_party import ROUNDS, Zoe

LENGTHS = (14, 98, 254, 297)
"""How many numbers of zoe follow ann's three, in turn.

256 factors may wait, so the third chain makes the first groups of its words as it ends.
"""


class Factor(NamedTuple):
    """One number, open but for its mask: the name of that, the lineage, what is open, and this party's share of the mask."""

    mask: list
    lineage: int
    difference: int
    share: int
    level: int = 0


class Multiplier(Zoe):
    """Zoe, who also multiplies long chains."""

    async def chain(self, number, values):
        """Multiply 3 numbers of ann and all of `values`, one after the other, and reveal the product: 5 calls more than values."""
        first = 1 + 20 * ROUNDS + sum(LENGTHS[before % len(LENGTHS)] + 5 for before in range(number))
        start, *others = await self.factors(number, first, encoded(values, 0))
        factors, history, scope, groups = [start], start.lineage, "", 0
        for call, factor in enumerate(others, first + 2):
            scope, history = str(call), lineage("share", lineage("mul", history, factor.lineage), call)
            factors, groups = await self.grouped(scope, [*factors, factor], 256)
        few, _ = await self.grouped(f"{scope}.{groups}", factors, 12)
        (dealt,) = await self.products(scope, [[factor] for factor in few], [factor.mask for factor in few])
        return await self.reveal(str(call + 1), mod64([multiplied(few, dealt)])[0], history, 0)

    async def mapped(self, number, values):
        """Mask the matrix `values`, multiply it by ann's quotient, add 3 more numbers of ann, and reveal the result.

        These are 4 more calls of the program: mask, mul_trunc, matmul_trunc and reveal.
        """
        first = 1 + 20 * ROUNDS + sum(LENGTHS[before % len(LENGTHS)] + 5 for before in range(ROUNDS)) + 4 * number
        masked, scope, last, revealed = (str(first + call) for call in range(4))
        zeros = (lineage("zero", 2 * 6 * ROUNDS + 3 * number + place, frac) for place, frac in enumerate((10, 10, 10)))
        x, y, plus = (
            lineage("input", zero, owner, *shape, printed(bound))
            for zero, owner, shape, bound in zip(zeros, (0, 1, 0), ((3,), (2, 3), (2,)), (1024.0, 8.0, 1024.0), strict=True)
        )
        own, b = self.dealt("mask", masked, 0, 6), ["own", [masked, 0, [2, 3], 1], []]
        e = encoded(values.reshape(-1), 10) - own
        self.send(self.name(masked, 0, "mask", (6,), [y], [b]), e)
        y, row = lineage("masked", y, printed(repr(canonical(b)))), [0, [0, 3, 1]]
        z, c, p, history = await self.of_row(scope, x, lineage("index", y, printed((0, (0, 3, 1)))), ["index", row, [b]], own[:3])
        rho = ["mask", [last, 0, [2]], []]
        share = await self.relation(["matrix 1", [10, 10], [b, p, rho], [], [last, 0, [8]]], 64)
        (high, dealt), halves = np.frombuffer(share[:32], "<u8").reshape(2, 2), np.frombuffer(share[32:], "<u4").astype(np.uint64)
        top, tops = halves[:2], halves[2:].reshape(2, 3)
        whole, k = (c >> np.uint64(10)) - np.uint64(2**52), (np.uint64(1) - (c >> np.uint64(63))) << np.uint64(54)
        hidden = e.reshape(2, 3) @ z + own.reshape(2, 3) @ whole + dealt + tops @ k - self.dealt("mask", last, 0, 2)
        history = lineage("plus", lineage("matmul", y, history), plus, 10)
        c = hidden + await self.message(last, 0, "fused", (2,), [history], [rho], hidden) + np.uint64(2**62)
        return await self.reveal(revealed, truncated(c, 10, high, top), lineage("share", lineage("trunc", history, 10), int(last)), 10)

    async def of_row(self, scope, x, y, b, own):
        """mul_trunc of ann's numbers with a masked row, by 10 bits: this party's share, c, its mask's name, and the lineage."""
        a, rho = ["own", [scope, 0, [3], 0], []], ["mask", [scope, 2, [3]], []]
        p = ["add", [], [rho, ["mul", [], [a, b]]]]
        high, top = self.parts(await self.relation(["truncation", [10], [p], [], [scope, 0, [5]]], 36), 3, 1)
        d = np.frombuffer(await self.receive("ann", *self.name(scope, 0, "mask", (3,), [x], [a]), 24), "<u8")
        hidden, history = d * own - self.dealt("mask", scope, 2, 3), lineage("mul", x, y)
        c = hidden + await self.message(scope, 1, "fused", (3,), [history], [rho], hidden) + np.uint64(2**62)
        return truncated(c, 10, high[0], top[0]), c, p, lineage("share", lineage("trunc", history, 10), int(scope))

    async def factors(self, number, first, values):
        """All of ann's numbers and of these, masked by the calls `first` and the next one."""
        m = len(values)
        x = lineage("input", lineage("zero", 2 * (5 * ROUNDS + number), 0), 0, 3, printed(1.0))
        y = lineage("input", lineage("zero", 2 * (5 * ROUNDS + number) + 1, 0), 1, m, printed(1.0))
        a, b = ["own", [str(first), 0, [3], 0], []], ["own", [str(first + 1), 0, [m], 1], []]
        d = np.frombuffer(await self.receive("ann", *self.name(str(first), 0, "mask", (3,), [x], [a]), 24), "<u8")
        own = self.dealt("mask", str(first + 1), 0, m)
        e = values - own
        self.send(self.name(str(first + 1), 0, "mask", (m,), [y], [b]), e)
        x, y = (lineage("masked", of, printed(repr(canonical(mask)))) for of, mask in ((x, a), (y, b)))
        return rows(a, x, d, [0] * 3) + rows(b, y, e, own)

    async def grouped(self, scope, factors, most):
        """At most `most` factors, after opening groups in the children 0, 1, ... of `scope`; and the number of these children."""
        children = 0
        while len(factors) > most:
            made, taken = [], set()
            for pool in pools(factors):
                size = min(8, len(pool))
                h = len(pool) // size
                places = [pool[place * h : (place + 1) * h] for place in range(size)]
                together = sum(places, [])
                taken |= {id(factor) for factor in together}
                at_most = max(1, min(2**13 // 2**size, 63_776 // (size * max(length(factor.mask) for factor in together))))
                for row in range(0, h, at_most):
                    made += await self.group(f"{scope}.{children}", [place[row : row + at_most] for place in places])
                    children += 1
            factors = [factor for factor in factors if id(factor) not in taken] + made
        return factors, children

    async def group(self, scope, places):
        """Factors, each in place of one of every place."""
        h = len(places[0])
        dealt = await self.products(scope, places, [stack([factor.mask for factor in place]) for place in places])
        rho, mask = ["mask", [scope, 0, [h]], []], self.dealt("mask", scope, 0, h)
        hidden = mod64([multiplied([place[row] for place in places], dealt[row]) for row in range(h)]) - mask
        history = lineage("mul", *(factor.lineage for place in places for factor in place))
        opened = hidden + await self.message(scope, 0, "fused", (h,), [history], [rho], hidden)
        level = 1 + max(factor.level for place in places for factor in place)
        return [
            Factor(["index", [row], [rho]], lineage("index", history, row), int(opened[row]), int(mask[row]), level) for row in range(h)
        ]

    async def products(self, scope, places, masks):
        """Of every row, this party's shares of the products of its masks, one for each set."""
        h, sets = len(places[0]), (1 << len(places)) - 1 - len(places)
        relation = [f"products {len(places)}", [], masks, [], [scope, 0, [sets * h]]]
        return np.frombuffer(await self.relation(relation, 8 * sets * h), "<u8").reshape(sets, h).T


def pools(factors):
    """The factors of which groups are made next."""
    same = [[factor for factor in factors if factor.level == level] for level in sorted({factor.level for factor in factors})]
    many = [pool for pool in same if len(pool) >= 8]
    return many or [same[0] if len(same[0]) >= 4 else sum(same, [])[:8]]


def stack(masks):
    """The name of these masks, stacked as rows."""
    (row,), (whole,) = masks[0][1:]
    if masks != [["index", [row + at], [whole]] for at in range(len(masks))]:
        return ["stack", [], masks]
    return whole if whole[1][2] == [len(masks)] else ["index", [[row, len(masks), 1]], [whole]]


def length(mask):
    _, parameters, parts = mask
    return 40 + (20 * len(parameters) + sum(map(length, parts)) if parts else len(parameters[0]) + 5 * len(parameters[2]))


def rows(mask, history, differences, shares):
    each = enumerate(zip(map(int, differences), map(int, shares), strict=True))
    return [Factor(["index", [row], [mask]], lineage("index", history, printed((row,))), *words) for row, words in each]


def multiplied(factors, dealt):
    """The second party's share of the product."""
    dealt, total = iter(map(int, dealt)), 0
    for chosen in range(1, 1 << len(factors)):
        members = [factor.share for place, factor in enumerate(factors) if chosen >> place & 1]
        share = members[0] if len(members) == 1 else next(dealt)
        total += share * math.prod(factor.difference for place, factor in enumerate(factors) if not chosen >> place & 1)
    return total % 2**64
