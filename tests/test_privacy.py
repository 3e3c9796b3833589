"""What others see: sealed bytes on every wire, uniform openings, nothing at the dealer (invariants 4, 7, 11, 12, 24, 31, 32, 34)."""

from __future__ import annotations

import io
import logging
from collections import Counter

import numpy as np
import pytest

import mpc
import protocols
from mpc.canonical import pack, unpack
from mpc.channels.flow import Flow
from mpc.messaging.exchange import Exchange
from mpc.naming.correlations import Relation, receiver
from mpc.naming.expressions import Range, combine, mask
from mpc.naming.streams import Seed
from mpc.preprocessing import dealing
from mpc.preprocessing.bindings import Bindings
from mpc.preprocessing.corrections import correction
from mpc.ring import WORD
from mpc.testing import MaskOracle, ReusedRandomnessError, simulate
from tests.references import shared_bits

CANARY = 7_310_481.0


async def everything(s):
    """Touches every path on which a secret could leave: own values, inputs, masks, products, a reveal to one party."""
    rows = np.full((8, 3), CANARY)
    total = s.zero(24).add_own(s.encode(rows.ravel()))
    await s.reveal(total, to=0)
    xs = await s.inputs(np.full(6, CANARY), frac=4, bound=2.0**24)
    await s.mask(xs[0])
    await s.reveal(await mpc.mul(s, xs[0], xs[1]), to=0)
    return await protocols.mean(s, rows * (s.index + 1))


def patterns(n):
    """Eight bytes that would stand on a wire if a secret, or a sum of secrets, went in the clear."""
    for value in (CANARY, n * CANARY, -CANARY):
        yield np.float64(value).tobytes()
        for frac in (0, 4, 8, 20):
            yield np.array([int(value * 2**frac)], np.int64).tobytes()


@pytest.mark.parametrize("n", [2, 3])
def test_the_tap_sees_sealed_bytes_only(n):
    frames = []
    simulate(n, everything, tap=frames.append)
    wire = b"".join(frames)
    assert len(wire) > 2000
    for pattern in patterns(n):
        assert pattern not in wire
    for word in (b"mean", b"reveal", b"simulation", b"session", b"relation"):
        assert word not in wire


def test_sealed_bytes_look_uniform():
    frames = []

    async def program(s):
        return await protocols.secure_sum(s, np.zeros(1 << 15))

    simulate(2, program, tap=frames.append)
    octets = np.frombuffer(b"".join(frame for frame in frames if len(frame) > 10_000), np.uint8)
    counts = np.bincount(octets, minlength=256)
    expected = octets.size / 256
    # 255 degrees of freedom: mean 255, standard deviation 22.6; beyond 430 once in 10^10 runs.
    assert ((counts - expected) ** 2 / expected).sum() < 430


@pytest.mark.parametrize("owned", [True, False])
def test_openings_of_a_constant_are_uniform(monkeypatch, owned):
    seen = []

    def note(kind):
        plain = getattr(Exchange, kind)

        async def noted(self, *arguments):
            total = await plain(self, *arguments)
            seen.append((kind, total.copy()))
            return total

        monkeypatch.setattr(Exchange, kind, noted)

    note("open")
    note("publish")

    async def program(s):
        x = s.input(np.zeros(1 << 14) if s.index == 0 else None, 0, 1 << 14)
        await s.mask(x if owned else x + s.input(np.zeros(1 << 14) if s.index == 1 else None, 1, 1 << 14))

    simulate(2, program)
    assert [kind for kind, _ in seen] == ["publish" if owned else "open"] * 2
    assert np.array_equal(seen[0][1], seen[1][1])
    octets = seen[0][1].view(np.uint8)
    counts = np.bincount(octets, minlength=256)
    assert ((counts - octets.size / 256) ** 2 / (octets.size / 256)).sum() < 430


def test_only_the_owner_of_a_private_input_sends_when_it_is_masked(monkeypatch):
    sent = []
    plain = Flow.send

    def noted(self, tag, digest, data):
        sent.append(len(data))
        plain(self, tag, digest, data)

    monkeypatch.setattr(Flow, "send", noted)

    async def program(s):
        before = s.cost.payload
        await s.mask(s.input(np.ones(100) if s.index == 1 else None, 1, 100))
        return s.cost.payload - before

    assert simulate(3, program) == [0, 800, 0]
    assert sent == [800, 800]


@pytest.mark.parametrize("what", ["numbers", "bits"])
def test_revealed_shares_are_fresh_each_time(what, monkeypatch):
    sent = []
    plain = Exchange.to_receivers

    async def noted(self, scope, words, *rest):
        sent.append(words.tobytes())
        return await plain(self, scope, words, *rest)

    monkeypatch.setattr(Exchange, "to_receivers", noted)

    async def program(s):
        x = s.zero(4).add_own(s.encode([1.0] * 4)) if what == "numbers" else shared_bits(s, np.array([1, 0, 1, 1], np.uint8), 1)
        for _ in range(3):
            await s.reveal(x)

    simulate(3, program)
    assert len(set(sent)) == len(sent) == 9


