"""The audit log as a file is chained, signed, durable and mended after a crash; any change of it is found (invariants 35, 36)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mpc.errors import ConfigError
from mpc.membership.identity import Identity, encode_key
from mpc.membership.members import Revoked
from mpc.membership.roster import Roster
from parties.auditing.audit import AuditLog
from parties.auditing.entries import canonical, opened, sealed
from tests.audit_logs import exported, filled, head_file, headed, log_of, refused, shown, verified
from tests.nodes import ROOT

AUDIT = [
    "the audit log cannot be opened",
    "another node writes this audit log",
    "the audit log cannot be written",
    "the audit log was changed, moved or replaced",
    "The audit log was changed: keep it",
    "is not the audit log of NAME",
    "in the audit log, listed above",
    "who signed every entry",
    "has no entries, and nothing says",
    "no audit log can be read there",
    "lacks an entry that FILE knows of",
    "does not say how far the audit log goes",
    "has N entries, and nothing says how many",
    "is no audit log, and stays as it is",
    "is no digest of an entry",
    "the result cannot be read",
    "is no result of a job",
    "is not the result that the log has",
]
"""Rows of docs/errors.md that this file and those beside it provoke."""


def test_entries_are_chained_signed_and_private(home):
    path = filled(home)
    assert path.stat().st_mode & 0o777 == 0o600
    entries = [opened(line) for line in path.read_bytes().splitlines()]
    assert [entry["number"] for entry in entries] == [1, 2, 3, 4, 5]
    assert len({entry["previous"] for entry in entries}) == 5
    (told,), fault = verified(home)
    assert fault is None
    assert "5 entries, all in order and signed" in told
    path.chmod(0o644)
    filled(home, 2)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "7 entries" in verified(home)[0][0]


def test_verifying_needs_no_secret_key(home):
    filled(home)
    (home / "a.key").unlink()
    assert verified(home)[1] is None


def swapped(lines):
    lines[1], lines[2] = lines[2], lines[1]


def resigned(lines):
    """Entry 3 changed and signed again, with another key."""
    entry = {**opened(lines[2]), "reason": "other"}
    lines[2] = sealed({name: value for name, value in entry.items() if name not in {"key", "signature"}}, Identity.generate("a"))


def signed_as_the_next(lines):
    """Entry 3 has the signature of entry 4."""
    lines[2] = lines[2].replace(*(opened(line)["signature"].encode() for line in lines[2:4]))


CHANGES = {
    "modified": (lambda lines: lines.__setitem__(2, lines[2].replace(b"reason 2", b"reason 7")), 3),
    "blank": (lambda lines: lines.__setitem__(2, lines[2].replace(b",", b", ", 1)), 3),
    "emptied": (lambda lines: lines.__setitem__(2, b""), 3),
    "cut": (lambda lines: lines.__setitem__(2, lines[2][:50]), 3),
    "removed": (lambda lines: lines.pop(2), 3),
    "first removed": (lambda lines: lines.pop(0), 1),
    "repeated": (lambda lines: lines.insert(2, lines[1]), 3),
    "reordered": (swapped, 2),
    "signed by another": (resigned, 3),
    "signature of another": (signed_as_the_next, 3),
    "no object": (lambda lines: lines.__setitem__(2, b"[1]"), 3),
    "number": (lambda lines: lines.__setitem__(2, lines[2].replace(b'"number":3', b'"number":4')), 3),
    "zeros": (lambda lines: lines.__setitem__(2, bytes(len(lines[2]))), 3),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_found_with_its_line(home, change):
    path = filled(home)
    lines = path.read_bytes().splitlines()
    act, number = CHANGES[change]
    act(lines)
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    told, fault = verified(home)
    shown(fault, "in the audit log, listed above")
    assert f"{path}, line {number}: " in told[0]
    refused(lambda: log_of(home), "The audit log was changed: keep it")
    assert path.read_bytes() == before


def test_any_flipped_bit_is_found(home):
    path = filled(home, 2)
    good = path.read_bytes()
    first = good.index(b"\n")
    for place in range(0, len(good) - 1, 7):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        told, fault = verified(home)
        assert fault is not None, place
        assert f"line {1 if place <= first else 2}: " in told[0], place


@pytest.mark.parametrize("left", [0, 1, 4, "half"])
def test_entries_cut_off_at_the_end_are_found(home, left):
    """`verify`, and a node that starts, compare the log with what the node remembers beside it."""
    path = filled(home)
    assert head_file(home).stat().st_mode & 0o777 == 0o600
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:40] if left == "half" else b"".join(lines[:left]))
    before = path.read_bytes()
    told, fault = verified(home)
    shown(fault, "in the audit log, listed above")
    assert told[-1].endswith(f"entries were cut off or replaced ({head_file(home)})")
    text = refused(lambda: log_of(home), "The audit log was changed: keep it")
    assert f"line {5 if left == 'half' else left + 1}: was cut off, with all after it: {head_file(home)} knows of 5 entries" in text
    assert path.read_bytes() == before
    # A log of one's own making from there on is another one.
    head_file(home).rename(home / "head")
    if left == "half":
        # Its head is of whole entries.
        path.write_bytes(b"".join(lines[:4]))
    headed(home)
    filled(home, 5)
    (home / "head").rename(head_file(home))
    assert "entries were cut off or replaced" in verified(home)[0][-1]
    assert "is another entry than the one in" in refused(lambda: log_of(home), "The audit log was changed: keep it")


def test_a_head_that_a_crash_left_behind_is_no_fault_and_a_missing_one_is_said(home):
    filled(home, 4)
    earlier = head_file(home).read_bytes()
    filled(home, 1)
    head_file(home).write_bytes(earlier)
    assert verified(home)[1] is None
    filled(home, 1)
    head_file(home).unlink()
    told, fault = verified(home)
    assert (fault, "Nothing says whether more followed" in told[1]) == (None, True)
    head_file(home).write_text("5 entries\n")
    refused(lambda: log_of(home), "does not say how far the audit log goes")
    shown(verified(home)[1], "does not say how far the audit log goes")


def test_entries_cut_off_at_the_end_are_found_by_the_digest_of_one(home):
    path = filled(home)
    head = verified(home)[0][0].rpartition(" ")[2]
    assert verified(home, "--head", head)[1] is None
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    head_file(home).unlink()
    assert verified(home)[1] is None
    shown(verified(home, "--head", head[:63])[1], "is no digest of an entry")
    told, fault = verified(home, "--head", head)
    assert "entries were cut off or replaced" in told[0]
    assert fault is not None


def test_a_log_without_entries_is_never_in_order(home):
    """An emptied log with an emptied head is never in order: a log that was just begun has a head that says so."""
    path = filled(home, 0)
    (told,), fault = verified(home)
    assert (fault, "order" in told) == (None, False)
    assert told.startswith(f"{path}: has no entries, so nothing was verified. {head_file(home)} says that none was written yet")
    filled(home, 3)
    last = verified(home)[0][0].rpartition(" ")[2]
    path.write_bytes(b"")
    assert "entries were cut off or replaced" in verified(home)[0][0]
    for beside in (b"", None):
        if beside is None:
            head_file(home).unlink()
        else:
            head_file(home).write_bytes(beside)
        told, fault = verified(home)
        assert told == []
        shown(fault, "has no entries, and nothing says")
        assert "entries were cut off or replaced" in verified(home, "--head", last)[0][0]
    copied = exported(home).output.partition("the last, ")[2][:64]
    (told, _), fault = verified(home, "--log", copy := home / "copy.log", "--head", copied)
    assert (fault, f"{copy}: has no entries, so nothing was verified. --head says" in told) == (None, True)


@pytest.mark.parametrize("left", [1, 40, -2, -1])
def test_a_torn_line_is_mended_and_no_whole_entry_lost(home, left):
    filled(home, 4)
    head = head_file(home).read_bytes()
    path = filled(home, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    # The crash came before the head was written, which is the last thing.
    path.write_bytes(b"".join(lines[:4]) + lines[4][:left])
    head_file(home).write_bytes(head)
    assert "line 5: is torn" in verified(home)[0][0]
    log_of(home).close()
    entries = [opened(line) for line in path.read_bytes().splitlines()]
    # Without its line end alone, an entry is whole.
    assert [entry["kind"] for entry in entries] == ["declined"] * 4 + (["declined"] if left == -1 else ["repaired"])
    assert verified(home)[1] is None


def test_blocks_that_were_never_written_are_a_torn_line(home):
    path = filled(home)
    good, head = path.read_bytes(), head_file(home).read_bytes()
    for rest in (bytes(300), bytes(300) + b"}\n", good.splitlines()[4][:20] + bytes(100)):
        path.write_bytes(good + rest)
        head_file(home).write_bytes(head)
        log_of(home).close()
        assert path.read_bytes().startswith(good)
        assert opened(path.read_bytes().splitlines()[-1])["torn_bytes"] > 0
        assert verified(home)[1] is None


@pytest.mark.parametrize("change", ["job", "previous"])
def test_an_entry_without_its_line_end_that_is_not_right_is_a_torn_line(home, change):
    """The line looks whole: only its signature, and the entry before it, could show that this node wrote it here."""
    filled(home, 4)
    head = head_file(home).read_bytes()
    path = filled(home, 1)
    *lines, last = path.read_bytes().splitlines(keepends=True)
    entry = json.loads(last)
    if change == "job":
        altered = canonical({**entry, "job": "f" * 32})
    else:
        body = {**entry, "previous": "0" * 64}
        del body["signature"], body["key"]
        altered = sealed(body, Identity.load(home / "a.key"))
    path.write_bytes(b"".join(lines) + altered)
    head_file(home).write_bytes(head)
    log_of(home).close()
    assert [opened(line)["kind"] for line in path.read_bytes().splitlines()] == ["declined"] * 4 + ["repaired"]
    assert verified(home)[1] is None


def test_a_file_in_which_nothing_but_a_torn_line_is(home):
    """The head is on the disk before any entry."""
    filled(home, 0)
    (home / "a.audit.log").write_bytes(b'{"asker":"b"')
    log_of(home, 1).close()
    assert "2 entries" in verified(home)[0][0]


def test_two_logs_cannot_be_one_file(home):
    log = log_of(home, 1)
    refused(lambda: log_of(home), "another node writes this audit log")
    log.close()
    filled(home, 1)


@pytest.mark.parametrize("what", ["folder", "pipe", "nowhere"])
def test_what_no_log_can_be(home, what):
    path = home / "a.audit.log"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        (home / "a.toml").write_text('audit = "nowhere/a.log"\n' + (home / "a.toml").read_text())
        path = home / "nowhere" / "a.log"
    refused(lambda: AuditLog(path, Identity.load(home / "a.key")).open(), "the audit log cannot be opened")
    if what == "nowhere":
        shown(verified(home)[1], "no audit log can be read there")


def test_a_log_that_others_change_while_it_is_open_gets_no_more_entries(home):
    path = home / "a.audit.log"
    changes = {
        "moved": lambda: path.rename(home / "old.log"),
        "shortened": lambda: os.truncate(path, path.stat().st_size - 1),
        "written": lambda: path.write_bytes(path.read_bytes() + b"x"),
        "replaced": lambda: (path.rename(home / "old.log"), path.write_bytes((home / "old.log").read_bytes())),
    }
    for what, change in changes.items():
        path.unlink(missing_ok=True)
        head_file(home).unlink(missing_ok=True)
        log = log_of(home, 2)
        change()
        text = refused(lambda log=log: log.append("x"), AUDIT[2] if what == "moved" else AUDIT[3])
        assert str(path) in text
        log.close()


FULL = """
import resource, sys
from parties.auditing.audit import AuditLog
from mpc.membership.identity import Identity
from mpc.errors import ConfigError
log = AuditLog(__import__("pathlib").Path("a.audit.log"), Identity.load("a.key"))
log.open()
log.append("x", text="y")
size = log.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    log.append("x", text="z" * 1000)
except ConfigError as fault:
    print(fault)
