"""What a failed job kept in memory is freed soon, however seldom Python collects garbage."""

from __future__ import annotations

import asyncio
import gc
import logging

import numpy as np
import pytest

import mpc
from mpc.ledger import Books
from mpc.membership.roster import Member, Roster
from mpc.op_session import OpSession
from mpc.preprocessing.dealing import DealerSession
from parties.config import load_node_config
from parties.nodes import lasting
from parties.run import collect_after_faults
from tests.rosters import signed
from tests.test_agreement import nodes
from tests.test_node_config import NODE, A, B, D
from tests.waiting import until


@pytest.fixture
def seldom():
    """Keep Python from collecting by itself, and pytest from keeping log records, which hold their faults."""
    logging.disable()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


def kept():
    return sum(isinstance(each, (OpSession, DealerSession)) for each in gc.get_objects())


async def fails(node, job):
    async with node.session(job) as s:
        x = s.input(np.ones(1000) if s.index == 0 else None, 0, (1000,), bound=2.0)
        y = await mpc.mul_trunc(s, x, x, 20)
        if s.index == 0:
            raise KeyError("mine")
        await s.reveal(await mpc.mul(s, y, y))


async def test_what_failed_sessions_have_kept_is_let_go_of(seldom):
    before = kept()
    async with nodes(2) as members:
        for node in members:
            collect_after_faults(node.books)
        for number in range(3):
            outcomes = await asyncio.gather(*(fails(node, f"j{number}") for node in members[:2]), return_exceptions=True)
            assert [type(outcome).__name__ for outcome in outcomes] == ["KeyError", "PeerLost"]
            del outcomes
        await until(lambda: kept() == before)


async def test_one_look_is_for_all_faults_of_its_time(seldom):
    looks, books = [], Books()
    gc.callbacks.append(lambda phase, _: looks.append(phase))
    try:
        collect_after_faults(books)
        for _ in range(100):
            with pytest.raises(KeyError), books.ledger():
                raise KeyError
        with books.ledger():
            pass
        await until(lambda: looks)
        assert looks == ["start", "stop"]
        with pytest.raises(KeyError), books.ledger():
            raise KeyError
        await until(lambda: len(looks) > 2)
    finally:
        gc.callbacks.pop()


@pytest.mark.parametrize("name", ["a", "d"])
async def test_nodes_that_stay_up_look_for_it(name, tmp_path):
    (A if name == "a" else D).save(tmp_path / f"{name}.key")
    members = [Member(each.name, each.public, ("127.0.0.1", 9001 + number), "party") for number, each in enumerate((A, B))]
    roster = Roster([*members, Member("d", D.public, ("127.0.0.1", 9003), "dealer")])
    (tmp_path / "roster.toml").write_text(signed(roster, A, B, D).dump())
    (tmp_path / "node.toml").write_text(NODE.replace('"a"', f'"{name}"').replace('"a.key"', f'"{name}.key"'))
    assert lasting(load_node_config(tmp_path / "node.toml")).books.on_fault is not None
