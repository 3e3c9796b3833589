"""Ctrl-C at moments that a signal rarely hits (invariant 7)."""

from __future__ import annotations

import threading

import pytest

from tests.organisations import PATIENCE
from tests.test_connect_sync import all_, ask, connect_sync, outcomes  # noqa: F401  a fixture

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_second_ctrl_c_does_not_wait_where_the_first_came_as_the_program_was_handed_over(all_, monkeypatch):  # noqa: F811
    ask(all_, "handed-over")
    free, session = threading.Event(), connect_sync(all_, "handed-over")

    async def blocks(s):  # noqa: ARG001  it would compute, but does not get to it
        free.wait(PATIENCE)

    def interrupts(call, *arguments):
        through(call, *arguments)
        monkeypatch.undo()
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt), session as s:
            through = s._background.tell
            monkeypatch.setattr(s._background, "tell", interrupts)
            try:
                s.run(blocks)
            except KeyboardInterrupt:
                raise KeyboardInterrupt from None
        assert not session._background.ended.done()
    finally:
        free.set()
        session._background.thread.join()
    assert [outcome["error"] for outcome in await outcomes(all_)] == ["PeerLost"] * 2
