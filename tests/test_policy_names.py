"""A policy may name somebody who is not in the roster, such as one whose key was revoked: it allows that one nothing, and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpc.errors import ConfigError
from parties.auditing.history import History
from parties.policy import absent, admit, check_policy
from tests.test_policy import MEAN, configured, home, shown  # noqa: F401  a fixture

NAMES = ["the roster has no party or client"]
"""A row of docs/errors.md that this file provokes."""


@pytest.mark.parametrize("where", ["table", "file"])
@pytest.mark.parametrize("rule", ["askers", "receivers"])
def test_whom_the_roster_does_not_have_is_allowed_nothing_and_keeps_no_policy_from_counting(home, rule, where):  # noqa: F811
    config = configured(home, f'[policy]\nallow = ["mean"]\n{rule} = ["a", "b", "d", "dealer"]\n', where)
    check_policy(config)
    found = absent(config)
    assert [str(fault).partition(" no party or client ")[2].split(",")[0] for fault in found] == ["'d'", "'dealer'"]
    for fault in found:
        shown(fault, NAMES[0])
        assert str(fault).startswith(f"{home / ('policy.toml' if where == 'file' else 'configured.toml')}, line ")
    with pytest.raises(ConfigError, match="'d' is not in the roster"):
        admit(config, History(), MEAN, "d")
    with pytest.raises(ConfigError, match="'d' is no party of the roster"):
        admit(config, History(), replace(MEAN, to=("d",)), "b")


def test_a_policy_that_names_members_only_has_nothing_to_be_told_of(home):  # noqa: F811
    assert absent(configured(home, '[policy]\naskers = ["a", "b"]\nreceivers = []\n')) == []
