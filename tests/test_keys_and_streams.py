"""No weaker fallback, no shortened key, no stream that is used twice, no record that fits elsewhere (invariants 1-3, 5, 6, 13-18, 20)."""

from __future__ import annotations

import ast
import asyncio
import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import protocols
from mpc import AuthenticationFailed, BeaverError, ConfigError, PeerMisbehaved
from mpc.channels import line as lines
from mpc.channels.channel import Channel
from mpc.framing import records
from mpc.framing.handshake import HELLO_SIZE, KK, Hello
from mpc.framing.records import Opener, Sealer, opening_buffer
from mpc.membership.identity import Identity
from mpc.membership.roster import Roster
from mpc.naming.expressions import Range
from mpc.naming.streams import Seed, Streams, pair_seed
from mpc.testing import simulate
from mpc.transport.memory import memory_pair
from tests.attackers import flipped
from tests.channels import Owner, people

ROOT = Path(__file__).resolve().parent.parent
HERE = Range("0.1", 0, (2,))


# -- where randomness comes from ---------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["nacl", "cryptography", "msgpack", "numpy"])
@pytest.mark.parametrize("package", ["mpc", "parties.cli"])
def test_without_its_libraries_the_program_refuses_to_start(library, package):
    code = f"import sys; sys.modules[{library!r}] = None; import {package}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert library in done.stderr
    assert "ModuleNotFoundError" in done.stderr or "ImportError" in done.stderr


def test_no_import_is_optional_in_the_engine():
    """A `try` around an import would be a fallback."""
    for path in sorted((ROOT / "mpc").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Try):
                inside = [inner for inner in ast.walk(node) if isinstance(inner, ast.Import | ast.ImportFrom)]
                assert not inside, f"{path}:{node.lineno}"


# -- every bit of every key counts -------------------------------------------------------------------------------


def test_every_bit_of_the_exporter_the_transcript_and_the_ids_reaches_the_stream():
    parts = {"exporter": bytes(range(64)), "transcript": bytes(64), "session": bytes(32), "job": bytes(32), "one": "a", "other": "b"}
    seen = {Seed(pair_seed(**parts)).words("mask", HERE).tobytes()}
    flips = 0
    for name in ("exporter", "transcript", "session", "job"):
        for bit in range(8 * len(parts[name])):
            changed = pair_seed(**{**parts, name: flipped(parts[name], bit)})
            seen.add(Seed(changed).words("mask", HERE).tobytes())
            flips += 1
    assert len(seen) == flips + 1


def test_every_bit_of_a_seed_reaches_all_six_usages():
    seed = bytes(32)
    usages = [(lambda seed, usage=usage: Seed(seed).words(usage, HERE)) for usage in ("mask", "share", "bit-mask", "bit-share")]
    usages += [lambda seed, usage=usage: Streams(0, bytes(32), {1: seed}).zero(HERE, usage) for usage in ("zero", "zero-xor")]
    seen = {usage(flipped(seed, bit)).tobytes() for usage in usages for bit in range(256)} | {usage(seed).tobytes() for usage in usages}
    assert len(seen) == 6 * 257


@pytest.mark.parametrize("suite", ["AESGCM", "ChaChaPoly"])
def test_every_bit_of_a_record_key_counts(suite):
    key = bytes(range(32))
    record = Sealer(key, suite).seal(b"x")
    for bit in range(256):
        with pytest.raises(PeerMisbehaved):
            Opener(flipped(key, bit), suite, "peer", opening_buffer()).open(record)


@pytest.mark.parametrize("bit", range(0, 256, 11))
def test_every_bit_of_a_static_key_counts(bit):
    a, b = Identity.generate("a"), Identity.generate("b")
    other = Identity("b", flipped(b.seed, bit))
    one = KK(True, "AESGCM", b"p", a.curve_secret, b.curve_public, peer="b")
    two = KK(False, "AESGCM", b"p", other.curve_secret, a.curve_public, peer="a")
    with pytest.raises(AuthenticationFailed):
        two.read_message(one.write_message())


