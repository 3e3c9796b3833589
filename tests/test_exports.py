"""What `import mpc` and `import protocols` promise."""

from __future__ import annotations

import inspect

import mpc
import protocols


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


def test_session_has_the_documented_surface():
    for name in ("encode", "zero", "input", "inputs", "mask", "reveal"):
        assert getattr(mpc.Session, name).__doc__
