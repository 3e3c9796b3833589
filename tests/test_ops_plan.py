"""A planned run asks ahead for what its dry run named, costs what was estimated, and gives the result of an unplanned run."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
import protocols
from mpc import Disagreement, PrecisionError, protocol
from mpc.messaging.exchange import Exchange
from mpc.preprocessing import dealing, dealt
from mpc.session import dry_run
from mpc.testing import simulate
from tests.references import shared, shared_bits

SEEDS = [None, 1, 2]


@pytest.fixture
def asks(monkeypatch):
    """(party, how many relations, rounds so far) of every ask."""
    seen = []
    plain = Exchange.ask

    def noted(self, relations):
        batch = list(relations)
        seen.append((self.me, len(batch), self._ledger.rounds))
        plain(self, batch)

    monkeypatch.setattr(Exchange, "ask", noted)
    return seen


async def everything(s, reveal=True):
    """A bit of every op, in sequence and at the same time."""
    x, y = (shared(s, np.arange(6, dtype=np.uint64).reshape(2, 3) + np.uint64(k), 3 + k, bound=10.0) for k in (0, 1))
    mx = await s.mask(x)
    product, less = await asyncio.gather(mpc.mul(s, x, y), mpc.ltz(s, x - 3))
    matrix = await mpc.matmul_trunc(s, mx, y.T, 1)
    chosen = await mpc.select(s, less, product)
    both = await mpc.and_(s, less, await mpc.eqz(s, y))
    total = chosen.sum() + (await mpc.b2a(s, both)).sum() + (await mpc.square(s, mx[0])).sum()
    parts = await part(s, total), await mpc.dot(s, x[0], y[1])
    return await s.reveal(parts[0] + parts[1] + matrix.ldexp(-1).sum()) if reveal else None


@protocol
async def part(s, x):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(mpc.mul(s, x, x)) for _ in range(3)]
    return tasks[0].result() - tasks[1].result() + x


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_planned_relations_are_asked_ahead(n, seed, asks):
    async def program(s):
        value = await s.run(everything)
        return value, s.cost

    results = simulate(n, program, seed=seed)
    assert asks
    assert {rounds for _, _, rounds in asks} == {0}
    assert len(asks) == len({party for party, *_ in asks})
    plan = mpc.estimate(lambda s: s.run(everything), n)
    assert plan.complete
    assert sum(number for _, number, _ in asks) == len(plan.relations)
    assert {cost.rounds for _, cost in results} == {plan.rounds}
    assert max(cost.payload for _, cost in results) == plan.payload
    assert sum(cost.corrections for _, cost in results) == plan.dealer


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_changes_neither_result_nor_cost(seed, asks):
    async def planned(s):
        return await s.run(everything), s.cost.rounds, s.cost.payload

    async def unplanned(s):
        return await everything(s), s.cost.rounds, s.cost.payload

    with_plan, without = simulate(3, planned, seed=seed), simulate(3, unplanned, seed=seed)
    assert [cost for _, *cost in with_plan] == [cost for _, *cost in without]
    assert abs(with_plan[0][0] - without[0][0]) <= 4
    # Without a plan an op asks when it starts.
    assert any(rounds > 0 for _, _, rounds in asks)


def test_several_runs_in_one_session_and_inside_a_protocol(asks):
    @protocol
    async def inside(s, x):
        await mpc.square(s, x)
        return await s.run(lambda dry: mpc.mul(dry, x, x))

    async def program(s):
        x = shared(s, np.arange(4, dtype=np.uint64), 1, bound=4.0)
        first = await s.run(lambda s: mpc.mul(s, x, x))
        second = await s.run(lambda s: mpc.mul(s, x, first))
        third = await inside(s, x)
        return [(await s.reveal(value)).tolist() for value in (first, second, third)]

    for revealed in simulate(2, program):
        assert revealed == [[0, 1, 4, 9], [0, 1, 8, 27], [0, 1, 4, 9]]
    # Nothing that was asked stays unused: three planned products and one square.
    assert sum(number for _, number, _ in asks) == 4


LOOKS = {
    "compare": lambda value: value > 2,
    "equal": lambda value: value == 3,
    "truth": bool,
    "float": float,
    "whole": int,
    "remainder": lambda value: value % 2 == 1,
    "floor": lambda value: value // 2 == 1,
    "array": lambda value: np.asarray(value).sum() == 3,
    "numpy": lambda value: np.add(value, 1) == 4,
    "method": lambda value: value.tolist() == 3,
    "text": lambda value: str(value) == "3",
    "format": lambda value: f"{value:.1f}" == "3.0",
    "key": lambda value: int(value) in {3: True} and value in {3: True},
    "negative": lambda value: -value == -3,
    "round": lambda value: round(value) == 3,
    "bits": lambda value: int(value) & 1 == 1,
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_a_revealed_value_ends_the_plan(look, asks):
    async def looks(s):
        x = shared(s, np.array(3, np.uint64), 1, bound=4.0)
        await mpc.square(s, x)
        value = await s.reveal(x)
        value = value[()] if isinstance(value, np.ndarray) else value
        seen = LOOKS[look](value)
        assert seen
        return await s.reveal(await mpc.mul(s, x, x))

    async def program(s):
        return int(await s.run(looks))

    assert simulate(2, program) == [9, 9]
    # One product is planned, one asked for when it starts: two rounds are behind it then.
    assert sorted((number, rounds) for _, number, rounds in asks if number) == [(1, 0), (1, 2)]


def test_a_look_inside_a_gathered_call_and_inside_a_task_group():
    @protocol
    async def looks(s, x):
        value = await s.reveal(x)
        return await mpc.square(s, x) if int(value[0]) == 2 else x

    async def in_a_gather(s, x):
        return (await asyncio.gather(looks(s, x), looks(s, x)))[1]

    async def in_a_group(s, x):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(looks(s, x)) for _ in range(2)]
        return tasks[1].result()

    async def program(s):
        x = shared(s, np.array([2], np.uint64), 1, bound=4.0)
        return [(await s.reveal(await s.run(of, x))).tolist() for of in (in_a_gather, in_a_group)]

    for seed in SEEDS:
        assert simulate(2, program, seed=seed) == [[[4], [4]]] * 2


def test_a_reveal_that_nobody_looks_at_does_not_end_the_plan(asks):
    async def reveals(s):
        x = shared(s, np.array([3], np.uint64), 1, bound=4.0)
        first = await s.reveal(x)
        second = await s.reveal(await mpc.square(s, x), to=0)
        await s.made(product := await mpc.mul(s, x, x))
        return first, second, product.shape

    async def program(s):
        return await s.run(reveals)

    (first, second, shape), (_, hidden, _) = simulate(2, program)
    assert (first.tolist(), second.tolist(), shape, hidden) == ([3], [9], (1,), None)
    assert {rounds for _, _, rounds in asks} == {0}
    assert sum(number for _, number, _ in asks) == 2


def test_announced_shapes_end_the_plan():
    async def shapes(s, rows):
        x, y = await s.inputs(rows, bound=10.0)
        return await s.reveal(await mpc.dot(s, x, y[: len(x)]))

    async def program(s):
        return float(await s.run(shapes, np.ones(3 + s.index)))

    assert np.allclose(simulate(2, program), 3.0)


def test_a_program_that_cannot_run_fails_in_its_dry_run(asks):
    async def too_large(s):
        x = s.zero(4).assume_bound(2.0**30, "as large as may be")
        await s.mask(x)
        return await mpc.mul(s, x, x)

    async def program(s):
        with pytest.raises(PrecisionError):
            await s.run(too_large)
        return dict(s.cost.sent), s.cost.rounds

    assert simulate(2, program) == [({}, 0)] * 2
    assert asks == []


def test_a_dry_run_leaves_the_sessions_ledger_and_scopes_alone():
    async def program(s):
        calls = s._ops.root.calls
        dry, plan = dry_run(s.names, s.index)
        await everything(dry, reveal=False)
        assert plan.rounds > 5
        assert plan.peak > 0
        assert (s._ops.root.calls, s.cost.rounds, s.cost.payload) == (calls, 0, 0)
        return await protocols.secure_sum(s, [1.0])

    assert np.array_equal(simulate(2, program), [[2.0], [2.0]])


@pytest.fixture(params=["number", "bytes"])
def little_ahead(request, monkeypatch):
    """No more than eight asks ahead, or as many bytes as eight have in their names."""
    if request.param == "number":
        monkeypatch.setattr(dealt, "AHEAD_ASKS", 8)
        monkeypatch.setattr(dealing, "MAX_ASKS", 16)
    else:
        monkeypatch.setattr(dealt, "AHEAD_NAMES", 340)
        monkeypatch.setattr(dealing, "MAX_ASKED_BYTES", 800)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("little_ahead")
def test_a_long_plan_is_asked_for_in_parts(seed, asks):

    async def many(s):
        x = await s.mask(shared(s, np.arange(5, dtype=np.uint64), 1, bound=5.0))
        total = s.zero(5, frac=0)
        for _ in range(100):
            total = total + await mpc.square(s, x)
        return await s.reveal(total)

    async def program(s):
        return (await s.run(many)).tolist()

    assert simulate(2, program, seed=seed) == [[0, 100, 400, 900, 1600]] * 2
    assert sum(number for _, number, _ in asks) == 100
    assert max(number for _, number, _ in asks) <= 8


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("little_ahead")
def test_many_ops_at_once_ask_for_no_more_than_the_dealer_queues(seed, planned):

    async def many(s):
        x = await s.mask(shared(s, np.arange(5, dtype=np.uint64), 1, bound=5.0))
        squares = await asyncio.gather(*(mpc.square(s, x) for _ in range(100)))
        return (await s.reveal(sum(squares, s.zero(5, frac=0)))).tolist()

    async def program(s):
        return await (s.run(protocol(many)) if planned else many(s))

    assert simulate(2, program, seed=seed) == [[0, 100, 400, 900, 1600]] * 2


@pytest.mark.parametrize("planned", [True, False])
def test_another_program_at_one_party_is_a_disagreement(planned):
    revealed = []

    async def body(s):
        x = shared(s, np.arange(4, dtype=np.uint64), 1, bound=4.0)
        y = await (mpc.square(s, x) if s.index == 1 else mpc.mul(s, x, x))
        revealed.append(await s.reveal(y))

    async def program(s):
        await (s.run(body) if planned else body(s))

    with pytest.raises((Disagreement, mpc.PeerMisbehaved, mpc.PeerLost)):
        simulate(3, program)
    # What a dry run hands out for an output is no value.
    assert not any(issubclass(type(value), np.ndarray) for value in revealed)


# The estimate


async def regression_step(s, rows, weights, *, repeats=1):
    """A program with data: everyone's rows, one product for each repeat."""
    x = (await s.inputs(rows, bound=8.0))[0]
    w = s.zero(weights.shape).add_own(s.encode(weights, bound=1.0))
    mx = await s.mask(x)
    for _ in range(repeats):
        w = (await mpc.matmul_trunc(s, mx, w, 20)).assume_bound(8.0, "a test on zeros")[: weights.shape[0]]
    return np.sum(await s.reveal(w))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_an_estimate_from_shapes_equals_the_run(n):
    async def program(s):
        await regression_step(s, np.zeros((50, 5)), np.zeros(5), repeats=3)
        return s.cost

    costs = simulate(n, program)
    plan = mpc.estimate(regression_step, n, [(50, 5), (5,)], repeats=3)
    assert plan.rounds == costs[0].rounds
    assert plan.payload == max(cost.payload for cost in costs)
    assert plan.dealer == sum(cost.corrections for cost in costs)
    assert [relation.kind for relation in plan.relations] == ["truncation"] * 3


