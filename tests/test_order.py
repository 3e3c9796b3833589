"""Programs stay in step under any delay and any order of resumption (invariants 5, 7, 10)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
import protocols
from mpc import Disagreement, ProgramError, protocol
from mpc.messaging.exchange import Exchange
from mpc.testing import simulate

SEEDS = range(12)


@protocol
async def leaf(s, value):
    return await s.reveal(s.zero(2).add_own(s.encode([value, s.index])))


@protocol
async def product(s, value):
    x = s.input([value] if s.index == 0 else None, 0, 1, bound=2**9)
    y = s.input([value + 1] if s.index == 1 else None, 1, 1, bound=2**9)
    return await s.reveal(await mpc.mul(s, x, y))


@protocol
async def tree(s, depth, width):
    if depth == 0:
        return await leaf(s, float(width))
    parts = await asyncio.gather(*(tree(s, depth - 1, width) for _ in range(width)), product(s, 3.0))
    return sum(np.sum(part) for part in parts)


@pytest.fixture
def tags(monkeypatch):
    """Every tag with its label, per party."""
    seen = {}
    plain = Exchange.tag

    def noted(self, scope):
        tag = plain(self, scope)
        seen.setdefault(self.index, {})[scope.label, len([key for key in seen[self.index] if key[0] == scope.label])] = tag[4:]
        return tag

    monkeypatch.setattr(Exchange, "tag", noted)
    return seen


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_nested_gathers_have_equal_tags_everywhere(n, seed, tags):
    async def program(s):
        return await tree(s, 3, 2)

    results = simulate(n, program, seed=seed)
    assert len(set(results)) == 1
    assert all(tags[index] == tags[0] for index in range(n))
    assert len(set(tags[0].values())) == len(tags[0])


@pytest.mark.parametrize("width", [1, 7, 100])
@pytest.mark.parametrize("seed", [0, 6, 11])
def test_wide_gathers(width, seed, tags):
    async def program(s):
        return await asyncio.gather(*(product(s, float(number)) for number in range(width)))

    for result in simulate(3, program, seed=seed):
        assert np.allclose(np.ravel(result), [number * (number + 1) for number in range(width)], atol=1e-3)
    assert all(tags[index] == tags[0] for index in range(3))


def test_task_groups_and_tasks_are_deterministic(tags):
    async def program(s):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(leaf(s, float(number))) for number in range(20)]
        late = asyncio.create_task(leaf(s, 1.0))
        first = await leaf(s, 2.0)
        return [task.result()[0] for task in tasks], (await late)[0], first[0]

    for seed in SEEDS:
        tags.clear()
        for result in simulate(3, program, seed=seed):
            assert result == ([3.0 * number for number in range(20)], 3.0, 6.0)
        assert all(tags[index] == tags[0] for index in range(3))


def test_a_call_from_a_foreign_task_raises_at_once():
    async def program(s):
        async def part():
            await protocols.secure_sum(s, [1.0])

        await s.reveal(s.zero(1))
        with pytest.raises(ProgramError, match="wrap that code in a function"):
            await asyncio.create_task(part())

    simulate(2, program)


async def other_op(s):
    x = s.zero(3).add_own(s.encode([1.0, 2.0, 3.0]))
    return await s.reveal(x * (2 if s.index == 1 else 1))


async def other_places(s):
    """The same constants in another order."""
    x = s.zero(2).add_own(s.encode([10.0, 20.0], bound=32.0))
    return await s.reveal(x * np.array([1, 2] if s.index == 1 else [2, 1]))


async def other_shape(s):
    return await protocols.secure_sum(s, np.zeros(3 + (s.index == 1)))


async def other_receivers(s):
    return await s.reveal(s.zero(1), to=[0, 1] if s.index == 1 else [0, 1, 2])


async def other_masks(s):
    x = s.zero(2).add_own(s.encode([1.0, 2.0]))
    if s.index == 1:
        s._ops.name_mask(x)
    return await s._ops.masked((x,), (s._ops.name_mask(x),))


async def other_length(s):
    for _ in range(2 + (s.index == 1)):
        await protocols.secure_sum(s, [1.0])


async def other_order(s):
    x, y = s.zero(1) + 1.0, s.zero(1) + 2.0
    return await s.reveal(x - y if s.index == 1 else y - x)


@pytest.mark.parametrize("program", [other_op, other_places, other_shape, other_receivers, other_masks, other_length, other_order])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_different_programs_are_a_disagreement_before_any_use(program, seed):
    seen = []

    async def watched(s):
        try:
            seen.append(await program(s))
        except mpc.BeaverError as fault:
            seen.append(fault)
            raise

    with pytest.raises(Disagreement):
        simulate(3, watched, seed=seed)
    # Nobody has used a value: a party can at most have come to the end of a shorter program.  One that joins after others left runs none.
    assert all(isinstance(entry, mpc.BeaverError) or (entry is None and program is other_length) for entry in seen)
    assert any(isinstance(entry, Disagreement) for entry in seen)


@pytest.mark.parametrize("several", [lambda call: call, lambda call: (1, call), lambda call: [call, call], lambda call: {"mean": call}])
def test_a_call_that_a_program_forgot_to_await_is_no_result(several):
    async def program(s, *_):
        return several(protocols.mean(s, [1.0]))

    for run in (lambda: simulate(2, program), lambda: mpc.estimate(program, 2, [(1,)])):
        with pytest.raises(ProgramError, match="^the program gave a call of mean in place of its result: write `await` before it"):
            run()
