"""The public names of `mpc` and `protocols`."""

from __future__ import annotations

import inspect

import pytest

import mpc
import protocols
from mpc.testing import simulate


def test_all_is_sorted_complete_and_documented():
    for package in (mpc, protocols):
        # Constants first, as ruff sorts them.
        assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert value.__doc__, name


def test_nothing_public_is_missing():
    for package in (mpc, protocols):
        public = {name for name, value in vars(package).items() if not name.startswith("_") and not inspect.ismodule(value)}
        assert public == set(package.__all__)


ATTRIBUTES = {"announcements", "cost", "id", "index", "log", "n", "names", "releases"}
OWN_VALUES = {"compute", "encode", "given", "input", "inputs", "operand", "zero"}
OTHERS_SEE = {"announce", "mask", "reveal"}
RECEIVERS = {"everyone", "party", "receivers"}


def test_a_session_has_these_names_and_no_others():
    """None of these names opens words, so all that a program opens was masked by an op."""
    calls = OWN_VALUES | OTHERS_SEE | RECEIVERS | {"made", "run"}

    async def program(s):
        return {name for name in dir(s) if not name.startswith("_")}

    assert simulate(2, program) == [ATTRIBUTES | calls] * 2
    for name in calls:
        assert getattr(mpc.Session, name).__doc__, name


def test_an_op_may_be_called_with_either():
    """A program may call it, and so may the body of another op."""

    async def program(s):
        x = s.input([3.0] if s.index == 0 else None, 0, 1, bound=8.0)
        return [float((await s.reveal(await mpc.mul(each, x, x)))[0]) for each in (s, s._ops)]

    assert simulate(2, program) == [[9.0, 9.0]] * 2


def test_programs_raise_the_errors_as_they_raise_any_other():
    for kind in (mpc.BeaverError, mpc.ConfigError, mpc.PolicyDenied, mpc.ProgramError):
        with pytest.raises(kind) as caught:
            raise kind
        assert (caught.value.text, str(caught.value), caught.value.party) == ("", "", None)
    for given in ((), ("why",), ("why", 3)):
        fault = mpc.ConfigError(*given)
        assert (fault.args, fault.text) == (given, str(Exception(*given)))
