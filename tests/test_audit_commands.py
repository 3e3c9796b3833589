"""`beaver audit` compares results with the log, shows the log, and makes copies of it."""

from __future__ import annotations

import json
import re
import resource
import shutil

import pytest
import typer.testing

from mpc.errors import ConfigError
from parties.auditing.entries import opened, seal_of
from parties.cli import app
from tests.audit_logs import exported, filled, head_file, log_of, shown, verified
from tests.error_rows import row_of


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
    for rubbish in ("[]", "[" * 100_000):
        file.write_text(rubbish)
        shown(verified(home, "--result", file)[1], "is no result of a job")
    file.write_text(f'{{"id": 1, "seal": "00", "result": {"[" * 900}{"]" * 900}}}')
    deep = str(verified(home, "--result", file)[1])
    # Python 3.11 does not go so deep; others do, and find another result.
    assert any(row_of(case).shows(deep) for case in ("is no result of a job", "is not the result that the log has")), deep
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


@pytest.mark.parametrize("terminal", [{}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}], ids=["pipe", "terminal"])
def test_show_cuts_nothing_at_any_width(home, terminal):
    (line,) = filled(home, 1).read_bytes().splitlines()
    said = typer.testing.CliRunner().invoke(app, ["audit", "show", "-c", str(home / "a.toml")], env={"COLUMNS": "80", **terminal}).stdout
    assert f"{0:032x}" in said
    rows = [row.split("│")[1:-1] for row in re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines() if row.startswith("│")]
    cells = ["".join(column).replace(" ", "") for column in zip(*rows, strict=True)]
    day, time = opened(line)["time"].removesuffix("+00:00").split("T")
    assert cells == ["1", day + time, "declined", f"{0:032x}", "b", "reason0"]


def test_a_copy_is_whole_or_not_there(home):
    """On a full disk a copy fails, and what it left does not stand in the way of the next one."""
    path, copy = filled(home, 5), home / "copy.log"
    files = set(home.iterdir())
    line = path.read_bytes().index(b"\n") + 1
    try:
        for room in (0, 100, line, 2 * line + 7):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            fault = exported(home).exception
            assert row_of("choose a new file with --out").shows(str(fault)), fault
            assert set(home.iterdir()) == files
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    said = exported(home).stdout
    assert copy.read_bytes() == path.read_bytes()
    assert verified(home)[0][0].rpartition(" ")[2] in said


def test_a_log_that_was_cut_off_is_not_copied_as_if_it_were_whole(home):
    path = filled(home, 5)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    shown(exported(home).exception, "lacks an entry that FILE knows of")
    assert not list(home.glob("*copy*"))
    # Entries after those that the head knows are no fault.
    path.unlink()
    head_file(home).unlink()
    filled(home, 3)
    earlier = head_file(home).read_bytes()
    filled(home, 1)
    head_file(home).write_bytes(earlier)
    assert "4 entries" in exported(home).stdout
    log_of(home).close()


def test_a_copy_is_verified_elsewhere_with_the_configuration_of_its_member(home, tmp_path_factory):
    """The configuration has three lines, as docs/operations.md says; with another member's, one error names both members."""
    filled(home, 3)
    last = exported(home).stdout.split("the last, ")[1][:64]
    elsewhere = tmp_path_factory.mktemp("auditor")
    for name in ("copy.log", "roster.toml"):
        shutil.copy(home / name, elsewhere)
    (elsewhere / "a.toml").write_text('name = "a"\nkey = "is.not.there"\nroster = "roster.toml"\n')
    told, fault = verified(elsewhere, "--log", elsewhere / "copy.log", "--head", last)
    assert (told[0].split(": ")[1], fault) == (f"3 entries, all in order and signed; the last is {last}", None)
    (elsewhere / "a.toml").write_text('name = "b"\nkey = "is.not.there"\nroster = "roster.toml"\n')
    told, fault = verified(elsewhere, "--log", elsewhere / "copy.log")
    shown(fault, "who signed every entry")
    assert (told, "is the audit log of a, who" in str(fault), "a.toml is of b: give a configuration of a." in str(fault)) == (
        [],
        True,
        True,
    )
    # Signed by a, but for one line: then this is what every line says.
    copy = (elsewhere / "copy.log").read_bytes()
    (elsewhere / "copy.log").write_bytes(copy.replace(b"reason 1", b"reason 7"))
    told, fault = verified(elsewhere, "--log", elsewhere / "copy.log")
    shown(fault, "in the audit log, listed above")
    assert len(told) == 3


def test_what_follows_an_altered_line_is_not_said_to_be_in_the_wrong_place(home):
    path = filled(home, 5)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"declined"', b'"DECLINED"'), *lines[3:]]))
    told, _ = verified(home)
    assert [line.partition(", line ")[2][:70] for line in told] == [
        "3: its signature is not right: it was altered, or its key is none of a's"[:70],
        "4: does not follow the line before: that was altered, or this is an entry of another log"[:70],
    ]


def test_only_the_end_of_a_log_is_torn(home):
    path = filled(home, 3)
    good = path.read_bytes()
    for content, found in (
        (good + good[:20], ["line 4: is torn; the node mends it"]),
        (good + bytes(5) + b"\n" + good[:20], ["line 4: is no entry", "line 5: is torn"]),
        (bytes(range(1, 256)) * 9, [f"line {number}: is no entry" for number in range(1, 11)]),
        (b"\xff\0 no log at all", ["line 1: is no entry"]),
    ):
        path.write_bytes(content)
        told, fault = verified(home)
        assert [each for each in told if "after entry" not in each and not any(text in each for text in found)] == [], told
        assert len([each for each in told if ", line " in each]) == len(found)
        assert fault is not None
