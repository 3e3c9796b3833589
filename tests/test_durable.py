"""A file is whole or absent, even if its writer is killed before any system call, or may not write (mpc/durable.py)."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing

from mpc import durable
from mpc.errors import ConfigError
from mpc.membership.identity import Identity, private_text
from mpc.membership.members import Member
from mpc.membership.remembered import RosterMemory
from mpc.membership.roster import Roster
from mpc.membership.roster_file import member_lines
from parties.cli import app
from parties.config import load_node_config
from parties.sources.database import _password
from parties.sources.sheet import Sheet
from tests.rosters import signed

ROOT = Path(__file__).resolve().parent.parent
OLD, NEW = b"old" * 10_000, b"new one" * 10_000
A, B = Identity.generate("a"), Identity.generate("b")
ROSTER = Roster([Member("a", A.public, ("a.example", 1)), Member("b", B.public, None)])
NEXT = Roster([ROSTER["a"], Member("b", B.public, ("b.example", 1))], version=2, previous=ROSTER.digest)
LINES = member_lines(Member("c", Identity.generate("c").public, None))
"""What another member sends for the roster."""


def in_child(folder, code, *arguments):
    """What a process of its own prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, *map(str, arguments)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True, timeout=120,
    )  # fmt: skip
    return json.loads(done.stdout)


def beaver(*arguments):
    return typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def no_room():
    """Let no file grow beyond 10 bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# -- what is there, and when -----------------------------------------------------------------------------------------


def test_a_new_file_is_private_has_its_name_in_the_end_and_takes_nobodys(tmp_path):
    path = tmp_path / "file"
    with durable.NewFile(path) as file:
        file.write(NEW[:7])
        file.write(NEW[7:])
        assert not path.exists()
        file.finish()
        assert path.read_bytes() == NEW
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        durable.create(path, OLD)
    assert (os.listdir(tmp_path), path.read_bytes()) == (["file"], NEW)


def test_a_name_that_is_taken_meanwhile_stays_who_took_it(tmp_path):
    with durable.NewFile(tmp_path / "file") as file:
        file.write(NEW)
        (tmp_path / "file").write_bytes(OLD)
        with pytest.raises(FileExistsError):
            file.finish()
    assert (os.listdir(tmp_path), (tmp_path / "file").read_bytes()) == (["file"], OLD)


def test_one_that_is_left_unfinished_was_never_there(tmp_path):
    with durable.NewFile(tmp_path / "file") as file:
        file.write(NEW)
    assert os.listdir(tmp_path) == []


def test_one_that_can_neither_be_written_nor_closed_leaves_nothing(tmp_path):
    """Some file systems write only on closing what they took before."""
    with pytest.raises(OSError, match="write") as raised, durable.NewFile(tmp_path / "file") as file:
        os.close(file._handle)
        raise OSError(errno.ENOSPC, "write")
    assert (raised.value.errno, os.listdir(tmp_path)) == (errno.ENOSPC, [])


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444])
def test_a_replacement_keeps_the_permissions_of_what_it_replaces(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    path.chmod(mode)
    durable.replace(path, NEW, durable.PUBLIC)
    assert (os.listdir(tmp_path), path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (["file"], NEW, mode)


@pytest.mark.parametrize(("umask", "public"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
@pytest.mark.parametrize("write", [durable.create, durable.replace])
def test_a_new_file_has_its_mode_less_the_umask(tmp_path, umask, public, write):
    before = os.umask(umask)
    try:
        write(tmp_path / "public", NEW, durable.PUBLIC)
        write(tmp_path / "private", NEW)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("public", "private")] == [public, 0o600]


READERS = {
    "key": Identity.load,
    "password": lambda path: private_text(path, "password", "x"),
    "database password": lambda path: _password(Sheet("a", {}, None), path),
    "configuration": load_node_config,
}


@pytest.mark.parametrize("what", READERS)
def test_permissions_are_those_of_the_very_file_that_is_read(tmp_path, monkeypatch, what):
    """Otherwise somebody who can change the folder could show one file to the reader and another to the check."""
    path = tmp_path / "file"
    Identity.generate("a").save(path)
    if what == "configuration":
        path.write_text('name = "a"\nkey = "k"\nroster = "r"\n')
    for call in ("stat", "lstat"):
        monkeypatch.setattr(Path, call, lambda self: pytest.fail("asked by name"))
    READERS[what](path)
    path.chmod(0o606)
    with pytest.raises(ConfigError, match="others may read or write|everybody may write"):
        READERS[what](path)


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_one(tmp_path, monkeypatch):
    path, ask = tmp_path / "file", os.fstat
    durable.create(path, OLD)

    def swapped(handle):
        path.unlink()
        durable.create(path, NEW, 0o644)
        return ask(handle)

    monkeypatch.setattr(os, "fstat", swapped)
    text, mode = durable.read_text(path)
    assert (text.encode(), stat.S_IMODE(mode)) == (OLD, 0o600)


@pytest.mark.parametrize("there", [True, False])
def test_links_are_not_followed(tmp_path, there):
    target, link = tmp_path / "target", tmp_path / "link"
    if there:
        target.write_bytes(OLD)
        # Who may do what with it says nothing of the file that takes the link's place.
        target.chmod(0o666)
    link.symlink_to(target)
    with pytest.raises(FileExistsError):
        durable.create(link, NEW)
    durable.replace(link, NEW)
    assert (link.is_symlink(), link.read_bytes(), stat.S_IMODE(link.stat().st_mode)) == (False, NEW, 0o600)
    assert (target.read_bytes() if there else target.exists()) == (OLD if there else False)


# -- killed ----------------------------------------------------------------------------------------------------------

KILLED = """
import json, os, signal, sys
from itertools import count
from pathlib import Path
from mpc import durable
from mpc.membership.identity import Identity, private_text
from parties.ask import reserved
from parties.cli import app
from parties.config import load_node_config
from parties.sources.database import _password
from parties.sources.sheet import Sheet

