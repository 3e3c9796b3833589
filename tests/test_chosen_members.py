"""Options that name members mean all if they are left out.  An empty one, as from a script's empty variable, is refused."""

from __future__ import annotations

import pytest

import mpc
from parties.cli import _task
from parties.client import ask_sync
from parties.commands.client import client
from parties.config import load_node_config
from tests.error_rows import row_of
from tests.nodes import Nodes

EMPTY = ["", " ", ",", " , "]


def refused(option, call):
    with pytest.raises(mpc.ConfigError) as caught:
        call()
    assert row_of("names nobody").shows(str(caught.value)), caught.value
    assert str(caught.value).startswith(f"{option} names nobody")


@pytest.mark.parametrize("text", EMPTY)
def test_an_empty_list_of_receivers_or_parties_is_not_all_of_them(tmp_path, text):
    """`--to ""` revealed the result to every party."""
    nodes = Nodes(tmp_path, names=("a", "b"), clients=("lab",))
    settings = load_node_config(tmp_path / "a.toml")

    def task(parties=None, to=None):
        return _task(settings, "mean", "patients", "age", parties, to, None)

    assert (task().parties, task().to, task(to="b").to) == (("a", "b"), (), ("b",))
    refused("--to", lambda: task(to=text))
    refused("--parties", lambda: task(parties=text))
    lab = nodes.folder / "lab.toml"
    refused("--parties", lambda: client("mean", "age", lab, dataset="patients", parties=text))
    refused("--to", lambda: client("mean", "age", lab, dataset="patients", to=text))


@pytest.mark.parametrize("to", [[], (), ""])
def test_nor_is_that_of_a_client_in_python(tmp_path, to):
    Nodes(tmp_path, names=("a", "b"), clients=("lab",))
    refused("to=", lambda: ask_sync(tmp_path / "lab.toml", "mean", dataset="patients", columns=["age"], to=to))
