"""What others see of an op does not depend on its operands (invariants 11, 12, 31, 32).

The others are n - 1 parties together, the dealer, and whoever counts the sizes of messages.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import mpc
from mpc import OPS
from mpc.channels.flow import Flow
from mpc.kernels import bits
from mpc.kernels.cross import PARTIES, pays
from mpc.naming import correlations
from mpc.ops.chains import factors, groups
from mpc.preprocessing.dealing import DealerSession
from mpc.ring import WORD
from mpc.testing import simulate
from mpc.values.bshare import BShare
from mpc.values.derived import Derived
from mpc.values.shares import AShare
from tests.references import CASES, shared_bits
from tests.views import FAR, INPUTS, check_alike, check_uniform, distance, joint, noted

SIZE = 1 << 14
SHAPES = {"matmul": ((128, 2), (2, 128)), "matmul_trunc": ((128, 2), (2, 128))}
FORMS = [(name, form) for name in OPS for form in ("share", "private", "masked") if form == "share" or "x" in CASES[name].kinds]


async def operands_of(s, name, value, form):
    """Constant operands, of which the last party alone holds anything."""
    operands = []
    shapes = SHAPES.get(name, ((SIZE,), (SIZE,)))
    for at, kind in enumerate(CASES[name].kinds):
        shape, mine, last = shapes[at], s.index == s.n - 1, s.n - 1
        if kind == "b":
            plain = np.full(shape, value != 0, np.uint8)
            words = bits.pack(plain.reshape(-1)) if mine else np.zeros(bits.word_count(plain.size), WORD)
            operands.append(s._ops.bit_share(words, shape, 1 + at))
            continue
        x = s.input(np.full(shape, value) if mine else None, last, shape, frac=0, bound=2.0**24)
        x = x + s.zero(shape, frac=0) if form == "share" else x
        operands.append(await s.mask(x) if form == "masked" else x)
    return operands


async def run(s, name, value, form):
    operands = await operands_of(s, name, value, form)
    # Values within 2^24 fit every op, also the dot product of 2^14 of them.
    return await OPS[name].call(s, *operands, *CASES[name].parameters)


@pytest.fixture
def view(monkeypatch):
    return noted(monkeypatch)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_all_but_one_together_see_the_same_for_two_inputs(name, form, view):
    """All single views are uniform, all pairs of them are equally distributed for both inputs of the last party."""
    local = name in {"xor", "not_"}
    for n in (2, 3) if form == "share" else (3,):
        check_alike(view, n, lambda s, value: run(s, name, value, form), local=local)


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("name", ["matmul", "matmul_trunc"])
def test_all_but_one_together_see_the_same_of_a_product_with_a_cross(name, n, view, monkeypatch):
    shape = (128, 128)
    assert pays(n, shape, shape)
    monkeypatch.setitem(SHAPES, name, (shape, shape))
    check_alike(view, n, lambda s, value: run(s, name, value, "share"))


@pytest.mark.parametrize("n", [2, 3])
def test_all_but_one_together_see_the_same_of_a_chain_of_quotients(n, view):
    async def chain(s, value):
        x, y = await operands_of(s, "mul_trunc", value, "masked")
        z = (await mpc.mul_trunc(s, x, y, 23)).assume_bound(2.0**24, "within a unit of 2^23 times 2^23 over 2^23")
        z = (await mpc.mul_trunc(s, z, y, 23)).assume_bound(2.0**24, "and again")
        return await mpc.mul_trunc(s, z, x, 23)

    check_alike(view, n, chain)


async def waiting(s, value, drop, rounds):
    """A quotient times three masked values; each product takes as many rounds as `rounds` says.

    The bounds are lies, since only what is seen matters.
    """
    x, y = await operands_of(s, "mul_trunc", value, "masked")
    z, taken = await mpc.mul_trunc(s, x, y, 23), []
    for factor in (x, y, y):
        before = s.cost.rounds
        z = await mpc.mul_trunc(s, z.assume_bound(1.0, "a lie"), factor.assume_bound(1.0, "a lie"), drop)
        taken.append(s.cost.rounds - before)
    assert taken == rounds
    return z, x.assume_bound(1.0, "a lie")


@pytest.mark.parametrize("n", [2, 3])
def test_all_but_one_together_see_the_same_of_quotients_opened_together(n, view, monkeypatch):
    monkeypatch.setattr(correlations, "MAX_TERMS", SIZE << 4)

    async def chain(s, value):
        return (await waiting(s, value, 10, [0, 1, 0]))[0]

    check_alike(view, n, chain)


@pytest.mark.parametrize("n", [2, 3])
def test_all_but_one_together_see_the_same_of_quotients_in_numbers(n, view, monkeypatch):
    """Three factors at once of two masked values, which are lifted for it, and one more that the result is the base of."""
    for name, most in (("MAX_WIDE_ELEMENTS", SIZE), ("MAX_WIDE_TERMS", SIZE << 3), ("MAX_TERMS", SIZE << 3), ("MAX_LIFTED", SIZE)):
        monkeypatch.setattr(correlations, name, most)

    async def chain(s, value):
        z, x = await waiting(s, value, 31, [0, 0, 2])
        return await mpc.mul_trunc(s, z.assume_bound(1.0, "a lie"), x, 31)

    check_alike(view, n, chain)


@pytest.mark.parametrize("n", [2, 3])
def test_all_but_one_together_see_the_same_of_a_chain_of_products(n, view, monkeypatch):
    monkeypatch.setattr(correlations, "MAX_TERMS", SIZE << 4)
    monkeypatch.setattr(factors, "most_factors", lambda _: 4)

    async def chain(s, value):
        x, y = await operands_of(s, "mul", value, "masked")
        z = (await mpc.mul(s, x, y)).assume_bound(1.0, "a lie: what matters here is what is seen")
        for factor in (x, y, y, x):
            before = s.cost.rounds
            z = (await mpc.mul(s, z, factor.assume_bound(1.0, "a lie"))).assume_bound(1.0, "a lie")
            opened = s.cost.rounds - before
        assert opened == 0
        return z

    check_alike(view, n, chain)


@pytest.mark.parametrize("n", [2, 3])
def test_all_but_one_together_see_the_same_of_a_product_that_waits(n, view, monkeypatch):
    """The product has eight factors, opened as four groups of two and then as two groups of two."""
    monkeypatch.setattr(correlations, "MAX_TERMS", SIZE << 4)
    for name, value in (("MANY", 2), ("GROUP", 2), ("WAITING", SIZE << 3)):
        monkeypatch.setattr(groups, name, value)
    for module in (factors, groups):
        monkeypatch.setattr(module, "most_factors", lambda _: 2)
    monkeypatch.setattr(factors, "MANY", 2)
    groups.most_waiting.cache_clear()

    async def chain(s, value):
        x, y = await operands_of(s, "mul", value, "masked")
        z, before = x, s.cost.rounds
        for factor in (y, x, y, y, x, x, y):
            z = await mpc.mul(s, z.assume_bound(1.0, "a lie: what matters here is what is seen"), factor.assume_bound(1.0, "a lie"))
        assert s.cost.rounds == before
        await s.made(z)
        assert s.cost.rounds == before + 2
        return z

    check_alike(view, n, chain)
    groups.most_waiting.cache_clear()


def test_a_view_that_leaks_is_noticed():
    """This tests the test: a share sent in the clear, and a mask used twice, are far from uniform."""
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 2**64, SIZE, dtype=np.uint64)
    clear = {"clear": (np.full(SIZE, 5, WORD) + np.uint64(0)).view(np.uint8)}
    with pytest.raises(AssertionError):
        check_uniform(clear)
    histograms = []
    for value in INPUTS:
        twice = (mask + np.uint64(value + 3)).view(np.uint8), (mask + np.uint64(2 * value)).view(np.uint8)
        histograms.append(joint(twice[0], twice[1]))
    assert distance(histograms[0], np.full(256, 8 * SIZE / 256)) > FAR


# The dealer


@pytest.mark.parametrize("name", OPS)
def test_the_dealer_hears_the_same_for_two_inputs(name, monkeypatch):
    heard = []
    plain = DealerSession.control

    def noted(self, peer, body):
        # Which party receives a correction, and so asks, follows from the session's nonces: who asks is left out.
        heard.extend(map(str, body["relations"])) if body["kind"] == "ask" else heard.append(f"{peer} {body['kind']} {body['reason']}")
        plain(self, peer, body)

    monkeypatch.setattr(DealerSession, "control", noted)
    transcripts = []
    for value in (*INPUTS, 77):

        async def program(s, value=value):
            result = await run(s, name, value, "share")
            await run(s, name, value, "masked")
            await s.reveal(result)

        simulate(3, program)
        transcripts.append(Counter(heard))
        heard.clear()
    assert transcripts[0] == transcripts[1] == transcripts[2]
    assert len(transcripts[0]) > 3 or name in {"xor", "not_"}


# Sizes and order


def test_sizes_and_order_of_messages_are_the_same_for_any_inputs(monkeypatch):
    sent = {}
    plain = Flow.send

    def noted(self, tag, digest, data):
        sent.setdefault(self, []).append(len(data))
        plain(self, tag, digest, data)

    monkeypatch.setattr(Flow, "send", noted)

    def messages(value):
        sent.clear()
        between, labels = {}, {}

        async def program(s):
            flows = s._engine.exchange._agreed.flows
            between.update({flow: (s.index, peer) for peer, flow in flows.items() if peer in s.names})
            labels.setdefault(s.index, [])
            for name in OPS:
                for form in ("share", "masked"):
                    result = await run(s, name, value, form)
                    labels[s.index].append((name, result.shape, s.cost.rounds, s.cost.blocks))
                    await s.reveal(result, to=1)

        simulate(3, program)
        parties = {between[flow]: sizes for flow, sizes in sent.items() if flow in between}
        dealer = Counter(size for flow, sizes in sent.items() if flow not in between for size in sizes)
        return parties, dealer, labels

    first = messages(INPUTS[0])
    assert len(first[0]) == 6
    assert sum(first[1].values()) > 2 * (len(OPS) - 2)
    assert first == messages(INPUTS[1]) == messages(3)


# Uniform openings


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("value", [0, -1, 2**62])
def test_openings_are_uniform_whatever_is_masked(n, value):
    """For n = 4 the opening scatters."""

    async def program(s):
        x = s.input(np.full(SIZE, value) if s.index == 0 else None, 0, SIZE, frac=0, bound=2.0**62)
        masked = await s.mask(x + s.zero(SIZE, frac=0))
        again = await s.mask(x)
        return masked.difference, again.difference

    first, again = simulate(n, program)[0]
    for difference in (first, again, first - again):
        counts = np.bincount(np.ascontiguousarray(difference).view(np.uint8), minlength=256)
        assert ((counts - 8 * SIZE / 256) ** 2 / (8 * SIZE / 256)).sum() < FAR


def test_results_are_fresh_shares():
    """The words of a result at any one party are uniform, and differ from call to call."""

    async def program(s):
        x = await s.mask(s.input(np.zeros(SIZE) if s.index == 0 else None, 0, SIZE, frac=0))
        first, second = await mpc.square(s, x), await mpc.square(s, x)
        b = shared_bits(s, np.zeros(SIZE, np.uint8), 1)
        third, fourth = await mpc.b2a(s, b), await mpc.select(s, b, x)
        return [share.words for share in (first, second, third, fourth, first - second)]

    for words in simulate(2, program):
        for each in words:
            counts = np.bincount(each.view(np.uint8), minlength=256)
            assert ((counts - 8 * SIZE / 256) ** 2 / (8 * SIZE / 256)).sum() < FAR


def test_kinds_of_results():
    """Every op returns shares and nothing else."""

    async def program(s):
        return {name: type(await run(s, name, 1, "share")) for name in OPS}

    for kinds in simulate(2, program):
        assert set(kinds.values()) == {AShare, BShare, Derived}