def test_what_the_dealer_receives_does_not_depend_on_inputs(monkeypatch):
    """The same corrections are asked for.  Which party asks for which follows from the session's nonces; test_ops_views.py has every op."""

    def transcript(value):
        asks = []
        plain = dealing.DealerSession.control

        def noted(self, name, body):
            if body["kind"] == "ask":
                asks.extend(body["relations"])
            plain(self, name, body)

        monkeypatch.setattr(dealing.DealerSession, "control", noted)

        async def program(s):
            x, y = (await s.inputs(np.full(5, value), bound=2.0**9))[:2]
            for _ in range(8):
                await s.made(await mpc.mul(s, x, y))

        simulate(3, program)
        monkeypatch.undo()
        assert len(asks) == 8
        return Counter(asks)

    assert transcript(0.0) == transcript(511.0)


def test_dealer_bytes_per_party_are_8_per_product_in_total():
    async def program(s):
        x, y = (await s.inputs(np.ones(10), bound=4.0))[:2]
        each = []
        for _ in range(12):
            before = s.cost.corrections
            await s.made(await mpc.mul(s, x, y))
            each.append(s.cost.corrections - before)
        return each

    results = np.array(simulate(3, program))
    assert np.array_equal(results.sum(axis=0), [80] * 12)
    assert set(np.unique(results)) == {0, 80}


@pytest.mark.parametrize("to", [0, 1, 2])
def test_a_correction_completes_the_shares(to):
    seeds = [Seed(bytes([number]) * 32) for number in range(3)]
    left, right, out = Range("1", 0, (4, 1)), Range("1", 2, (5,)), Range("1", 0, (20,))
    relation = Relation("value", (), (combine("mul", mask(left), mask(right)),), (), out)
    a = sum(seed.words("mask", left) for seed in seeds)
    b = sum(seed.words("mask", right) for seed in seeds)
    shares = [correction(relation, seeds, to).view(WORD) if i == to else seed.words("share", out) for i, seed in enumerate(seeds)]
    assert np.array_equal(sum(shares), (a * b).reshape(-1))
    owned = Relation("value", (), (mask(left, 1),), (), Range("1", 0, (4,)))
    shares = [correction(owned, seeds, to).view(WORD) if i == to else seed.words("share", owned.out) for i, seed in enumerate(seeds)]
    assert np.array_equal(sum(shares), seeds[1].words("mask", left).reshape(-1))


def test_the_dealer_binds_a_range_to_the_first_name():
    bindings = Bindings()
    bind = lambda block, size, name: bindings.bind("share", Range("1", block, (size,)), name, "p")  # noqa: E731
    for block, size, name in ((4, 8, b"one"), (4, 8, b"one"), (8, 2, b"two"), (0, 8, b"three")):
        assert bind(block, size, name) is None
    for block, size, name in ((4, 8, b"other"), (4, 2, b"one"), (5, 2, b"x"), (7, 9, b"x"), (3, 4, b"x"), (8, 4, b"two"), (0, 40, b"x")):
        # It is the same for all, and whoever was first is named.
        assert bindings.bind("share", Range("1", block, (size,)), name, "q") == "p"
        assert bind(block, size, name) == "p"
    assert bindings.bind("share", Range("1", 4, (8,)), b"one", "q") is None
    assert bindings.bind("mask", Range("1", 4, (8,)), b"another usage", "p") is None
    assert bindings.bind("share", Range("2", 4, (8,)), b"another scope", "p") is None


def named(s, to, owner=None):
    """A relation whose correction party `to` receives."""
    return next(
        relation
        for block in range(1000)
        if receiver(s._engine.exchange.correction_tag((relation := at_block(block, owner)).key), s.n) == to
    )


def at_block(block, owner):
    product = combine("mul", mask(Range("0", block, (1,)), owner), mask(Range("0", block + 1, (1,))))
    return Relation("value", (), (product,), (), Range("0", block, (1,)))


BAD_ASKS = {
    "no relation": lambda s: [pack(["nonsense"])],
    "no key": lambda s: [7],
    "no msgpack": lambda s: [b"\xc1"],
    "nothing": lambda s: [b""],
    "wrong after right": lambda s: [named(s, 0).key, pack(["nonsense"])],
    "another party's correction": lambda s: [named(s, 1).key],
    "the mask of nobody": lambda s: [named(s, 0, owner=3).key],
    "another size": lambda s: [pack([*unpack(named(s, 0).key)[:-1], ["0", 0, [2]]])],
}


def test_a_right_ask_ends_nothing():
    async def program(s):
        if s.index == 0:
            s._engine.exchange._ask([named(s, 0, owner=2).key])
        return [float((await protocols.secure_sum(s, [1.0]))[0]) for _ in range(5)]

    assert simulate(3, program) == [[3.0] * 5] * 3


