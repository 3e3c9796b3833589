"""docs/wire.md is normative: a party written from it alone, over a plain socket, computes with a real party and dealer."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import struct
from pathlib import Path

import msgpack
import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl import bindings as sodium

import mpc
import protocols
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from mpc.transport.tcp import TcpNetwork
from tests.documented import b2, canonical, derive, ed_to_curve, fields, hkdf
from tests.documented_chain import LENGTHS
from tests.documented_party import ROUNDS
from tests.documented_scale import FACTORS, Scaler
from tests.rosters import documented_digest, documented_fingerprint

DOCUMENT = Path(__file__).parents[1] / "docs" / "wire.md"
VERSION = int(re.match(r"# Wire format, version (\d+)\n", DOCUMENT.read_text("utf-8"))[1])
OURS, THEIRS = [1.5, -2.25, 1000.0], [0.5, 10.0, -0.125]
SIGNS = [[1.0, -1.0, -1.0], np.random.default_rng(2).choice([1.0, -1.0], max(LENGTHS)).tolist()]
MATRIX = np.random.default_rng(1).integers(-4096, 4096, (96, 96)) / 1024.0


class Plain:
    """A channel from "zoe" to another member, as the document says.  zoe is the highest name, so it answers."""

    def __init__(self, reader, writer, secret, roster_digest, keys):
        self.reader, self.writer, self.secret, self.digest, self.keys = reader, writer, secret, roster_digest, keys
        self.sent = self.received = 0
        self.kept = []

    async def frame(self):
        (length,) = struct.unpack("<I", await self.reader.readexactly(4))
        return await self.reader.readexactly(length)

    def put(self, raw):
        self.writer.write(struct.pack("<I", len(raw)) + raw)

    async def greet(self):
        theirs = await self.frame()
        magic, version, sender, receiver, digest, suites, _, key = struct.unpack("<8sH32s32s32sH32s16s", theirs)
        assert (magic, version, receiver.rstrip(b"\0"), digest) == (b"BEAVER\r\n", VERSION, b"zoe", self.digest)
        assert suites & 1
        self.peer = sender.rstrip(b"\0").decode()
        assert key == documented_fingerprint(self.keys[self.peer])
        nonce, own = secrets.token_bytes(32), documented_fingerprint(self.keys["zoe"])
        mine = struct.pack("<8sH32s32s32sH32s16s", b"BEAVER\r\n", VERSION, b"zoe", sender, self.digest, 1, nonce, own)
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
        """The first frame that `wanted` picks; what comes before it is kept, for messages come in any order."""
        at = 0
        while True:
            while at == len(self.kept):
                self.kept += await self.frames()
            kind, contents = self.kept[at]
            body = msgpack.unpackb(contents) if kind == 6 else contents
            if wanted(kind, body):
                del self.kept[at]
                return body
            at += 1


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
    description = described | {"wire": VERSION, "ring": 64, "frac": 20, "terms": {}}
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
    zoe = Scaler(channels, seeds, session)
    waits = {"tag": bytes(12), "digest": bytes(12), "scope": "999", "at": "reveal.999", "on": ["ann"]}
    channels["ann"].send(6, canonical({"kind": "waits", "session": session, **waits}))
    results = [await zoe.sum("0", values), *[await zoe.quotient(number, values * (1 + number % 4)) for number in range(ROUNDS)]]
    results += [await zoe.product_of_three(number, values * (1 + number % 4)) for number in range(ROUNDS)]
    for several in (2, 3):
        results += [await zoe.quotient_times(several, number, values) for number in range(ROUNDS)]
    results += [await zoe.matrix(number, MATRIX) for number in range(ROUNDS)]
    results += [await zoe.chain(number, SIGNS[1][: LENGTHS[number % len(LENGTHS)]]) for number in range(ROUNDS)]
    results += [await zoe.mapped(number, MATRIX[:2, :3]) for number in range(ROUNDS)]
    results += [await zoe.scaled(number, values) for number in range(ROUNDS)]
    for channel in channels.values():
        channel.send(6, canonical({"kind": "leave", "session": session, "reason": "done", "party": "zoe", "by": "zoe", "at": "the end"}))
    return results


async def part(channel):
    """Send CLOSE, then stay until the other side's CLOSE."""
    channel.send(8, b"")
    await channel.until(lambda kind, body: kind == 8)