assert log.path.stat().st_size == size
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append("x", text="again")
"""


def test_a_file_that_can_be_neither_written_nor_shortened_is_told_and_the_next_entry_fits_once_it_can(home):
    """/dev/full has no room, and no length that could be set."""
    log = log_of(home, 1)
    ours = os.dup(log._handle)
    full = os.open("/dev/full", os.O_RDWR)
    try:
        os.dup2(full, log._handle)
        with pytest.raises(ConfigError) as caught:
            log._write(b"an entry")
        shown(str(caught.value), "the audit log cannot be written")
        os.dup2(ours, log._handle)
    finally:
        os.close(full)
        os.close(ours)
    log.append("x", text="again")
    log.close()
    assert "2 entries" in verified(home)[0][0]


def test_a_full_disk_leaves_no_half_entry_and_the_next_one_fits(home):
    done = subprocess.run(
        [sys.executable, "-c", FULL], cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown(done.stdout.strip(), "the audit log cannot be written")
    assert "2 entries" in verified(home)[0][0]


KILLED = """
import os, sys
from pathlib import Path
from parties.auditing.audit import AuditLog
from mpc.membership.identity import Identity
log = AuditLog(Path("a.audit.log"), Identity.load("a.key"))
log.open()
while True:
    log.append("x", text="y" * 3000)
    print(log.head.split()[0], flush=True)
"""


def test_what_append_returned_from_is_there_after_a_kill(home):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        for _ in range(20):
            said = process.stdout.readline()
        process.kill()
        for line in process.stdout:
            said = line
    log = log_of(home)
    assert int(log.head.split()[0]) >= int(said)
    log.close()
    assert verified(home)[1] is None


def test_keys_that_were_replaced_or_revoked_still_verify(home):
    filled(home, 2)
    old, new = Identity.load(home / "a.key"), Identity.generate("a")
    (home / "a.key").unlink()
    new.save(home / "a.key")
    filled(home, 2)
    told, fault = verified(home)
    assert fault is not None
    assert "line 3: " in told[0]
    roster = Roster.load(home / "roster.toml")
    others = [member for member in roster.members if member.name != "a"]
    from dataclasses import replace
    from datetime import date

    renewed = replace(roster["a"], public=new.public)
    (home / "roster.toml").write_text(Roster([*others, renewed]).dump())
    assert "line 1: " in verified(home)[0][0]
    assert verified(home, "--key", encode_key(old.public))[1] is None
    (home / "roster.toml").write_text(Roster([*others, renewed], revoked=[Revoked("a", old.public, "lost", date(2026, 1, 1))]).dump())
    assert verified(home)[1] is None
