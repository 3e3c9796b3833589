"""Waiting awake: what comes soon is found without sleep, what does not come is not looked for long, or often."""

from __future__ import annotations

import asyncio

import pytest

from mpc.lookout import LOOKS, PAUSES, Lookout


class Counting:
    """A future that counts how often it is looked at, and is done at the look number `at`."""

    def __init__(self, at=None):
        self.looks, self._at = 0, at

    def done(self):
        self.looks += 1
        return self.looks == self._at


@pytest.fixture
def at_leisure(monkeypatch):
    """No look is too slow."""
    monkeypatch.setattr("mpc.lookout.SLOW", 1e9)


async def test_what_comes_soon_is_found_every_time(at_leisure):
    lookout = Lookout()
    for at in (1, 3, LOOKS):
        future = Counting(at)
        await lookout.look(future)
        assert future.looks == at


async def test_after_looking_in_vain_it_pauses_twice_as_long_each_time(at_leisure):
    lookout, looked = Lookout(), []
    for number in range(1000):
        await lookout.look(future := Counting())
        if future.looks:
            assert future.looks == LOOKS
            looked.append(number)
    gaps = [later - earlier - 1 for earlier, later in zip(looked, looked[1:], strict=False)]
    assert gaps[:6] == [1, 2, 4, 8, 16, 32]
    assert set(gaps[6:]) == {PAUSES}
    await lookout.look(Counting())


async def test_where_the_processor_is_wanted_it_gives_up_at_once(monkeypatch):
    monkeypatch.setattr("mpc.lookout.SLOW", -1.0)
    await Lookout().look(future := Counting())
    assert future.looks == 1


async def test_others_run_while_it_looks(at_leisure):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(lambda: loop.call_soon(future.set_result, None))
    await Lookout().look(future)
    assert future.done()
