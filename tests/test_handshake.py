"""Hello and Noise KK against public vectors, an independent implementation, and attackers (invariants 13-16, 23)."""

from __future__ import annotations

import dataclasses

import pytest
from nacl import bindings

from mpc import AuthenticationFailed, Disagreement, PeerMisbehaved
from mpc.framing.handshake import HELLO_SIZE, KK, SUITES, Hello, cipher, negotiate, nonce
from mpc.membership.identity import Identity, fingerprint
from tests.attackers import KeyThief, flipped

A, B = Identity.generate("a"), Identity.generate("b")


def pair(suite="AESGCM", prologue=b"p", *, to_a=B.curve_public, to_b=A.curve_public, secret_a=A.curve_secret, secret_b=B.curve_secret):
    return KK(True, suite, prologue, secret_a, to_a, peer="b"), KK(False, suite, prologue, secret_b, to_b, peer="a")


def shake(a, b):
    b.read_message(a.write_message())
    a.read_message(b.write_message())
    return a.split(), b.split()


def test_public_vectors(vectors):
    cases = [
        case
        for case in vectors("noise_kk.json")["vectors"]
        if case["protocol_name"] in {f"Noise_KK_25519_{suite}_BLAKE2b" for suite in SUITES}
    ]
    assert len(cases) >= 2
    for case in cases:
        check_vector(case)


def check_vector(case):
    data = {key: bytes.fromhex(value) for key, value in case.items() if isinstance(value, str) and key.startswith(("init_", "resp_"))}
    suite = case["protocol_name"].split("_")[3]
    public = bindings.crypto_scalarmult_base
    a = KK(True, suite, data["init_prologue"], data["init_static"], public(data["resp_static"]), peer="b", ephemeral=data["init_ephemeral"])
    b = KK(
        False, suite, data["resp_prologue"], data["resp_static"], public(data["init_static"]), peer="a", ephemeral=data["resp_ephemeral"]
    )
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in case["messages"]]
    assert a.write_message(messages[0][0]) == messages[0][1]
    assert b.read_message(messages[0][1]) == messages[0][0]
    assert b.write_message(messages[1][0]) == messages[1][1]
    assert a.read_message(messages[1][1]) == messages[1][0]
    ours, theirs = a.split(), b.split()
    # Whoever reads the memory later finds nothing of which the keys of this link could be made again.
    assert all((side._ck, side._key, side._e) == (b"", b"", b"") for side in (a, b))
    if "handshake_hash" in case:
        assert ours.handshake_hash.hex() == case["handshake_hash"]
    counters = [0, 0]
    for number, (payload, ciphertext) in enumerate(messages[2:]):
        side = number % 2
        sealed = cipher(suite, (ours, theirs)[side].send).encrypt(nonce(suite, counters[side]), payload, b"")
        counters[side] += 1
        assert sealed == ciphertext


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("ours_initiates", [True, False])
def test_agrees_with_an_independent_implementation(suite, ours_initiates):
    from noise.connection import Keypair, NoiseConnection

    them = NoiseConnection.from_name(f"Noise_KK_25519_{suite}_BLAKE2b".encode())
    them.set_prologue(b"both hellos")
    (them.set_as_responder if ours_initiates else them.set_as_initiator)()
    them.set_keypair_from_private_bytes(Keypair.STATIC, B.curve_secret)
    them.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, A.curve_public)
    them.start_handshake()
    us = KK(ours_initiates, suite, b"both hellos", A.curve_secret, B.curve_public, peer="b")
    if ours_initiates:
        assert them.read_message(us.write_message(b"one")) == b"one"
        assert us.read_message(bytes(them.write_message(b"two"))) == b"two"
    else:
        assert us.read_message(bytes(them.write_message(b"one"))) == b"one"
        assert them.read_message(us.write_message(b"two")) == b"two"
    assert us.split().handshake_hash == them.get_handshake_hash()