# -- a record fits one place only --------------------------------------------------------------------------------


class Relay:
    """Two links with an attacker between them who may change, drop, repeat or keep every frame."""

    def __init__(self, change=lambda number, sender, frame: [frame]):
        self.frames = {"a": [], "b": []}
        (self.end_a, mine_a), (self.end_b, mine_b) = memory_pair("b", "x"), memory_pair("a", "y")
        self._change = change
        for name, near, far in (("a", mine_a, mine_b), ("b", mine_b, mine_a)):
            near.start(functools.partial(self._pass, name, far), lambda _, far=far: far.close(), lambda: None)
        self.inject = mine_b.send

    def _pass(self, name, far, frame):
        raw = bytes(frame)
        self.frames[name].append(raw)
        for changed in self._change(len(self.frames[name]), name, raw):
            far.send(changed)


def two_channels(relay, a, b, roster):
    owners = Owner(), Owner()
    dialled = Channel(relay.end_a, a, roster, owners[0], dialled=roster["b"])
    return (dialled, owners[0]), (Channel(relay.end_b, b, roster, owners[1]), owners[1])


def changed_at(number, sender, change):
    return lambda count, name, frame: change(frame) if (count, name) == (number, sender) else [frame]


ATTACKS = {
    "downgraded hello of a": (1, "a", lambda frame: [frame[:106] + b"\2\0" + frame[108:]]),
    "downgraded hello of b": (1, "b", lambda frame: [frame[:106] + b"\2\0" + frame[108:]]),
    "other nonce of a": (1, "a", lambda frame: [flipped(frame, 8 * 110)]),
    "other roster digest": (1, "a", lambda frame: [flipped(frame, 8 * 80)]),
    "other version": (1, "b", lambda frame: [flipped(frame, 8 * 8)]),
    "message 1 twice": (2, "a", lambda frame: [frame, frame]),
    "message 1 reflected length": (2, "a", lambda frame: [frame[:-1]]),
    "message 1 flipped": (2, "a", lambda frame: [flipped(frame, 100)]),
    "message 2 flipped": (2, "b", lambda frame: [flipped(frame, 100)]),
    "message 2 truncated": (2, "b", lambda frame: [frame[:47]]),
    "ready flipped": (3, "a", lambda frame: [flipped(frame, 3)]),
    "ready missing": (3, "a", lambda frame: [b"x" * len(frame)]),
}


@pytest.mark.parametrize("what", ATTACKS)
async def test_a_man_in_the_middle_is_found_and_the_responder_never_has_a_channel(what):
    (a, b), roster = people("a", "b")
    relay = Relay(changed_at(*ATTACKS[what]))
    _, (theirs, owner_b) = two_channels(relay, a, b, roster)
    await owner_b.until("closed")
    assert [event[0] for event in owner_b.events] == ["closed"]
    assert not theirs.ready
    assert theirs.exporter == b""


async def opened_pair(a, b, roster):
    relay = Relay()
    (mine, owner_a), (theirs, owner_b) = two_channels(relay, a, b, roster)
    await owner_a.until("opened")
    await owner_b.until("opened")
    return relay, mine, theirs, owner_b


async def test_a_record_of_another_channel_of_the_same_two_members_is_refused():
    (a, b), roster = people("a", "b")
    old, first, _, _ = await opened_pair(a, b, roster)
    first.control(kind="withdraw", job="j", reason="r", party="", answers=b"")
    new, _, second, owner_b = await opened_pair(a, b, roster)
    assert len(old.frames["a"]) == 4
    new.inject(old.frames["a"][3])
    assert (await owner_b.until("closed"))[1] == "PeerMisbehaved"
    assert not second.alive
    assert not any(event[0] == "control" for event in owner_b.events)


async def test_the_same_static_keys_never_give_the_same_keys_again():
    (a, b), roster = people("a", "b")
    exporters, transcripts = set(), set()
    for _ in range(5):
        _, mine, theirs, _ = await opened_pair(a, b, roster)
        assert mine.exporter == theirs.exporter
        exporters.add(mine.exporter)
        transcripts.add(mine.transcript)
    assert len(exporters) == len(transcripts) == 5