@pytest.mark.parametrize("what", BAD_ASKS)
def test_a_party_that_asks_wrongly_ends_the_session_everywhere(what):
    faults = {}

    async def program(s):
        if s.index == 0:
            s._engine.exchange._ask(BAD_ASKS[what](s))
        try:
            while True:
                await protocols.secure_sum(s, [1.0])
        except mpc.BeaverError as fault:
            faults[s.index] = str(fault)
            raise

    with pytest.raises(mpc.PeerLost):
        simulate(3, program)
    assert "found p0 misbehaved" in faults[0] or "ended the session" in faults[0]
    for index in (1, 2):
        assert faults[index].startswith("p0: sent the-dealer what the wire format does not allow")


def test_parties_that_ask_for_different_things_hear_of_each_other_and_not_of_a_wrong_message():
    """Parties of different programs or bounds ask so before either has sent the other anything that shows the difference."""
    faults = {}

    async def program(s):
        if s.index < 2:
            # Each takes two blocks; of so many, some are asked for by both.
            relations = [at_block(block, (None, 2)[s.index]) for block in range(0, 400, 2)]
            s._engine.exchange._ask(
                [each.key for each in relations if receiver(s._engine.exchange.correction_tag(each.key), s.n) == s.index]
            )
        try:
            while True:
                await protocols.secure_sum(s, [1.0])
        except mpc.Disagreement as fault:
            faults[s.index] = str(fault)
            raise

    with pytest.raises(mpc.Disagreement):
        simulate(3, program)
    why = "at scope 0: they run different programs, shapes, bounds or settings, says the-dealer"
    assert (faults[0], faults[1]) == (f"p1: disagrees with p0 {why}", f"p0: disagrees with p1 {why}")
    assert faults[2] in {f"p0: disagrees with p1 {why}", f"p1: disagrees with p0 {why}"}


def test_the_oracle_catches_reuse():
    oracle = MaskOracle()
    oracle.spends(0, "mask", Range("1", 0, (4,)))
    oracle.spends(0, "mask", Range("1", 2, (4,)))
    oracle.spends(1, "mask", Range("1", 0, (4,)))
    oracle.check()
    oracle.spends(0, "mask", Range("1", 1, (1,)))
    with pytest.raises(ReusedRandomnessError, match="blocks 1:2, spent twice"):
        oracle.check()


def test_the_oracle_runs_under_every_simulation():
    async def program(s):
        x = s.zero(2).add_own(s.encode([1.0, 2.0]))
        name = s._ops.name_mask(x)
        await s._ops.masked((x,), (name,))
        await s._ops.masked((x + 1.0,), (name,))

    with pytest.raises(ReusedRandomnessError, match="spent twice"):
        simulate(2, program)


def test_canaries_never_reach_a_log_or_an_exception(caplog):
    caplog.set_level(logging.DEBUG)
    out = io.StringIO()

    async def program(s):
        await everything(s)
        x = s.zero(1).add_own(s.encode([CANARY]))
        print(repr(x), repr(s), s.cost, file=out)
        await mpc.mul(s, x, x)

    with pytest.raises(mpc.PrecisionError) as caught:
        simulate(3, program)
    said = caplog.text + out.getvalue() + str(caught.value)
    assert "revealed" in said
    for shown in ("7310481", "7.31048", "7,310,481", str(int(CANARY * 2**20))):
        assert shown not in said


def test_what_a_product_remembers_is_not_shown():
    async def program(s):
        x, y = await s.inputs(np.array([1.5, -2.0]), bound=2.0)
        z = await mpc.mul_trunc(s, x, y, 20)
        shown = [repr(z.origin)]
        twice = await mpc.mul_trunc(s, z, masked := await s.mask(y), 20)
        shown += [repr(twice.origin), repr(await mpc.mul(s, masked, masked)), repr(masked.view), repr(masked.lifting)]
        await s.made(twice)
        shown += [repr(twice.origin)]
        return shown, z.words.tolist() + masked.mask.tolist() + twice.words.tolist()

    for shown, words in simulate(2, program):
        assert "drop=20" in shown[0]
        # Who does not own y has words of 0 of its mask.
        assert not any(str(word) in text for word in words if word for text in shown)


def test_sizes_number_and_order_of_messages_do_not_depend_on_secrets(monkeypatch):
    plain = Flow.send

    def traffic(value):
        sizes = {}

        def noted(self, tag, digest, data):
            sizes.setdefault(id(self), []).append(len(data))
            plain(self, tag, digest, data)

        monkeypatch.setattr(Flow, "send", noted)

        async def program(s):
            x, y = await s.inputs(np.full(50, value), bound=2.0**9)
            await s.reveal(await mpc.mul(s, x, y))
            await protocols.secure_sum(s, np.full(9, value))
            return [sizes.get(id(flow)) for _, flow in sorted(s._engine.exchange._agreed.flows.items())]

        return simulate(2, program)

    # To the other party: extents, both masked values, the product and the sum; to the dealer nothing.
    expected = [[[264, 800, 400, 72], None]] * 2
    assert traffic(0.0) == traffic(511.9) == traffic(-1e-6) == expected
