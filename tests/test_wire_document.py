"""docs/wire.md is normative: a party written from that text alone, over a plain socket, computes with a real party and dealer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import socket
import struct

import msgpack
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl import bindings as sodium

import mpc
import protocols
from mpc.identity import Identity
from mpc.roster import Member, Roster
from mpc.transport.tcp import TcpNetwork


def fields(*parts):
    out = b""
    for part in parts:
        raw = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else struct.pack("<Q", part)
        out += struct.pack("<I", len(raw)) + raw
    return out


def b2(data, size=32, **more):
    return hashlib.blake2b(data, digest_size=size, **more).digest()


def derive(key, *parts):
    return b2(fields(*parts), key=key, person=b"beaver/seed/v1")


def hkdf(key, material, outputs):
    temporary, result, last = hmac.digest(key, material, "blake2b"), [], b""
    for number in range(outputs):
        last = hmac.digest(temporary, last + bytes([number + 1]), "blake2b")
        result.append(last)
    return result


def stream(seed, label, block, count):
    key = derive(seed, *label)[:16]
    raw = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(16, "big"))).encryptor().update(bytes(8 * count))
    return np.frombuffer(raw, "<u8")


def lineage(operation, *parents):
    value = int.from_bytes(operation.encode()[:15], "little")
    for parent in parents:
        value = (value * 0x1F123BB59E3779B97F4A7C15 + parent + 1) % (2**127 - 1)
    return value


def canonical(value):
    def ordered(item):
        return {key: ordered(item[key]) for key in sorted(item)} if isinstance(item, dict) else item

    return msgpack.packb(ordered(value), use_bin_type=True)


def ed_to_curve(public):
    return sodium.crypto_sign_ed25519_pk_to_curve25519(public)


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
        magic, version, sender, receiver, digest, suites, _ = struct.unpack("<8sH32s32s32sH32s", theirs)
        assert (magic, version, receiver.rstrip(b"\0"), digest) == (b"BEAVER\r\n", 1, b"zoe", self.digest)
        assert suites & 1
        self.peer = sender.rstrip(b"\0").decode()
        mine = struct.pack("<8sH32s32s32sH32s", b"BEAVER\r\n", 1, b"zoe", sender, self.digest, 1, secrets.token_bytes(32))
        self.put(mine)
        await self.shake(theirs + mine)

    async def shake(self, prologue):
        h = ck = b"Noise_KK_25519_AESGCM_BLAKE2b".ljust(64, b"\0")
        rs, mine = self.keys[self.peer], sodium.crypto_scalarmult_base(self.secret)
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
        assert await self.frames() == [(1, b"")]

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
    keys = {member.name: ed_to_curve(member.public) for member in roster.members}
    arrived = asyncio.Queue()
    server = await asyncio.start_server(lambda *ends: arrived.put_nowait(ends), sock=sock)
    channels = {}
    for _ in range(2):
        channel = Plain(*await arrived.get(), identity.curve_secret, roster.digest, keys)
        await channel.greet()
        channels[channel.peer] = channel
    members = ["ann", "zoe", "the-dealer"]
    description = {"job": "doc", "program": "", "members": members, "roster": roster.digest, "wire": 1, "ring": 64, "frac": 20}
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
    total = await independent_sum(channels["ann"], seeds["ann"], session, values)
    for channel in channels.values():
        channel.send(6, canonical({"kind": "leave", "session": session, "reason": "done", "party": "zoe", "at": "the end"}))
    for channel in channels.values():
        await channel.writer.drain()
        channel.writer.close()
    server.close()
    return total


async def independent_sum(ann, seed, session, values):
    count = len(values)
    mine = np.array([round(value * 2**20) for value in values], np.int64).view(np.uint64)
    share = mine - stream(seed, ("zero", "0"), 0, count) - stream(seed, ("zero", "0.0"), 0, count)
    tag = session[:4] + b2(fields(session, "0.0", 0), 8)
    history = lineage("add_own", lineage("zero", 0, 0, 20, count), 0)
    digest = b2(fields(session, tag, "reveal", count, 2, 0, 1, "|", history.to_bytes(16, "little")), 12)
    ann.send(2, tag + digest + struct.pack("<Q", 8 * count) + share.tobytes())
    theirs = await ann.until(lambda kind, body: kind == 2 and body[:12] == tag)
    assert theirs[12:24] == digest
    assert struct.unpack("<Q", theirs[24:32]) == (8 * count,)
    return (share + np.frombuffer(theirs[32:], "<u8")).view(np.int64) / 2**20


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
            return await protocols.secure_sum(s, [1.5, -2.25, 1000.0])

    async with asyncio.timeout(20), nodes[0] as ours, nodes[1]:
        results = await asyncio.gather(ann(ours), independent_party(sockets[1], identities[1], roster, [0.5, 10.0, -0.125]))
    assert [list(result) for result in results] == [[2.0, 7.75, 999.875]] * 2
