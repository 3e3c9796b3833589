"""One session can take only so much of a dealer: no other session waits for what it asked for (invariants 21, 27)."""

from __future__ import annotations

import asyncio
import os
import threading
import tracemalloc

import numpy as np
import pytest

import mpc
import protocols
from mpc.kernels import products
from mpc.kernels.cross import cross
from mpc.kernels.halting import HaltedError, halt_when
from mpc.kernels.limbs import COLUMNS, ROWS
from mpc.messaging.agreement import GAVE_UP
from mpc.messaging.job import describe
from mpc.naming import expressions as ex
from mpc.naming.correlations import KINDS, Relation, receiver
from mpc.naming.expressions import Range, combine, mask
from mpc.naming.streams import Ranges, Seed
from mpc.network.mesh import Clocks
from mpc.preprocessing import dealing
from mpc.preprocessing.correction_memory import memory_of
from mpc.preprocessing.corrections import correction
from mpc.preprocessing.dealer import ABANDONED, MAX_SESSIONS
from mpc.preprocessing.memory_budget import MemoryBudget
from mpc.ring import count, zeros
from tests.test_agreement import nodes
from tests.test_members_that_cheat import connected
from tests.test_spans import with_operation
from tests.waiting import turns, until

SIDE = 1024
CLOCKS = Clocks(join=120.0, lost=120.0, stall=120.0)
"""Guards: who multiplies beside many others takes its time."""
GREEDY = 3
"""Sessions of two parties, each of which asks for what takes minutes: as many as the one pool of a process with two cores has threads."""


def long(scope):
    """A relation of 255 products of large matrices, in the memory of a few."""
    product = mask(Range(scope, 0, (SIDE, SIDE)))
    for _ in range(8):
        product = combine("matmul", product, product)
    return Relation("value", (), (product,), (), Range(scope, 0, (SIDE * SIDE,)))


def received(s, of):
    """This relation in a scope where this party receives its correction."""
    relations = (of(f"7.{number}") for number in range(1000))
    return next(each for each in relations if receiver(s._engine.exchange.correction_tag(each.key), s.n) == s.index)


def kernels():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dealer")]


async def both_multiply(pair):
    """A product that the dealer makes in a thread, in a session of two."""

    async def multiplied(node):
        async with node.session("honest", parties=[each.mesh.identity.name for each in pair]) as s:
            x, y = (s.input(np.ones((176, 176)) if s.index == owner else None, owner, (176, 176), bound=4.0) for owner in range(2))
            return await s.reveal(await mpc.matmul(s, x, y))

    for product in await asyncio.gather(*map(multiplied, pair)):
        assert np.array_equal(product, np.full((176, 176), 176.0))


async def test_what_takes_minutes_holds_up_no_other_session_and_ends_with_its_own():
    async with nodes(4, CLOCKS) as opened:

        async def greedy(node, job):
            async with node.session(job, parties=["p0", "p1"]) as s:
                s._engine.exchange.ask([received(s, long)])
                while True:
                    await protocols.secure_sum(s, [1.0])

        waiting = [asyncio.create_task(greedy(node, f"greedy-{number}")) for number in range(GREEDY) for node in opened[:2]]
        try:
            await until(lambda: len(kernels()) >= GREEDY * min(2, os.cpu_count() or 1))
            await both_multiply(opened[2:4])
            assert not any(task.done() for task in waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: not kernels())


PRODUCTS = {"limbs": products.by_limbs, "torch": products.by_torch, "cross": lambda a, b: cross([a, a, a], [b, b, b])}


@pytest.mark.parametrize("which", PRODUCTS)
def test_a_product_halts_between_its_parts(monkeypatch, which):
    """It also halts in the thread that makes the other half of a cross."""
    monkeypatch.setattr(products, "TORCH_ROWS", ROWS)
    if which == "torch":
        pytest.importorskip("torch")
    heard = []

    def over():
        heard.append(threading.get_ident())
        return len(heard) > 3

    def in_a_thread():
        halt_when(over)
        try:
            PRODUCTS[which](zeros((8 * ROWS, 1024)), zeros((1024, COLUMNS)))
        except HaltedError as halted:
            ended.append(halted)

    ended = []
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert len(ended) == 1
    assert len(heard) <= 6
    assert len(set(heard)) == (2 if which == "cross" else 1)