def stream(path, data):
    with durable.NewFile(path) as file:
        for start in range(0, len(data), 30_000):
            file.write(data[start:start + 30_000])
        file.finish()

def result(path, _):
    with reserved(path) as save:
        save({"result": 1})

WORK = {
    "create": durable.create,
    "replace": durable.replace,
    "stream": stream,
    "key": lambda path, _: Identity("a", bytes(32)).save(path),
    "result": result,
    "roster": lambda path, _: app(["roster", "add", str(path), "c.public"], standalone_mode=False),
}
path, work, calls = Path("file"), WORK[sys.argv[1]], []
old, new = (Path(name).read_bytes() for name in sys.argv[2:])

def before_call(at):
    left = at
    def hook(frame, event, called):
        nonlocal left
        if event == "c_call" and called.__module__ == "posix" and called.__name__ in CALLS:
            calls.append(called.__name__)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
    return hook

CALLS = ("open", "write", "fsync", "close", "chmod", "link", "replace", "unlink")
ends = []
for at in count():
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        sys.setprofile(before_call(at))
        work(path, new)
        sys.setprofile(None)
        Path("calls").write_text(json.dumps(calls))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = path.read_bytes().decode() if path.exists() else None
    hidden = [each.name for each in Path().glob(".*")]
    ends.append([status, found, hidden])
    if status != -signal.SIGKILL:
        break
    if found is None or old:
        # Whatever was left behind is in nobody's way.
        work(path, new)
    for name in [*hidden, "file"]:
        Path(name).unlink()
    if old:
        path.write_bytes(old)
