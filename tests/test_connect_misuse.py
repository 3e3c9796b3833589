"""`mpc.connect` and `mpc.connect_sync`, each used where the other is meant, or called with arguments that they do not take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import mpc
from tests.error_rows import row_of
from tests.nodes import Nodes

CONNECT = ["mpc.connect is for", "mpc.connect_sync is for"]
"""Rows of docs/errors.md that this file provokes."""


@pytest.fixture
def config(tmp_path):
    return Nodes(tmp_path, names=("alpha", "bravo")).folder / "alpha.toml"


async def test_each_names_the_other_where_that_is_meant(config):
    with pytest.raises(mpc.ProgramError) as caught, mpc.connect(config, job="j"):
        pass
    assert row_of(CONNECT[0]).shows(str(caught.value))
    with pytest.raises(mpc.ProgramError) as caught:
        async with mpc.connect_sync(config, job="j"):
            pass
    assert row_of(CONNECT[1]).shows(str(caught.value))


async def test_one_name_is_no_list_of_names(config):
    """A single name was once taken for a list of letters."""
    with pytest.raises(mpc.ConfigError, match="parties='alpha' is one name: pass a list of names"):
        async with mpc.connect(config, job="j", parties="alpha"):
            pass
    one = pytest.raises(mpc.ConfigError, match="parties='alpha' is one name: pass a list of names")
    with one, mpc.connect_sync(config, job="j", parties="alpha"):
        pass


def test_what_a_blocking_session_has_not_is_for_a_program(config):
    s = mpc.connect_sync(config, job="j")
    with pytest.raises(
        AttributeError, match=r"no 'inputs': call s\.inputs in an `async def program\(s\)`, and run that by s\.run\(program\)"
    ):
        s.inputs([1.0])
    for name, hint in (("revael", "did you mean 'reveal'"), ("nmaes", "did you mean 'names'"), ("qqqq", "known are: .*reveal, .*run")):
        with pytest.raises(AttributeError, match=f"has no '{name}': {hint}"):
            getattr(s, name)
    # What only a session that is open has.
    s._session = SimpleNamespace(log=None)
    with pytest.raises(AttributeError, match="no 'log': call s.log in an `async def"):
        _ = s.log
    s._session = None
    with pytest.raises(mpc.ProgramError, match="takes the session first, not BlockingSession"):
        mpc.square(s, 3)