# -- memory --------------------------------------------------------------------------------------------------------


async def test_a_session_waits_for_memory_of_its_own_and_leaves_some_to_others():
    relation = long("7")
    async with nodes(4, CLOCKS) as opened:
        opened[-1].dealer._memory = MemoryBudget(3 * memory_of(relation, 2))

        async def greedy(node):
            async with node.session("greedy", parties=["p0", "p1"]) as s:
                s._engine.exchange.ask([received(s, long)])
                while True:
                    await protocols.secure_sum(s, [1.0])

        waiting = [asyncio.create_task(greedy(node)) for node in opened[:2]]
        try:
            await until(kernels)
            await both_multiply(opened[2:4])
            # The other correction of the first session would not fit into its half.
            await until(lambda: len(kernels()) == 1)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: not kernels())


async def test_memory_that_is_given_back_is_for_all_who_wait():
    memory, freed, ends = MemoryBudget(10), asyncio.Event(), []

    async def held(size):
        async with memory.holding(size):
            await freed.wait()
            ends.append(size)

    waiting = [asyncio.create_task(held(size)) for size in (6, 10, 5, 4, 1)]
    await turns()
    waiting[2].cancel()
    freed.set()
    await asyncio.wait(waiting)
    assert ends == [6, 10, 4, 1]
    assert waiting[2].cancelled()


@pytest.mark.parametrize("gives_up", [False, True])
async def test_who_wants_much_memory_waits_for_those_before_it_and_for_nobody_else(gives_up):
    memory, ends = MemoryBudget(10), []

    async def held(size, freed):
        async with memory.holding(size):
            await freed.wait()
            ends.append(size)

    first, second, later = (asyncio.Event() for _ in range(3))
    later.set()
    waiting = [asyncio.create_task(held(size, freed)) for size, freed in ((4, first), (5, second), (9, later), (1, later))]
    await turns()
    if gives_up:
        waiting[2].cancel()
        await turns()
        assert ends == [1]
    first.set()
    await turns()
    # The last would fit, and would wait no longer than the large one did before it.
    assert ends == ([1, 4] if gives_up else [4])
    second.set()
    await asyncio.wait(waiting)
    assert ends == ([1, 4, 5] if gives_up else [4, 5, 9, 1])


async def test_nobody_waits_for_more_memory_than_there_is():
    with pytest.raises(MemoryError, match="it takes 11 bytes, of 10 that it may have"):
        async with MemoryBudget(10).holding(11):
            pass


LACKS = (
    "the-dealer: has no memory for what the program needs of it at scope {}; let the program take smaller pieces, "
    "or give the dealer's machine more memory"
)


async def asks_for_much(of, prepare, n=2):
    """The outcomes of sessions in which p0 asks a prepared dealer for a relation, and the scope of that relation."""
    asked = []
    async with nodes(n) as opened:
        prepare(opened[-1].dealer)

        async def program(node):
            async with node.session("j") as s:
                if s.index == 0:
                    asked.append(received(s, of))
                    s._engine.exchange.ask(asked)
                while True:
                    await protocols.secure_sum(s, [1.0])

        outcomes = await asyncio.gather(*(program(node) for node in opened[:n]), return_exceptions=True)
        # Nobody is to blame, and nobody is cut off: the next job is a smaller one.
        await both_multiply(opened[:2])
        return outcomes, asked[0].out.scope


async def small_machine():
    """The outcome where a program asks for more than the dealer's memory holds."""
    size = memory_of(long("7"), 2)
    return (await asks_for_much(long, lambda dealer: setattr(dealer, "_memory", MemoryBudget(2 * size - 1))))[0]


async def test_what_would_take_more_memory_than_a_session_has_ends_it_before_any_is_taken_and_blames_no_party(caplog):
    size = memory_of(long("7"), 3)
    outcomes, scope = await asks_for_much(long, lambda dealer: setattr(dealer, "_memory", MemoryBudget(2 * size - 1)), n=3)
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [(mpc.Refused, LACKS.format(scope))] * 3
    assert f"no memory at scope {scope}: it takes {size} bytes, of {size - 1} that it may have" in caplog.text


