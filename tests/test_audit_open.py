"""A node that starts looks at its audit log: it may find jobs without an end, files that it may not use, or no log at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
import typer.testing

from mpc.membership.identity import Identity
from parties.auditing.audit import AuditLog
from parties.auditing.entries import opened
from parties.cli import app
from tests.audit_logs import filled, head_file, log_of, refused, shown, verified
from tests.test_audit_keys import RETIRED, B, home, started, written

__all__ = ["home"]


def kinds(home):
    return [(entry["kind"], entry.get("outcome")) for entry in map(opened, (home / "a.audit.log").read_bytes().splitlines())]


def test_a_job_without_an_end_gets_one_when_the_log_is_opened(home):
    """The end is written once; it says that nobody knows what left the node."""
    whole, broken = started(RETIRED, B), started(RETIRED, B)
    written(home, whole, broken, {"kind": "ended", "job": whole["job"], "output": None, "outcome": "done"})
    assert verified(home)[0][1].endswith(f"since the node stopped in them or they run now: {broken['job']}")
    for _ in range(2):
        log_of(home).close()
    assert kinds(home) == [("started", None), ("started", None), ("ended", "done"), ("ended", "unknown")]
    end = opened((home / "a.audit.log").read_bytes().splitlines()[-1])
    assert {key: end[key] for key in ("job", "asker", "policy", "roster", "member")} == {
        **{key: broken[key] for key in ("job", "asker", "policy", "roster")},
        "member": "a",
    }
    assert "what was revealed until then is not known" in end["reason"]
    told, fault = verified(home)
    assert (fault, broken["job"] in told[1], whole["job"] in told[1]) == (None, True, False)


NOBODY = 65534


@contextlib.contextmanager
def as_another_user(home):
    """Root gives up its rights.  No path then leads to the folder of the test, which is the current one."""
    home.chmod(0o777)
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def unreadable(home):
    """The folder of the log can be entered and written, not listed."""
    (home / "logs").mkdir()
    (home / "logs").chmod(0o733 if os.geteuid() == 0 else 0o300)
    return "logs/a.audit.log", "logs: the audit log cannot be opened (Permission denied)"


def closed(home):
    """The log cannot be opened."""
    (home / "a.audit.log").touch(0o000)
    (home / "a.audit.log").chmod(0o000)
    return "a.audit.log", "a.audit.log: the audit log cannot be opened (Permission denied)"


def of_another(home):
    """The log can be written by all, and belongs to somebody else."""
    (home / "a.audit.log").touch()
    (home / "a.audit.log").chmod(0o666)
    return "a.audit.log", "a.audit.log: the audit log cannot be opened (Operation not permitted)"


def head_of_another(home):
    """The head beside the log can be written by all, and belongs to somebody else."""
    (home / "a.audit.log.head").touch()
    (home / "a.audit.log.head").chmod(0o666)
    return "a.audit.log", "a.audit.log.head: does not say how far the audit log goes (Operation not permitted)"


@pytest.mark.parametrize("make", [unreadable, closed, of_another, head_of_another])
def test_files_that_this_user_may_not_use_are_named(home, monkeypatch, make):
    if make in (of_another, head_of_another) and os.geteuid() != 0:
        pytest.skip("only root can leave a file to another user")
    path, text = make(home)
    identity = Identity.load(home / "a.key")
    monkeypatch.chdir(home)
    with as_another_user(home):
        said = refused(
            AuditLog(Path(path), identity).open, "does not say how far" if ".head:" in text else "the audit log cannot be opened"
        )
    assert said.startswith(text)


def test_a_log_that_is_gone_is_not_made_anew(home):
    path = filled(home, 5)
    path.unlink()
    for _ in range(2):
        text = refused(lambda: log_of(home), "the audit log cannot be opened")
        assert f"(No such file or directory); restore it: {head_file(home)} knows of 5 entries" in text
        assert not path.exists()
    # One in which there was nothing yet is no loss.
    head_file(home).unlink()
    log_of(home).close()
    path.unlink()
    log_of(home, 1).close()
    assert verified(home)[1] is None


@pytest.mark.parametrize("left", [None, b""])
@pytest.mark.parametrize("closed_files", [0, 2])
def test_a_head_that_is_gone_is_not_made_anew(home, left, closed_files):
    """Otherwise an attacker who cuts off entries would only have to remove the head."""
    path = filled(home, 3)
    log = log_of(home)
    for _ in range(closed_files):
        log.rotate()
    log.close()
    whole = head_file(home).read_bytes()
    head_file(home).unlink() if left is None else head_file(home).write_bytes(left)
    before = path.read_bytes()
    number = 3 + 2 * closed_files
    for torn in (b"", b'{"asker"'):
        path.write_bytes(before + torn)
        text = refused(lambda: log_of(home), "has N entries, and nothing says how many")
        assert text.startswith(f"{path}: has {number} entries, ")
        assert path.read_bytes() == before + torn
        assert (head_file(home).read_bytes() if left is not None else head_file(home).exists()) == (left if left is not None else False)
    # What the message says is accepted is.
    line = text.rpartition("write this line into it: ")[2]
    assert f"{line}\n".encode() == whole
    head_file(home).write_text(f"{line}\n")
    log_of(home).close()
    assert f"{number + 1} entries" in verified(home)[0][0]


def test_the_head_is_on_the_disk_before_the_first_entry(home, monkeypatch):
    """Thus no crash leaves a log that cannot be opened."""
    flushed, flush = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name), flush(handle))[1])
    log_of(home, 1).close()
    assert flushed.index("a.audit.log.head") < flushed.index(home.name, flushed.index("a.audit.log.head"))
    assert flushed[-1] == "a.audit.log"
    assert flushed.index("a.audit.log.head") < len(flushed) - 1


@pytest.mark.parametrize(
    ("text", "head"),
    [*((text, False) for text in (b"db password", b"db password\n", b"{}\n", b'{"user": "me"}', b"\xff\0\n\n")), (b"db password", True)],
)
def test_a_file_that_is_no_audit_log_stays_as_it_is(home, text, head):
    """A mistyped `audit`; with a head, of a log without entries."""
    if head:
        filled(home, 0)
    path = home / "a.audit.log"
    path.write_bytes(text)
    path.chmod(0o640)
    refused(lambda: log_of(home), "is no audit log, and stays as it is")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (text, 0o640)
    assert head_file(home).exists() == head


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", ["a.audit.log", "a.audit.log.head"])
def test_neither_a_log_nor_its_head_is_where_a_link_leads(home, name, there):
    filled(home, 2)
    target, link = home / "target", home / name
    if name.endswith("head"):
        link.unlink()
    else:
        link.rename(target)
        head_file(home).unlink()
    if there:
        target.touch()
        target.chmod(0o644)
    else:
        target.unlink(missing_ok=True)
    link.symlink_to(target)
    text = refused(lambda: log_of(home), "does not say how far" if name.endswith("head") else "the audit log cannot be opened")
    assert "(Too many levels of symbolic links)" in text
    assert (target.stat().st_mode & 0o777 if there else target.exists()) == (0o644 if there else False)


def test_a_pipe_is_no_head(home):
    """To open a pipe is to wait for its other end."""
    filled(home, 2)
    head_file(home).unlink()
    os.mkfifo(head_file(home))
    assert "(not a file)" in refused(lambda: log_of(home), "does not say how far")


@pytest.mark.parametrize("folder", [None, ".", "..", "/", ""])
def test_a_folder_is_no_log_to_read(home, monkeypatch, folder):
    """Folders without a name, as an empty variable gives, once ended in a traceback."""
    monkeypatch.chdir(home)
    shown(verified(home, "--log", home if folder is None else folder)[1], "no audit log can be read there")


@pytest.mark.parametrize("folder", [".", "/"])
def test_nor_to_write(home, monkeypatch, folder):
    monkeypatch.chdir(home)
    identity = Identity.load(home / "a.key")
    text = refused(AuditLog(Path(folder), identity).open, "the audit log cannot be opened")
    assert text.startswith(f"{folder}: the audit log cannot be opened (Is a directory)")


@pytest.mark.parametrize(
    "wrong", [{"task": "mean"}, {"task": {"protocol": "mean"}}, {"task": {"protocol": 1, "dataset": 2, "columns": [3]}}]
)
def test_show_calls_unreadable_what_no_node_writes(home, wrong):
    written(home, {"kind": "declined", "reason": "fine"}, {"kind": "declined", **wrong})
    answer = typer.testing.CliRunner().invoke(app, ["audit", "show", "-c", str(home / "a.toml")], env={"COLUMNS": "200"})
    assert answer.exit_code == 0, answer.exception
    assert ("fine" in answer.stdout, answer.stdout.count("unreadable")) == (True, 1)
