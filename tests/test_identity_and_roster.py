"""Keys, key files and rosters: what is refused, by name and with the remedy (invariants 23, 35)."""

from __future__ import annotations

import base64
import os

import pytest

from mpc import ConfigError
from mpc.membership.endpoints import format_endpoint, parse_endpoint
from mpc.membership.identity import Identity, curve_public_of, decode_key, encode_key, verify
from mpc.membership.roster import Member, Roster
from mpc.membership.toml_text import did_you_mean

A, B, D = Identity.generate("a"), Identity.generate("b"), Identity.generate("d")


def test_a_saved_key_loads_again_and_is_private(tmp_path):
    A.save(tmp_path / "a.key")
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert Identity.load(tmp_path / "a.key") == A
    with pytest.raises(ConfigError, match="never overwritten"):
        B.save(tmp_path / "a.key")
    assert Identity.load(tmp_path / "a.key") == A


def test_bad_key_files(tmp_path):
    path = tmp_path / "key"
    with pytest.raises(ConfigError, match="beaver keygen"):
        Identity.load(path)
    for content in (b"", b"beaver-ed25519-v1 a !!!!", b"beaver-ed25519-v1 a " + base64.b64encode(bytes(31)), b"other a b", b"\xff\xfe"):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="key"):
            Identity.load(path)
    path.unlink()
    A.save(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Identity.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Identity.load(tmp_path)


def test_signatures_are_bound_to_purpose_and_message():
    signature = A.sign("audit", b"text")
    assert verify(A.public, "audit", b"text", signature)
    assert not verify(A.public, "roster", b"text", signature)
    assert not verify(A.public, "audit", b"other", signature)
    assert not verify(B.public, "audit", b"text", signature)
    assert not verify(A.public, "audit", b"text", bytes(64))
    assert not verify(A.public, "audit", b"text", b"")


def test_what_was_signed_for_one_purpose_and_ends_as_another_does_is_no_signature_for_that():
    signature = A.sign("audit", b"text" + b"beaver/job/v1\0" + b"digest")
    longer = signature + b"beaver/audit/v1\0" + b"text"
    assert not verify(A.public, "job", b"digest", longer)
    assert not verify(A.public, "audit", b"text" + b"beaver/job/v1\0" + b"digest", signature + b"more")


def test_wycheproof_ed25519(vectors):
    """The purpose prefix is ours; below it is the library's verification, called as here."""
    from nacl import bindings
    from nacl.exceptions import BadSignatureError, CryptoError

    for group in vectors("wycheproof_ed25519_test.json")["testGroups"]:
        key = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            try:
                bindings.crypto_sign_open(signature + message, key)
                valid = len(signature) == 64
            except (BadSignatureError, CryptoError, ValueError):
                valid = False
            assert valid == (case["result"] == "valid"), case["tcId"]


def test_curve_key_matches_the_secret():
    from nacl import bindings

    assert bindings.crypto_scalarmult_base(A.curve_secret) == A.curve_public == curve_public_of(A.public)


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", bytes(31), b"\2" + bytes(31)])
def test_invalid_points_are_refused(point):
    with pytest.raises(ConfigError, match="no valid point"):
        curve_public_of(point)


def test_key_text_has_one_form():
    assert decode_key(encode_key(A.public)) == A.public
    good = encode_key(A.public)
    for bad in (good[8:], "ed25519:", good + "A", good.replace("=", ""), "rsa:" + good[8:], good[:-2] + "*="):
        with pytest.raises(ConfigError, match="beaver keygen"):
            decode_key(bad)


def members(**changes):
    return [Member("a", A.public, ("h", 1)), Member("b", B.public, ("h", 2)), Member("d", D.public, ("h", 3), "dealer")]


def test_roster_round_trip_and_digest():
    roster = Roster(members())
    again = Roster.parse(roster.dump(), "text")
    assert again.digest == roster.digest == Roster(reversed(members())).digest
    assert [member.name for member in again.parties] == ["a", "b"]
    assert again.dealer.name == "d"
    others = [
        Roster([*members()[:2], Member("d", D.public, ("h", 4), "dealer")]),
        Roster([*members()[:2], Member("e", D.public, ("h", 3), "dealer")]),
        Roster([*members()[:2], Member("d", D.public, None, "dealer")]),
        Roster([*members()[:2], Member("d", D.public, ("h", 3))]),
    ]
    assert len({roster.digest, *(other.digest for other in others)}) == 5


BAD = {
    "no toml": ("[[member", "is not TOML"),
    "twice": (
        f'[[member]]\nname = "a"\nkey = "{encode_key(A.public)}"\nname = "b"',
        r"a key or a table is there again, .*: Cannot overwrite a value \(at line 4, ",
    ),
    "zero byte": (
        'x = 1\n[relay]\nurl = "mqtt://h\\u0000:1"',
        r"is not TOML: a text has a zero byte, as no name and no path may \(at line 3\)",
    ),
    "endless number": ("version = " + "9" * 5000, "is not TOML: a number has more than 64 bits"),
    "long number": ("version = 0x" + "f" * 17, "is not TOML: a number has more than 64 bits"),
    "endless number in hexadecimal": ("member = [0x" + "f" * 5000 + "]", "is not TOML: a number has more than 64 bits"),
    "deep": ("member = " + "[" * 17 + "]" * 17, "more than 16 tables and lists are inside each other"),
    "bottomless": ("member = " + "[" * 5000, "more than 16 tables and lists are inside each other"),
    "no members": ("x = 1", "unknown key 'x'"),
    "empty": ("", "list of"),
    "table": ("member = 3", "list of"),
    "numbers": ("member = [3]", "must be a table"),
    "misspelt": ('[[member]]\nname = "a"\nkey = "x"\nrol = "party"', "did you mean 'role'"),
    "no key": ('[[member]]\nname = "a"', "key is missing"),
    "number": ("[[member]]\nname = 3", "must be text"),
    "role": ('[[member]]\nname = "a"\nkey = "x"\nrole = "deeler"', "did you mean 'dealer'"),
    "key": ('[[member]]\nname = "a"\nkey = "x"', r"\(a\): a public key reads"),
    "endpoint": (f'[[member]]\nname = "a"\nkey = "{encode_key(A.public)}"\nendpoint = "h"', "is no endpoint"),
    "any endpoint": (f'[[member]]\nname = "a"\nkey = "{encode_key(A.public)}"\nendpoint = "0.0.0.0:1"', "is the address of no machine"),
    "any endpoint of IPv6": (
        f'[[member]]\nname = "a"\nkey = "{encode_key(A.public)}"\nendpoint = "[0::0]:1"',
        "is the address of no machine",
    ),
    "one party": (f'[[member]]\nname = "a"\nkey = "{encode_key(A.public)}"', "fewer than two parties"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_rosters(what):
    text, message = BAD[what]
    with pytest.raises(ConfigError, match=message) as caught:
        Roster.parse(text, "roster.toml")
    assert str(caught.value).startswith("roster.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Member("b", A.public, None), "same key"),
        (Member("a", B.public, None), "two members are called a"),
        (Member("../x", B.public, None), "is no name"),
        (Member("", B.public, None), "is no name"),
        (Member("x" * 33, B.public, None), "is no name"),
        (Member("b", bytes(32), None), "b: this public key"),
        (Member("b", B.public, None, "dealer"), "two members are dealers"),
    ],
)
def test_impossible_rosters(change, message):
    with pytest.raises(ConfigError, match=message):
        Roster([members()[0], change, members()[2]])


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(ConfigError, match="'aa' is not in the roster; did you mean 'a'"):
        Roster(members())["aa"]
    # As close as 'carla', and more alike.
    assert did_you_mean("alfa", ["alpha", "bravo", "carla", "dealer"]) == "did you mean 'alpha'?"
    assert did_you_mean("x", []) == "known are: none"
    with pytest.raises(ConfigError, match="No such file"):
        Roster.load(tmp_path / "none.toml")


def test_a_roster_file_as_other_editors_save_it(tmp_path):
    file, text = tmp_path / "roster.toml", Roster(members()).dump()
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert Roster.load(file).digest == Roster(members()).digest
    for wrong, line in ((f"# one\n# \xfcber\n{text}".encode("latin-1"), 2), (text.encode("utf-16"), 1)):
        file.write_bytes(wrong)
        with pytest.raises(ConfigError) as caught:
            Roster.load(file)
        assert str(caught.value) == f"{file}, line {line}: a byte there is not UTF-8; save the file as UTF-8 text"


def test_endpoints():
    for text in ("host:1", "10.0.0.1:65535", "[::1]:9001", "a-b.example:80"):
        assert format_endpoint(parse_endpoint(text)) == text
    for bad in ("host", "host:", ":1", "host:0", "host:65536", "host:1:2", "::1:9", "[::1]", "ho st:1", "host:-1", "host:1e3"):
        with pytest.raises(ConfigError, match="no endpoint"):
            parse_endpoint(bad)


def test_a_key_is_not_written_where_there_is_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        A.save(tmp_path / "none" / "key")
    assert os.listdir(tmp_path) == []