@pytest.mark.parametrize("suite", SUITES)
def test_both_sides_agree_and_sessions_differ(suite):
    ours, theirs = shake(*pair(suite))
    assert (ours.send, ours.receive, ours.exporter, ours.handshake_hash) == (
        theirs.receive,
        theirs.send,
        theirs.exporter,
        theirs.handshake_hash,
    )
    again, _ = shake(*pair(suite))
    everything = [ours.send, ours.receive, ours.exporter[:32], ours.handshake_hash[:32]]
    assert not set(everything) & {again.send, again.receive, again.exporter[:32], again.handshake_hash[:32]}
    assert len(set(everything)) == 4


def test_the_transcript_hash_is_public_and_the_exporter_is_not_computed_from_it():
    """h is rebuilt here from wire bytes and public keys alone: it may bind, it must never key."""
    from hashlib import blake2b

    a, b = pair(prologue=b"p")
    one = a.write_message()
    b.read_message(one)
    two = b.write_message()
    a.read_message(two)
    h = b"Noise_KK_25519_AESGCM_BLAKE2b".ljust(64, b"\0")
    for part in (b"p", A.curve_public, B.curve_public, one[:32], one[32:], two[:32], two[32:]):
        h = blake2b(h + part).digest()
    assert a.split().handshake_hash == h


def test_any_flipped_bit_of_message_one_or_two_fails():
    a, b = pair()
    one = a.write_message()
    for bit in range(0, len(one) * 8, 3):
        _, other = pair()
        with pytest.raises(AuthenticationFailed):
            other.read_message(flipped(one, bit))
    b.read_message(one)
    two = b.write_message()
    for bit in range(0, len(two) * 8, 29):
        fresh_a, fresh_b = pair()
        fresh_b.read_message(fresh_a.write_message())
        with pytest.raises(AuthenticationFailed):
            fresh_a.read_message(flipped(fresh_b.write_message(), bit))


def test_any_flipped_bit_of_the_prologue_fails():
    prologue = bytes(range(64))
    for bit in range(0, 512, 7):
        a, _ = pair(prologue=prologue)
        _, b = pair(prologue=flipped(prologue, bit))
        with pytest.raises(AuthenticationFailed, match="altered the hello"):
            b.read_message(a.write_message())


def test_wrong_keys_fail_in_both_directions():
    thief = Identity.generate("thief")
    a, b = pair(secret_a=thief.curve_secret)
    with pytest.raises(AuthenticationFailed, match="a: does not hold the key"):
        b.read_message(a.write_message())
    a, b = pair(to_a=thief.curve_public)
    with pytest.raises(AuthenticationFailed):
        b.read_message(a.write_message())


def test_a_thief_of_as_key_cannot_pose_as_b_to_a():
    """Message 1 of KK is open to key-compromise impersonation: A answers.  The thief can do nothing with the answer."""
    thief = KeyThief(A, B.curve_public, b"p")
    a = KK(False, "AESGCM", b"p", A.curve_secret, B.curve_public, peer="b")
    a.read_message(thief.write_message())
    with pytest.raises(AuthenticationFailed):
        thief.read_message(a.write_message())


