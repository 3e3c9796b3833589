"""The connection to a broker that refuses, breaks, restarts or goes, and the limits of a broker (invariants 15, 27)."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import ipaddress
import logging

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mpc.errors import ConfigError, PeerLost
from mpc.membership.endpoints import Relay
from mpc.transport.broker import MAX_TAKEN, Login
from mpc.transport.envelopes import OVERHEAD
from tests.brokers import Mosquitto, meeting, networks, of_mosquitto
from tests.error_rows import row_of
from tests.ports import free_port
from tests.test_links import Inbox

RELAYED = [
    "is cut off",
    "it has not started its node",
    "cannot be reached, because",
    "refuses this member",
    "is not trusted here",
    "cannot be used as certificates",
]
"""Rows of docs/errors.md that this file provokes."""

BIG = bytes(range(256)) * 2000


async def exchange(near, far, frame=BIG):
    here, there = Inbox(near), Inbox(far)
    near.send(frame)
    far.send(frame)
    for box in (here, there):
        await box.until(lambda box: box.frames or box.closed)
        assert box.frames == [frame], box.reason
    return here, there


async def test_a_broker_that_restarts_in_time_costs_nothing(tmp_path):
    async with Mosquitto(tmp_path) as broker, meeting(broker.relay, patience=15.0) as (near, far):
        here, there = await exchange(near, far)
        await broker.stop()
        near.send(b"written while the broker is away")
        far.send(b"this too")
        await broker.start()
        await there.until(lambda box: len(box.frames) == 2)
        await here.until(lambda box: len(box.frames) == 2)
        assert (there.frames[1], here.frames[1]) == (b"written while the broker is away", b"this too")
        assert (here.closed, there.closed) == (0, 0)


async def test_a_broker_that_stays_away_ends_both_ends_with_the_same_reason(tmp_path):
    async with Mosquitto(tmp_path) as broker, meeting(broker.relay, patience=0.5) as (near, far):
        boxes = await exchange(near, far)
        await broker.stop()
        for box, other in zip(boxes, "ba", strict=True):
            await box.until(lambda box: box.closed)
            assert isinstance(box.reason, PeerLost)
            assert row_of("is cut off").shows(str(box.reason))
            assert str(box.reason) == (
                f"{other}: is cut off: the relay {broker.relay.url} was out of reach for 0.5 s; "
                "start the broker again, or mend the way to it"
            )
        await broker.start()


async def test_a_peer_whose_connection_breaks_is_missed_after_the_patience_only(tmp_path):
    async with Mosquitto(tmp_path) as broker, Proxy(broker.relay) as proxy, meeting(broker.relay, proxy.relay, patience=1.0) as (near, far):
        here, there = await exchange(near, far)
        proxy.cut()
        far.send(b"again")
        await here.until(lambda box: len(box.frames) == 2)
        assert (here.closed, there.closed) == (0, 0)
        await proxy.close()
        await here.until(lambda box: box.closed)
        assert str(here.reason) == f"b: left the relay {broker.relay.url} and did not come back within 1 s"


class Proxy:
    """A TCP way to a broker that can be cut, and closed."""

    def __init__(self, relay):
        self.to, self.relay, self._server, self._writers = relay, Relay("127.0.0.1", free_port(), tls=False), None, []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._pass, self.relay.host, self.relay.port)
        return self

    async def _pass(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(self.to.host, self.to.port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer), return_exceptions=True)

    async def _copy(self, reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    def cut(self):
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self):
        self._server.close()
        self.cut()

    async def __aexit__(self, *_):
        await self.close()


async def test_a_member_that_is_not_there_cannot_be_dialled_and_one_that_left_neither(tmp_path, monkeypatch):
    monkeypatch.setattr("mpc.transport.multiplexer._DIAL", 0.3)
    async with Mosquitto(tmp_path) as broker, networks(broker.relay) as ((a, b), members):
        await a.listen(lambda link: None)
        with pytest.raises(PeerLost, match="b: is not at the relay mqtt://127.0.0.1:[0-9]*; it has not started its node") as caught:
            await a.dial(members["b"])
        assert row_of("it has not started its node").shows(str(caught.value))
        await b.listen(lambda link: None)
        (await a.dial(members["b"])).abort()
        await broker.stop()
        await broker.start()
        async with asyncio.timeout(10):
            while True:
                try:
                    (await a.dial(members["b"])).abort()
                except PeerLost:
                    continue
                break


async def test_a_broker_that_comes_later_is_found_and_dialling_says_what_is_wrong(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("mpc.transport.multiplexer._DIAL", 0.1)
    broker = Mosquitto(tmp_path)
    async with networks(broker.relay) as ((a, b), members):
        with caplog.at_level(logging.WARNING):
            await asyncio.gather(a.listen(lambda link: None), b.listen(lambda link: None))
        assert f"cannot connect to the relay {broker.relay.url}: Connection refused; trying again until it can" in caplog.text
        with pytest.raises(PeerLost, match="b: cannot be reached, because the relay .* cannot: Connection refused"):
            await a.dial(members["b"])
        async with broker, asyncio.timeout(10):
            while True:
                try:
                    (await a.dial(members["b"])).abort()
                except PeerLost:
                    continue
                break


async def test_a_wrong_password_is_a_clear_error_and_the_right_one_works(tmp_path):
    passwords = tmp_path / "passwords"
    hashing = await asyncio.create_subprocess_exec(of_mosquitto("mosquitto_passwd"), "-b", "-c", str(passwords), "us", "sesame")
    assert await hashing.wait() == 0
    async with Mosquitto(tmp_path, access=f"allow_anonymous false\npassword_file {passwords}") as broker:
        for login in (None, Login("us", "wrong")):
            async with networks(broker.relay, login=login) as ((a, _), _):
                with pytest.raises(ConfigError) as caught:
                    await a.listen(lambda link: None)
                assert row_of("refuses this member").shows(str(caught.value))
        async with meeting(broker.relay, login=Login("us", "sesame")) as (near, far):
            await exchange(near, far)
    assert "sesame" not in repr(Login("us", "sesame"))


def certify(folder, name):
    """A certificate that signs itself, for `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a broker")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_to_the_broker_trusts_what_ca_says_and_nothing_else(tmp_path):
    certificate, key = certify(tmp_path, "127.0.0.1")
    async with Mosquitto(tmp_path, f"certfile {certificate}\nkeyfile {key}", tls=True) as broker:
        async with meeting(broker.relay, login=Login(ca=certificate)) as (near, far):
            await exchange(near, far)
        async with networks(broker.relay) as ((a, _), _):
            with pytest.raises(ConfigError) as caught:
                await a.listen(lambda link: None)
            assert row_of("is not trusted here").shows(str(caught.value))
    # The client library leaves the socket of a failed TLS handshake to the garbage collector, which complains.
    gc.collect()


@pytest.mark.parametrize("text", [None, "no certificate"])
async def test_a_ca_that_is_none_is_a_clear_error(tmp_path, text):
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Login(ca=path).context()
    assert row_of("cannot be used as certificates").shows(str(caught.value))


async def test_a_member_is_not_dialled_at_a_broker_that_is_not_there(monkeypatch):
    monkeypatch.setattr("mpc.transport.multiplexer._DIAL", 0.1)
    async with networks(Relay("127.0.0.1", free_port(), tls=False)) as ((a, _), members):
        await a.listen(lambda link: None)
        with pytest.raises(PeerLost) as caught:
            await a.dial(members["b"])
        assert row_of("cannot be reached, because").shows(str(caught.value))


@pytest.mark.parametrize("limit", ["max_packet_size 20000", "message_size_limit 30000"])
async def test_messages_fit_what_the_broker_takes_whether_it_tells_or_drops(tmp_path, limit):
    async with Mosquitto(tmp_path, limit) as broker, meeting(broker.relay) as (near, far):
        await exchange(near, far)
        assert limit.startswith("message") or "oversize" not in broker.log


async def test_a_broker_that_takes_too_little_is_named_and_no_peer_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("mpc.transport.multiplexer._DIAL", 0.1)
    async with Mosquitto(tmp_path, "max_packet_size 500") as broker, networks(broker.relay) as ((a, _), members):
        await a.listen(lambda link: None)
        assert "the broker takes packets of 500 bytes at most; let it take " in caplog.text
        with pytest.raises(PeerLost) as caught:
            await a.dial(members["b"])
        assert row_of("cannot be reached, because").shows(str(caught.value))
        assert "takes packets of 500 bytes" in str(caught.value)


async def test_a_broker_is_told_what_a_member_takes_at_most_and_more_is_not_looked_at():
    first = asyncio.get_running_loop().create_future()

    async def connected(reader, writer):
        if not first.done():
            first.set_result(await reader.read(1 << 10))
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with networks(Relay(host, port, tls=False)) as ((a, b), _), asyncio.TaskGroup() as group:
            listening = group.create_task(a.listen(lambda link: None))
            # The property 39 of MQTT 5, Maximum Packet Size.
            assert b"\x27" + MAX_TAKEN.to_bytes(4, "big") in await first
            listening.cancel()
            (here,), (there,) = a._multiplexer._peers, b._multiplexer._peers
            envelopes = there.pair.envelopes(here.pair.process)
            for size in (MAX_TAKEN + 1, 1000):
                payload = envelopes.seal(bytes(size - OVERHEAD))
                assert len(payload) == size
                a._on_message(aiomqtt.Message(there.pair.outbound, payload, 0, False, 1, None))  # noqa: FBT003  as the library has it
                assert bool(here.associations) == (size <= MAX_TAKEN)


async def test_whoever_leaves_takes_its_presence_away(tmp_path):
    async with Mosquitto(tmp_path) as broker, aiomqtt.Client(broker.relay.host, broker.relay.port) as spy:
        async with meeting(broker.relay) as (near, far):
            await exchange(near, far)
        await spy.subscribe("b/#")
        await spy.publish("b/end", b"")
        message = await anext(aiter(spy.messages))
        assert message.topic.value == "b/end"
