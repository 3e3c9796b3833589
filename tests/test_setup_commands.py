"""`beaver init` and `beaver roster`: from nothing to a signed roster and its next versions, never half done, never overwriting."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import resource
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mpc import ConfigError
from mpc.config import load_config
from mpc.membership.identity import Identity
from mpc.membership.roster import Roster
from parties.commands import roster, setup
from parties.config import load_node_config

APP = typer.Typer()
APP.command()(setup.init)
APP.command()(setup.keygen)
APP.add_typer(roster.app, name="roster")


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def beaver(command, *more, stdin=None):
    """The output of a command."""
    done = CliRunner().invoke(APP, [*command.split(), *more], input=stdin, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(command, *more, stdin=None):
    """The error; and nothing in the folder has changed."""
    before = everything()
    with pytest.raises(ConfigError) as caught:
        beaver(command, *more, stdin=stdin)
    assert everything() == before
    return str(caught.value)


def everything():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@contextlib.contextmanager
def disk_of(room):
    """Let no file grow beyond `room` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def read(path):
    return Path(path).read_text()


def write(path, text):
    Path(path).write_text(text)


@pytest.fixture
def made():
    """a, b and the dealer d, each in a folder; a's has the roster with all of them, unsigned."""
    beaver("init a --dir a --endpoint a.example:9001")
    beaver("init b --dir b")
    beaver("init d --dir d --role dealer --endpoint d.example:9001")
    beaver("roster add a/roster.toml a/a.public b/b.public d/d.public")


def test_lines_may_stand_in_the_command_however_many_they_are(made):
    """Lines longer than a file name may be were once taken for the name of an output file, which could not be written."""
    remark = f"# {'as told by telephone; ' * 20}\n"
    lines = [remark + read(f"{name}/{name}.public") for name in "abd"]
    beaver("roster add", "one.toml", "\n".join(lines))
    beaver("roster add", "three.toml", *lines)
    assert read("one.toml") == read("three.toml") == read("a/roster.toml")
    beaver("roster accept", "one.toml", remark + "".join(line_of(name) for name in "abd"))
    assert "signed by all 3 members" in beaver("roster verify one.toml")


def test_what_is_no_text_is_told_as_such_from_a_file_and_from_standard_input(made):
    """From standard input it once ended in a traceback."""
    Path("noise").write_bytes(b"\x80\x92\xff")
    for source, name in (("noise", "noise"), ("-", "standard input")):
        for command in ("add", "accept"):
            text = refused(f"roster {command} a/roster.toml {source}", stdin=b"\x80\x92\xff")
            assert text == f"{name}, line 1: a byte there is not UTF-8; save the file as UTF-8 text"
    # As a file of another system.
    beaver("roster add windows.toml -", stdin="".join(read(f"{name}/{name}.public") for name in "abd").replace("\n", "\r\n").encode())
    assert read("windows.toml") == read("a/roster.toml")


def line_of(name):
    return beaver(f"roster sign -c {name}/{name}.toml --roster a/roster.toml")


@pytest.fixture
def agreed(made):
    for name in "abd":
        line_of(name)


# -- init ----------------------------------------------------------------------------------------------------------


def test_what_init_writes_loads_and_denies_everything():
    said = beaver("init hospital_a --dir home/new --endpoint [::1]:9001")
    files = {path.name: path.stat().st_mode & 0o777 for path in Path("home/new").iterdir()}
    assert set(files) == {"hospital_a.key", "hospital_a.toml", "hospital_a.policy.toml", "hospital_a.public"}
    assert files["hospital_a.key"] == 0o600
    config = load_node_config("home/new/hospital_a.toml")
    assert config.identity() == Identity.load("home/new/hospital_a.key")
    assert (config.policy.allow, config.policy.ask, config.policy.datasets, config.datasets) == ([], [], {}, {})
    assert config.policy.names_datasets
    assert config.policy.file is not None
    assert read("home/new/hospital_a.public") == said
    assert Identity.load("home/new/hospital_a.key").seed.hex() not in said


@pytest.mark.parametrize("umask", [0o002, 0o000])
def test_what_init_writes_nobody_else_may_change_whatever_the_umask(umask):
    before = os.umask(umask)
    try:
        beaver("init a")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path().iterdir()}
    assert modes == {"a.key": 0o600, "a.toml": 0o644, "a.policy.toml": 0o644, "a.public": 0o644}
    assert load_node_config("a.toml").policy.allow == []


