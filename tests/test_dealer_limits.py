"""What one session can take of a dealer: no other one waits for what it asked for (invariants 21, 27)."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

import mpc
import protocols
from mpc.kernels import products
from mpc.kernels.cross import cross
from mpc.kernels.halting import HaltedError, halt_when
from mpc.kernels.limbs import COLUMNS, ROWS
from mpc.naming.correlations import Relation, receiver
from mpc.naming.expressions import Range, combine, mask
from mpc.ring import zeros
from tests.test_agreement import nodes
from tests.waiting import until

SIDE = 1024
GREEDY = 4
"""Sessions of two parties, each of which asks for what takes minutes: more than the shared pool of a machine with two cores has threads."""


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


async def test_what_takes_minutes_holds_up_no_other_session_and_ends_with_its_own():
    async with nodes(4) as opened:

        async def greedy(node, job):
            async with node.session(job, parties=["p0", "p1"]) as s:
                s._engine.exchange.ask([received(s, long)])
                while True:
                    await protocols.secure_sum(s, [1.0])

        async def honest(node):
            async with node.session("honest", parties=["p2", "p3"]) as s:
                x, y = (s.input(np.ones((256, 256)) if s.index == owner else None, owner, (256, 256), bound=4.0) for owner in range(2))
                return await s.reveal(await mpc.matmul(s, x, y))

        waiting = [asyncio.create_task(greedy(node, f"greedy-{number}")) for number in range(GREEDY) for node in opened[:2]]
        try:
            await until(lambda: len(kernels()) >= GREEDY)
            for product in await asyncio.gather(*(honest(node) for node in opened[2:4])):
                assert np.array_equal(product, np.full((256, 256), 256.0))
            assert not any(task.done() for task in waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: not kernels())


PRODUCTS = {"limbs": products.by_limbs, "torch": products.by_torch, "cross": lambda a, b: cross([a, a, a], [b, b, b])}


@pytest.mark.parametrize("which", PRODUCTS)
def test_a_product_halts_between_its_parts(monkeypatch, which):
    """In the thread that makes the other half of a cross, too."""
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