async def chained(s, product, *factors):
    for factor in factors:
        product = await mpc.mul(s, product, factor)
    return [float(await s.reveal(product))]


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
        for _ in range(ROUNDS):
            x, y = s.input(MATRIX.T, 0, frac=10, bound=8.0), s.input(None, 1, MATRIX.shape, frac=10, bound=8.0)
            results.append((await s.reveal(await mpc.matmul(s, x, y))).reshape(-1).tolist())
        for number in range(ROUNDS):
            length = LENGTHS[number % len(LENGTHS)]
            x = await s.mask(s.input(SIGNS[0], 0, frac=0, bound=1.0))
            y = await s.mask(s.input(None, 1, length, frac=0, bound=1.0))
            results.append(await chained(s, *(x[row] for row in range(3)), *(y[row] for row in range(length))))
        for _ in range(ROUNDS):
            x, y = s.input(OURS, 0, frac=10, bound=2.0**10), s.input(None, 1, (2, 3), frac=10, bound=8.0)
            plus = s.input(OURS[:2], 0, frac=10, bound=2.0**10)
            y = await s.mask(y)
            z = await mpc.mul_trunc(s, x, y[0], 10)
            results.append((await s.reveal(await mpc.matmul_trunc(s, y, z, 10, plus=plus))).tolist())
        for number in range(ROUNDS):
            sums = (s.input(OURS, 0) + s.input(None, 1, 3)).cumsum(0)
            results.append((await s.reveal(await mpc.scale(s, sums, FACTORS[number % len(FACTORS)]))).tolist())
        return results


async def test_a_party_written_from_the_document_computes_with_ours():
    identities = [Identity.generate(name) for name in ("ann", "zoe", "the-dealer")]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in identities]
    roster = Roster(
        Member(identity.name, identity.public, sock.getsockname(), "dealer" if identity.name == "the-dealer" else "party")
        for identity, sock in zip(identities, sockets, strict=True)
    )
    nodes = [mpc.Node(identities[i], roster, TcpNetwork(None, sockets[i])) for i in (0, 2)]

    async with asyncio.timeout(20), nodes[0] as ours, nodes[1]:
        results = await asyncio.gather(ann(ours), independent_party(sockets[1], identities[1], roster, THEIRS))
    assert results[0] == results[1]
    total, *others = results[0]
    assert total == [2.0, 7.75, 999.875]
    assert len(others) == 8 * ROUNDS
    quotients, products, cubes, fourths, matrices, chains, maps, scaled = (
        others[start : start + ROUNDS] for start in range(0, len(others), ROUNDS)
    )
    for number, product in enumerate(scaled):
        sums, factor = np.cumsum(np.add(OURS, THEIRS)), np.array(FACTORS[number % len(FACTORS)])
        assert (np.abs(product - sums * factor) <= 2.0**-20 * (np.abs(sums * factor.max()) + 3)).all()
    assert chains == [[float(np.prod(SIGNS[0] + SIGNS[1][:length]))] for length in LENGTHS] * (ROUNDS // len(LENGTHS))
    for mapped in maps:
        assert np.allclose(mapped, MATRIX[:2, :3] @ (OURS * MATRIX[0, :3]) + OURS[:2], rtol=0, atol=0.1)
    for matrix in matrices:
        assert matrix == (MATRIX.T @ MATRIX).reshape(-1).tolist()
    for cube in cubes:
        assert np.allclose(cube, np.multiply(OURS, np.power(THEIRS, 3)), rtol=0, atol=0.1)
    for fourth in fourths:
        assert np.allclose(fourth, np.multiply(OURS, np.power(THEIRS, 4)), rtol=0, atol=0.2)
    for product in products:
        assert product == np.resize(np.multiply(OURS, np.square(THEIRS)), len(product)).tolist()
    for quotient in quotients:
        # Rounded down or up in the last place.
        assert np.allclose(quotient, np.resize(np.multiply(OURS, THEIRS), len(quotient)), rtol=0, atol=2.0**-20)
