"""docs/wire.md is normative: a party written from that text alone, over a plain socket, computes with a real party and dealer."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct

import msgpack
import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl import bindings as sodium

import mpc
import protocols
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from mpc.transport.tcp import TcpNetwork
from tests import documented
from tests.documented import b2, canonical, derive, ed_to_curve, encoded, fields, hkdf, lineage, stream, truncated
from tests.rosters import documented_digest, documented_fingerprint

OURS, THEIRS = [1.5, -2.25, 1000.0], [0.5, 10.0, -0.125]
ROUNDS = 12
"""Products, of 3, 6, 9 and 12 words in turn: which party receives a correction is drawn anew for each, so both parties do."""


class Plain:
    """A channel from "zoe" to another member, as the document says.  zoe is the highest name, so it answers."""

    def __init__(self, reader, writer, secret, roster_digest, keys):
        self.reader, self.writer, self.secret, self.digest, self.keys = reader, writer, secret, roster_digest, keys
        self.sent = self.received = 0

    async def frame(self):
        (length,) = struct.unpack("<I", await self.reader.readexactly(4))
        return await self.reader.readexactly(length)

    def put(self, raw):
        self.writer.write(struct.pack("<I", len(raw)) + raw)

    async def greet(self):
        theirs = await self.frame()
        magic, version, sender, receiver, digest, suites, _, key = struct.unpack("<8sH32s32s32sH32s16s", theirs)
        assert (magic, version, receiver.rstrip(b"\0"), digest) == (b"BEAVER\r\n", 10, b"zoe", self.digest)
        assert suites & 1
        self.peer = sender.rstrip(b"\0").decode()
        assert key == documented_fingerprint(self.keys[self.peer])
        nonce, own = secrets.token_bytes(32), documented_fingerprint(self.keys["zoe"])
        mine = struct.pack("<8sH32s32s32sH32s16s", b"BEAVER\r\n", 10, b"zoe", sender, self.digest, 1, nonce, own)
        self.put(mine)
        await self.shake(theirs + mine)

    async def shake(self, prologue):
        h = ck = b"Noise_KK_25519_AESGCM_BLAKE2b".ljust(64, b"\0")
        rs, mine = ed_to_curve(self.keys[self.peer]), sodium.crypto_scalarmult_base(self.secret)
        for part in (prologue, rs, mine):
            h = b2(h + part, 64)
        one = await self.frame()
        re = one[:32]
        h = b2(h + re, 64)
        for shared in (sodium.crypto_scalarmult(self.secret, re), sodium.crypto_scalarmult(self.secret, rs)):
            ck, key = hkdf(ck, shared, 2)
        assert AESGCM(key[:32]).decrypt(bytes(12), one[32:], h) == b""
        h = b2(h + one[32:], 64)
        e = secrets.token_bytes(32)
        public = sodium.crypto_scalarmult_base(e)
        h = b2(h + public, 64)
        for shared in (sodium.crypto_scalarmult(e, re), sodium.crypto_scalarmult(e, rs)):
            ck, key = hkdf(ck, shared, 2)
        sealed = AESGCM(key[:32]).encrypt(bytes(12), b"", h)
        self.h = b2(h + sealed, 64)
        self.put(public + sealed)
        to_us, to_them, self.exporter = hkdf(ck, b"", 3)
        self.seal, self.open = AESGCM(to_them[:32]), AESGCM(to_us[:32])
        assert await self.frames() == [(1, bytes(72))]
        self.send(1, bytes(72))

    async def frames(self):
        raw = await self.frame()
        plain = self.open.decrypt(bytes(4) + struct.pack(">Q", self.received), raw, None)
        assert struct.unpack("<I", plain[:4])[0] == self.received
        self.received += 1
        found, position = [], 8
        while position < len(plain):
            (word,) = struct.unpack_from("<I", plain, position)
            found.append((word >> 24, plain[position + 4 : position + 4 + (word & 0xFFFFFF)]))
            position += 4 + (word & 0xFFFFFF)
        return found

    def send(self, kind, contents):
        head = struct.pack("<II", self.sent, self.received) + struct.pack("<I", kind << 24 | len(contents))
        self.put(self.seal.encrypt(bytes(4) + struct.pack(">Q", self.sent), head + contents, None))
        self.sent += 1

    async def until(self, wanted):
        """The first frame that `wanted` picks; pings and the rest are passed over."""
        while True:
            if not getattr(self, "kept", []):
                self.kept = await self.frames()
            kind, contents = self.kept.pop(0)
            body = msgpack.unpackb(contents) if kind == 6 else contents
            if wanted(kind, body):
                return body


async def independent_party(sock, identity, roster, values):
    arrived, writers = asyncio.Queue(), []

    def arrives(reader, writer):
        writers.append(writer)
        arrived.put_nowait((reader, writer))

    server = await asyncio.start_server(arrives, sock=sock)
    try:
        channels = await greeted(arrived, identity, roster)
        results = await computed(channels, roster, values)
        # Before CLOSE, so that nobody dials again.
        server.close()
        await asyncio.gather(*(part(channel) for channel in channels.values()))
        return results
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def greeted(arrived, identity, roster):
    keys = {member.name: member.public for member in roster.members}
    channels = {}
    for _ in range(2):
        channel = Plain(*await arrived.get(), identity.curve_secret, documented_digest(roster), keys)
        await channel.greet()
        channels[channel.peer] = channel
    return channels


async def computed(channels, roster, values):
    members = ["ann", "zoe", "the-dealer"]
    described = {"job": "doc", "program": "", "members": members, "roster": documented_digest(roster)}
    description = described | {"wire": 10, "ring": 64, "frac": 20, "terms": {}}
    job = b2(fields("job", canonical(description)))
    nonces = {"zoe": secrets.token_bytes(32)}
    for name, channel in channels.items():
        join = {"kind": "join", "job": "doc", "description": description, "members": members, "nonce": nonces["zoe"]}
        channel.send(6, canonical(join))
        nonces[name] = (await channel.until(lambda kind, body: kind == 6 and body["kind"] == "join"))["nonce"]
    session = b2(fields("session", job, *(part for name in members for part in (name, nonces[name]))))
    seeds = {name: derive(c.exporter, "pair", c.h, session, job, *sorted((name, "zoe"))) for name, c in channels.items()}
    for name, channel in channels.items():
        proof = derive(seeds[name], "confirm", session, "zoe")
        channel.send(6, canonical({"kind": "confirm", "job": "doc", "session": session, "proof": proof}))
    for name, channel in channels.items():
        theirs = await channel.until(lambda kind, body: kind == 6 and body["kind"] == "confirm" and body["session"] == session)
        assert theirs["proof"] == derive(seeds[name], "confirm", session, name)
    zoe = Zoe(channels, seeds, session)
    results = [await zoe.sum("0", values), *[await zoe.quotient(number, values * (1 + number % 4)) for number in range(ROUNDS)]]
    results += [await zoe.product_of_three(number, values * (1 + number % 4)) for number in range(ROUNDS)]
    for several in (2, 3):
        results += [await zoe.quotient_times(several, number, values) for number in range(ROUNDS)]
    for channel in channels.values():
        channel.send(6, canonical({"kind": "leave", "session": session, "reason": "done", "party": "zoe", "by": "zoe", "at": "the end"}))
    return results


async def part(channel):
    """CLOSE, and then to stay until the other side's CLOSE or the end of the link."""
    channel.send(8, b"")
    try:
        await channel.until(lambda kind, body: kind == 8)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass


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
        """Tag and digest of a message."""
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
        fresh = share - stream(self.seeds["ann"], ("zero", scope), 0, share.size)
        theirs = await self.message(scope, 0, "reveal", (share.size, 2, 0, 1), [history], [], fresh)
        return ((fresh + theirs).view(np.int64) / 2.0**frac).tolist()

    async def sum(self, scope, values):
        history = lineage("add_own", lineage("zero", int(scope), 0, 20, len(values)), 0)
        return await self.reveal(f"{scope}.0", encoded(values), history)

    async def relation(self, relation, size):
        """Bytes of this party's share."""
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
        x = lineage("input", lineage("zero", 2 * number, 20), 0, m)
        y = lineage("input", lineage("zero", 2 * number + 1, 20), 1, m)
        blocks = -(-m // 2)
        scope = first
        a, b = ["own", [scope, 0, [m], 0], []], ["own", [scope, blocks, [m], 1], []]
        c = await self.relation(["products 2", [], [a, b], [], [scope, 0, [m]]], 8 * m)
        own = self.dealt("mask", scope, blocks, m)
        hidden = np.concatenate([np.zeros(m, np.uint64), encoded(values) - own])
        opened = hidden + await self.message(scope, 0, "mask", (2 * m,), [x, y], [a, b], hidden)
        product, history = opened[:m] * own + np.frombuffer(c, "<u8"), lineage("share", lineage("mul", x, y), int(first))
        scope = second
        r = ["mask", [scope, 0, [m]], []]
        drop = ["truncation", [20], [r], [], [scope, 0, [-(-12 * m // 8)]]]
        share = await self.relation(drop, 12 * m)
        high, top = np.frombuffer(share[: 8 * m], "<u8"), np.frombuffer(share[8 * m :], "<u4").astype(np.uint64)
        hidden = product - self.dealt("mask", scope, 0, m)
        opened = hidden + await self.message(scope, 0, "mask", (m,), [history], [r], hidden)
        lost = np.uint64(1) - (opened + np.uint64(2**62) >> np.uint64(63))
        history = lineage("concatenate", 0, lineage("share", lineage("trunc", history, 20), int(second)))
        return await self.reveal(third, (lost << np.uint64(44)) * top - high, history)

    async def product_of_three(self, number, values):
        """Of ann's input, this one and this one again: mask of this one, two times mul, and reveal, as 4 more calls of the program."""
        m, first = len(values), 1 + 3 * ROUNDS + 4 * number
        x = lineage("input", lineage("zero", 2 * (ROUNDS + number), 10), 0, m)
        y = lineage("input", lineage("zero", 2 * (ROUNDS + number) + 1, 10), 1, m)
        a, b = ["own", [str(first + 1), 0, [m], 0], []], ["own", [str(first), 0, [m], 1], []]
        own = self.dealt("mask", str(first), 0, m)
        e = encoded(values, 10) - own
        self.send(self.name(str(first), 0, "mask", (m,), [y], [b]), e)
        y = lineage("masked", y, int.from_bytes(b2(repr(canonical(b)).encode(), 15), "little"))
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
        x = lineage("input", lineage("zero", 2 * (before + number), 10), 0, m)
        y = lineage("input", lineage("zero", 2 * (before + number) + 1, 10), 1, m)
        masked, scope, *others = (str(first + call) for call in range(2 + several))
        a, b = ["own", [scope, 0, [m], 0], []], ["own", [masked, 0, [m], 1], []]
        own = self.dealt("mask", masked, 0, m)
        e = encoded(values, 10) - own
        self.send(self.name(masked, 0, "mask", (m,), [y], [b]), e)
        y = lineage("masked", y, int.from_bytes(b2(repr(canonical(b)).encode(), 15), "little"))
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
        """In words; it has room for one more, and so is opened in a child when it is read."""
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
        """What was masked in the scope `masked`, in numbers: the name of its mask, what is open, and the share of the mask."""
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
        """In numbers."""
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


async def test_a_party_written_from_the_document_computes_with_ours():
    identities = [Identity.generate(name) for name in ("ann", "zoe", "the-dealer")]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in identities]
    roster = Roster(
        Member(identity.name, identity.public, sock.getsockname(), "dealer" if identity.name == "the-dealer" else "party")
        for identity, sock in zip(identities, sockets, strict=True)
    )
    nodes = [mpc.Node(identities[i], roster, TcpNetwork(None, sockets[i])) for i in (0, 2)]

    async def ann(node):
        async with node.session("doc") as s:
            results = [(await protocols.secure_sum(s, OURS)).tolist()]
            for number in range(ROUNDS):
                x = s.input(OURS * (1 + number % 4), 0, bound=2.0**10)
                y = s.input(None, 1, x.shape, bound=2.0**10)
                results.append((await s.reveal(await mpc.trunc(s, await mpc.mul(s, x, y), 20))).tolist())
            for number in range(ROUNDS):
                x = s.input(OURS * (1 + number % 4), 0, frac=10, bound=2.0**10)
                y = await s.mask(s.input(None, 1, x.shape, frac=10, bound=2.0**10))
                results.append((await s.reveal(await mpc.mul(s, await mpc.mul(s, x, y), y))).tolist())
            for _ in range(ROUNDS):
                x = s.input(OURS, 0, frac=10, bound=2.0**10)
                y = await s.mask(s.input(None, 1, x.shape, frac=10, bound=8.0))
                z = await mpc.mul_trunc(s, await mpc.mul_trunc(s, x, y, 10), y, 10)
                results.append((await s.reveal(await mpc.mul_trunc(s, z, y, 10))).tolist())
            for _ in range(ROUNDS):
                z = s.input(OURS, 0, frac=10, bound=2.0**10)
                y = await s.mask(s.input(None, 1, z.shape, frac=10, bound=8.0))
                for _ in range(4):
                    z = await mpc.mul_trunc(s, z, y, 10)
                results.append((await s.reveal(z)).tolist())
            return results

    async with asyncio.timeout(20), nodes[0] as ours, nodes[1]:
        results = await asyncio.gather(ann(ours), independent_party(sockets[1], identities[1], roster, THEIRS))
    assert results[0] == results[1]
    total, *others = results[0]
    assert total == [2.0, 7.75, 999.875]
    quotients, products, cubes, fourths = (others[start : start + ROUNDS] for start in range(0, 4 * ROUNDS, ROUNDS))
    assert len(others) == 4 * ROUNDS
    for cube in cubes:
        assert np.allclose(cube, np.multiply(OURS, np.power(THEIRS, 3)), rtol=0, atol=0.1)
    for fourth in fourths:
        assert np.allclose(fourth, np.multiply(OURS, np.power(THEIRS, 4)), rtol=0, atol=0.2)
    for product in products:
        assert product == np.resize(np.multiply(OURS, np.square(THEIRS)), len(product)).tolist()
    for quotient in quotients:
        # Rounded down or up in the last place.
        assert np.allclose(quotient, np.resize(np.multiply(OURS, THEIRS), len(quotient)), rtol=0, atol=2.0**-20)