def test_every_line_that_init_comments_out_loads_too():
    beaver("init a")
    for file in ("a.toml", "a.policy.toml"):
        # Keys that stand twice are examples of the line before.
        text = re.sub(r"^allow = \[\]\n", "", read(file), flags=re.MULTILINE)
        write(file, re.sub(r"^# ?(?=\[|\w+ = |$)", "", text, flags=re.MULTILINE))
    config = load_node_config("a.toml")
    assert config.listen == "0.0.0.0:9001"
    assert config.policy.allow == ["mean", "linear_regression"]
    assert config.policy.datasets["patients"].columns == list(config.datasets["patients"].columns) == ["age", "bmi"]


@pytest.mark.parametrize("role", ["dealer", "client"])
def test_who_takes_no_jobs_has_no_policy(role):
    beaver(f"init d --role {role}")
    assert not Path("d.policy.toml").exists()
    assert load_config("d.toml").identity().name == "d"
    # A client dials, and has nowhere to listen.
    assert ("listen" in read("d.toml")) == (role == "dealer")


@pytest.mark.parametrize("file", ["a.key", "a.toml", "a.policy.toml", "a.public"])
def test_init_overwrites_nothing(file):
    write(file, "")
    assert refused("init a").startswith(f"{file}: exists already, and nothing was written")
    Path(file).unlink()
    Path(file).symlink_to("elsewhere")
    assert "exists already" in refused("init a")


def test_init_that_cannot_be_done_leaves_nothing(tmp_path):
    assert "is no name" in refused("init", "a b")
    assert "is no endpoint" in refused("init a --endpoint nowhere")
    for address in ("0.0.0.0", "[::]", "0"):
        assert "is the address of no machine, and who dials it dials itself" in refused(f"init a --endpoint {address}:9801")
    write("file", "")
    assert "cannot be written" in refused("init a --dir file/x")
    # The key fits, the configuration does not.
    with disk_of(200):
        assert "cannot be written (File too large)" in refused("init a")
    assert os.listdir() == ["file"]


# -- build and sign ------------------------------------------------------------------------------------------------


def test_a_roster_grows_by_lines_files_and_standard_input():
    lines = [beaver(f"init {name}") for name in "abcd"]
    beaver("roster add roster.toml a.public")
    with pytest.raises(ConfigError, match="fewer than two parties"):
        Roster.load("roster.toml")
    beaver("roster add roster.toml", lines[1])
    beaver("roster add roster.toml -", stdin=lines[2] + lines[3])
    known = Roster.load("roster.toml")
    assert [member.name for member in known.members] == list("abcd")
    assert known.content.version == 1
    beaver("roster add roster.toml", lines[0] + 'endpoint = "a:1"', "--relay", "mqtts://h:8883", "--transport", "mqtt")
    known = Roster.load("roster.toml")
    assert (known["a"].endpoint, known["b"].transport, known.relay.port) == (("a", 1), "mqtt", 8883)
    beaver("roster remove roster.toml d")
    assert "d" not in Roster.load("roster.toml")


def test_what_cannot_be_added():
    beaver("init a")
    beaver("init b")
    beaver("roster add roster.toml a.public b.public")
    beaver("init a --dir again")
    assert "a is in the roster with another key" in refused("roster add roster.toml again/a.public")
    assert "No such file" in refused("roster add roster.toml c.public")
    assert "is not TOML" in refused("roster add roster.toml x=")
    assert "list of [[member]]" in refused("roster add roster.toml", "version = 1")
    assert "is no broker" in refused("roster add roster.toml a.public --relay h:1")
    assert "names no broker" in refused("roster add roster.toml a.public --transport mqtt")
    assert "'c' is not in the roster" in refused("roster remove roster.toml c")
    assert "cannot be written" in refused("roster add none/roster.toml a.public b.public")


@pytest.mark.parametrize(
    "lines",
    [
        """[[member]]\nname = 'a"\\nrole = "dealer'\nkey = "KEY\"""",
        """[[member]]\nname = "c"\nkey = "KEY"\nendpoint = 'h"#:1'""",
        """[[member]]\nname = "c"\nkey = "KEY"\nendpoint = "h\\u001b[2J:1\"""",
    ],
)
def test_lines_of_others_cannot_write_anything_else_into_the_roster(lines):
    beaver("init a")
    key = re.search(r'key = "(.*)"', beaver("init b")).group(1)
    message = refused("roster add roster.toml a.public", lines.replace("KEY", key))
    assert "is no name" in message or "is no endpoint" in message
    assert "\x1b" not in message