def test_keys_change_under_a_running_session_and_no_nonce_comes_twice(monkeypatch):
    """Real sessions whose keys last 100 kB only: results stay right, every (key, nonce) is used once, counters never go back."""
    for name, kind in (("Sealer", Sealer), ("Opener", Opener)):
        monkeypatch.setattr(lines, name, functools.partial(kind, rekey_after=100_000))
    used, ciphers = {}, []
    plain, make = records._Direction._next_nonce, records.cipher

    def noted(self):
        number = plain(self)
        used.setdefault(id(self), (self, []))[1].append(number)
        return number

    monkeypatch.setattr(records._Direction, "_next_nonce", noted)
    monkeypatch.setattr(records, "cipher", lambda suite, key: ciphers.append(key) or make(suite, key))

    async def program(s):
        totals = await asyncio.gather(*(protocols.secure_sum(s, np.full(40_000, number)) for number in range(5)))
        return [float(total[-1]) for total in totals]

    assert simulate(2, program, seed=3) == [[0.0, 2.0, 4.0, 6.0, 8.0]] * 2
    assert max(len(numbers) for _, numbers in used.values()) > 5
    for _, numbers in used.values():
        assert numbers == sorted(set(numbers))
    # Three channels, two directions, two ends; all beyond those are keys that came later.
    assert len(ciphers) >= 3 * 2 * 2 + 8
    # Every key is known to its two ends and to nobody else.
    assert all(ciphers.count(key) == 2 for key in set(ciphers))


def test_pairs_and_parties_have_separate_streams_in_a_real_session():
    async def program(s):
        streams = s._engine.streams
        seeds = [seed._seed for seed in (streams._dealer, *streams._pairs.values())]
        return seeds, streams.mask(Range("9", 0, (4,))).tobytes()

    results = simulate(4, program)
    dealt = [seeds[0] for seeds, _ in results]
    pairs = [seed for seeds, _ in results for seed in seeds[1:]]
    assert len(set(dealt)) == 4
    assert len(set(pairs)) == 6
    assert all(pairs.count(seed) == 2 for seed in pairs)
    assert not set(dealt) & set(pairs)
    assert len({words for _, words in results}) == 4


# -- any bytes -----------------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=HELLO_SIZE + 8) | st.binary(min_size=HELLO_SIZE - 8, max_size=HELLO_SIZE - 8).map(lambda raw: b"BEAVER\r\n" + raw)
)
def test_any_hello_parses_or_raises_one_error(raw):
    try:
        assert Hello.decode(raw, "peer").encode()[:8] == b"BEAVER\r\n"
    except PeerMisbehaved:
        pass


@given(st.binary(max_size=200))
def test_any_handshake_message_is_refused_with_one_error(raw):
    a, b = Identity("a", bytes(32)), Identity("b", bytes(31) + b"\1")
    with pytest.raises(AuthenticationFailed):
        KK(False, "AESGCM", b"p", a.curve_secret, b.curve_public, peer="b").read_message(raw)


@given(st.text(max_size=300) | st.text(max_size=60).map(lambda text: f'[[member]]\nname = "{text}"\nkey = "ed25519:{text}"\n'))
def test_any_roster_parses_or_raises_one_error(text):
    with pytest.raises(ConfigError):
        Roster.parse(text, "somewhere")


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_any_frames_end_a_channel_with_one_documented_error(frames):
    (a, _), roster = PEOPLE

    async def attack():
        near, far = memory_pair("near", "far")
        owner = Owner()
        Channel(far, a, roster, owner)
        near.start(lambda frame: None, lambda reason: None, lambda: None)
        for frame in frames:
            near.send(frame)
        near.close()
        await owner.until("closed")
        return owner.events

    events = asyncio.run(attack())
    assert len(events) == 1
    assert events[0][1] in {kind.__name__ for kind in (PeerMisbehaved, AuthenticationFailed)}
    assert issubclass(AuthenticationFailed, BeaverError)


PEOPLE = people("a", "b")
