"""`beaver audit`: results beside the log, and copies of it."""

from __future__ import annotations

import json

import pytest
import typer.testing

from mpc.errors import ConfigError
from parties.cli import app
from parties.entries import seal_of
from tests.nodes import Nodes
from tests.test_audit import filled, log_of, shown, verified


@pytest.fixture
def home(tmp_path):
    Nodes(tmp_path)
    return tmp_path


def test_a_result_is_told_from_another_by_its_seal(home):
    key, result = bytes(range(32)), {"mean": {"age": 51.5, "bmi": float("nan")}}
    log = log_of(home)
    log.append("ended", job="1" * 32, output=seal_of(result, key))
    log.close()
    answer = {"id": "1" * 32, "result": {"mean": {"age": 51.5, "bmi": None}}, "seal": key.hex()}
    file = home / "result.json"
    for changed, right in (
        ({}, True),
        ({"result": {"mean": {"age": 51.6, "bmi": None}}}, False),
        ({"seal": "00" * 32}, False),
        ({"id": "2"}, False),
    ):
        file.write_text(json.dumps(answer | changed))
        said, fault = verified(home, "--result", file)
        # The log is right whatever the result is.
        assert "all in order and signed" in said[0]
        assert (fault is None) == right, changed
        if right:
            assert f"the result of job {answer['id']}, as it was handed over" in said[1]
        else:
            shown(fault, "is not the result that the log has")
    file.write_text("[]")
    shown(verified(home, "--result", file)[1], "is no result of a job")
    shown(verified(home, "--result", home / "none.json")[1], "the result cannot be read")


def test_show_and_export(home):
    path = filled(home, 3)
    with path.open("ab") as file:
        file.write(b"torn")
    run = typer.testing.CliRunner().invoke
    where = ["-c", str(home / "a.toml")]
    shown_ = run(app, ["audit", "show", *where, "--json"]).stdout.splitlines()
    assert [json.loads(line)["kind"] for line in shown_] == ["declined"] * 3 + ["unreadable"]
    assert len(run(app, ["audit", "show", *where, "--json", "--job", f"{1:032x}"]).stdout.splitlines()) == 1
    assert "reason 2" in run(app, ["audit", "show", *where], env={"COLUMNS": "200"}).stdout
    copy = home / "copy.log"
    assert "3 entries" in run(app, ["audit", "export", *where, "--out", str(copy)]).stdout
    assert (copy.read_bytes() + b"torn", copy.stat().st_mode & 0o777) == (path.read_bytes(), 0o600)
    assert verified(home, "--log", copy)[1] is None
    assert isinstance(run(app, ["audit", "export", *where, "--out", str(copy)]).exception, ConfigError)
