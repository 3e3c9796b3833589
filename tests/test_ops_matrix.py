"""Every op for n = 2..5 against its plaintext reference, and its cost against the declared one (invariants 30, 33)."""

from __future__ import annotations

from itertools import count, product

import numpy as np
import pytest

import mpc
from mpc import OPS
from mpc.channels.flow import BLOCK
from mpc.ledger import Cost
from mpc.ops.declare import CHUNK
from mpc.testing import simulate
from tests.references import BIT_FORMS, CASES, FORMS, TALL, check_words, form_of, masked, plain_share, values_for, whole_bits

PARTIES = [2, 3, 4, 5]


def test_no_op_is_missing():
    assert set(CASES) == set(OPS)
    assert all(getattr(mpc, name) is op.call for name, op in OPS.items())


def trials(case, seed):
    """(shapes, forms of the operands): every shape and every form, a third of all pairs for each seed, next to operands of other forms."""
    forms = len(FORMS) if "x" in case.kinds else len(BIT_FORMS)
    for (number, shapes), form in product(enumerate(case.shapes), range(forms)):
        if (number + form + seed) % 3 == 0:
            yield shapes, [form_of(kind, form + seed * at) for at, kind in enumerate(case.kinds)]


async def tried(s, name, operands):
    """One call: this party's words of the result, what it cost, and what that should have been."""
    case, op = CASES[name], OPS[name]
    sent, rounds, dealt = dict(s.cost.sent), s.cost.rounds, s.cost.corrections
    declared = op.cost(s.n, *operands, *case.parameters)
    result = await op.call(s, *operands, *case.parameters)
    await s.made(result)
    payload = max((size - sent.get(peer, 0) for peer, size in s.cost.sent.items()), default=0)
    return result.words, result.shape, Cost(s.cost.rounds - rounds, payload, s.cost.corrections - dealt), declared


def program_of(name, plain, seed):
    """All trials of an op one after the other; `plain` keeps their operands."""
    case = CASES[name]

    async def program(s):
        lineages, outcomes = count(1, 2), []
        for number, (shapes, forms) in enumerate(trials(case, seed)):
            values = [values_for(case, at, shape, seed + number) for at, shape in enumerate(shapes)]
            plain[number] = values
            operands = [await form(s, value, next(lineages)) for form, value in zip(forms, values, strict=True)]
            outcomes.append(await tried(s, name, operands))
        return outcomes, s.cost

    return program


def check(name, values, outcomes):
    """The parties' outcomes of one call against the reference and the declaration."""
    words, shapes, costs, declared = zip(*outcomes, strict=True)
    assert set(shapes) == {check_words(name, values, words)}
    assert len(set(declared)) == 1
    measured = Cost(max(cost.rounds for cost in costs), max(cost.payload for cost in costs), sum(cost.dealer for cost in costs))
    assert measured == declared[0], (name, [np.shape(value) for value in values])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("name", OPS)
def test_every_shape_and_form(name, n, seed):
    plain = {}
    program = program_of(name, plain, seed)
    parties, costs = zip(*simulate(n, program, seed=seed), strict=True)
    for values, *outcomes in zip(plain.values(), *parties, strict=True):
        check(name, values, outcomes)
    if seed == 1:
        check_estimate(mpc.estimate(program, n), costs)


def check_estimate(plan, costs):
    assert plan.rounds == max(cost.rounds for cost in costs)
    assert plan.payload == max(cost.payload for cost in costs)
    assert plan.dealer == sum(cost.corrections for cost in costs)


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("name", OPS)
def test_more_than_one_chunk(name, n):
    case = CASES[name]
    assert case.large is TALL or np.prod(case.large[0]) > CHUNK
    compare(name, n, case.large, (plain_share, masked))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
def test_ten_million_elements(name):
    case = CASES[name]
    compare(name, 2, ((10_000, 1000), (1000, 20)) if case.large is TALL else [(10_000_000,)] * len(case.kinds), (plain_share,))


def compare(name, n, shapes, ways):
    """The op on operands of these shapes, shared in each of these ways."""
    case = CASES[name]
    values = [values_for(case, at, shape, 1) for at, shape in enumerate(shapes)]

    async def program(s):
        outcomes = []
        for form in ways:
            operands = [
                await (whole_bits if kind == "b" else form)(s, value, 3 + 2 * at)
                for at, (kind, value) in enumerate(zip(case.kinds, values, strict=True))
            ]
            outcomes.append(await tried(s, name, operands))
        return outcomes

    for outcomes in zip(*simulate(n, program), strict=True):
        check(name, values, outcomes)


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("name", OPS)
def test_wire_bytes_are_the_payload_and_at_most_64_for_each_block(name, n):
    case = CASES[name]
    # One message to each peer holds at most one block of 256 KiB, and all of them less than is acknowledged by itself after a while,
    # which under load adds a record (mpc/channels/owed.py).
    shapes = ((60, 30), (30, 80)) if case.large is TALL else [(2500,)] * len(case.kinds)

    async def program(s):
        channels = s._engine.exchange._agreed.channels
        values = [values_for(case, at, shape, 1) for at, shape in enumerate(shapes)]
        operands = [form_of(kind, 0)(s, value, 3 + 2 * at) for at, (kind, value) in enumerate(zip(case.kinds, values, strict=True))]
        operands = [await operand for operand in operands]
        await s.reveal(s.zero(1))
        before = {peer: channels[peer].wire_bytes for peer in s.names if peer in s.cost.sent}
        sent, blocks = dict(s.cost.sent), s.cost.blocks
        await OPS[name].call(s, *operands, *case.parameters)
        # When the answers to these are here, all frames of the op have left.
        for _ in range(2):
            await s.reveal(s.zero(1))
        each = (s.cost.blocks - blocks) / (s.n - 1)
        return [(channels[peer].wire_bytes - start, s.cost.sent[peer] - sent[peer], each) for peer, start in before.items()]

    for party in simulate(n, program):
        assert len(party) == n - 1
        for wire, payload, blocks in party:
            assert payload - 8 <= wire <= payload + 64 * blocks


def test_a_large_opening_stays_within_64_bytes_for_each_block_of_256_kib():
    size = 1 << 20

    async def program(s):
        channel = s._engine.exchange._agreed.channels[s.names[1 - s.index]]
        before = channel.wire_bytes
        await s.mask(s.zero(size))
        await s.reveal(s.zero(1))
        return channel.wire_bytes - before

    for wire in simulate(2, program):
        assert 8 * (size + 1) <= wire <= 8 * (size + 1) + 64 * (8 * size // BLOCK + 1)
