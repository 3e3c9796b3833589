"""Behaviour of aiomqtt beyond its public interface on which our connection relies, as decision 0002 lists it."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import tomllib
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.client import MQTTMessage

from mpc.membership.endpoints import Relay
from mpc.transport import broker

ROOT = Path(__file__).resolve().parents[1]
DECISION = (ROOT / "docs" / "decisions" / "0002-aiomqtt.md").read_text()
LISTED = {name for line in re.findall(r"^\| (`_.+?) \|", DECISION, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)}
CALLED_WITH = {
    "_on_connect": ["self", "client", "userdata", "flags", "reason_code", "properties"],
    "_on_disconnect": ["self", "client", "userdata", "flags", "reason_code", "properties"],
    "_on_socket_open": ["self", "client", "userdata", "sock"],
    "_on_socket_close": ["self", "client", "userdata", "sock"],
    "_on_socket_register_write": ["self", "client", "userdata", "sock"],
}


def client(deliver=lambda message: None):
    return broker.client_of(Relay("127.0.0.1", 1, tls=False), broker.Login(), None, broker.Version.V5, 10.0, ("b/farewell", b""), deliver)


@pytest.mark.parametrize("name", CALLED_WITH)
async def test_the_library_calls_what_is_overridden_as_the_client_takes_it(name):
    ours, theirs = (inspect.signature(getattr(each, name)).parameters for each in (broker.Client, aiomqtt.Client))
    assert list(ours) == list(theirs) == CALLED_WITH[name]
    assert [each.default for each in ours.values()] == [each.default for each in theirs.values()]
    made = client()
    assert getattr(made._client, name[1:]) == getattr(made, name)


async def test_the_library_has_a_loop_and_futures_of_the_answer_and_of_the_end():
    made = client()
    assert made._loop is asyncio.get_running_loop()
    assert not made._connected.done()
    assert not made._disconnected.done()
    made._over(OSError("broken"), made._connected)
    with pytest.raises(aiomqtt.MqttError, match="broken"):
        await made._connected


async def test_a_message_is_handed_over_within_the_librarys_callback():
    taken = []
    made = client(taken.append)
    message = MQTTMessage(topic=b"b/topic")
    message.payload = b"payload"
    made._on_message(made._client, None, message)
    assert [(str(each.topic), each.payload) for each in taken] == [("b/topic", b"payload")]
    assert made._queue.empty()


def test_the_decision_lists_all_that_is_used():
    tree = ast.parse(Path(broker.__file__).read_text())
    (found,) = (each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == "Client")
    used = {each.attr for each in ast.walk(found) if isinstance(each, ast.Attribute) and re.match("_[a-z]", each.attr)}
    defined = {each.name for each in found.body if isinstance(each, ast.FunctionDef)}
    own = {"_own_socket", "_or_over", "_over"}
    assert {name for name in used | defined if name.startswith("_")} - own == LISTED
    assert not any(hasattr(aiomqtt.Client, name) for name in own)
    assert set(CALLED_WITH) < LISTED


def test_the_pin_is_to_the_minor_version_of_which_that_is_known():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (pin,) = (each for each in needed if each.startswith("aiomqtt"))
    assert f"`{pin}`" in DECISION