def test_small_order_and_zero_points_are_refused():
    for point in (bytes(32), b"\1" + bytes(31), bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")):
        _, b = pair()
        with pytest.raises(AuthenticationFailed, match="small order"):
            b.read_message(point + bytes(16))
    for short in (b"", bytes(47)):
        _, b = pair()
        with pytest.raises(AuthenticationFailed, match="too short"):
            b.read_message(short)


def test_wycheproof_x25519(vectors):
    for group in vectors("wycheproof_x25519_test.json")["testGroups"]:
        for case in group["tests"]:
            secret, public = bytes.fromhex(case["private"]), bytes.fromhex(case["public"])
            kk = KK(False, "AESGCM", b"", A.curve_secret, B.curve_public, peer="b")
            if bytes.fromhex(case["shared"]) == bytes(32):
                with pytest.raises(AuthenticationFailed):
                    kk._mix_key(secret, public)
            else:
                assert bindings.crypto_scalarmult(secret, public).hex() == case["shared"], case["tcId"]


@pytest.mark.parametrize(
    ("file", "suite"), [("wycheproof_aes_gcm_test.json", "AESGCM"), ("wycheproof_chacha20_poly1305_test.json", "ChaChaPoly")]
)
def test_wycheproof_aead(vectors, file, suite):
    from cryptography.exceptions import InvalidTag

    tried = 0
    for group in vectors(file)["testGroups"]:
        if (group["ivSize"], group["keySize"], group["tagSize"]) != (96, 256, 128):
            continue
        for case in group["tests"]:
            key, iv, aad, message, sealed, tag = (bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag"))
            tried += 1
            if case["result"] == "invalid":
                with pytest.raises(InvalidTag):
                    cipher(suite, key).decrypt(iv, sealed + tag, aad)
            else:
                assert cipher(suite, key).encrypt(iv, message, aad) == sealed + tag
                assert cipher(suite, key).decrypt(iv, sealed + tag, aad) == message
    assert tried > 50


# -- hello -----------------------------------------------------------------------------------------------------

MINE = Hello("a", "b", bytes(32), 3, bytes(32), fingerprint(A.public))
THEIRS = Hello("b", "a", bytes(32), 3, bytes(32), fingerprint(B.public))

MISMATCHES = {
    "version": ({"version": 9}, Disagreement, "speaks wire version 9, this party 16"),
    "roster": ({"roster_digest": b"\1" * 32}, Disagreement, "has another roster"),
    "address": ({"sender": "c"}, AuthenticationFailed, "is answered by 'c'"),
    "receiver": ({"receiver": "d"}, Disagreement, "expects 'd' at this address"),
    "suites": ({"suites": 4}, Disagreement, "no cipher suite"),
}


@pytest.mark.parametrize("what", MISMATCHES)
def test_every_mismatch_has_its_own_message(what):
    change, kind, message = MISMATCHES[what]
    with pytest.raises(kind, match=message):
        negotiate(MINE, dataclasses.replace(THEIRS, **change))


def test_the_better_common_suite_is_chosen():
    assert negotiate(MINE, THEIRS) == "AESGCM"
    assert negotiate(MINE, dataclasses.replace(THEIRS, suites=2)) == "ChaChaPoly"
    assert negotiate(dataclasses.replace(MINE, suites=1), THEIRS) == "AESGCM"


def test_a_downgrade_in_flight_fails_at_message_one():
    weak_mine, weak_theirs = dataclasses.replace(MINE, suites=2), dataclasses.replace(THEIRS, suites=2)
    assert negotiate(MINE, weak_theirs) == negotiate(THEIRS, weak_mine) == "ChaChaPoly"
    a = KK(True, "ChaChaPoly", MINE.encode() + weak_theirs.encode(), A.curve_secret, B.curve_public, peer="b")
    b = KK(False, "ChaChaPoly", weak_mine.encode() + THEIRS.encode(), B.curve_secret, A.curve_public, peer="a")
    with pytest.raises(AuthenticationFailed, match="altered the hello"):
        b.read_message(a.write_message())


def test_hello_round_trips_and_refuses_everything_else():
    assert Hello.decode(MINE.encode(), "x") == MINE
    assert len(MINE.encode()) == HELLO_SIZE
    for raw in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(HELLO_SIZE), MINE.encode()[:-1], MINE.encode() + b"\0"):
        with pytest.raises(PeerMisbehaved, match="did not greet"):
            Hello.decode(raw, "x")
    # No member has such a name, and in a log line it could pass for more.
    for name in ("", "b phase=done", "b: connected", "peer=b", "-b", "b\x1b[0m", "b\0b"):
        for nameless in (dataclasses.replace(MINE, sender=name), dataclasses.replace(MINE, receiver=name, version=1)):
            with pytest.raises(PeerMisbehaved, match="^x: sent a hello with an impossible name$"):
                Hello.decode(nameless.encode(), "x")


def test_nothing_secret_in_a_repr():
    a, b = pair()
    ours, _ = shake(a, b)
    for shown in (repr(a), repr(ours), repr(A)):
        for secret in (A.seed, ours.send, ours.receive, ours.exporter):
            assert secret.hex() not in shown
            assert repr(secret) not in shown