print(json.dumps([ends, json.loads(Path("calls").read_text())]))
"""

NAMED = {"create": "link", "replace": "replace", "stream": "link", "key": "link", "result": "link", "roster": "replace"}


@pytest.mark.parametrize("work", NAMED)
def test_killed_before_every_call_there_is_the_old_file_the_new_one_or_none_and_all_is_flushed(tmp_path, work):
    replaces = NAMED[work] == "replace"
    files, folder = tmp_path / "files", tmp_path / "folder"
    files.mkdir()
    folder.mkdir()
    (files / "old").write_bytes(OLD if work == "replace" else ROSTER.dump().encode() if replaces else b"")
    (files / "new").write_bytes(NEW)
    if replaces:
        (folder / "file").write_bytes((files / "old").read_bytes())
    (folder / "c.public").write_text(LINES)
    ends, calls = in_child(folder, KILLED, work, files / "old", files / "new")
    *killed, (status, whole, hidden) = ends
    assert (status, hidden) == (0, [])
    assert whole != (files / "old").read_text()
    old = (files / "old").read_text() or None
    assert {status for status, _, _ in killed} == {-9}
    # Deterministic: one more call is reached each time.
    assert len(killed) == len(calls)
    name = calls.index(NAMED[work])
    # Data, then the name, then the folder are flushed: without the last, a loss of power takes the name of what is on the disk.
    assert [call for call in calls[:name] if call != "chmod"][-3:] == ["write", "fsync", "close"]
    assert [call for call in calls[name + 1 :] if call != "unlink"][:3] == ["open", "fsync", "close"]
    assert [found for _, found, _ in killed] == [old] * (name + 1) + [whole] * (len(killed) - name - 1)
    for _, _, hidden in killed:
        assert len(hidden) <= 1
        assert all(each.startswith(".beaver-") for each in hidden)
    assert any(hidden for _, _, hidden in killed)


# -- no room, no right -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 4096, len(NEW) - 1])
def test_on_a_full_disk_the_old_file_stays_and_nothing_is_left(tmp_path, room):
    (tmp_path / "file").write_bytes(OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        for write, name in ((durable.create, "other"), (durable.replace, "other"), (durable.replace, "file")):
            with pytest.raises(OSError, match="File too large"):
                write(tmp_path / name, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (os.listdir(tmp_path), (tmp_path / "file").read_bytes()) == (["file"], OLD)


REFUSED = """
import json, os, sys
from pathlib import Path
from mpc import durable
if os.getuid() == 0:
    # Root may write anywhere.
    os.setuid(65534)
faults = []
writes = (durable.create, "other"), (durable.replace, "other"), (durable.replace, "file"), (lambda path, _: durable.NewFile(path), "other")
for write, name in writes:
    try:
        write(Path(name), b"new")
    except OSError as fault:
        faults.append(fault.errno)
print(json.dumps(faults))
"""


@pytest.mark.parametrize("mode", [0o555, 0o333])
def test_a_folder_that_may_not_be_written_or_flushed_is_told_at_once(tmp_path, mode):
    """A folder that may be written but not read cannot be flushed, and could lose the new name."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(OLD)
    folder.chmod(mode)
    faults = in_child(folder, REFUSED)
    folder.chmod(0o755)
    assert faults == [errno.EACCES] * 4
    assert (os.listdir(folder), (folder / "file").read_bytes()) == (["file"], OLD)


def test_what_cannot_be_a_name_is_told_before_anything_is_written(tmp_path):
    for name, number in (("x" * 300, errno.ENAMETOOLONG), ("none/x", errno.ENOENT), ("file/x", errno.ENOTDIR)):
        (tmp_path / "file").write_bytes(OLD)
        with pytest.raises(OSError, match=os.strerror(number)):
            durable.NewFile(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_system_that_flushes_no_folder_is_none_that_cannot_be_used():
    durable.sync_folder(Path("/proc"))


# -- its users ---------------------------------------------------------------------------------------------------------


def test_a_key_on_a_full_disk(tmp_path, no_room):
    with pytest.raises(ConfigError, match="cannot be written .File too large."):
        A.save(tmp_path / "a.key")
    assert os.listdir(tmp_path) == []


def test_what_is_remembered_stays_on_a_full_disk(tmp_path, request):
    memory = RosterMemory(tmp_path / "a.state", tmp_path / "roster.toml")
    memory.follow(signed(Roster.of(ROSTER.content), A, B))
    before = memory.path.read_bytes()
    request.getfixturevalue("no_room")
    with pytest.raises(ConfigError, match="must be remembered"):
        memory.follow(signed(Roster.of(NEXT.content), A, B))
    assert (os.listdir(tmp_path), memory.path.read_bytes()) == (["a.state"], before)


def test_a_roster_stays_on_a_full_disk_and_keeps_its_permissions(tmp_path, request):
    roster = tmp_path / "roster.toml"
    roster.write_text(ROSTER.dump())
    roster.chmod(0o640)
    before = roster.read_bytes()
    assert beaver("roster", "add", roster, LINES).exception is None
    after = roster.read_bytes()
    assert (before != after, stat.S_IMODE(roster.stat().st_mode)) == (True, 0o640)
    request.getfixturevalue("no_room")
    assert "cannot be written" in str(beaver("roster", "remove", roster, "c").exception)
    assert (os.listdir(tmp_path), roster.read_bytes()) == (["roster.toml"], after)
