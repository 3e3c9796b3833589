"""Waiting without sleep finds what comes soon; if nothing comes, it stops soon and is tried less often."""

from __future__ import annotations

import asyncio

from mpc.network.lookout import LOOKS, PAUSES, Lookout


class Counting:
    """A future that counts how often it is looked at, and is done at the look number `at`."""

    def __init__(self, at=None):
        self.looks, self._at = 0, at

    def done(self):
        self.looks += 1
        return self.looks == self._at


async def looks(lookout, at=None):
    """How often `lookout` looks for what comes at the look number `at`."""
    lookout.look_for(future := Counting(at))
    # Each turn of the loop has one look.
    for _ in range(LOOKS + 2):
        await asyncio.sleep(0)
    return future.looks


async def test_what_comes_soon_is_found_every_time():
    lookout = Lookout()
    assert [await looks(lookout, at) for at in (1, 3, LOOKS)] == [1, 3, LOOKS]


async def test_after_looking_in_vain_it_pauses_twice_as_long_each_time():
    lookout = Lookout()
    looked = [number for number in range(400) if await looks(lookout) == LOOKS]
    gaps = [later - earlier - 1 for earlier, later in zip(looked, looked[1:], strict=False)]
    assert gaps[:6] == [1, 2, 4, 8, 16, 32]
    assert set(gaps[6:]) == {PAUSES}


async def test_success_ends_the_pauses():
    lookout = Lookout()
    assert [await looks(lookout), await looks(lookout), await looks(lookout, 2), await looks(lookout)] == [LOOKS, 0, 2, LOOKS]
    assert [await looks(lookout), await looks(lookout)] == [0, LOOKS]


async def test_the_next_message_is_looked_for_where_the_last_one_just_came():
    lookout = Lookout()
    lookout.look_for(asyncio.get_running_loop().create_future())
    lookout.look_for(second := Counting(4))
    for _ in range(LOOKS):
        await asyncio.sleep(0)
    assert second.looks == 4
