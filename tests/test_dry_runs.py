"""The dry run of `s.run` ends whatever the program waits for, names only what the real run names, and asks at most one window ahead."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
import pytest

import mpc
import protocols
from mpc import session
from mpc.channels import flow
from mpc.errors import ProgramError
from mpc.network import mesh
from mpc.network.mesh import Clocks
from mpc.preprocessing import dealing, dealt, plan
from mpc.testing import simulate
from tests.error_rows import row_of
from tests.references import shared
from tests.waiting import turns

CLOCKS = Clocks(join=60.0, lost=60.0, stall=60.0)
"""Guards against hanging only: no test waits for one of them."""
ENDLESS = ("has gone on for",)
"""Rows of docs/errors.md that this file provokes."""


def small(s):
    """1, 2, 3 at every party."""
    return s.zero(3).add_own(s.encode([1.0, 2.0, 3.0])).assume_bound(16.0, "n is at most five")


@mpc.protocol
async def looks(s, x, told):
    value = await s.reveal(x)
    told["sum"] = value.sum()
    told["ready"].set()


@mpc.protocol
async def is_told(s, x, told):
    await told["ready"].wait()
    return await s.reveal(x + told["sum"])


async def waits_in_a_gather(s, x):
    told = {"ready": asyncio.Event()}
    return (await asyncio.gather(is_told(s, x, told), looks(s, x, told)))[0]


async def waits_for_tasks(s, x):
    told = {"ready": asyncio.Event()}
    both = [asyncio.create_task(part) for part in (is_told(s, x, told), looks(s, x, told))]
    await asyncio.wait(both)
    return both[0].result()


async def keeps_faults(s, x):
    told = {"ready": asyncio.Event()}
    return (await asyncio.gather(is_told(s, x, told), looks(s, x, told), return_exceptions=True))[0]


@pytest.mark.parametrize("program", [waits_in_a_gather, waits_for_tasks, keeps_faults])
@pytest.mark.parametrize("n", [2, 3])
def test_a_task_that_waits_for_what_is_revealed_holds_no_dry_run_up(n, program, caplog):
    async def planned(s):
        return (await s.run(program, small(s))).tolist()

    assert simulate(n, planned, clocks=CLOCKS) == [[n * (1 + 6), n * (2 + 6), n * (3 + 6)]] * n
    assert "never retrieved" not in caplog.text


def test_the_real_run_begins_when_all_of_the_dry_one_has_ended():
    async def ends_slowly(s, x, steps):
        steps.append("begins")
        try:
            return await waits_for_tasks(s, x)
        finally:
            await turns(3 * plan.TURNS)
            steps.append("ends")

    async def planned(s):
        steps = []
        await s.run(partial(ends_slowly, steps=steps), small(s))
        return steps

    assert simulate(2, planned, clocks=CLOCKS) == [["begins", "ends"] * 2] * 2


async def test_a_cancelled_run_ends_when_its_dry_run_has_ended():
    """Its calls are closed then: the program makes and uses no more of them."""
    steps, waits = [], asyncio.Event()

    async def ends_slowly():
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            await turns(3 * plan.TURNS)
            steps.append("ends")

    running = asyncio.create_task(plan.run_dry(ends_slowly(), plan.Plan(2)))
    await waits.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert steps == ["ends"]


async def goes_on(s, x, stop):
    looking = asyncio.create_task(looks(s, x, {"ready": asyncio.Event()}))
    while not stop.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await stop.wait()
    await looking


def test_a_dry_run_that_takes_no_end_is_a_fault_of_the_program(monkeypatch):
    monkeypatch.setattr(plan, "ENDING", 0.1)

    async def planned(s):
        stop = asyncio.Event()
        try:
            await s.run(partial(goes_on, stop=stop), small(s))
        finally:
            stop.set()

    with pytest.raises(ProgramError) as caught:
        simulate(2, planned, clocks=CLOCKS)
    assert row_of(ENDLESS[0]).shows(str(caught.value))


@asynccontextmanager
async def squares_at_the_end(s, x, out):
    try:
        yield
    finally:
        out.append(await s.reveal(await mpc.square(s, x)))


async def at_an_exit(s, x):
    out = []
    async with squares_at_the_end(s, x, out):
        if (await s.reveal(x)).sum() > 0:
            out.append(await s.reveal(await mpc.mul(s, x, x + 1.0)))
    return out


async def in_a_handler(s, x):
    out = []
    try:
        if (await s.reveal(x)).sum() > 0:
            out.append(await s.reveal(await mpc.mul(s, x, x + 1.0)))
    except BaseException:
        out.append(await s.reveal(await mpc.dot(s, x, x)))
        raise
    out.append(await s.reveal(await mpc.square(s, x)))
    return out


@mpc.protocol
async def positive(s, x):
    return bool((await s.reveal(x)).sum() > 0)


async def after_kept_faults(s, x):
    first, _ = await asyncio.gather(positive(s, x), positive(s, x), return_exceptions=True)
    if isinstance(first, BaseException):
        return [await s.reveal(await mpc.square(s, x))]
    return [await s.reveal(await mpc.mul(s, x, x + 1.0)), await s.reveal(await mpc.square(s, x))]


@pytest.mark.parametrize("program", [at_an_exit, in_a_handler, after_kept_faults])
@pytest.mark.parametrize("n", [2, 3])
def test_what_follows_a_revealed_value_is_named_by_the_real_run_alone(n, program):
    async def planned(s):
        return [part.tolist() for part in await s.run(program, small(s))]

    values = [n * value for value in (1.0, 2.0, 3.0)]
    assert simulate(n, planned, clocks=CLOCKS) == [[[x * (x + 1) for x in values], [x * x for x in values]]] * n


def test_parts_beside_the_one_that_looks_are_asked_for_too():
    asked = []

    @mpc.protocol
    async def squares(s, x):
        return await s.reveal(await mpc.square(s, x))

    async def both(s, x):
        return await asyncio.gather(positive(s, x), squares(s, x))

    async def planned(s):
        plain = s._ops.source.plan
        s._ops.source.plan = lambda plan: (asked.append(len(plan.relations)), plain(plan))
        return await s.run(both, small(s))

    simulate(2, planned)
    assert asked == [1, 1]


@pytest.mark.parametrize("n", [2, 3])
def test_shares_that_are_no_arguments_are_taken_by_ops_alone(n):
    async def planned(s):
        x = s.zero(3, frac=0).add_own(s.encode([1.0, 2.0, 3.0], frac=0)).assume_bound(16.0, "n is at most five")
        product = await mpc.mul(s, *[await s.mask(x)] * 2)

        async def inner(s):
            return await s.reveal(await mpc.mul(s, x, product)), await s.reveal(product)

        async def adds(s):
            return x + s.zero(3, frac=0)

        with pytest.raises(ProgramError, match="pass every share that the program uses as an argument"):
            await s.run(adds)
        return [part.tolist() for part in await s.run(inner)]

    values = [n * value for value in (1.0, 2.0, 3.0)]
    assert simulate(n, planned) == [[[x**3 for x in values], [x**2 for x in values]]] * n


async def halves(s, x):
    for _ in range(24):
        x = await mpc.trunc(s, x, 1)
    return x


@mpc.protocol
async def late(s, x, is_late):
    if is_late:
        await turns()
    return await s.run(halves, x)


@pytest.mark.parametrize("n", [2, 3])
def test_plans_side_by_side_are_asked_for_in_any_order(n, monkeypatch):
    """One party asks for the first plan before the other, another party the other way round: neither waits behind what the other lacks."""
    for module, name, size in ((mesh, "WINDOW", 1 << 16), (dealing, "AHEAD_BYTES", 1 << 16), (dealt, "AHEAD_DEALT", 1 << 15)):
        monkeypatch.setattr(module, name, size)

    async def program(s):
        x, y = (s.zero(1 << 12, frac=40) + value for value in (1.0, 2.0))
        both = await asyncio.gather(late(s, x, s.index == 0), late(s, y, s.index == 1))
        return [(await s.reveal(value))[0] for value in both]

    assert simulate(n, program, clocks=CLOCKS) == [[1.0, 2.0]] * n


def test_what_is_asked_for_ahead_is_less_than_a_window():
    assert dealt.AHEAD_DEALT < flow.WINDOW


@pytest.mark.parametrize("limit", [0, 100, 1 << 11])
def test_relations_larger_than_what_may_lie_ahead_are_asked_for_by_their_ops(limit, monkeypatch):
    monkeypatch.setattr(dealt, "AHEAD_DEALT", limit)

    async def program(s):
        x = shared(s, np.arange(64, dtype=np.uint64), 1)
        value = await s.run(halves, x)
        return (await s.reveal(value))[-1], await protocols.secure_sum(s, [1.0])

    assert all(last in {0, 1} and ones == [2.0] for last, ones in simulate(2, program, clocks=CLOCKS))


def fails_in_the_real_run(runs):
    async def program(s, x):
        runs.append(s)
        if len(runs) == 2:
            raise ValueError
        return await mpc.square(s, x)

    return program


@pytest.mark.parametrize("n", [2, 3])
def test_what_a_failed_program_was_planned_to_use_is_nobody_elses(n):
    async def goes_on(s):
        x, runs = small(s), []
        with pytest.raises(ValueError):
            await s.run(fails_in_the_real_run(runs), x)
        # Where the square would have been; the dealer may have answered for that by now.
        product = await mpc.mul(s, x, x + 1.0)
        return (await s.reveal(product)).tolist(), len(runs)

    sums = n * np.array([1.0, 2.0, 3.0])
    assert simulate(n, goes_on, clocks=CLOCKS) == [((sums * (sums + 1)).tolist(), 2)] * n


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_planned_program_takes_arguments_by_name_too(n):
    """Shares among them as well, and whatever the names are."""

    async def between(s, rows, *, program, low=-1.0):
        asked.append(s._ops.source.__class__.__name__)
        limits = await protocols.clip(s, program["x"], low, 2)
        return await s.reveal(limits + program["x"]), await protocols.mean(s, rows, to=0)

    asked = []

    async def planned(s):
        x = s.input([-3.0, 0.5, 7.0] if s.index == 0 else None, 0, 3, bound=8.0)
        return await s.run(between, [1.0, s.index], program={"x": x}, low=0)

    for index, (sums, mean) in enumerate(simulate(n, planned)):
        assert sums.tolist() == [-3.0, 1.0, 9.0]
        assert mean == pytest.approx((n + n * (n - 1) / 2) / (2 * n), abs=1e-5) if index == 0 else mean is None
    assert len(set(asked)) == 2
    assert len(asked) == 2 * n


def test_a_program_that_runs_keeps_nothing_of_its_dry_run(monkeypatch):
    """This holds however many names the dry run asked for."""
    plans = []
    dry = session.dry_run

    def noted(*arguments, **more):
        s, plan = dry(*arguments, **more)
        plans.append(weakref.ref(s._ops))
        return s, plan

    monkeypatch.setattr(session, "dry_run", noted)

    async def part(s, x):
        await s.reveal(await mpc.trunc(s, x, 1))
        gc.collect()
        return sum(plan() is not None for plan in plans)

    async def program(s):
        return await s.run(part, small(s))

    assert simulate(2, program) == [0, 0]
    assert len(plans) == 2


@mpc.protocol
async def shifted(s, x, by):
    return await s.reveal(x + by)


async def calls_before_it_looks(s, x):
    return await asyncio.gather(s.reveal(x), shifted(s, x, float((await s.reveal(x))[0])))


async def calls_before_it_waits(s, x):
    told = {"ready": asyncio.Event()}

    @mpc.protocol
    async def second(s, x):
        return await asyncio.gather(s.reveal(x), shifted(s, x, await is_told(s, x, told)))

    return (await asyncio.gather(second(s, x), looks(s, x, told)))[0]


async def begins_tasks_before_it_looks(s, x):
    task = asyncio.create_task(s.reveal(x))
    by = float((await s.reveal(x))[0])
    return [await task, await shifted(s, x, by)]


async def plans_a_part(s, x):
    return await s.run(calls_before_it_looks, x)


@pytest.mark.parametrize("program", [calls_before_it_looks, calls_before_it_waits, begins_tasks_before_it_looks, plans_a_part])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_dry_run_that_ends_leaves_no_call_to_warn_of(program, seed, recwarn, caplog):
    """Python once warned that reveal was never awaited, and named a line of a program that awaits all its calls."""

    async def planned(s):
        return [part.tolist() for part in await s.run(program, small(s))]

    one, other = simulate(2, planned, seed=seed, clocks=CLOCKS)
    assert one == other
    assert one[0] == [2.0, 4.0, 6.0]
    gc.collect()
    assert not [str(warning.message) for warning in recwarn]
    assert not caplog.text