def test_the_estimate_grows_with_the_data_and_takes_no_memory_for_it():
    plans = [mpc.estimate(regression_step, 3, [(rows, 100), (100,)]) for rows in (1000, 10_000_000)]
    assert plans[1].peak > 9000 * plans[0].peak
    assert plans[1].peak >= 3 * 8 * 10**9
    assert plans[1].rounds == plans[0].rounds


def test_trips_count_the_way_to_the_dealer_and_back():
    async def twice(s):
        x = s.zero(3, frac=0)
        return await mpc.square(s, await mpc.square(s, x))

    plan, planned = mpc.estimate(twice, 2), mpc.estimate(lambda s: s.run(twice), 2)
    assert (plan.rounds, planned.rounds) == (2, 2)
    # Each op asks and waits for the answer; with a plan all is asked at once, and only the first op waits.
    assert (plan.trips, planned.trips) == (4, 3)


def test_bits_and_numbers_of_an_estimate_can_be_looked_at():
    async def program(s):
        bit = await s.reveal(await mpc.ltz(s, s.zero(3)))
        word = await s.reveal(s.zero(2, frac=0))
        real = await s.reveal(s.zero((), frac=20))
        assert (bit.dtype, word.dtype, real.dtype) == (bool, np.int64, np.float64)
        assert not bit.any()
        for _ in range(int(word[0])):
            await mpc.not_(s, shared_bits(s, np.zeros(3, np.uint8), 1))
        return float(real)

    assert mpc.estimate(program, 2).complete


