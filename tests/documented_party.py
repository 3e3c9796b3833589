"""A party written from docs/wire.md alone, over its own channels; `tests/test_wire_document.py` lets it compute with ours."""

from __future__ import annotations

import struct

import numpy as np

from tests import documented
from tests.documented import b2, canonical, encoded, lineage, printed, stream, truncated

ROUNDS = 12
"""Products, of 3, 6, 9 and 12 words in turn: which party receives a correction is drawn anew for each, so both parties do."""


class Zoe:
    """Party 1 of 2 in a session: its streams, openings, corrections and reveals."""

    def __init__(self, channels, seeds, session):
        self.channels, self.seeds, self.session = channels, seeds, session

    def dealt(self, usage, scope, block, count):
        return stream(self.seeds["the-dealer"], (usage, scope), block, count)

    async def message(self, scope, number, op, shape, lineages, keys, mine):
        """Trade `mine` for ann's words."""
        named = self.name(scope, number, op, shape, lineages, keys)
        self.send(named, mine)
        return np.frombuffer(await self.receive("ann", *named, mine.nbytes), "<u8")

    def name(self, scope, number, op, shape, lineages, keys):
        """The tag and the digest of a message."""
        tag = self.session[:4] + b2(self.session + canonical([scope, number]), 8, person=b"beaver/tag")
        histories = [history.to_bytes(16, "little") for history in lineages]
        return tag, b2(self.session + canonical([tag, op, shape, histories, keys]), 12, person=b"beaver/message")

    def send(self, named, mine):
        self.channels["ann"].send(2, b"".join(named) + struct.pack("<Q", mine.nbytes) + mine.tobytes())

    async def receive(self, peer, tag, digest, size):
        theirs = await self.channels[peer].until(lambda kind, body: kind == 2 and body[:12] == tag)
        assert theirs[12:24] == digest
        assert struct.unpack("<Q", theirs[24:32]) == (size,)
        return theirs[32:]

    async def reveal(self, scope, share, history, frac=20):
        fresh = share.reshape(-1) - stream(self.seeds["ann"], ("zero", scope), 0, share.size)
        theirs = await self.message(scope, 0, "reveal", (*share.shape, 2, 0, 1), [history], [], fresh)
        return ((fresh + theirs).view(np.int64) / 2.0**frac).tolist()

    async def sum(self, scope, values):
        history = lineage("add_own", lineage("zero", int(scope), 0, 20, len(values), printed(repr("secure_sum"))), printed(2.0**42))
        return await self.reveal(f"{scope}.0", encoded(values), history)

    async def relation(self, relation, size):
        """The bytes of this party's share."""
        name = canonical(relation)
        tag = self.session[:4] + b2(self.session + name, 8, person=b"beaver/correct")
        scope, block, (count,) = relation[-1]
        if int.from_bytes(tag[-4:], "little") % 2 != 1:
            return self.dealt("share", scope, block, count).tobytes()[:size]
        self.channels["the-dealer"].send(6, canonical({"kind": "ask", "session": self.session, "relations": [name]}))
        return await self.receive("the-dealer", tag, b2(tag + name, 12, person=b"beaver/dealt"), size)

    async def quotient(self, number, values):
        """mul of ann's input and this one, trunc by 20 bits, and reveal, as the calls 1, 2 and 3 more of the program."""
        m, (first, second, third) = len(values), (str(1 + 3 * number + call) for call in range(3))
        x = lineage("input", lineage("zero", 2 * number, 20), 0, m, printed(1024.0))
        y = lineage("input", lineage("zero", 2 * number + 1, 20), 1, m, printed(1024.0))
        blocks = -(-m // 2)
        scope = first
        a, b = ["own", [scope, 0, [m], 0], []], ["own", [scope, blocks, [m], 1], []]
        c = await self.relation(["products 2", [], [a, b], [], [scope, 0, [m]]], 8 * m)
        own = self.dealt("mask", scope, blocks, m)
        hidden = np.concatenate([np.zeros(m, np.uint64), encoded(values) - own])
        opened = hidden + await self.message(scope, 0, "mask", (2 * m,), [x, y], [a, b], hidden)
        product, history = opened[:m] * own + np.frombuffer(c, "<u8"), lineage("share", lineage("mul", x, y), int(first))
        return await self.reveal(third, *await self.trunc(second, product, history, 20))

    async def trunc(self, scope, share, history, drop):
        """This party's share without its last `drop` bits, and the lineage of that."""
        m = share.size
        r = ["mask", [scope, 0, [m]], []]
        dealt = await self.relation(["truncation", [drop], [r], [], [scope, 0, [-(-12 * m // 8)]]], 12 * m)
        high, top = np.frombuffer(dealt[: 8 * m], "<u8"), np.frombuffer(dealt[8 * m :], "<u4").astype(np.uint64)
        hidden = share - self.dealt("mask", scope, 0, m)
        opened = hidden + await self.message(scope, 0, "mask", (m,), [history], [r], hidden)
        history = lineage("share", lineage("trunc", history, drop), *map(int, scope.split(".")))
        return truncated(opened + np.uint64(2**62), drop, high, top), history

    async def product_of_three(self, number, values):
        """Multiply ann's input by this one twice, and reveal the result, as 4 more calls of the program: mask, mul, mul, reveal."""
        m, first = len(values), 1 + 3 * ROUNDS + 4 * number
        x = lineage("input", lineage("zero", 2 * (ROUNDS + number), 10), 0, m, printed(1024.0))
        y = lineage("input", lineage("zero", 2 * (ROUNDS + number) + 1, 10), 1, m, printed(1024.0))
        a, b = ["own", [str(first + 1), 0, [m], 0], []], ["own", [str(first), 0, [m], 1], []]
        own = self.dealt("mask", str(first), 0, m)
        e = encoded(values, 10) - own
        self.send(self.name(str(first), 0, "mask", (m,), [y], [b]), e)
        y = lineage("masked", y, printed(repr(canonical(b))))
        # The product of two is only multiplied further: its relation is not asked for.
        d = np.frombuffer(await self.receive("ann", *self.name(str(first + 1), 0, "mask", (m,), [x], [a]), 8 * m), "<u8")
        history = lineage("share", lineage("mul", x, y), first + 1)
        dealt = await self.relation(["products 3", [], [b, a, b], [], [str(first + 2), 0, [4 * m]]], 32 * m)
        first_two, outer, last_two, all_three = np.frombuffer(dealt, "<u8").reshape(4, m)
        three = np.uint64(2) * own * d * e + (first_two + last_two) * e + outer * d + all_three
        return await self.reveal(str(first + 3), three, lineage("share", lineage("mul", history, y), first + 2), 30)

    async def quotient_times(self, several, number, values):
        """Of ann's input: mask of this one, mul_trunc with it, by 10 bits each, all but the first together, and reveal."""
        m, before = len(values), 2 * ROUNDS + (several - 2) * ROUNDS
        first = 1 + 7 * ROUNDS + (5 * ROUNDS if several == 3 else 0) + (3 + several) * number
        x = lineage("input", lineage("zero", 2 * (before + number), 10), 0, m, printed(1024.0))
        y = lineage("input", lineage("zero", 2 * (before + number) + 1, 10), 1, m, printed(8.0))
        masked, scope, *others = (str(first + call) for call in range(2 + several))
        a, b = ["own", [scope, 0, [m], 0], []], ["own", [masked, 0, [m], 1], []]
        own = self.dealt("mask", masked, 0, m)
        e = encoded(values, 10) - own
        self.send(self.name(masked, 0, "mask", (m,), [y], [b]), e)
        y = lineage("masked", y, printed(repr(canonical(b))))
        rho = ["mask", [scope, -(-m // 2), [m]], []]
        p = ["add", [], [rho, ["mul", [], [a, b]]]]
        high, top = self.parts(await self.relation(["truncation", [10], [p], [], [scope, 0, [-(-12 * m // 8)]]], 12 * m), m, 1)
        d = np.frombuffer(await self.receive("ann", *self.name(scope, 0, "mask", (m,), [x], [a]), 8 * m), "<u8")
        history = lineage("mul", x, y)
        hidden = d * own - self.dealt("mask", scope, -(-m // 2), m)
        c = hidden + await self.message(scope, 1, "fused", (m,), [history], [rho], hidden) + np.uint64(2**62)
        z, history = truncated(c, 10, high[0], top[0]), lineage("share", lineage("trunc", history, 10), int(scope))
        # What waits for the next takes a mask and no more.
        for call in others[:-1]:
            history = lineage("share", lineage("trunc", lineage("mul", history, y), 10), int(call))
        history = lineage("trunc", lineage("mul", history, y), 10)
        multiplied = self.times_two if several == 2 else self.times_three
        result = await multiplied(others[-1], masked, p, b, (z, c, e, own), history, y)
        return await self.reveal(str(first + 2 + several), result, lineage("share", history, int(others[-1])), 10)

    async def times_two(self, scope, _, p, b, parts, history, __):
        """Multiply two factors in words; the product has room for one more, so it is opened in a child scope when it is read."""
        (z, c, e, own), m = parts, len(parts[0])
        whole, k = (c >> np.uint64(10)) - np.uint64(2**52), (np.uint64(1) - (c >> np.uint64(63))) << np.uint64(54)
        rho = ["mask", [scope, 0, [m]], []]
        size = (8 * 5 + 4 * 4) * m
        dealt = await self.relation(["quotient 2", [10, 20], [p, b, b, rho], [], [scope, 0, [-(-size // 8)]]], size)
        high, (top, *tops) = self.parts(dealt, m, 5)
        high, squared, one, two, all_three = high
        one, two, all_three = (k * of_top - of_rest for of_top, of_rest in zip(tops, (one, two, all_three), strict=True))
        product = z * e * e + (one + two) * e + all_three + np.uint64(2) * whole * e * own + whole * squared
        hidden = product - self.dealt("mask", scope, 0, m)
        c = hidden + await self.message(scope + ".0", 0, "fused", (m,), [history], [rho], hidden) + np.uint64(2**62)
        return truncated(c, 20, high, top)

    async def lift(self, masked, b, e, y):
        """The value masked in the scope `masked`, as numbers mod 2^128: its mask's name, what is open, and the mask's share."""
        scope, m = masked + ".0", len(e)
        wide, size = ["wide", [scope, 0, [m, 2]], []], 24 * m
        dealt = np.frombuffer(await self.relation(["lift", [], [b], [], [scope, 0, [3 * m]]], size), "<u8")
        c = e + np.uint64(2**62)
        carried = np.where(c >> np.uint64(63), 0, 1).astype(object) << 64
        mask = documented.numbers(self.dealt("mask", scope, 0, 2 * m))
        hidden = documented.lanes(carried * dealt[2 * m :].astype(object) - documented.numbers(dealt[: 2 * m]) - mask)
        opened = hidden + await self.message(scope + ".0", 0, "fused", (3 * m,), [lineage("lift", y)], [wide], hidden)
        return wide, documented.of_lanes(opened), mask

    async def times_three(self, scope, masked, p, b, parts, history, y):
        """Multiply three factors at once, as numbers mod 2^128."""
        (_, c, e, _), m = parts, len(parts[0])
        wide, d, mask = await self.lift(masked, b, e, y)
        rho, size = ["wide", [scope, 0, [m, 2]], []], (8 + 16 * 20 + 4) * m
        dealt = await self.relation(["wide 3", [10, 30], [p, wide, wide, wide, rho], [], [scope, 0, [-(-size // 8)]]], size)
        high, top = np.frombuffer(dealt[: 8 * m], "<u8"), np.frombuffer(dealt[-4 * m :], "<u4")
        without, shifted, tops = np.split(documented.numbers(np.frombuffer(dealt[8 * m : -4 * m], "<u8")).reshape(20, m), [4, 12])
        alone = [0 * mask, mask, mask, without[0], mask, without[1], without[2], without[3]]
        whole, k = (c >> np.uint64(10)).astype(object) - 2**52, np.where(c >> np.uint64(63), 0, 1).astype(object) << 54
        terms = [whole * alone[number] + k * tops[number] - shifted[number] for number in range(8)]
        product = sum(terms[number] * d ** (3 - number.bit_count()) for number in range(8))
        hidden = documented.lanes(product - documented.numbers(self.dealt("mask", scope, 0, 2 * m)))
        opened = hidden + await self.message(scope + ".0", 0, "fused", (3 * m,), [history], [rho], hidden)
        c = (documented.of_lanes(opened) + 2**126) % 2**128
        lost = documented.mod64([(1 - (value >> 127)) << 98 for value in c])
        return lost * top.astype(np.uint64) - high

    @staticmethod
    def parts(share, m, words):
        """Arrays of words, and then as many less one, but one at least, of 4 bytes each."""
        return np.frombuffer(share[: 8 * words * m], "<u8").reshape(words, m), np.frombuffer(share[8 * words * m :], "<u4").reshape(
            -1, m
        ).astype(np.uint64)

    async def matrix(self, number, values):
        """matmul of ann's input and this one, large enough for a cross, and reveal, as 2 more calls of the program."""
        shape, size, first = values.shape, values.size, 1 + 18 * ROUNDS + 2 * number
        x = lineage("input", lineage("zero", 2 * (4 * ROUNDS + number), 10), 0, *shape, printed(8.0))
        y = lineage("input", lineage("zero", 2 * (4 * ROUNDS + number) + 1, 10), 1, *shape, printed(8.0))
        scope = str(first)
        a, b = ["own", [scope, 0, [*shape], 0], []], ["own", [scope, -(-size // 2), [*shape], 1], []]
        share = await self.relation(["value", [], [["cross", [], [a, b]]], [], [scope, 0, [size]]], 8 * size)
        own = self.dealt("mask", scope, -(-size // 2), size)
        hidden = np.concatenate([np.zeros(size, np.uint64), encoded(values.reshape(-1), 10) - own])
        opened = hidden + await self.message(scope, 0, "mask", (2 * size,), [x, y], [a, b], hidden)
        d, e = opened.reshape(2, *shape).astype(object)
        half = d @ (e + 2 * own.reshape(shape).astype(object)) // 2
        product = (half % 2**64).astype(np.uint64) + np.frombuffer(share, "<u8").reshape(shape)
        return await self.reveal(str(first + 1), product, lineage("share", lineage("matmul", x, y), first), 20)
