"""Programs on a session against their plaintext reference, for n = 2..5 and several schedules (invariants 30, 33)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
import protocols
from mpc import ConfigError, PeerLost, PrecisionError, ProgramError
from mpc.network.mesh import Clocks
from mpc.ops.arithmetic import mul_cost
from mpc.ops.declare import Like
from mpc.testing import simulate, simulate_async

PARTIES = [2, 3, 4, 5]
ULP = 2.0**-20


def own(index, shape=(4, 3)):
    return np.linspace(-3, 50, int(np.prod(shape))).reshape(shape) * (index + 1)


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("shape", [(4, 3), (), (0,), (2, 0, 3), (300, 40)])
@pytest.mark.parametrize("seed", [None, 3])
def test_secure_sum(n, shape, seed):
    async def program(s):
        return await protocols.secure_sum(s, own(s.index, shape)), s.cost

    for total, cost in simulate(n, program, seed=seed):
        assert total.shape == shape
        assert np.allclose(total, sum(own(i, shape) for i in range(n)), rtol=0, atol=n * ULP)
        assert (cost.rounds, cost.payload, cost.corrections) == (1, 8 * int(np.prod(shape)), 0)


@pytest.mark.parametrize("n", PARTIES)
def test_mean_over_unequal_and_missing_rows(n):
    rows = [own(index, (index * 3, 2)) for index in range(n)]

    async def program(s):
        return await protocols.mean(s, rows[s.index])

    for average in simulate(n, program, seed=n):
        assert np.allclose(average, np.concatenate(rows).mean(axis=0), rtol=0, atol=n * ULP)


def test_mean_of_nothing_is_a_clear_error():
    async def program(s):
        return await protocols.mean(s, np.zeros((0, 2)))

    with pytest.raises(ConfigError, match="the pool is empty"):
        simulate(3, program)


def test_mean_of_a_column_is_0d():
    async def program(s):
        return await protocols.mean(s, [1.0, 2.0, s.index])

    for average in simulate(2, program):
        assert np.shape(average) == ()
        assert np.isclose(average, 7 / 6, atol=ULP)


SHAPES = [((), ()), ((3,), (3,)), ((2, 1), (1, 4)), ((), (5,)), ((0,), (0,)), ((3, 0), (1, 1)), ((40, 50), (40, 50))]


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_product_of_two_private_values(n, left, right):
    x, y = own(0, left), own(1, right)

    async def program(s):
        a = s.input(x if s.index == 0 else None, 0, left, bound=2**9)
        b = s.input(y if s.index == 1 else None, 1, right, bound=2**9)
        before = s.cost.rounds, s.cost.payload
        z = await mpc.mul(s, a, b)
        await s.made(z)
        spent = s.cost.rounds - before[0], s.cost.payload - before[1]
        return await s.reveal(z), spent, s.cost.corrections

    results = simulate(n, program, seed=1)
    declared = mul_cost(n, Like(left), Like(right))
    for product, spent, _ in results:
        assert np.allclose(product, x * y, rtol=0, atol=1e-3)
        assert spent == (declared.rounds, declared.payload)
    corrections = [entry[2] for entry in results]
    assert sum(corrections) == declared.dealer
    assert sum(size > 0 for size in corrections) <= 1


@pytest.mark.parametrize("n", PARTIES)
def test_products_with_masked_values_need_no_opening(n):
    async def program(s):
        x, y = (
            await s.inputs(np.arange(6.0) + s.index, bound=100.0) if n == 2 else (await s.inputs(np.arange(6.0) + s.index, bound=100.0))[:2]
        )
        mx, my = await s.mask(x), await s.mask(y)
        before = s.cost.rounds, s.cost.payload
        z = await mpc.mul(s, mx, my)
        assert (s.cost.rounds, s.cost.payload) == before
        mixed = await mpc.mul(s, mx, y)
        return await s.reveal(z), await s.reveal(mixed)

    for z, mixed in simulate(n, program, seed=2):
        assert np.allclose(z, np.arange(6.0) * np.arange(1.0, 7.0), atol=1e-4)
        assert np.allclose(mixed, z, atol=1e-4)


@pytest.mark.parametrize("words", [0, 1, -1, 2**62, -(2**62), -(2**63), 2**63 - 1])
def test_edge_words_multiply_mod_2_64(words):
    async def program(s):
        x = s.input(np.array([3]) if s.index == 0 else None, 0, (1,), frac=0, bound=4.0)
        edge = s._ops.share(np.array([words % 2**64 if s.index == 0 else 0], np.uint64), frac=0, bound=1.0, lineage=5)
        return await s.reveal(await mpc.mul(s, x, edge))

    expected = (3 * words + 2**63) % 2**64 - 2**63
    assert [int(result[0]) for result in simulate(3, program)] == [expected] * 3


@pytest.mark.parametrize("n", PARTIES)
def test_inputs_of_different_shapes(n):
    async def program(s):
        shares = await s.inputs(np.full((s.index, 2), s.index + 0.5))
        assert [share.shape for share in shares] == [(i, 2) for i in range(n)]
        return [await s.reveal(share) for share in shares]

    for revealed in simulate(n, program, seed=4):
        assert all(np.array_equal(values, np.full((i, 2), i + 0.5)) for i, values in enumerate(revealed))


@pytest.mark.parametrize("to", [0, "p1", [0, 2], ["p2", 0], (1,)])
def test_only_named_receivers_get_an_output(to):
    async def program(s):
        return await s.reveal(s.zero(2).add_own(s.encode([1.0, s.index])), to=to), s.cost.payload

    wanted = {{"p1": 1, "p2": 2}.get(who, who) for who in ([to] if isinstance(to, int | str) else to)}
    for index, (value, sent) in enumerate(simulate(3, program, seed=1)):
        assert (value is not None) == (index in wanted)
        assert sent == (16 if wanted - {index} else 0)


def test_bad_receivers_are_refused():
    async def program(s):
        share = s.zero(1)
        for to, message in ((3, "no party 3"), (-1, "no party -1"), ("p9", "'p9' is no party"), ([], "at least one")):
            with pytest.raises((ConfigError, ProgramError), match=message):
                await s.reveal(share, to=to)

    simulate(3, program)


def test_integers_are_exact_at_frac_0():
    async def program(s):
        x = s.zero((2,), frac=0).add_own(s.encode([2**40 + s.index, -5], frac=0))
        return await s.reveal(x)

    for value in simulate(3, program):
        assert value.dtype == np.int64
        assert value.tolist() == [3 * 2**40 + 3, -15]


INPUT_MISUSE = {
    "the owner passes nothing": (lambda s: s.input(None, s.index, (2,)), "must pass its values"),
    "someone else passes values": (lambda s: s.input([1.0], (s.index + 1) % s.n, (1,)), "owns this input"),
    "no shape": (lambda s: s.input(None, (s.index + 1) % s.n), "owns this input"),
    "another shape": (lambda s: s.input([1.0], s.index, (2,)), "declared public shape"),
}


@pytest.mark.parametrize("what", INPUT_MISUSE)
def test_misused_inputs(what):
    work, message = INPUT_MISUSE[what]

    async def program(s):
        with pytest.raises(ProgramError, match=message):
            work(s)

    simulate(2, program)


def test_a_value_beyond_its_bound_names_the_party():
    async def program(s):
        return await protocols.secure_sum(s, [np.nan if s.index == 1 else 0.0])

    with pytest.raises(PrecisionError, match="row 0 is not a finite number") as caught:
        simulate(3, program)
    assert "party 1 of 3" in caught.value.__notes__[0]


def test_a_product_that_may_overflow_is_refused_before_anything_is_sent():
    async def program(s):
        x = s.zero(3) + 1.0
        big = s.input([1.0] * 3 if s.index == 0 else None, 0, 3, bound=2.0**23)
        sent = s.cost.payload
        with pytest.raises(PrecisionError, match="the product of values up to"):
            await mpc.mul(s, big, big)
        assert s.cost.payload == sent
        usual = s.input([1.0] * 3 if s.index == 0 else None, 0, 3)
        with pytest.raises(
            PrecisionError, match=r"values up to 1\.049e\+06 \(the default bound=\) and 8\.389e\+06 may reach .* smaller bound="
        ):
            await mpc.mul(s, usual, big)
        with pytest.raises(ProgramError, match="do not broadcast"):
            await mpc.mul(s, x, s.zero(4))

    simulate(2, program)


async def test_simulate_runs_on_the_running_loop_or_blocks_inside_it():
    async def program(s):
        return await protocols.secure_sum(s, [s.index])

    assert [value[0] for value in await simulate_async(3, program)] == [3.0] * 3
    assert [value[0] for value in simulate(2, program)] == [1.0, 1.0]


def test_the_programs_own_exception_comes_out_as_itself():
    async def program(s):
        await protocols.secure_sum(s, [1.0])
        if s.index == 1:
            raise OwnError("mine")
        await protocols.secure_sum(s, [1.0])

    with pytest.raises(OwnError, match="mine") as caught:
        simulate(3, program)
    assert caught.value.__notes__ == ["raised at party 1 of 3"]


class OwnError(Exception):
    pass


async def only_this_test_runs():
    """Check that nothing which a simulation began is left."""
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("seed", [None, 3])
async def test_a_program_that_awaits_something_of_its_own_is_cancelled_once_another_has_raised(seed):
    ended = {}

    async def program(s):
        # All have begun: whoever has not would end by itself.
        await s.reveal(s.zero(1))
        try:
            if s.index == 1:
                raise OwnError("mine")
            if s.index == 2:
                await s.reveal(s.zero(1))
            await asyncio.Event().wait()
        except BaseException as fault:
            ended[s.index] = type(fault)
            if s.index == 2:
                raise RuntimeError("of what p1 did") from fault
            raise

    with pytest.raises(OwnError, match="mine") as caught:
        await simulate_async(3, program, seed=seed)
    assert caught.value.__notes__ == ["raised at party 1 of 3", "had not ended 2 s later, and was cancelled: party 0"]
    # The second was in an op, which told it: it ended by itself, and what it made of that is no reason.
    assert ended == {0: asyncio.CancelledError, 1: OwnError, 2: PeerLost}
    await only_this_test_runs()


async def test_a_program_that_keeps_its_peers_waiting_is_cancelled_when_they_have_given_up():
    async def program(s):
        await (asyncio.Event().wait() if s.index == 1 else s.reveal(s.zero(1)))

    with pytest.raises(PeerLost, match="p1: .*its message for") as caught:
        await simulate_async(3, program, clocks=Clocks(join=30.0, lost=30.0, stall=0.5))
    assert caught.value.__notes__[1:] == ["had not ended 2 s later, and was cancelled: party 1"]
    await only_this_test_runs()


async def test_a_simulation_that_is_cancelled_leaves_nothing():
    begun = asyncio.Semaphore(0)

    async def program(s):
        begun.release()
        await asyncio.Event().wait()

    simulation = asyncio.create_task(simulate_async(2, program))
    for _ in range(2):
        await begun.acquire()
    simulation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await simulation
    await only_this_test_runs()


def test_two_jobs_in_one_program_cost_depth_not_sum():
    async def program(s):
        await asyncio.gather(*(protocols.secure_sum(s, [1.0]) for _ in range(10)))
        return s.cost.rounds

    assert simulate(3, program, seed=5) == [1, 1, 1]


def test_what_a_party_sends_leaves_before_it_goes_on():
    """This also holds in a round in which it waits for nobody, so that its peers can go on meanwhile."""

    async def program(s):
        (channel,) = (channel for name, channel in s._engine.exchange._agreed.channels.items() if name in s.names)
        before = channel.wire_bytes
        await s.mask(s.input([1.0] if s.index == 0 else None, 0, (1,)))
        return channel.wire_bytes > before

    assert simulate(2, program)[0]


@pytest.mark.parametrize("n", PARTIES)
def test_wire_bytes_are_payload_and_at_most_64_per_block(n):
    async def program(s):
        channels = s._engine.exchange._agreed.channels
        before = {name: channel.wire_bytes for name, channel in channels.items()}
        await protocols.secure_sum(s, np.zeros(5))
        blocks, payload = s.cost.blocks / (n - 1), s.cost.payload
        return [channels[name].wire_bytes - before[name] <= payload + 64 * blocks for name in s.names if name != s.names[s.index]]

    assert all(all(fits) for fits in simulate(n, program))


def test_a_stall_names_who_is_late_and_not_whoever_comes_first():
    """The first party waits for two messages; the second party, which itself waits, is not to blame."""
    told = []

    @mpc.protocol
    async def part(s):
        return await s.reveal(s.zero(3))

    async def program(s):
        first, second = part(s), part(s)
        try:
            if s.index == 1:
                await first
                await second
            elif s.index == 0:
                await asyncio.gather(first, second)
        except PeerLost as fault:
            second.close()
            told.append((s.index, str(fault)))
            raise
        while len(told) < 2:
            await asyncio.sleep(0.01)
        first.close()
        second.close()

    with pytest.raises(PeerLost):
        simulate(3, program, clocks=Clocks(join=30.0, lost=30.0, stall=2.0))
    assert {index for index, fault in told if fault.startswith("p2: ")} == {0, 1}


def test_a_shape_that_nobody_could_hold_is_refused_before_shares_are_made():
    async def program(s):
        if s.index == 1:
            announce = s._engine.exchange.announce
            s._engine.exchange.announce = lambda scope, _: announce(scope, (1 << 37, 1 << 37))
        await s.inputs(np.ones(3))

    with pytest.raises(mpc.PeerMisbehaved, match="p1: announced an input of shape .*, which has more than 1073741824 elements"):
        simulate(2, program)


def test_parties_announce_whole_numbers_that_are_listed_apart_from_what_is_revealed():
    async def program(s):
        for numbers in ((-1,), (1.9,), (1 << 37) + 1, ((1 << 37) + 1,), (0,) * 33, "ab"):
            with pytest.raises(mpc.ProgramError, match="a party announces up to 32 integers from 0 to 137438953472, not "):
                await s.announce(numbers)
        assert not s.announcements
        told = await s.announce((np.int64(s.index), 1 << 37))
        return told, s.releases.total(), [(each.what, each.shape, each.to, times) for each, times in s.announcements.items()], len(s.id)

    expected = [(0, 1 << 37), (1, 1 << 37)], 0, [("announce", (2,), ("p0", "p1"), 1)], 32
    assert simulate(2, program) == [expected] * 2