def short(scope):
    """A relation that is made at once, and no thread is asked for it."""
    return Relation("value", (), (mask(Range(scope, 0, (4,))),), (), Range(scope, 0, (4,)))


@pytest.mark.parametrize("of", [long, short])
async def test_a_dealer_whose_machine_has_no_memory_left_blames_no_party(monkeypatch, caplog, of):
    plain = correction

    def fails(relation, *rest):
        if relation.out.scope.startswith("7."):
            raise MemoryError("unable to allocate")
        return plain(relation, *rest)

    monkeypatch.setattr(dealing, "correction", fails)
    outcomes, scope = await asks_for_much(of, lambda _: None)
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [(mpc.Refused, LACKS.format(scope))] * 2
    assert f"no memory at scope {scope}: unable to allocate" in caplog.text


TALL = ex.mask(Range("0", 0, (2000, 400)))
SQUARE = ex.mask(Range("1", 0, (700, 700)))
STACK = ex.mask(Range("2", 0, (30, 100, 100)))
OTHERS = ex.transpose(ex.mask(Range("3", 0, (600, 2000))), (1, 0))


def part(of, *key):
    return ex.index(of, ex.normal_index(key, of.shape))


def flat_part(of, words):
    """So many words of the flat value, from amid it."""
    first = (count(of.shape) - words) // 2
    return part(ex.reshape(of, (count(of.shape),)), slice(first, first + words))


VALUES = {
    "a mask": TALL,
    "of one party": ex.mask(Range("4", 0, (2000, 400)), 1),
    "rows": part(TALL, slice(100, 1900)),
    "columns": part(TALL, slice(None), slice(0, 20)),
    "backwards": part(TALL, slice(None, None, -1)),
    "a column": part(TALL, slice(None), 7),
    "every third number of every third row": part(TALL, slice(None, None, 3), slice(None, None, 3)),
    "columns as rows": part(ex.transpose(TALL, (1, 0)), slice(20, 120)),
    "part of columns": flat_part(ex.transpose(TALL, (1, 0)), 100_000),
    "part of columns of a sum": flat_part(ex.transpose(combine("add", TALL, part(TALL, slice(0, 1))), (1, 0)), 100_000),
    "part of a broadcast sum": flat_part(combine("add", TALL, part(TALL, slice(0, 1))), 700_000),
    "rows of a sum of a broadcast sum": part(ex.add_up(combine("add", STACK, part(STACK, slice(0, 1))), 0), slice(1, None)),
    "part of pairs": flat_part(ex.scale(ex.pairs(part(TALL, slice(0, 20))), -1), 100_000),
    "part of pairs of columns": flat_part(ex.pairs(ex.transpose(TALL, (1, 0))), 100_000),
    "part of a sum": flat_part(ex.add_up(STACK, 0), 5_000),
    "part of a stack": flat_part(ex.stack([ex.transpose(TALL, (1, 0)), ex.mask(Range("5", 0, (400, 2000)))]), 100_000),
    "part of a product": flat_part(combine("matmul", SQUARE, SQUARE), 100_000),
    "sum": ex.add_up(TALL, 0),
    "scaled": ex.scale(ex.reshape(TALL, (400, 2000)), 3),
    "reshaped": ex.reshape(OTHERS, (1200000,)),
    "stack": ex.stack([TALL, ex.scale(TALL, 3), ex.mask(Range("5", 0, (2000, 400)))]),
    "pairs": ex.pairs(ex.reshape(part(TALL, 0), (400,))),
    "pairs of rows": ex.pairs(part(TALL, slice(0, 20))),
    "elementwise": combine("add", combine("mul", TALL, TALL), TALL),
    "rows of an elementwise": part(combine("add", combine("mul", TALL, TALL), TALL), slice(0, 1000)),
    "outer": combine("mul", part(TALL, slice(None), slice(0, 1)), part(TALL, slice(0, 1))),
    "matrices": combine("matmul", SQUARE, SQUARE),
    "three matrices": combine("matmul", combine("matmul", SQUARE, SQUARE), SQUARE),
    "one above the other": combine("matmul", STACK, part(SQUARE, slice(0, 100), slice(0, 100))),
    "stacks": combine("matmul", STACK, STACK),
    "transposed": combine("matmul", ex.transpose(TALL, (1, 0)), OTHERS),
    "a vector": combine("matmul", TALL, part(TALL, 0)),
    "cross": combine("cross", SQUARE, SQUARE),
    "cross of transposed": combine("cross", ex.transpose(TALL, (1, 0)), OTHERS),
    "cross with a vector": combine("cross", TALL, ex.reshape(part(TALL, 0), (400, 1))),
}
ELEMENTS = 1 << 17


