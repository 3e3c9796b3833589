"""Configuration files: every mistake names file, line and remedy (invariant 22)."""

from __future__ import annotations

import os

import pytest

from mpc import ConfigError
from mpc.config import load_config
from mpc.membership.identity import Identity
from mpc.membership.remembered import RosterMemory
from mpc.membership.roster import Member, Roster
from mpc.membership.toml_text import AGAIN
from tests.rosters import signed

A, B = Identity.generate("a"), Identity.generate("b")


@pytest.fixture
def home(tmp_path):
    A.save(tmp_path / "a.key")
    (tmp_path / "roster.toml").write_text(signed(Roster([Member("a", A.public, ("h", 9)), Member("b", B.public, None)]), A, B).dump())
    return tmp_path


GOOD = 'name = "a"\nkey = "a.key"\nroster = "roster.toml"\n'


def test_a_good_file_and_paths_beside_it(home, monkeypatch):
    (home / "a.toml").write_text(GOOD + 'listen = "0.0.0.0:9001"\n\n[clocks]\njoin = 5.0\n')
    monkeypatch.chdir("/")
    config = load_config(home / "a.toml")
    assert config.identity() == A
    assert config.load_roster()["b"].public == B.public
    assert config.listen_address() == ("0.0.0.0", 9001)
    assert (config.clocks.join, config.clocks.lost, config.clocks.stall) == (5.0, 10.0, 600.0)


def test_listening_defaults_to_the_rosters_endpoint(home):
    (home / "a.toml").write_text(GOOD)
    assert load_config(home / "a.toml").listen_address() == ("h", 9)


BAD = {
    "misspelt": (GOOD + 'listn = "h:1"', "line 4: unknown key 'listn'; did you mean 'listen'"),
    "misspelt clock": (GOOD + "[clocks]\nlst = 3.0", "line 5: unknown key 'clocks.lst'; did you mean 'lost'"),
    "missing": ('name = "a"\nkey = "a.key"\n', "key 'roster' is missing"),
    "type": (GOOD.replace('"a"', "7"), "line 1: key 'name': input should be a valid string"),
    "negative": (GOOD + "[clocks]\nlost = -1.0", "line 5: key 'clocks.lost': input should be greater than 0"),
    "text clock": (GOOD + '[clocks]\nlost = "3"', "line 5: key 'clocks.lost'"),
    "endpoint": (GOOD + 'listen = "nowhere"', "'nowhere' is no endpoint"),
    "endless number": (GOOD + "x = " + "9" * 5000, "is not TOML: a number has more than 64 bits"),
    "bottomless": (GOOD + "x = " + "[" * 5000, "more than 16 tables and lists are inside each other"),
    "zero byte": (GOOD.replace("a.key", "a\\u0000.key"), "is not TOML: a text has a zero byte, as no name and no path may (at line 2)"),
    "zero byte among others": (GOOD + 'x = ["b", "\\U00000000"]', "a text has a zero byte, as no name and no path may (at line 4)"),
    "toml": (GOOD + "x = = 3", "is not TOML"),
    "a key twice": (GOOD + 'key = "b.key"', f"a.toml: {AGAIN}: Cannot overwrite a value (at line 4, column "),
    "a table twice": (
        GOOD + "[clocks]\nlost = 3.0\n[clocks]  # more\njoin = 3.0",
        f"a.toml: {AGAIN}: Cannot declare ('clocks',) twice (at line 6, ",
    ),
    "a table and a key": (
        GOOD + "clocks.lost = 3.0\n[clocks]\njoin = 3.0",
        f"a.toml: {AGAIN}: Cannot declare ('clocks',) twice (at line 5, ",
    ),
    "a key and a table": (GOOD + "[x]\na = 1\n[x.a]", f"a.toml: {AGAIN}: Cannot overwrite a value (at line 6, "),
    "more of a table in braces": (GOOD + "x = { y = {} }\n[x.z]", f"a.toml: {AGAIN}: Cannot declare ('x', 'z') twice (at line 5, "),
    "more of a table from outside": (
        GOOD + "[x.y]\na = 1\n[x]\ny.b = 2",
        f"a.toml: {AGAIN}: Cannot redefine namespace ('x', 'y') (at line 7, ",
    ),
    "twice in braces": (GOOD + "clocks = { lost = 1.0, lost = 2.0 }", f"a.toml: {AGAIN}: Duplicate inline table key 'lost' (at line 4"),
    "a fault after a repetition": (GOOD + "x = 1\nx = = 2", "is not TOML: Invalid value (at line 5"),
    "inner": (GOOD + 'folder = "/"', "unknown key 'folder'"),
}


@pytest.mark.parametrize("what", BAD)
def test_mistakes_name_file_line_and_remedy(home, what):
    text, message = BAD[what]
    (home / "a.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(home / "a.toml")
    assert str(caught.value).startswith(str(home / "a.toml"))
    assert message in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(home):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(home / "none.toml")
    for text, line in ((b"\xff\xfe\0", 1), (b"\xef\xbb\xbfx = 1\n# caf\xe9\n", 2)):
        (home / "a.toml").write_bytes(text)
        with pytest.raises(ConfigError, match=f"a.toml, line {line}: a byte there is not UTF-8; save the file as UTF-8 text"):
            load_config(home / "a.toml")


def read_all(path):
    """Read all files that a node reads before it opens, in the same order."""
    config = load_config(path)
    RosterMemory(config.state_path, config.roster_path).check(config.load_roster())


@pytest.mark.parametrize("file", ["a.toml", "a.key", "roster.toml", "a.state"])
def test_a_pipe_in_place_of_a_file_holds_nobody_up(home, file):
    """A process that opens a pipe waits for its other end, and only SIGKILL ends it."""
    (home / "a.toml").write_text(GOOD)
    (home / file).unlink(missing_ok=True)
    os.mkfifo(home / file, 0o600)
    with pytest.raises(ConfigError, match=rf"{file}: cannot be read .*\(not a file\)"):
        read_all(home / "a.toml")


def test_the_key_must_be_the_named_ones(home):
    B.save(home / "b.key")
    (home / "a.toml").write_text(GOOD.replace("a.key", "b.key"))
    with pytest.raises(ConfigError, match="is the key of 'b', but the configuration is for 'a'"):
        load_config(home / "a.toml").identity()


def test_the_roster_must_list_this_member_with_this_key(home):
    other = Identity.generate("a")
    (home / "roster.toml").write_text(Roster([Member("a", other.public, None), Member("b", B.public, ("h", 1))]).dump())
    (home / "a.toml").write_text(GOOD)
    with pytest.raises(ConfigError, match="gives a another key"):
        load_config(home / "a.toml").load_roster()
    (home / "roster.toml").write_text(Roster([Member("aa", A.public, None), Member("b", B.public, ("h", 1))]).dump())
    with pytest.raises(ConfigError, match="does not list 'a'.*did you mean 'aa'"):
        load_config(home / "a.toml").load_roster()
