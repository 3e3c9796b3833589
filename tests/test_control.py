"""The local door of a node: whatever becomes of a request, whoever asks hears of it, and never a value."""

from __future__ import annotations

import logging

import pytest

from mpc import PolicyDenied
from parties import control


@pytest.mark.parametrize(
    ("fault", "answer", "logged"),
    [
        (PolicyDenied("rule `allow`: no"), {"error": "PolicyDenied", "text": "rule `allow`: no"}, []),
        (KeyError("4711"), {"error": "InternalError", "text": "KeyError in the node; its log says more"}, ["a request failed"]),
    ],
)
async def test_a_request_that_fails_is_answered(tmp_path, caplog, fault, answer, logged):
    async def handler(request, say):
        raise fault

    async with control.serve(tmp_path / "a.sock", handler, logging.getLogger("beaver.a")):
        assert [message async for message in control.ask(tmp_path / "a.sock", {"do": "check"})] == [answer]
    assert [record.getMessage() for record in caplog.records if record.name == "beaver.a"] == logged
