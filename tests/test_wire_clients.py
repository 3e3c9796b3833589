"""A client written from section 12 of docs/wire.md alone works with real parties."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import struct

import numpy as np

from mpc.channels.flow import WINDOW, Arrivals
from mpc.messaging.sinks import Store
from mpc.values.sharing import split
from tests.documented import b2, lineage, printed, stream
from tests.test_client_shares import JOB, together

ROWS = np.array([[1.5, -2.0], [0.25, 100.0], [-3.0, 7.0]])
POWERS = np.array([2, 7])


def fields(*parts):
    raw = [part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else struct.pack("<Q", part) for part in parts]
    return b"".join(struct.pack("<I", len(part)) + part for part in raw)


def documented_share(secret, shape, difference=None):
    words = stream(secret, ("client-share",), 0, shape[0] * shape[1]).reshape(shape)
    return words if difference is None else words + difference


def documented_commitment(secret, shape, difference=b""):
    return hashlib.blake2b(fields(*shape, difference), digest_size=32, key=secret, person=b"beaver/part/v1").digest()


V = b2(fields("client", JOB))


def documented_tag(what, scope):
    return V[:4] + b2(fields(V, what, scope), 8)


def documented_digest(what, scope, *about):
    return b2(fields(V, what, scope, *about), 12)


def test_portions_are_as_documented():
    words = np.arange(6, dtype="<u8").reshape(3, 2)
    first, second = split(words, 2)
    difference = first.pack()[32:]
    assert (first.pack()[:32], second.pack()) == (first.secret, second.secret)
    shares = documented_share(first.secret, (3, 2), np.frombuffer(difference, "<u8").reshape(3, 2)), documented_share(second.secret, (3, 2))
    assert np.array_equal(sum(shares), words)
    assert first.commitment == documented_commitment(first.secret, (3, 2), difference)
    assert second.commitment == documented_commitment(second.secret, (3, 2))


async def test_a_client_from_the_document_gives_rows_and_gets_them_back():
    words = np.rint(ROWS * 2.0 ** (32 - POWERS)).astype("<i8").view("<u8")
    one, two = secrets.token_bytes(32), secrets.token_bytes(32)
    difference = words - documented_share(one, words.shape) - documented_share(two, words.shape)
    portions = one + difference.tobytes(), two
    committed = [documented_commitment(one, words.shape, difference.tobytes()), documented_commitment(two, words.shape)]
    # A zero sharing, number 0 of the program's own scope, then the rows, of which the first call reveals all to the client alone.
    made = lineage("given", lineage("zero", 0, 32), *words.shape, printed(1.0))
    about = [*words.shape, 1, 2, made.to_bytes(16, "little")]

    async def client(node):
        flows = [node.mesh.channel(name).open_flow(V, WINDOW) for name in ("p0", "p1")]
        arrivals, got = Arrivals(2), [np.empty(words.size, "<u8") for _ in flows]
        for flow, portion, commitment, part in zip(flows, portions, committed, got, strict=True):
            flow.send(documented_tag("portion", ""), documented_digest("portion", "", commitment), memoryview(portion))
            flow.post(
                documented_tag("reveal", "0"), documented_digest("reveal", "0", *about), part.nbytes, Store(part), arrivals, "the rows"
            )
        async with asyncio.timeout(20):
            await arrivals.future
        # Each part is uniform; together they are the rows.
        return sum(got).view("<i8").reshape(words.shape) * 2.0 ** (POWERS - 32)

    async def program(s, given):
        return await s.reveal(given, "lab")

    outcomes = await together(2, program, words, committed=committed, by=client)
    assert outcomes[:2] == [None, None]
    assert np.array_equal(outcomes[2], ROWS)