def relations():
    ranges = Ranges("9")
    yield from ((name, Relation.fresh(ranges, "value", (), (expression,))) for name, expression in VALUES.items())
    for name, parameters in (
        ("truncation", (16,)),
        ("quotient 2", (16, 16)),
        ("choice", (ELEMENTS,)),
        ("bit", (ELEMENTS,)),
        ("and 4", (ELEMENTS,)),
    ):
        yield name, kind(ranges, name, parameters)
    for name in ("sign", "sign tree", "zero", "zero tree"):
        yield name, kind(ranges, name, (ELEMENTS,) * KINDS[name].parameters)


def kind(ranges, name, parameters):
    rules = KINDS[name]
    masks = tuple(ex.mask(ranges.take("mask", (ELEMENTS,))) for _ in range(rules.expressions))
    return Relation.fresh(ranges, name, parameters, masks, tuple(ranges.take("bit-mask", (words,)) for words in rules.bit_words(ELEMENTS)))


def peak_of(relation, n):
    """The most bytes in use while its correction is made."""
    seeds = [Seed(bytes([number] * 32)) for number in range(n)]
    tracemalloc.start()
    try:
        correction(relation, seeds, 0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(("name", "relation"), list(relations()), ids=lambda each: each if isinstance(each, str) else "")
def test_a_correction_takes_no_more_memory_than_is_said_and_not_much_less(name, relation, n):
    peak, said = peak_of(relation, n), memory_of(relation, n)
    assert peak < 1.05 * said + (1 << 18)
    assert said < 4 * peak


NESTED = ("index", "transpose", "reshape", "scale", "sum", "pairs", "stack", "add", "mul")


def nested(rng):
    """Part of an expression of up to six operations, with 2^15 to 2^20 words at every step."""
    built = ex.mask(Range("0", 0, ((1000, 400), (400, 1000), (24, 100, 200), (200, 24, 100))[rng.integers(4)]))
    for operation in rng.choice(NESTED, rng.integers(2, 7)):
        larger = with_operation(rng, operation, built)
        if 1 << 15 <= count(larger.shape) <= 1 << 20 and len(larger.shape) <= 6:
            built = larger
    return flat_part(built, int(count(built.shape) * rng.choice([0.1, 0.3, 0.9])))


@pytest.mark.parametrize("seed", range(40))
def test_nested_operations_take_no_more_memory_than_is_said(seed):
    relation = Relation.fresh(Ranges("9"), "value", (), (nested(np.random.default_rng(seed)),))
    assert peak_of(relation, 2) < 1.05 * memory_of(relation, 2) + (1 << 18)


async def test_jobs_that_are_taken_back_at_once_hold_no_place():
    """They come in one burst, before the dealer waits for any: nobody takes part in these jobs, and nothing else would end them."""
    async with nodes(3) as opened:
        await connected(*opened)
        dealer, mesh = opened[-1], opened[0].mesh
        for number in range(MAX_SESSIONS):
            job = describe(f"taken back {number}", mesh, ("p0", "p1"), "")
            said = {"description": job.description, "members": list(job.members), "nonce": bytes(32)}
            mesh.channel("the-dealer").control(kind="join", job=job.name, **said)
            mesh.channel("the-dealer").control(kind="withdraw", job=job.name, reason=GAVE_UP, party="p0", answers=b"")
        await until(lambda: dealer.dealer.outcomes[ABANDONED])
        await until(lambda: not dealer.dealer._jobs)