def test_everyone_signs_and_the_lines_are_merged(made):
    lines = {}
    for name in "abd":
        write(f"{name}.roster.toml", read("a/roster.toml"))
        lines[name] = beaver(f"roster sign -c {name}/{name}.toml --roster {name}.roster.toml")
    assert "is not signed by a, b, d" in refused("roster verify a/roster.toml")
    beaver("roster accept a/roster.toml", lines["a"])
    assert "is not signed by b, d" in refused("roster verify a/roster.toml")
    beaver("roster accept a/roster.toml -", stdin=lines["b"])
    beaver("roster accept a/roster.toml d.roster.toml")
    assert "is signed by all 3 members" in beaver("roster verify a/roster.toml")
    assert load_config("a/a.toml").load_roster().unsigned == []
    shown = json.loads(beaver("roster show a/roster.toml --json"))
    assert [member["signature"] for member in shown["members"]] == ["signed"] * 3
    assert shown["digest"] in beaver("roster show a/roster.toml")


def test_signatures_of_others_and_of_other_rosters_are_refused(made):
    line = line_of("b")
    assert "no signature of a for version 1" in refused("roster accept a/roster.toml", line.replace('"b"', '"a"'))
    assert "is not in the roster" in refused("roster accept a/roster.toml", line.replace('"b"', '"zed"'))
    assert "a signature reads" in refused("roster accept a/roster.toml", '"b" = "signature:AA=="')
    assert "must be a table" in refused("roster accept a/roster.toml", "signatures = 3")
    write("a/roster.toml", read("a/roster.toml").replace("a.example:9001", "evil.example:9001"))
    assert "is not signed by a, b, d" in refused("roster verify a/roster.toml")
    assert '"signature": "of other contents"' in beaver("roster show a/roster.toml --json")
    assert "no signature of b for version 1" in refused("roster accept a/roster.toml", line)
    beaver("init b --dir other")
    assert "the roster gives b another key than this one" in refused("roster sign -c other/b.toml --roster a/roster.toml")


# -- next versions -------------------------------------------------------------------------------------------------


def test_a_change_of_a_signed_roster_is_its_next_version_in_a_file_of_its_own(agreed):
    beaver("init c --dir c")
    beaver("init e --dir e")
    before = Roster.load("a/roster.toml")
    beaver("roster add a/roster.toml b/b.public")
    assert not Path("a/roster.v2.toml").exists()  # nothing new
    beaver("roster add a/roster.toml c/c.public")
    after = Roster.load("a/roster.v2.toml")
    assert Roster.load("a/roster.toml").digest == before.digest
    assert (after.content.version, after.content.previous, after.signatures) == (2, before.digest, {})
    assert "another next version" in refused("roster add a/roster.toml e/e.public")
    beaver("roster add a/roster.v2.toml", read("c/c.public") + 'endpoint = "c:1"')
    assert Roster.load("a/roster.v2.toml").content.version == 2
    for name in "abcd":
        beaver(f"roster sign -c {name}/{name}.toml --roster a/roster.v2.toml")
    assert "version 2" in beaver("roster verify a/roster.v2.toml --previous a/roster.toml")
    beaver("roster remove a/roster.v2.toml c")
    assert Roster.load("a/roster.v3.toml").content.previous == Roster.load("a/roster.v2.toml").digest
    assert "was not made from a/roster.toml" in refused("roster verify a/roster.v3.toml --previous a/roster.toml")


def test_a_key_is_replaced_without_a_day_on_which_nobody_can_work(agreed):
    old = Identity.load("a/a.key")
    beaver("roster rotate -c a/a.toml --days 10")
    (key,) = (file for file in os.listdir("a") if file.endswith(".key") and file != "a.key")
    new, after = Identity.load(f"a/{key}"), Roster.load("a/roster.v2.toml")
    assert Path("a", key).stat().st_mode & 0o777 == 0o600
    assert after["a"].publics == (new.public, old.public)
    assert timedelta(days=9) < after["a"].retires - datetime.now(UTC) <= timedelta(days=10)
    assert after.unsigned == ["b", "d"]
    for name in "bd":
        beaver(f"roster sign -c {name}/{name}.toml --roster a/roster.v2.toml")
    text = read("a/a.toml").replace('"roster.toml"', '"roster.v2.toml"')
    for file in ("a.key", key):
        write("a/a.toml", text.replace("a.key", file))
        assert load_config("a/a.toml").load_roster().digest == after.digest
    write("a/a.toml", text)
    assert "rotate from the key that the roster names first" in refused("roster rotate -c a/a.toml")
    shown = beaver("roster show a/roster.v2.toml --json")
    assert "retires" in shown