@pytest.mark.parametrize("n", [2, 3])
def test_a_planned_program_takes_shares_and_masked_values(n):
    """Secrets among the arguments, also inside containers: the plan is that of the real values, and no ask is left for later."""

    async def program(s):
        x, y = (s.input([value, -value] if s.index == owner else None, owner, (2,), frac=0) for owner, value in ((0, 3), (1, 5)))
        bits = await mpc.ltz(s, x)
        masked = (await s.mask(s.input([1.0, 2.0] if s.index == 0 else None, 0, (2,)))).assume_bound(2.0, "as written")
        results = [
            await s.run(lambda s, pair: mpc.mul(s, *pair), (x, y)),
            await s.run(lambda s, named: mpc.mul(s, named["m"], named["x"]), {"m": masked, "x": x}),
            await s.run(mpc.select, bits, x),
        ]
        assert not s._engine.source._planned
        assert not s._engine.source._asked
        return [(await s.reveal(result)).tolist() for result in results]

    for outcome in simulate(n, program):
        assert outcome == [[15, 15], [3.0, -6.0], [0, -3]]


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(("length", "read"), [(1, 1), (70, 3)])
def test_a_planned_program_within_a_planned_one_asks_once(n, length, read, asks):
    async def powers(s, x):
        value = x
        for _ in range(length):
            value = await mpc.mul(s, value.assume_bound(1.0, "1 or -1"), x)
        return value

    async def both(s, x):
        return await s.run(powers, x), await s.run(powers, x)

    async def program(s):
        x = s.zero(2, frac=0).add_own(s.encode([1.0, -1.0] if s.index == 0 else [0.0, 0.0], frac=0)).assume_bound(1.0, "1 and -1")
        x = await s.mask(x)
        results = [*await s.run(both, x), *await s.run(both, x)]
        return [(await s.reveal(value)).tolist() for value in results]

    for outcome in simulate(n, program):
        assert outcome == [[1, (-1) ** (length + 1)]] * 4
    # Of 71 factors eight groups are opened together, then these as one; the last product is revealed.
    assert sum(count for _, count, _ in asks) == 4 * read
