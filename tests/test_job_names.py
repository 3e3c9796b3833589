"""The names that a program may give a job, wherever it gives one."""

from __future__ import annotations

import pytest

import mpc
from tests.error_rows import row_of
from tests.nodes import Nodes


@pytest.mark.parametrize(
    ("job", "case"),
    [
        ("", "a job needs a name"),
        (" \t", "a job needs a name"),
        ("j" * 257, "the name of a WHAT is text"),
        ("\ud800", "the name of a WHAT is text"),
        (7, "the name of a WHAT is text"),
        (["j"], "the name of a WHAT is text"),
    ],
)
async def test_what_is_no_name_of_a_job_is_refused_before_anyone_hears_of_it(tmp_path, job, case):
    """An empty name was once taken, and its job waited for the others until the clock `join`.

    A list, and half of a letter, once raised errors that did not mention a job.
    """
    config = Nodes(tmp_path, names=("a", "b")).folder / "a.toml"
    with pytest.raises(mpc.ConfigError) as caught:
        async with mpc.connect(config, job=job):
            pass
    assert row_of(case).shows(str(caught.value)), caught.value
    with pytest.raises(mpc.ConfigError) as caught, mpc.connect_sync(config, job=job):
        pass
    assert row_of(case).shows(str(caught.value)), caught.value