def test_a_further_version_in_the_overlap_is_signed_with_the_new_key(agreed):
    """The node still uses its old key.  The roster thus stays signed when that key retires."""
    beaver("roster rotate -c a/a.toml")
    (key,) = (file for file in os.listdir("a") if file.endswith(".key") and file != "a.key")
    beaver("init c --dir c")
    beaver("roster add a/roster.v2.toml c/c.public")
    for name in "bcd":
        beaver(f"roster sign -c {name}/{name}.toml --roster a/roster.v3.toml")
    text = refused("roster sign -c a/a.toml --roster a/roster.v3.toml")
    assert "a/roster.v3.toml: a replaces this key in it; sign with the new one, `--key`" in text
    assert "is the key of 'b'" in refused("roster sign -c a/a.toml --roster a/roster.v3.toml --key b/b.key")
    assert Roster.load("a/roster.v3.toml").unsigned == ["a"]
    beaver(f"roster sign -c a/a.toml --roster a/roster.v3.toml --key a/{key}")
    assert "is signed by all 4 members" in beaver("roster verify a/roster.v3.toml --previous a/roster.v2.toml")


def test_a_rotation_that_cannot_be_written_leaves_no_key(agreed):
    write("a/roster.v2.toml", "")
    assert "another next version" in refused("roster rotate -c a/a.toml")


def test_no_roster_names_a_new_key_that_a_full_disk_let_go(made):
    """The roster is changed in place, since nobody has signed: on the full disk the roster fits, and its signature does not."""
    shutil.copytree("a", "there")
    beaver("roster rotate -c there/a.toml")
    with disk_of(len(read("there/roster.toml")) - 1):
        assert "cannot be written (File too large)" in refused("roster rotate -c a/a.toml")
    beaver("roster rotate -c a/a.toml")


def test_a_revoked_key_never_comes_back(agreed):
    beaver("init c --dir c")
    beaver("roster add a/roster.toml c/c.public")
    for name in "abcd":
        beaver(f"roster sign -c {name}/{name}.toml --roster a/roster.v2.toml")
    beaver("roster revoke a/roster.v2.toml c", "--reason", 'laptop "X" stolen')
    known = Roster.load("a/roster.v3.toml")
    assert "c" not in known
    assert [(each.name, each.reason) for each in known.content.revoked] == [("c", 'laptop "X" stolen')]
    assert "was revoked on" in refused("roster add a/roster.v3.toml c/c.public")
    assert "was revoked on" in refused("roster add a/roster.v3.toml", read("c/c.public").replace('"c"', '"e"'))
    forgetful = dataclasses.replace(known.content, version=4, previous=known.digest, revoked=())
    write("forgetful.toml", Roster.of(forgetful).dump())
    assert "no longer lists the revoked keys of c" in refused("roster verify forgetful.toml --previous a/roster.v3.toml")
    beaver("init c --dir again")
    beaver("roster add a/roster.v3.toml again/c.public")
    assert "c" in Roster.load("a/roster.v3.toml")


def test_a_stolen_key_is_replaced_at_once(agreed):
    beaver("init b --dir again")
    assert "describes b, not a" in refused("roster revoke a/roster.toml a --reason stolen --new again/b.public")
    beaver("roster revoke a/roster.toml b --reason stolen --new again/b.public")
    known = Roster.load("a/roster.v2.toml")
    assert known["b"].public == Identity.load("again/b.key").public
    assert [each.public for each in known.content.revoked] == [Identity.load("b/b.key").public]
    assert "another key than" in refused("roster sign -c b/b.toml --roster a/roster.v2.toml")


def test_a_retiring_key_is_revoked_early(agreed):
    old = Identity.load("a/a.key")
    assert "has no retiring key" in refused("roster revoke a/roster.toml a --reason x --retiring")
    beaver("roster rotate -c a/a.toml")
    beaver("roster revoke a/roster.v2.toml a --reason lost --retiring")
    known = Roster.load("a/roster.v3.toml")
    assert (known["a"].retiring, [each.public for each in known.content.revoked]) == (None, [old.public])
    assert "1 to 200 printable" in refused("roster revoke a/roster.v3.toml b --reason", "a\nb")
    assert "1 to 200 printable" in refused("roster revoke a/roster.v3.toml b --reason", "")
