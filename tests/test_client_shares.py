"""What the parties see of a client's rows, and what all but the client see of its result (invariants 1, 4, 19, 24, 31)."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack

import numpy as np
import pytest

from mpc import Disagreement, Node, PeerMisbehaved, PrecisionError
from mpc.channels.flow import WINDOW, Flow
from mpc.fixed_point import decode, encode
from mpc.following import follow
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Roster
from mpc.messaging.visit import Visit
from mpc.network.mesh import Clocks
from mpc.ring import WORD
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from mpc.values.sharing import Portion, portion_bytes, split
from protocols.given import given_mean, given_sum, given_variance

CANARY = 0.7310481
CLOCKS = Clocks(20.0, 20.0, 20.0)
JOB = b"the digest of a job"


def uniform(words):
    """Chi-squared of the bytes: 255 degrees of freedom, beyond 430 once in 10^10 runs."""
    octets = np.frombuffer(np.ascontiguousarray(words).tobytes(), np.uint8)
    return ((np.bincount(octets, minlength=256) - octets.size / 256) ** 2 / (octets.size / 256)).sum() < 430


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_portions_add_up_and_survive_their_bytes(n):
    words = np.array([[0, 1, 2**63], [2**64 - 1, 2**62, 7]], WORD)
    portions = split(words, n)
    assert np.array_equal(sum(portion.words() for portion in portions), words)
    for number, portion in enumerate(portions):
        raw = portion.pack()
        assert len(raw) == portion_bytes(words.shape, first=not number) == 32 + 48 * (not number)
        again = Portion.parse(raw, words.shape)
        assert np.array_equal(again.words(), portion.words()) and again.commitment == portion.commitment
        assert "secret" not in repr(portion) and portion.secret.hex() not in repr(portion)
    assert np.array_equal(sum(portion.words() for portion in split(words[:0], n)), words[:0])


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("value", [0.0, CANARY])
def test_what_any_n_less_one_parties_hold_is_uniform_whatever_the_rows_are(n, value):
    portions = split(encode(np.full(1 << 14, value), frac=32), n)
    shares = [portion.words() for portion in portions]
    for missing in range(n):
        others = [share for number, share in enumerate(shares) if number != missing]
        # Each of them, what the first one got, and all together: their sum is what would lack but one share.
        for seen in (*others, portions[0].difference, sum(others)):
            assert uniform(seen)
    assert len({portion.secret for portion in (*portions, *split(shares[0], n))}) == 2 * n


def test_a_commitment_is_to_one_portion():
    words = np.arange(6, dtype=WORD).reshape(2, 3)
    first, second = split(words, 2)
    changed = first.difference.copy()
    changed[1, 2] += WORD.type(1)
    others = [
        Portion(first.shape, first.secret, changed),
        Portion(first.shape, bytes(32), first.difference),
        Portion((3, 2), first.secret, first.difference.reshape(3, 2)),
        second,
        Portion((3, 2), second.secret),
    ]
    assert len({portion.commitment for portion in (first, *others)}) == 6


async def together(n, program, words, *, portions=None, committed=None, give=Visit.send_portion, by=None):
    """Outcomes of `program(s, given)` at all parties and, last, at the client (or `by(node)` there); real nodes over memory links."""
    identities, plain = simulated_roster(n)
    lab = Identity.generate("lab")
    roster = Roster([*plain.members, Member("lab", lab.public, None, "client")])
    network = MemoryNetwork()
    names = [member.name for member in roster.parties]
    portions = portions or split(words, n)
    committed = committed or [portion.commitment for portion in portions]

    async def party(node, index):
        visit = Visit(node.mesh.channel("lab"), JOB, "lab", WINDOW)
        try:
            mine = await visit.receive_portion(words.shape, committed[index], first=not index)
            async with node.session("j", visit=visit) as s:
                return await program(s, s.given(mine, words.shape, frac=32, bound=1.0))
        finally:
            visit.close()

    async def client(node):
        visits = [Visit(node.mesh.channel(name), JOB, "lab", WINDOW) for name in names]
        for visit, portion in zip(visits, portions, strict=True):
            give(visit, portion)
        s = follow(names, "lab", visits)
        return await program(s, s.given(None, words.shape, frac=32, bound=1.0))

    async with AsyncExitStack() as stack:
        everyone = [*identities, lab]
        nodes = [await stack.enter_async_context(Node(who, roster, network.of(who.name), clocks=CLOCKS)) for who in everyone]
        async with asyncio.timeout(20):
            while nodes[-1].mesh.missing(names) or any(node.mesh.missing(["lab"]) for node in nodes[:n]):
                await asyncio.sleep(0)
        assert not nodes[-1].mesh.meets("the-dealer") and not nodes[n].mesh.meets("lab")
        parties = [party(node, index) for index, node in enumerate(nodes[:n])]
        tasks = [asyncio.ensure_future(work) for work in (*parties, (by or client)(nodes[-1]))]
        # A party that refuses leaves the client without an end, which here nobody tells.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def sent(monkeypatch):
    """The bytes of messages that each sender sent to each receiver."""
    seen = []
    plain = Flow.send

    def noted(self, tag, digest, data):
        seen.append((self._outlet._owner.identity.name, self._peer, len(data)))
        plain(self, tag, digest, data)

    monkeypatch.setattr(Flow, "send", noted)
    return seen


ROWS = np.linspace(-0.9, 0.9, 60).reshape(20, 3)


@pytest.mark.parametrize("n", [2, 3, 5])
async def test_a_result_for_the_client_alone_passes_by_every_party(n, sent):
    async def program(s, given):
        return await given_mean(s, np.zeros((0, 3)), given, "lab")

    *parties, lab = await together(n, program, encode(ROWS, frac=32))
    assert parties == [None] * n
    assert np.allclose(lab.value, ROWS.mean(axis=0), atol=1e-8)
    assert lab.size == len(ROWS)
    # A portion each, and the result from each: the parties exchange nothing at all.
    expected = [("lab", f"p{index}", 32 + 480 * (not index)) for index in range(n)] + [(f"p{index}", "lab", 32) for index in range(n)]
    assert sorted(sent) == sorted(expected)


@pytest.mark.parametrize("n", [2, 3])
async def test_a_variance_for_the_client_alone_is_that_of_all_rows(n):
    async def program(s, given):
        own = np.full((10, 3), 0.2 * (s.index + 1))
        return await given_variance(s, own, given, "abc", ddof=1, to="lab")

    *parties, lab = await together(n, program, encode(ROWS, frac=32))
    assert parties == [None] * n
    pool = np.concatenate([ROWS, *(np.full((10, 3), 0.2 * (index + 1)) for index in range(n))])
    assert np.allclose(lab.value, pool.var(axis=0, ddof=1), rtol=1e-6)
    assert lab.size == len(pool)


@pytest.mark.parametrize(
    ("spread", "centre", "own"),
    [(2.0**-14, 0.9, False), (2.0**-9, 0.9, True), (2.0**-16, 0.0, True), (2.0**-22, 0.0, False), (0.0, 0.5, True)],
)
async def test_a_variance_is_right_or_refused(spread, centre, own):
    """In units of the range, which is 2^20 where none is declared, so that any data may be small in it."""
    rows = encode(centre + spread * ROWS[:, :1], frac=32)
    mine = centre + spread * np.linspace(-1, 1, 7 * own)[:, None]

    async def program(s, given):
        return await given_variance(s, mine, given, ["age"], to="lab")

    found = (await together(3, program, rows))[-1]
    if spread in (2.0**-22, 0.0):
        assert isinstance(found, PrecisionError)
        assert re.search(r"column\(s\) 'age' are constant, or vary too little .* declare a tighter range", str(found))
        return
    pool = np.concatenate([decode(rows.copy(), 32), *[mine] * 3])
    assert np.allclose(found.value, pool.var(axis=0), rtol=2.0**-8)


async def test_a_result_for_all_is_everyones():
    async def program(s, given):
        return await given_sum(s, np.ones((2, 3)), given)

    outcomes = await together(3, program, encode(ROWS, frac=32))
    assert all(np.allclose(outcome, ROWS.sum(axis=0) + 6, atol=1e-7) for outcome in outcomes)


async def test_what_a_party_sends_the_client_hides_its_own_rows(monkeypatch):
    told = []
    plain = Visit.send_revealed

    def noted(self, what, scope, about, words):
        told.append(words.copy())
        plain(self, what, scope, about, words)

    monkeypatch.setattr(Visit, "send_revealed", noted)
    words = encode(np.full((2, 1 << 12), CANARY), frac=32)
    portions = split(words, 3)

    async def program(s, given):
        return await given_sum(s, np.full((1, 1 << 12), CANARY), given, "lab")

    *_, lab = await together(3, program, words, portions=portions)
    assert np.allclose(lab, 5 * CANARY, atol=1e-6)
    assert len(told) == 3
    # The client knows every portion, and takes it off: what is left is the party's rows under a fresh zero sharing.
    shares = [portion.words().sum(axis=0, dtype=WORD) for portion in portions]
    for words_told in told:
        assert all(uniform(words_told - share) for share in shares)
    assert np.array_equal(sum(told), sum(shares) + 3 * encode(np.full(1 << 12, CANARY), frac=32))


def pretended(visit, portion):
    """Another portion under the name of the one that was committed to."""
    other = Portion(portion.shape, bytes(32), portion.difference)
    tag, digest = visit._tag("portion", ""), visit._digest("portion", "", [portion.commitment])
    visit.flow.send(tag, digest, memoryview(other.pack()))


def twice(visit, portion, give=Visit.send_portion):
    give(visit, portion)
    give(visit, portion)


WORDS = encode(ROWS, frac=32)
OTHERS = [portion.commitment for portion in split(WORDS, 2)]


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ({"committed": OTHERS}, Disagreement, "runs a different program at its share of the client's rows"),
        ({"give": pretended}, PeerMisbehaved, "sent another share of its rows than the job names"),
        ({"give": twice}, PeerMisbehaved, "sent its rows twice|sent more than the window"),
    ],
)
async def test_a_portion_that_is_not_the_committed_one_or_comes_twice_is_refused(how, kind, text):
    async def program(s, given):
        return await given_sum(s, np.zeros((0, 3)), given, "lab")

    outcomes = await together(2, program, WORDS, **how)
    faults = [outcome for outcome in outcomes[:2] if isinstance(outcome, kind)]
    assert faults and all(fault.party == "lab" for fault in faults), outcomes
    assert re.search(text, str(faults[0])), faults[0]


async def test_a_second_portion_after_the_first_was_taken_is_refused():
    sent = asyncio.Event()

    def again(visit, portion):
        visit.send_portion(portion)
        asyncio.get_running_loop().create_task(late(visit, portion))

    async def late(visit, portion):
        await sent.wait()
        visit.send_portion(portion)

    async def program(s, given):
        while isinstance(given.words, np.ndarray):
            sent.set()
            s._ops.check_alive()
            await asyncio.sleep(0)

    outcomes = await together(2, program, WORDS, give=again)
    assert any(isinstance(outcome, PeerMisbehaved) and "sent its rows twice" in str(outcome) for outcome in outcomes[:2]), outcomes
